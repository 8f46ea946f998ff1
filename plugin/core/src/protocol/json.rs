//! Reading foreign JSON safely, and writing our own.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::members::Reason;

/// Deepest nesting read. A payment needs five levels; extensions get room.
const MAX_DEPTH: usize = 32;

/// Checks the nesting of a JSON text before parsing, so that a value kept as raw text is limited, too.
pub(super) fn check_depth(text: &str) -> Result<(), Reason> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("nested deeper than {MAX_DEPTH} levels"));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// A raw member that must be an object.
pub(super) fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

/// Serializes one of our own types. This cannot fail, because all map keys are strings.
pub(super) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Writes a text as JSON string, with quotes.
pub(super) fn quoted(text: &str) -> String {
    // The fast path, for nearly every URL: no character needs an escape.
    if text.bytes().all(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        return ["\"", text, "\""].concat();
    }
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// Makes foreign text safe for logs, bodies and headers: at most `max` characters, and `?` in place of
/// each that is not printable ASCII.
pub fn printable(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(check_depth(&nested(MAX_DEPTH)), Ok(()));
        assert!(check_depth(&nested(MAX_DEPTH + 1)).is_err());
        assert_eq!(check_depth(&format!("[\"{}\\\"{}\"]", "[".repeat(50), "{".repeat(50))), Ok(()));
        assert_eq!(check_depth(&"[]".repeat(100)), Ok(()));
    }

    #[test]
    fn a_quoted_text_reads_back_as_itself() {
        let all: String = (0..=255_u8).map(char::from).collect();
        for text in ["", "plain", "a\"b", "a\\b", "line\nline", "\u{0}", "\u{1f}", "\u{7f}", "€", &all] {
            assert_eq!(quoted(text), serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn foreign_text_is_cut_and_made_printable() {
        assert_eq!(printable("a\u{0}\nb€", 10), "a??b?");
        assert_eq!(printable(&"x".repeat(300), 200).len(), 200);
    }
}
