//! Reading a metrics page: the text format of Prometheus, and OpenMetrics as far as it is the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// One page, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape {
    series: Vec<Series>,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the series, with a `_total`, `_bucket`, `_sum` or `_count` it may have.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its value as text: amounts exceed what a float holds exactly.
    pub value: String,
}

// === impl Scrape ===

impl Scrape {
    /// Reads a page.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(|line| Series::parse(line).with_context(|| format!("in `{line}`")));
        Ok(Self { series: series.collect::<Result<_>>()? })
    }

    /// All series.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// Series of this name that carry at least these labels.
    pub fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Series> {
        self.series.iter().filter(move |series| {
            series.name == name
                && labels.iter().all(|(key, value)| series.labels.get(*key).is_some_and(|has| has == value))
        })
    }

    /// The sum over [`Scrape::matching`], as an integer. Fails on a value that is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<u128> {
        let mut sum = 0;
        for series in self.matching(name, labels) {
            sum += series.integer()?;
        }
        Ok(sum)
    }
}

// === impl Series ===

impl Series {
    fn parse(line: &str) -> Result<Self> {
        let end = line.find(['{', ' ']).context("no value")?;
        let (name, rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        let mut rest = rest;
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                rest = rest.trim_start_matches([',', ' ']);
                if let Some(after) = rest.strip_prefix('}') {
                    rest = after;
                    break;
                }
                let (key, quoted) = rest.split_once("=\"").context("a label without a value")?;
                let (value, after) = unquote(quoted)?;
                labels.insert(key.to_owned(), value);
                rest = after;
            }
        }
        let value = rest.split_whitespace().next().context("no value")?;
        Ok(Self { name: name.to_owned(), labels, value: value.to_owned() })
    }

    /// The value as an integer; `12.0` counts as one.
    pub fn integer(&self) -> Result<u128> {
        let (whole, fraction) = self.value.split_once('.').unwrap_or((&self.value, ""));
        if fraction.bytes().any(|digit| digit != b'0') {
            bail!("{} is {}, not an integer", self.name, self.value);
        }
        whole.parse().with_context(|| format!("{} is {}, not an integer", self.name, self.value))
    }
}

/// Reads to the closing quote: the text without its escapes, and what follows.
fn unquote(quoted: &str) -> Result<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((text, &quoted[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            },
            other => text.push(other),
        }
    }
    bail!("a label value does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP a_total Help.
# TYPE a_total counter
a_total{offer_name="x",reason="b\"} \\"} 3
a_total{offer_name="y",reason=""} 4
a_seconds_bucket{le="+Inf"} 1.0
up 1
# EOF
"#;

    #[test]
    fn series_are_found_by_name_and_some_of_their_labels() {
        let page = Scrape::parse(PAGE).unwrap();
        assert_eq!(page.series().len(), 4);
        assert_eq!(page.sum("a_total", &[]).unwrap(), 7);
        assert_eq!(page.sum("a_total", &[("reason", "b\"} \\")]).unwrap(), 3);
        assert_eq!(page.sum("a_total", &[("offer_name", "z")]).unwrap(), 0);
        assert_eq!(page.sum("a_seconds_bucket", &[("le", "+Inf")]).unwrap(), 1);
        assert_eq!(page.sum("up", &[]).unwrap(), 1);
    }

    #[test]
    fn integers_beyond_a_float_stay_exact() {
        let page = Scrape::parse("amount 340282366920938463463374607431768211455\n").unwrap();
        assert_eq!(page.sum("amount", &[]).unwrap(), u128::MAX);
    }

    #[test]
    fn a_fraction_is_not_an_integer() {
        let page = Scrape::parse("s 0.25\n").unwrap();
        assert_eq!(page.sum("s", &[]).unwrap_err().to_string(), "s is 0.25, not an integer");
    }
}
