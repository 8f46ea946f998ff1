//! Reading the patterns of the pricing file.

use farebox_core::rules::canonical_text;
use farebox_core::rules::pattern::Pattern;

/// Reads a pattern, and normalises its text by the rules of a request path.
pub(super) fn normalize(text: &str) -> Result<(String, Pattern), String> {
    let upper = text.to_ascii_uppercase();
    for escaped in ["%2A", "%3F", "%5B", "%5D"] {
        if upper.contains(escaped) {
            return Err(format!("an escaped wildcard ({escaped}) cannot be part of a pattern"));
        }
    }
    if text.contains('#') {
        return Err("a pattern has no fragment (#)".into());
    }
    if text.contains(';') {
        return Err(
            "a pattern cannot hold ; because paths with ;parameters must mean the same without them".into()
        );
    }
    let path = canonical_text(text.as_bytes()).map_err(|refused| refused.0.to_owned())?;
    if path.split('/').any(|segment| segment.ends_with(['.', ' '])) {
        return Err(
            "no segment of a pattern can end with a dot or a space, because such paths must mean the same without it"
                .into(),
        );
    }
    let pattern = Pattern::parse(&path).map_err(|error| error.to_string())?;
    let text = match path.strip_suffix('/') {
        Some(exact) if !exact.is_empty() && !path.contains('*') => exact.to_owned(),
        _ => path.into_owned(),
    };
    Ok((text, pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(text: &str) -> String {
        normalize(text).unwrap().0
    }

    #[test]
    fn patterns_are_normalised_like_paths() {
        assert_eq!(normalized("//services//o/*"), "/services/o/*");
        assert_eq!(normalized("/%73ervices/*"), "/services/*");
        assert_eq!(normalized("/paid/"), "/paid");
        assert_eq!(normalized("/"), "/");
    }

    #[test]
    fn a_pattern_no_path_could_match_safely_is_refused_with_its_reason() {
        let reason = |text: &str| normalize(text).unwrap_err();
        assert_eq!(reason("rpc/*"), "the path does not start with /");
        assert_eq!(reason(""), "the path does not start with /");
        assert_eq!(reason("/a/../b"), "the path holds a . or .. segment");
        assert_eq!(reason("/a%2Fb"), "the path holds an encoded slash (%2F)");
        assert_eq!(reason("/a%2ab"), "an escaped wildcard (%2A) cannot be part of a pattern");
        assert_eq!(reason("/a#b"), "a pattern has no fragment (#)");
        assert_eq!(reason("/a*[b"), "a [ is never closed by ]");
        assert_eq!(reason("/a*[z-a]"), "the range z-a in [] is empty");
        assert!(reason("/a;v=1/*").starts_with("a pattern cannot hold ;"));
    }
}
