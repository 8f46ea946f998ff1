//! A report: the state of a filter, and its counts.
//!
//! ```text
//! 1 ⇥ process ⇥ vm ⇥ generation ⇥ hash ⇥ Unix ms ⇥ waiting ⇥ lost ⇥ refusal   of now, whatever follows
//! reporter ⇥ sequence                                                          what was counted, under a number
//! name ⇥ amount                                                                a line for each series
//! ```
//!
//! The first line is the state of the VM that sends the report. The counts are written once, and are sent under their
//! number until the companion acknowledges them; another VM may send them for a VM that was replaced. A report without
//! counts says that the filter runs. Names are those of [`series_name`]; they hold no tab and no line end.

use std::collections::BTreeMap;

use super::{MetricSeries, grow, read_series_name, series_name};

/// Version of the format.
const FORMAT: &str = "1";

/// Size from which on a report takes no further series, bytes.
const MAX_REPORT: usize = 256 * 1024;
/// Longest refusal, characters.
const MAX_REFUSAL: usize = 300;

/// The state of a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Name of the process; all its VMs have the same.
    pub process: String,
    /// Name of the VM.
    pub vm: String,
    /// Generation of the rules that the VM enforces, 0 without rules.
    pub generation: u64,
    /// Content hash of these rules.
    pub hash: String,
    /// The VM's clock, Unix milliseconds.
    pub unix_ms: u64,
    /// Number of reports that wait to be sent.
    pub waiting: u64,
    /// Number of reports lost because there was no room to keep them.
    pub lost: u64,
    /// Why the last configuration was refused, if it was; else empty.
    pub refusal: String,
}

/// The counts of a report, ready to be sent.
#[derive(Debug)]
pub struct Written(Vec<u8>);

/// A report, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The state of its sender.
    pub standing: Standing,
    /// The counts, if it has any.
    pub counted: Option<Counted>,
}

/// The counts of a report, with their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// The unique name of the VM, gateway or spool that counted.
    pub reporter: String,
    /// Higher than that of every report of this reporter before.
    pub sequence: u64,
    /// The increment of each series; for [`MetricSeries::LastSuccess`], a gauge, its value.
    pub changes: BTreeMap<MetricSeries, u64>,
    /// Number of lines that cannot be read.
    pub malformed: u64,
}

// === impl Standing ===

impl Standing {
    /// Writes the first line of a report.
    pub fn line(&self) -> Vec<u8> {
        let Self { process, vm, generation, hash, unix_ms, waiting, lost, refusal } = self;
        let refusal: String = refusal.chars().filter(|char| !char.is_control()).take(MAX_REFUSAL).collect();
        let [generation, unix_ms, waiting, lost] = [generation, unix_ms, waiting, lost].map(u64::to_string);
        let mut line =
            [FORMAT, process, vm, &generation, hash, &unix_ms, &waiting, &lost, &refusal].join("\t");
        line.push('\n');
        line.into_bytes()
    }

    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        if fields.next()? != FORMAT {
            return None;
        }
        let mut text = || fields.next().map(str::to_owned);
        Some(Self {
            process: text()?,
            vm: text()?,
            generation: text()?.parse().ok()?,
            hash: text()?,
            unix_ms: text()?.parse().ok()?,
            waiting: text()?.parse().ok()?,
            lost: text()?.parse().ok()?,
            refusal: text()?,
        })
    }
}

// === impl Written ===

impl Written {
    /// Begins the report with this number.
    pub fn new(reporter: &str, sequence: u64) -> Self {
        Self([reporter, "\t", &sequence.to_string(), "\n"].concat().into_bytes())
    }
    /// Adds a series.
    pub fn push(&mut self, series: &MetricSeries, amount: u64) {
        self.0.extend_from_slice([&series_name(series), "\t", &amount.to_string(), "\n"].concat().as_bytes());
    }
    /// Whether the report is too large for further series.
    pub const fn is_full(&self) -> bool {
        self.0.len() >= MAX_REPORT
    }
    /// The bytes to send after [`Standing::line`].
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

// === impl Received ===

impl Received {
    /// Reads a report. `None` if its sender or its number cannot be read.
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut lines = core::str::from_utf8(body).ok()?.lines();
        let standing = Standing::read(lines.next()?)?;
        let Some(head) = lines.next() else { return Some(Self { standing, counted: None }) };
        let (reporter, sequence) = head.split_once('\t')?;
        let (reporter, sequence) = (reporter.to_owned(), sequence.parse().ok()?);
        let mut counted = Counted { reporter, sequence, ..Counted::default() };
        for line in lines {
            let read = line.split_once('\t');
            let read = read.and_then(|(name, by)| Some((read_series_name(name)?, by.parse().ok()?)));
            let Some((series, by)): Option<(_, u64)> = read else {
                counted.malformed += 1;
                continue;
            };
            let is_time = series.is_time();
            grow(counted.changes.entry(series).or_default(), by, is_time);
        }
        Some(Self { standing, counted: Some(counted) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{CallOutcome, TupleCounter};
    use crate::protocol::Operation;
    use crate::terms::Tuple;

    fn standing() -> Standing {
        Standing {
            process: "aa".to_owned(),
            vm: "bb".to_owned(),
            generation: 7,
            hash: "0x00".to_owned(),
            unix_ms: 1_790_000_000_000,
            waiting: 2,
            lost: 3,
            refusal: String::new(),
        }
    }

    fn tuple() -> Tuple {
        Tuple {
            offer_namespace: "a\tb".into(),
            offer_name: "x\n".into(),
            chain: "eip155:1".into(),
            asset_symbol: "USDC".into(),
            born: 3,
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_equal_series_add_up() {
        let required = MetricSeries::Tuple(tuple(), TupleCounter::PaymentRequired);
        let last = MetricSeries::LastSuccess(tuple());
        let mut written = Written::new("bb", 4);
        for (series, by) in [
            (&required, 1),
            (&required, 2),
            (&last, 9),
            (&last, 8),
            (&MetricSeries::CallMillis(Operation::Settle, CallOutcome::ALL[0]), u64::MAX),
        ] {
            written.push(series, by);
        }
        let body = [standing().line(), written.into_bytes()].concat();
        let Received { standing: read, counted } = Received::read(&body).unwrap();
        let counted = counted.unwrap();
        assert_eq!((read, counted.reporter.as_str(), counted.sequence), (standing(), "bb", 4));
        assert_eq!((counted.changes[&required], counted.changes[&last], counted.malformed), (3, 9, 0));
        assert_eq!(counted.changes.len(), 3);
    }

    #[test]
    fn a_sign_of_life_brings_nothing_and_says_why_a_push_was_refused() {
        let refused = Standing { refusal: "line\t1\nis wrong".to_owned(), ..standing() };
        let read = Received::read(&refused.line()).unwrap();
        assert_eq!((read.standing.refusal.as_str(), read.counted), ("line1is wrong", None));
    }

    #[test]
    fn what_has_no_sender_or_number_is_no_report_and_a_line_that_cannot_be_read_is_counted() {
        let line = String::from_utf8(standing().line()).unwrap();
        for bad in
            ["", "2\taa\tbb\t7\t0x00\t1\t0\t0\t\n", "1\taa\tbb\tx\t0x00\t1\t0\t0\t\n", "1\taa\n", "\u{0}"]
        {
            assert_eq!(Received::read(bad.as_bytes()), None, "{bad}");
        }
        for bad in ["bb", "bb\t", "bb\t-1", "bb\t99999999999999999999"] {
            assert_eq!(Received::read(format!("{line}{bad}\n").as_bytes()), None, "{bad}");
        }
        let name = series_name(&MetricSeries::ConfigGeneration);
        let body = format!("{line}bb\t1\nfarebox_unknown\t1\n{name}\t-1\n{name}\n{name}\t5\n");
        let counted = Received::read(body.as_bytes()).unwrap().counted.unwrap();
        assert_eq!((counted.malformed, counted.changes.len()), (3, 1));
    }
}
