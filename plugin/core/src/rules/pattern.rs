//! Path patterns: exact, prefix or glob, and which paths each of them matches.

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

/// A normalised pattern, by its kind of lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// One path, with or without a trailing slash. Kept without the slash, so `/` is empty.
    Exact(String),
    /// The path and everything below it. Kept without the final `/*`, so `/*` is empty.
    Prefix(String),
    /// Segment by segment.
    Glob(Glob),
}

/// A pattern with wildcards inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// The parts between the slashes.
    pub segments: Vec<GlobSegment>,
    /// Whether the last segment was exactly `*`: then any rest matches, but there must be a rest,
    /// at least a slash. This segment is not in `segments`.
    pub takes_rest: bool,
}

/// One segment of a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GlobSegment {
    /// No wildcard.
    Literal(String),
    /// With wildcards.
    Wild(Vec<Token>),
}

/// One step of a segment with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// This character.
    Char(char),
    /// `?`
    Any,
    /// `*`
    Many,
    /// `[a-z]`, `[^a-z]`, `[!a-z]`
    Class {
        /// Whether the class is all characters outside the ranges.
        negated: bool,
        /// Inclusive.
        ranges: Vec<(char, char)>,
    },
}

// === impl Pattern ===

impl Pattern {
    /// Reads a normalised pattern: percent signs are literal.
    pub fn parse(normalised: &str) -> Result<Self, PatternError> {
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
    pub fn parse(text: &str) -> Result<Self, PatternError> {
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
    pub fn first_literal(&self) -> Option<&str> {
        match self.segments.first() {
            Some(GlobSegment::Literal(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether the glob matches a canonical path.
    pub fn matches(&self, path: &str) -> bool {
        let mut found = segments(path);
        let all = self.segments.iter().all(|segment| found.next().is_some_and(|text| segment.matches(text)));
        all && found.next().is_some() == self.takes_rest
    }

    /// Whether the glob matches the leading segments of a path: the test of a protected glob.
    pub fn matches_start(&self, path: &str) -> bool {
        let mut found = segments(path);
        self.segments.iter().all(|segment| found.next().is_some_and(|text| segment.matches(text)))
    }
}

/// The segments of a path that starts with a slash; a trailing slash is an empty last segment.
pub fn segments(path: &str) -> core::str::Split<'_, char> {
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

    /// Whether the segment of the glob matches this segment of a path.
    pub fn matches(&self, text: &str) -> bool {
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

/// Matches with one backtracking point (the last `*`), so the cost is at most text times tokens.
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
    /// Whether the token matches this character.
    pub fn takes(&self, char: char) -> bool {
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
