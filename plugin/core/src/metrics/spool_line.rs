//! One line of a spool, in which a shell counts that has no memory between requests.
//!
//! A spool is a file that only grows. Each line is appended in one call, so that lines of concurrent writers are
//! not mixed. A line holds the counts of one request:
//!
//! ```text
//! 2 ⇥ time ⇥ generation ⇥ lines lost before ⇥ name ⇥ name=25 …
//! ```
//!
//! The time makes each line unique, so the first line identifies a file, even after it is moved or copied. Names
//! are those of [`series_name`]; each counts once, or the given number of times. Names hold no tab and no line
//! end, because control characters are escaped, and end with a family, which holds no `=`. A line with
//! [`MetricSeries::ConfigGeneration`] says that a writer began to enforce the generation.

use super::{MetricSeries, read_series_name, series_name};

/// Version of the line's format.
const FORMAT: &str = "2";

/// Longest line, with its end, bytes: systems are known to append this much in one piece.
pub const MAX_SPOOL_LINE: usize = 4096;

/// A line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolLine {
    /// Time of writing, nanoseconds since 1970.
    pub time: u64,
    /// The generation of the rules that decided the request.
    pub generation: u64,
    /// Number of lines that this writer failed to write before this one.
    pub lost: u64,
    /// The series with their increments; for [`MetricSeries::LastSuccess`], a gauge, the value to set.
    pub series: Vec<(MetricSeries, u64)>,
}

/// The line is longer than [`MAX_SPOOL_LINE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line is too long")]
pub struct LineTooLong;

// === impl SpoolLine ===

impl SpoolLine {
    /// Writes a line, with its end.
    pub fn encode<'a>(
        time: u64,
        generation: u64,
        lost: u64,
        series: impl IntoIterator<Item = (&'a MetricSeries, u64)>,
    ) -> Result<String, LineTooLong> {
        let mut line = format!("{FORMAT}\t{time}\t{generation}\t{lost}");
        for (series, by) in series {
            line.push('\t');
            line.push_str(&series_name(series));
            if by != 1 {
                line.push('=');
                line.push_str(&by.to_string());
            }
        }
        line.push('\n');
        if line.len() > MAX_SPOOL_LINE { Err(LineTooLong) } else { Ok(line) }
    }

    /// Reads a line without its end. `None` if any part is unreadable, because then two lines may have been
    /// mixed.
    pub fn decode(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        if fields.next()? != FORMAT {
            return None;
        }
        let time = number(fields.next()?)?;
        let generation = number(fields.next()?)?;
        let lost = number(fields.next()?)?;
        let series = fields.map(counted).collect::<Option<Vec<_>>>()?;
        (!series.is_empty()).then_some(Self { time, generation, lost, series })
    }
}

fn counted(field: &str) -> Option<(MetricSeries, u64)> {
    let (name, by) = match field.rsplit_once('=') {
        Some((name, by)) if by.bytes().all(|byte| byte.is_ascii_digit()) => (name, number(by)?),
        _ => (field, 1),
    };
    Some((read_series_name(name)?, by))
}

/// Reads digits only, because a sign or a space is damage.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{BlockedReason, CallOutcome, TupleCounter};
    use crate::protocol::Operation;
    use crate::terms::Tuple;

    fn tuple(name: &str) -> Tuple {
        Tuple {
            offer_namespace: "ns".into(),
            offer_name: name.into(),
            chain: "eip155:84532".into(),
            asset_symbol: "USDC".into(),
            born: 7,
        }
    }

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        for name in ["llm", "", "a\tb\nc", "x=5", "=", "farebox_", "é ;.; %", "1=2=3"] {
            let series = [
                (MetricSeries::Tuple(tuple(name), TupleCounter::PaymentRequired), 1),
                (MetricSeries::Blocked(String::new(), name.into(), BlockedReason::ALL[0]), 2),
                (MetricSeries::CallMillis(Operation::Settle, CallOutcome::ALL[0]), 0),
                (MetricSeries::LastSuccess(tuple(name)), u64::MAX),
                (MetricSeries::ConfigGeneration, 1),
            ];
            let line = SpoolLine::encode(70, 9, 3, series.iter().map(|(series, by)| (series, *by))).unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let read = SpoolLine::decode(line.strip_suffix('\n').unwrap());
            assert_eq!(
                read,
                Some(SpoolLine { time: 70, generation: 9, lost: 3, series: series.to_vec() }),
                "{line}"
            );
        }
    }

    #[test]
    fn a_line_that_is_damaged_anywhere_is_not_read() {
        let good = "2\t70\t9\t0\tfarebox_config_generation";
        assert!(SpoolLine::decode(good).is_some());
        let together = format!("{good}{good}");
        for bad in [
            "",
            "2",
            "2\t70\t9\t0",
            "1\t9\t0\tfarebox_config_generation",
            "2\t9\t0\tfarebox_config_generation",
            "2\t-70\t9\t0\tfarebox_config_generation",
            "2\t70\t-9\t0\tfarebox_config_generation",
            "2\t70\t9\t\tfarebox_config_generation",
            "2\t70\t9\t0\t",
            "2\t70\t9\t0\tfarebox_config_generation=",
            "2\t70\t9\t0\tfarebox_config_generation=99999999999999999999",
            "2\t70\t9\t0\tfarebox_config_generation\tfarebox_unknown",
            "\t70\t9\t0\tfarebox_config_generation",
            &together,
        ] {
            assert_eq!(SpoolLine::decode(bad), None, "{bad}");
        }
        // A cut line is never another valid line.
        for end in 0..good.len() {
            assert_eq!(SpoolLine::decode(&good[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_line_that_may_tear_is_not_written() {
        let series = MetricSeries::Tuple(tuple(&"x".repeat(200)), TupleCounter::PaymentRequired);
        assert!(SpoolLine::encode(1, 1, 0, [(&series, 1)]).is_ok());
        assert_eq!(SpoolLine::encode(1, 1, 0, std::iter::repeat_n((&series, 1), 20)), Err(LineTooLong));
    }
}
