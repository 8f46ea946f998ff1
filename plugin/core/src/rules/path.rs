//! Paths as the proxy routes them: decoded once, collapsed, or refused.
//!
//! Every form that two programs could read differently is refused. If decoding changes the path, the upstream gets
//! the decoded form. So a request cannot be priced as one path and served as another.

use std::borrow::Cow;

/// Why a path could be read in two ways. Such a request is answered 400 `ambiguous_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AmbiguousPath(pub &'static str);

/// A request target split into its canonical path and its untouched query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    /// Decoded once, `//` collapsed, at most one trailing slash. Used for matching.
    pub path: Cow<'a, str>,
    /// The `:path` for the upstream if it differs from the client's: the canonical path, percent-encoded again where
    /// needed, and the original query.
    pub rewritten: Option<String>,
    /// From `?` on, as sent, or empty.
    pub query: &'a str,
}

/// Canonicalizes a `:path` or refuses it.
///
/// A request target must not have a fragment: the text from a `#` before any `?` is cut off and never reaches the
/// upstream. A query is refused only if it cannot be forwarded as text.
pub fn canonicalize(target: &[u8]) -> Result<CanonicalPath<'_>, AmbiguousPath> {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let (raw, rest) = target.split_at(end);
    let query = if rest.starts_with(b"?") { rest } else { &[] };
    let query = core::str::from_utf8(query).map_err(|_| AmbiguousPath("the query is not UTF-8"))?;
    if query.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(AmbiguousPath("the query holds a control character"));
    }
    if is_plain(raw)
        && query.len() == rest.len()
        && let Ok(path) = core::str::from_utf8(raw)
    {
        return Ok(CanonicalPath { path: Cow::Borrowed(path), rewritten: None, query });
    }
    let path = canonical_text(raw)?;
    let encoded = encode(&path, raw);
    let unchanged = encoded.as_bytes() == raw && query.len() == rest.len();
    let rewritten = (!unchanged).then(|| format!("{encoded}{query}"));
    drop(encoded);
    Ok(CanonicalPath { path, rewritten, query })
}

/// Whether a path is certainly its own canonical form, as nearly all paths are: it has only bytes that no program
/// decodes, no empty segment, no segment that starts with a dot, and no parameters.
fn is_plain(raw: &[u8]) -> bool {
    let mut last = 0;
    raw.first() == Some(&b'/')
        && raw.iter().all(|&byte| {
            let starts = std::mem::replace(&mut last, byte) == b'/';
            is_path_byte(byte) && byte != b';' && !(starts && matches!(byte, b'/' | b'.'))
        })
}

/// The canonical, decoded form of a path without query. Borrowed if nothing had to change.
pub fn canonical_text(raw: &[u8]) -> Result<Cow<'_, str>, AmbiguousPath> {
    if raw.first() != Some(&b'/') {
        return Err(AmbiguousPath("the path does not start with /"));
    }
    let decoded = decode(raw)?;
    check_segments(&decoded)?;
    Ok(collapse(decoded))
}

/// Undoes one level of percent-encoding, and refuses bytes that another program could read differently.
fn decode(raw: &[u8]) -> Result<Cow<'_, str>, AmbiguousPath> {
    if let Some(refusal) = raw.iter().find_map(|byte| refused_raw(*byte)) {
        return Err(AmbiguousPath(refusal));
    }
    if !raw.contains(&b'%') {
        return core::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| NOT_UTF8);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = bytes.next().and_then(hex_digit);
        let low = bytes.next().and_then(hex_digit);
        let (Some(high), Some(low)) = (high, low) else {
            return Err(AmbiguousPath("a % is not followed by two hex digits"));
        };
        let byte = high << 4 | low;
        match byte {
            b'/' => return Err(AmbiguousPath("the path holds an encoded slash (%2F)")),
            b'\\' => return Err(AmbiguousPath("the path holds an encoded backslash (%5C)")),
            b'?' | b'#' => return Err(AmbiguousPath("the path holds an encoded ? or # (%3F, %23)")),
            _ if byte.is_ascii_control() => {
                return Err(AmbiguousPath("the path holds an encoded control character"));
            }
            _ => out.push(byte),
        }
    }
    if out.windows(3).any(|w| matches!(w, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())) {
        return Err(AmbiguousPath("the path is percent-encoded twice"));
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| NOT_UTF8)
}

const NOT_UTF8: AmbiguousPath = AmbiguousPath("the decoded path is not UTF-8");

fn refused_raw(byte: u8) -> Option<&'static str> {
    match byte {
        b'\\' => Some("the path holds a backslash"),
        _ if byte.is_ascii_control() => Some("the path holds a control character"),
        _ if !byte.is_ascii() => Some("the path holds a byte that must be percent-encoded"),
        _ => None,
    }
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Refuses `.` and `..`, and segments that servers read as `.` or `..` when they drop spaces. Servers with path
/// parameters drop `;…` first, so they read `..;x` as `..`.
fn check_segments(path: &str) -> Result<(), AmbiguousPath> {
    let is_dots = |segment: &str| {
        let name = without_parameters(segment);
        let short = name.len() <= 2 || name.contains(' ');
        short && !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'.' | b' '))
    };
    if path.split('/').any(is_dots) {
        return Err(AmbiguousPath("the path holds a . or .. segment"));
    }
    Ok(())
}

/// A segment up to its first `;`.
fn without_parameters(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

/// A segment without parameters and without dots and spaces at its end, because some servers drop these.
pub(super) fn bare(segment: &str) -> &str {
    without_parameters(segment).trim_end_matches(['.', ' '])
}

/// Folds the case of a letter. A full table would take 10 kB in every filter. So in scripts whose pairs of letters
/// are not at regular distances, all letters fold to one. Some different letters become equal then, but two cases of
/// one letter never differ.
pub(super) fn folded(letter: char) -> char {
    let shift = match letter {
        'A'..='Z' | '\u{c0}'..='\u{de}' | '\u{391}'..='\u{3a9}' | '\u{410}'..='\u{42f}' => 0x20,
        '\u{400}'..='\u{40f}' => 0x50,
        '\0'..='\u{fe}' | '\u{3b1}'..='\u{3c9}' | '\u{430}'..='\u{45f}' => 0,
        '\u{ff}'..='\u{58f}'
        | '\u{10a0}'..='\u{10ff}'
        | '\u{13a0}'..='\u{13ff}'
        | '\u{1c80}'..='\u{1fff}'
        | '\u{2100}'..='\u{2dff}'
        | '\u{a640}'..='\u{a7ff}'
        | '\u{ab30}'..='\u{abbf}'
        | '\u{ff21}'..='\u{ff5a}'
        | '\u{10400}'..='\u{1e943}' => return '\u{fffd}',
        _ => 0,
    };
    char::from_u32(u32::from(letter) + shift).unwrap_or(letter)
}

/// Makes every run of slashes one slash.
pub(super) fn collapse(path: Cow<'_, str>) -> Cow<'_, str> {
    if !path.as_bytes().windows(2).any(|pair| pair == b"//") {
        return path;
    }
    let mut out = String::with_capacity(path.len());
    for char in path.chars() {
        if char != '/' || !out.ends_with('/') {
            out.push(char);
        }
    }
    Cow::Owned(out)
}

/// The encoded path for the upstream. If the client's bytes mean exactly this path, they are kept, so that the
/// upstream gets the request unchanged.
fn encode<'a>(path: &'a str, raw: &[u8]) -> Cow<'a, str> {
    if path.as_bytes() == raw && !path.contains(' ') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        if is_path_byte(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(hex_char(byte >> 4));
            out.push(hex_char(byte & 15));
        }
    }
    Cow::Owned(out)
}

/// `/` and the `pchar` of RFC 3986 that need no encoding.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'/' | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

const fn hex_char(nibble: u8) -> char {
    (match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + nibble - 10,
    }) as char
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
