//! Writing families as text: Prometheus 0.0.4 and OpenMetrics 1.0.

use std::fmt::Write;

use farebox_core::metrics::{Family, Kind};

use super::families::{FamilySamples, Sample};

/// The two text formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus text exposition 0.0.4.
    Prometheus,
    /// OpenMetrics text 1.0.
    OpenMetrics,
}

// === impl Format ===

impl Format {
    /// The format a reader prefers. OpenMetrics must be asked for by name; between the two, the higher
    /// quality wins, and OpenMetrics on equality.
    pub(super) fn accepted(accept: &str) -> Self {
        let (mut open, mut plain) = (None, None);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let value = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.trim().trim_matches('"'))
            };
            let quality = value("q").map_or(1000, permille);
            match kind.as_str() {
                "application/openmetrics-text"
                    if matches!(value("version"), None | Some("1.0.0" | "0.0.1")) =>
                {
                    open = open.max(Some(quality));
                }
                "text/plain" => plain = plain.max(Some(quality)),
                _ => {}
            }
        }
        match open {
            Some(quality) if quality > 0 && Some(quality) >= plain => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A quality value such as `0.75` in thousandths; nonsense is the lowest.
fn permille(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u32 = whole.parse().unwrap_or(0);
    (whole.min(1) * 1000 + digits.parse().unwrap_or(0)).min(1000)
}

/// Writes families in their order. Families without samples are left out.
pub(super) fn encode(families: &[FamilySamples], format: Format) -> String {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        write_family(&mut out, family, format);
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn write_family(out: &mut String, FamilySamples { family, samples }: &FamilySamples, format: Format) {
    // OpenMetrics names a counter family without the suffix its samples carry.
    let name = match (format, family.kind()) {
        (Format::OpenMetrics, Kind::Counter) => family.name().trim_end_matches("_total"),
        _ => family.name(),
    };
    out.push_str("# HELP ");
    out.push_str(name);
    out.push(' ');
    escape(out, family.help(), format == Format::OpenMetrics);
    out.push_str("\n# TYPE ");
    out.push_str(name);
    out.push_str(match family.kind() {
        Kind::Counter => " counter\n",
        Kind::Gauge => " gauge\n",
        Kind::Histogram => " histogram\n",
    });
    for sample in samples {
        write_sample(out, *family, sample, format);
    }
}

fn write_sample(out: &mut String, family: Family, sample: &Sample, format: Format) {
    out.push_str(family.name());
    out.push_str(sample.suffix);
    if !sample.labels.is_empty() {
        let mut separator = '{';
        for (name, value) in &sample.labels {
            out.push(separator);
            separator = ',';
            out.push_str(name);
            out.push_str("=\"");
            if format == Format::OpenMetrics && *name == "le" {
                out.push_str(&canonical_bound(value));
            } else {
                escape(out, value, true);
            }
            out.push('"');
        }
        out.push('}');
    }
    // Writing to a string cannot fail.
    let _ = writeln!(out, " {}", sample.value);
}

/// OpenMetrics writes bucket bounds as floats: `1.0`, not `1`.
fn canonical_bound(bound: &str) -> String {
    if bound.bytes().all(|byte| byte.is_ascii_digit()) { format!("{bound}.0") } else { bound.to_owned() }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
