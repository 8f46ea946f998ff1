//! Writing series as text: Prometheus 0.0.4 and OpenMetrics 1.0.

use std::borrow::Cow;
use std::fmt::{Display, Write};

use farebox_core::metrics::{Family, Kind};

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

/// A quality value such as `0.75` in thousandths; 0 for an invalid text.
fn permille(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u32 = whole.parse().unwrap_or(0);
    (whole.min(1) * 1000 + digits.parse().unwrap_or(0)).min(1000)
}

/// Labels as text between the braces, the same in both formats. The labels of an offer are written once and
/// copied into each of its thirty series.
#[derive(Debug, Default)]
pub(super) struct Labels(String);

/// A page, written from its first line to its last.
#[derive(Debug)]
pub(super) struct Page {
    out: String,
    format: Format,
    family: Option<Family>,
}

// === impl Labels ===

impl Labels {
    pub(super) fn of(labels: &[(&'static str, &str)]) -> Self {
        labels.iter().fold(Self::default(), |all, (name, value)| all.and(name, value))
    }

    #[must_use]
    pub(super) fn and(mut self, name: &'static str, value: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        push_label(&mut self.0, name, value);
        self
    }
}

// === impl Page ===

impl Page {
    pub(super) const fn new(format: Format) -> Self {
        Self { out: String::new(), format, family: None }
    }

    /// Writes one line. The lines of a family follow each other, and the first line also writes the head of
    /// the family, so a family without samples has no head. `suffix` is `_bucket`, `_sum` or `_count` of a
    /// histogram, else empty; `last` is one more label.
    pub(super) fn sample(
        &mut self,
        (family, suffix): (Family, &'static str),
        labels: &Labels,
        last: Option<(&'static str, &str)>,
        value: impl Display,
    ) {
        if self.family != Some(family) {
            self.family = Some(family);
            self.head(family);
        }
        let out = &mut self.out;
        out.push_str(family.name());
        out.push_str(suffix);
        if !labels.0.is_empty() || last.is_some() {
            out.push('{');
            out.push_str(&labels.0);
            if let Some((name, value)) = last {
                if !labels.0.is_empty() {
                    out.push(',');
                }
                let is_bound = self.format == Format::OpenMetrics && name == "le";
                let value = if is_bound { canonical_bound(value) } else { Cow::Borrowed(value) };
                push_label(out, name, &value);
            }
            out.push('}');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(out, " {value}");
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn head(&mut self, family: Family) {
        // OpenMetrics names a counter family without the suffix of its samples.
        let name = match (self.format, family.kind()) {
            (Format::OpenMetrics, Kind::Counter) => family.name().trim_end_matches("_total"),
            _ => family.name(),
        };
        let out = &mut self.out;
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, family.help(), self.format == Format::OpenMetrics);
        out.push_str("\n# TYPE ");
        out.push_str(name);
        out.push_str(match family.kind() {
            Kind::Counter => " counter\n",
            Kind::Gauge => " gauge\n",
            Kind::Histogram => " histogram\n",
        });
    }
}

fn push_label(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value, true);
    out.push('"');
}

/// OpenMetrics writes bucket bounds as floats: `1.0`, not `1`.
fn canonical_bound(bound: &str) -> Cow<'_, str> {
    let is_whole = bound.bytes().all(|byte| byte.is_ascii_digit());
    if is_whole { Cow::Owned(format!("{bound}.0")) } else { Cow::Borrowed(bound) }
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
