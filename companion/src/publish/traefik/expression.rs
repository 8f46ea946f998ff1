//! Patterns as regular expressions, for the routers of a proxy that chooses the service of a path itself.
//!
//! Such a router matches a text that is not exactly a canonical path: some bytes are still percent-encoded, it has parameters, and
//! separators may differ. So there are two kinds of expression. [`covering`] matches at least the paths that
//! [`RuleSet::lookup`](farebox_core::rules::RuleSet::lookup) matches, in every spelling, so its service has to decide again. [`plain`]
//! matches at most these paths, and only texts that are their own canonical form, so its service may be the upstream itself. Both are RE2,
//! and hold no back-quote and no line end.

use std::collections::BTreeSet;
use std::fmt::Write;

use farebox_core::rules::pattern::{Glob, GlobSegment, Pattern, Token, segments};
use farebox_core::rules::without_case;

/// How an expression relates to the paths that a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// It matches no more than the matcher.
    AtMost,
    /// Among plain paths it matches no less than the matcher.
    AtLeast,
}

/// Separators between segments, in every spelling that an upstream may read as one.
const SEPARATOR: &str = r"(?:[/\\]|%2F|%5C)+";
/// Parameters that may follow a segment.
const PARAMETERS: &str = "(?:(?:;|%3B)[^/]*)?";
/// The end of a segment.
const END: &str = r"(?:[/\\;]|%2F|%5C|%3B|$)";
/// A character of a plain path, other than a slash.
const PLAIN: &str = "[-A-Za-z0-9._~!$&'()*+,=:@]";

/// An expression that matches every path at or below the places of `below` (patterns, or members of the protected set), and every path that
/// the patterns of `at` match, in every spelling and letter case. `None` if both are empty.
pub(super) fn covering<'a>(
    below: impl IntoIterator<Item = &'a str>,
    at: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let below = below.into_iter().map(|place| spellings(place, true));
    // Sorted, so that a regex engine finds common prefixes.
    let all: BTreeSet<String> =
        below.chain(at.into_iter().map(|pattern| spellings(pattern, false))).collect();
    let all = all.into_iter().collect::<Vec<_>>().join("|");
    (!all.is_empty()).then(|| format!("(?is)^(?:{all})"))
}

/// The part between `^` and `$` of an expression for plain paths, or `None` if the pattern matches none.
pub(super) fn plain(pattern: &str, take: Take) -> Option<String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let Ok(pattern) = Pattern::parse(pattern) else {
        return (take == Take::AtLeast).then(|| ".*".to_owned());
    };
    match pattern {
        Pattern::Exact(path) if path.is_empty() => out.push('/'),
        Pattern::Exact(path) => {
            plain_text(&mut out, &path)?;
            out.push_str("/?");
        }
        Pattern::Prefix(path) => {
            plain_text(&mut out, &path)?;
            let _ = write!(out, "(?:/{PLAIN}+)*/?");
        }
        Pattern::Glob(glob) => {
            for segment in &glob.segments {
                out.push('/');
                plain_segment(&mut out, segment, take)?;
            }
            if glob.takes_rest {
                let _ = write!(out, "/(?:{PLAIN}+/)*{PLAIN}*");
            }
        }
    }
    Some(out)
}

/// The leading segments of the paths that a pattern matches, and the number of all segments, an empty last one included.
#[derive(Debug)]
pub(super) struct Shape {
    segments: Vec<GlobSegment>,
    least: usize,
    most: usize,
}

// === impl Shape ===

impl Shape {
    /// The shape of a pattern. A pattern that cannot be read without letter case may match any path.
    pub(super) fn new(pattern: &str) -> Self {
        let anything = Self { segments: Vec::new(), least: 0, most: usize::MAX };
        Pattern::parse(&without_case(pattern)).map_or(anything, |pattern| Self::of(&pattern))
    }

    /// Whether both may match the same path if letter case is ignored. Never wrongly false.
    pub(super) fn may_overlap(&self, other: &Self) -> bool {
        self.least <= other.most
            && other.least <= self.most
            && self.segments.iter().zip(&other.segments).all(|(one, other)| match (one, other) {
                (GlobSegment::Literal(one), GlobSegment::Literal(other)) => one == other,
                (GlobSegment::Literal(text), wild) | (wild, GlobSegment::Literal(text)) => wild.matches(text),
                (GlobSegment::Wild(_), GlobSegment::Wild(_)) => true,
            })
    }

    fn of(pattern: &Pattern) -> Self {
        let literal = |path: &str| -> Vec<_> {
            let texts = segments(path).filter(|_| !path.is_empty());
            texts.map(|text| GlobSegment::Literal(text.to_owned())).collect()
        };
        let (segments, least, most) = match pattern {
            Pattern::Exact(path) => {
                let segments = literal(path);
                let count = segments.len();
                (segments, count, count + 1)
            }
            Pattern::Prefix(path) => {
                let segments = literal(path);
                let count = segments.len();
                (segments, count, usize::MAX)
            }
            Pattern::Glob(Glob { segments, takes_rest }) => {
                let count = segments.len();
                let most = if *takes_rest { usize::MAX } else { count };
                (segments.clone(), count, most)
            }
        };
        Self { segments, least, most }
    }
}

/// Every spelling of the paths that a pattern matches and, with `below`, of the paths below them.
fn spellings(place: &str, below: bool) -> String {
    let mut out = String::with_capacity(place.len() * 2);
    // An unreadable place protects every path.
    let Ok(pattern) = Pattern::parse(place) else { return SEPARATOR.to_owned() };
    let shape = Shape::of(&pattern);
    let is_open = below || shape.most == usize::MAX;
    let all = shape.segments;
    if all.is_empty() {
        return if is_open { SEPARATOR.to_owned() } else { format!("{SEPARATOR}$") };
    }
    for (position, segment) in all.iter().enumerate() {
        if position > 0 {
            out.push_str(PARAMETERS);
        }
        out.push_str(SEPARATOR);
        match segment {
            GlobSegment::Literal(text) => text.chars().for_each(|char| spelled(&mut out, char)),
            GlobSegment::Wild(tokens) => tokens.iter().for_each(|token| match token {
                Token::Char(char) => spelled(&mut out, *char),
                Token::Many => out.push_str("[^/]*"),
                Token::Any | Token::Class { .. } => out.push_str("[^/]+"),
            }),
        }
    }
    if is_open {
        out.push_str(END);
    } else {
        let _ = write!(out, "{PARAMETERS}(?:{SEPARATOR})?$");
    }
    out
}

/// A character in every spelling. Without the flag a regex engine would match the two letters beyond ASCII that fold to `k` and `s`. Beyond
/// ASCII any character matches, as in the protected set.
fn spelled(out: &mut String, char: char) {
    if !char.is_ascii() {
        out.push_str(r"(?:(?-i:[^\x00-\x7F])|%[89A-F][0-9A-F])+");
    } else if char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '~') {
        out.push(char);
    } else {
        let code = u32::from(char);
        let _ = write!(out, r"(?:\x{{{code:02X}}}|%{code:02X})");
    }
}

fn is_plain(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@".contains(char)
}

fn plain_text(out: &mut String, text: &str) -> Option<()> {
    text.chars().try_for_each(|char| {
        if char == '/' {
            out.push('/');
            return Some(());
        }
        plain_char(out, char)
    })
}

fn plain_char(out: &mut String, char: char) -> Option<()> {
    if !is_plain(char) {
        return None;
    }
    if !char.is_ascii_alphanumeric() && !matches!(char, '-' | '_' | '~') {
        out.push('\\');
    }
    out.push(char);
    Some(())
}

fn plain_segment(out: &mut String, segment: &GlobSegment, take: Take) -> Option<()> {
    let tokens = match segment {
        GlobSegment::Literal(text) => return text.chars().try_for_each(|char| plain_char(out, char)),
        GlobSegment::Wild(tokens) => tokens,
    };
    if take == Take::AtMost && tokens.iter().all(|token| *token == Token::Many) {
        // The matcher does not count an empty segment inside a path.
        let _ = write!(out, "{PLAIN}+");
        return Some(());
    }
    for token in tokens {
        match token {
            Token::Char(char) => plain_char(out, *char)?,
            Token::Any => out.push_str(PLAIN),
            Token::Many => {
                let _ = write!(out, "{PLAIN}*");
            }
            Token::Class { .. } => {
                let taken: Vec<char> = (' '..='~').filter(|c| is_plain(*c) && token.takes(*c)).collect();
                if taken.is_empty() {
                    return None;
                }
                out.push('[');
                for char in taken {
                    let _ = write!(out, r"\x{:02X}", u32::from(char));
                }
                out.push(']');
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_covers_holds_every_spelling_and_one_that_is_plain_only_one() {
        let covering = covering(["/a.b"], ["/c"]).unwrap();
        assert_eq!(
            covering,
            format!(
                r"(?is)^(?:{SEPARATOR}a(?:\x{{2E}}|%2E)b{END}|{SEPARATOR}c{PARAMETERS}(?:{SEPARATOR})?$)"
            )
        );
        assert_eq!(plain("/a.b", Take::AtMost).as_deref(), Some(r"/a\.b/?"));
        assert_eq!(plain("/", Take::AtMost).as_deref(), Some("/"));
        assert_eq!(super::covering([], []), None);
    }

    #[test]
    fn what_no_plain_path_can_be_has_no_plain_expression() {
        for pattern in ["/a b", "/é", "/100%", "/a[é]*", "/a\"b/*"] {
            assert_eq!(plain(pattern, Take::AtMost), None, "{pattern}");
        }
    }

    #[test]
    fn an_expression_holds_nothing_that_would_end_a_rule() {
        for pattern in ["/`", "/a`*", "/a\n", "/[`-z]*"] {
            let covering = covering([pattern], [pattern]).unwrap();
            assert!(!covering.contains(['`', '\n']), "{covering}");
            for take in [Take::AtMost, Take::AtLeast] {
                assert!(!plain(pattern, take).unwrap_or_default().contains(['`', '\n']), "{pattern}");
            }
        }
    }

    #[test]
    fn patterns_overlap_unless_it_is_certain_that_they_do_not() {
        let overlap = |one, other| Shape::new(one).may_overlap(&Shape::new(other));
        for (one, other) in [
            ("/a", "/a/"),
            ("/a/*", "/a"),
            ("/*", "/a/b"),
            ("/a/*", "/*"),
            ("/a*/b", "/ab/b"),
            ("/a*/b", "/*b/b"),
            ("/a/*-x/*", "/a/b-x/c/d"),
            ("/[a", "/[a"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in
            [("/a", "/b"), ("/a/*", "/b/*"), ("/a", "/a/b/c"), ("/a*/b", "/b/b"), ("/a*/b", "/a/c")]
        {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }
}
