//! A strict parser of both text formats, by which tests check the written pages.

use std::collections::{BTreeMap, BTreeSet};

use super::exposition::Format;

/// Labels in order.
pub(super) type Labels = Vec<(String, String)>;
/// Name, labels and value of a sample.
pub(super) type Line = (String, Labels, String);

/// A family as read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) help: String,
    pub(super) kind: String,
    pub(super) samples: Vec<Line>,
}

/// Reads a text; panics at the first violation of the format.
pub(super) fn parse(text: &str, format: Format) -> BTreeMap<String, Read> {
    let mut families: BTreeMap<String, Read> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    assert!(text.ends_with('\n') && !text.contains("\n\n"), "every line ends once");
    let mut lines: Vec<_> = text.lines().collect();
    if format == Format::OpenMetrics {
        assert_eq!(lines.pop(), Some("# EOF"));
    }
    for line in lines {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(!families.contains_key(name), "{name} appears twice");
            families.insert(name.to_owned(), Read { help: help.to_owned(), ..Read::default() });
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert_eq!(name, current, "TYPE follows HELP");
            families.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            assert!(!line.starts_with('#'), "unexpected comment: {line}");
            let family = families.get_mut(&current).expect("a sample after its family");
            let sample = sample(line);
            let suffixes: &[&str] = match (format, family.kind.as_str()) {
                (Format::OpenMetrics, "counter") => &["_total"],
                (_, "histogram") => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let suffix =
                sample.0.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{line} in {current}"));
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(seen.insert((sample.0.clone(), sample.1.clone())), "twice: {line}");
            family.samples.push(sample);
        }
    }
    for (name, family) in &families {
        assert!(!family.samples.is_empty(), "{name} is empty");
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    families
}

fn sample(line: &str) -> Line {
    let name_end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(name_end);
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
            let (value, after) = quoted(after);
            labels.push((label.to_owned(), value));
            if let Some(after) = after.strip_prefix(',') {
                rest = after;
                continue;
            }
            rest = after.strip_prefix('}').expect(line);
            break;
        }
        let names: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), labels.len(), "a label twice: {line}");
    }
    let value = rest.strip_prefix(' ').expect(line);
    assert!(value.parse::<f64>().is_ok_and(|value| value.is_finite()), "{line}");
    (name.to_owned(), labels, value.to_owned())
}

fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next().expect("an unclosed label value") {
            (at, '"') => return (value, &text[at + 1..]),
            (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                c => panic!("an unknown escape: {c}"),
            }),
            (_, c) => value.push(c),
        }
    }
}

/// Buckets are in order, cumulative, end with `+Inf`, and agree with the count.
fn check_histogram(name: &str, family: &Read) {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        if sample.ends_with("_bucket") {
            let (mut labels, value) = (labels.clone(), value.parse().unwrap());
            let (le, bound) = labels.pop().unwrap();
            assert_eq!(le, "le", "{name}");
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            series.entry(labels).or_default().push((bound, value));
        }
    }
    for (labels, buckets) in series {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels:?} {buckets:?}");
        let last = buckets.last().unwrap();
        assert!(last.0.is_infinite(), "{name}");
        for suffix in ["_count", "_sum"] {
            let sample = family.samples.iter().find(|(n, l, _)| n.ends_with(suffix) && *l == labels);
            let value: f64 = sample.expect(suffix).2.parse().unwrap();
            assert!(suffix == "_sum" || value == last.1, "{name} {labels:?}");
        }
    }
}
