//! Patterns in the syntax of other programs. They would load but match other paths than the operator expects, so the
//! operator's paths would not be sold.

/// The message about a pattern that seems to be in another syntax: what it looks like, and what to write. Completes
/// "cannot be used: ".
pub(super) fn foreign(text: &str) -> Option<String> {
    let looks = |what: &str, write: &str| Some(format!("it looks like {what}; {write}"));
    if !text.starts_with('/') {
        return if text.starts_with('^') || text.starts_with("~") {
            looks("a regular expression", EXPRESSION)
        } else if text.contains("://") {
            looks(
                "a URL",
                "a pattern is a path and starts with /: routes match only the path, for every host",
            )
        } else if text
            .split_once(' ')
            .is_some_and(|(method, _)| method.chars().all(|it| it.is_ascii_uppercase()))
        {
            looks("a method and a path", "a pattern is a path and starts with /: a price is for every method")
        } else {
            Some(format!("a pattern is a path and starts with /; for this one write /{}", text.trim_start()))
        };
    }
    if text.contains(['{', '}', '<', '>']) {
        return looks(
            "a template",
            "write * for one segment, as in /users/*/posts, or end with /* for all below",
        );
    }
    if text.split('/').any(|segment| segment.strip_prefix(':').is_some_and(|rest| rest.starts_with(is_word)))
    {
        return looks(
            "a template",
            "write * for one segment, as in /users/*/posts, or end with /* for all below; write a literal colon as %3A",
        );
    }
    let expression = ["\\", "|", ".*", ".+", "]+", ")*", ")+", ")?", "(?"];
    if expression.iter().any(|sign| text.contains(sign)) || text.ends_with('$') {
        return looks("a regular expression", EXPRESSION);
    }
    if text.split_once('?').is_some_and(|(_, rest)| rest.contains(['=', '&'])) {
        return looks(
            "a path with a query",
            "routes match only the path, without the query; a ? stands for one character of a path",
        );
    }
    if text.contains(",/") || text.contains(", ") {
        return looks("several patterns", "write one route for each");
    }
    if text.split('/').any(|segment| segment == "+") {
        return looks("a topic filter", "write * for one segment, as in /users/*/posts");
    }
    text.contains("**").then(|| {
        "** is not known: * stands for any text within one segment, and /* at the end for all below"
            .to_owned()
    })
}

const EXPRESSION: &str = "write * for any text within a segment, /* at the end for all below, and one route for each \
                          alternative (/v1/* for /v1/.*)";

const fn is_word(char: char) -> bool {
    char.is_ascii_alphabetic() || char == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_programs_would_understand_is_refused_with_what_to_write() {
        for (pattern, says) in [
            ("/v1/.*", "a regular expression; write *"),
            ("/v1/.+", "a regular expression"),
            ("/v6/(a|b)", "one route for each alternative"),
            ("/v6/(abc)?", "a regular expression"),
            ("/v7/[0-9]+", "a regular expression"),
            ("/v7/\\d", "a regular expression"),
            ("/v8$", "a regular expression"),
            ("^/v1/(a|b)$", "a regular expression"),
            ("/v2/{id}", "a template; write * for one segment"),
            ("/v2/{id:[0-9]+}/x", "a template"),
            ("/v2/<int:id>", "a template"),
            ("/v4/:id", "a template"),
            ("/v4/:id/posts", "write a literal colon as %3A"),
            ("/v3/**/x", "** is not known"),
            ("/v3/**", "/* at the end for all below"),
            ("https://shop.example/v1", "a URL"),
            ("POST /v1/chat", "a price is for every method"),
            ("/v1/chat?stream=*", "a path with a query; routes match only the path"),
            ("/v1/chat?stream&x", "a path with a query"),
            ("/v1/chat,/v1/models", "several patterns; write one route for each"),
            ("/v1/+/posts", "write * for one segment"),
            ("v1/*", "for this one write /v1/*"),
            ("*.json", "starts with /"),
        ] {
            let found = foreign(pattern).unwrap_or_else(|| panic!("{pattern} is taken"));
            assert!(found.contains(says), "{pattern}: {found}");
        }
    }

    #[test]
    fn patterns_of_ours_are_not_mistaken() {
        for pattern in [
            "/",
            "/*",
            "/v1/*",
            "/files/*.json",
            "/report.pdf",
            "/.well-known/*",
            "/v1/models:generate",
            "/inference-*/v1/*",
            "/img/[a-z]*",
            "/dot/[.]*",
            "/odata/Products(1)",
            "/odata/$metadata",
            "/a+b",
            "/%7Bid%7D",
            "/%3Aid",
            "/x/?*",
        ] {
            assert_eq!(foreign(pattern), None, "{pattern}");
        }
    }
}
