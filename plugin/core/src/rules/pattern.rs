//! Path patterns: exact, prefix or glob, and which paths each takes.

#[cfg(any(test, feature = "pricing-file"))]
use super::path::canonical_text;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct PatternError(String);

/// A normalised pattern by the way it is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// One path, also with one trailing slash more or less. Kept without it, so `/` is empty.
    Exact(String),
    /// The path and everything below it. Kept without the final `/*`, so `/*` is empty.
    Prefix(String),
    /// Segment by segment.
    Glob(Glob),
}

/// A pattern with wildcards inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    pub(super) segments: Vec<GlobSegment>,
    /// The last segment was exactly `*`: whatever follows is taken, but something has to follow,
    /// if only a slash. That segment is not among `segments`.
    pub(super) takes_rest: bool,
}

/// One segment of a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GlobSegment {
    /// No wildcard.
    Literal(String),
    /// With wildcards.
    Wild(Vec<Token>),
}

/// One step of a segment with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Itself.
    Char(char),
    /// `?`
    Any,
    /// `*`
    Many,
    /// `[a-z]`, `[^a-z]`, `[!a-z]`
    Class {
        /// Takes what the ranges do not.
        negated: bool,
        /// Inclusive.
        ranges: Vec<(char, char)>,
    },
}

/// Normalises a pattern as an operator wrote it: the same rules as for a request path.
#[cfg(any(test, feature = "pricing-file"))]
pub(super) fn normalize(text: &str) -> Result<String, PatternError> {
    let upper = text.to_ascii_uppercase();
    for escaped in ["%2A", "%3F", "%5B", "%5D"] {
        if upper.contains(escaped) {
            return Err(PatternError(format!("an escaped wildcard ({escaped}) cannot be part of a pattern")));
        }
    }
    if text.contains('#') {
        return Err(PatternError("a pattern has no fragment (#)".into()));
    }
    if text.contains(';') {
        return Err(PatternError(
            "a pattern cannot hold ; because paths with ;parameters must mean the same without them".into(),
        ));
    }
    let path = canonical_text(text.as_bytes()).map_err(|refused| PatternError(refused.0.to_owned()))?;
    if path.split('/').any(|segment| segment.ends_with(['.', ' '])) {
        return Err(PatternError(
            "no segment of a pattern can end with a dot or a space, because such paths must mean the same without it"
                .into(),
        ));
    }
    let pattern = path.into_owned();
    Pattern::parse(&pattern)?;
    Ok(match pattern.strip_suffix('/') {
        Some(exact) if !exact.is_empty() && !pattern.contains('*') => exact.to_owned(),
        _ => pattern,
    })
}

// === impl Pattern ===

impl Pattern {
    /// Reads a normalised pattern. Not idempotent with [`normalize`]: percent signs are literal here.
    pub(super) fn parse(normalised: &str) -> Result<Self, PatternError> {
        if !normalised.starts_with('/') {
            return Err(PatternError("a pattern starts with /".into()));
        }
        if !normalised.contains('*') {
            let exact = normalised.strip_suffix('/').unwrap_or(normalised);
            return Ok(Self::Exact(exact.to_owned()));
        }
        match normalised.strip_suffix("/*") {
            Some(prefix) if !prefix.contains('*') => Ok(Self::Prefix(prefix.to_owned())),
            _ => Glob::parse(normalised).map(Self::Glob),
        }
    }
}

// === impl Glob ===

impl Glob {
    /// Reads a glob that starts with a slash.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let (body, takes_rest) = match text.strip_suffix("/*") {
            Some(body) => (body, true),
            None => (text, false),
        };
        let body = body.strip_prefix('/').unwrap_or(body);
        let segments = if body.is_empty() && takes_rest {
            Vec::new()
        } else {
            body.split('/').map(GlobSegment::parse).collect::<Result<_, _>>()?
        };
        Ok(Self { segments, takes_rest })
    }

    /// The first segment if it holds no wildcard.
    pub(super) fn first_literal(&self) -> Option<&str> {
        match self.segments.first() {
            Some(GlobSegment::Literal(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether it takes a canonical path.
    pub(super) fn matches(&self, path: &str) -> bool {
        let mut found = segments(path);
        let all = self.segments.iter().all(|segment| found.next().is_some_and(|text| segment.matches(text)));
        all && found.next().is_some() == self.takes_rest
    }

    /// Whether its segments take the leading segments of a path: the test of a protected glob.
    pub(super) fn matches_start(&self, path: &str) -> bool {
        let mut found = segments(path);
        self.segments.iter().all(|segment| found.next().is_some_and(|text| segment.matches(text)))
    }
}

/// The segments of a path that starts with a slash; a trailing slash is an empty last segment.
pub(super) fn segments(path: &str) -> core::str::Split<'_, char> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

// === impl GlobSegment ===

impl GlobSegment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.contains(['*', '?', '[']) {
            return Ok(Self::Literal(text.to_owned()));
        }
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            tokens.push(match char {
                '*' => Token::Many,
                '?' => Token::Any,
                '[' => class(&mut chars)?,
                _ => Token::Char(char),
            });
        }
        Ok(Self::Wild(tokens))
    }

    /// Whether it certainly takes every segment.
    #[cfg(feature = "pricing-file")]
    pub(super) fn takes_all(&self) -> bool {
        matches!(self, Self::Wild(tokens) if tokens.iter().all(|token| *token == Token::Many))
    }

    /// Whether it takes this segment.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Wild(tokens) => wild_matches(tokens, text),
        }
    }
}

fn class(chars: &mut core::str::Chars<'_>) -> Result<Token, PatternError> {
    let open = || PatternError("a [ is never closed by ]".into());
    let mut ranges = Vec::new();
    let mut next = chars.next().ok_or_else(open)?;
    let negated = matches!(next, '^' | '!');
    if negated {
        next = chars.next().ok_or_else(open)?;
    }
    while next != ']' || ranges.is_empty() {
        let low = next;
        next = chars.next().ok_or_else(open)?;
        let mut high = low;
        if next == '-' {
            high = chars.next().ok_or_else(open)?;
            if high == ']' || high < low {
                return Err(PatternError(format!("the range {low}-{high} in [] is empty")));
            }
            next = chars.next().ok_or_else(open)?;
        }
        ranges.push((low, high));
    }
    Ok(Token::Class { negated, ranges })
}

/// Matches with one point of return (the last `*`), so the cost is at most text times tokens.
fn wild_matches(tokens: &[Token], text: &str) -> bool {
    let mut token = tokens;
    let mut rest = text.chars();
    let mut retry: Option<(&[Token], core::str::Chars<'_>)> = None;
    loop {
        match token {
            [Token::Many, after @ ..] => {
                retry = Some((after, rest.clone()));
                token = after;
                continue;
            }
            [] if rest.as_str().is_empty() => return true,
            [first, after @ ..] => {
                let mut ahead = rest.clone();
                if ahead.next().is_some_and(|char| first.takes(char)) {
                    rest = ahead;
                    token = after;
                    continue;
                }
            }
            [] => {}
        }
        let Some((after, mut from)) = retry.take() else { return false };
        if from.next().is_none() {
            return false;
        }
        token = after;
        rest = from.clone();
        retry = Some((after, from));
    }
}

impl Token {
    pub(super) fn takes(&self, char: char) -> bool {
        match self {
            Self::Char(literal) => *literal == char,
            Self::Any | Self::Many => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&char)) != *negated
            }
        }
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
