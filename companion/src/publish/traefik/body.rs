//! Traefik's dynamic configuration, as its file and HTTP providers read it.

use farebox_core::rules::PushedRules;
use farebox_pricing::RouteUpstream;
use serde_json::{Value, json};

use super::{ALIKE, ALIKE_BY, LIMIT, NAME, routers};
use crate::settings::TraefikSettings;

/// The text: JSON, which is YAML too.
pub(super) fn of(rules: &PushedRules, upstreams: &[RouteUpstream], settings: &TraefikSettings) -> String {
    let (routers, services) = routers::of(rules, upstreams, settings);
    let spool = json!({"file": settings.spool.file, "maxBytes": settings.spool.max_bytes});
    let signature = json!(settings.signature);
    // Writing strings, integers and maps with string keys cannot fail.
    let rules = serde_json::to_string(rules).unwrap_or_default();
    let config = format!(r#"{{"signature":{signature},"spool":{spool},"rules":{rules}}}"#);
    // One string, because Traefik's providers turn numbers and booleans into strings.
    let plugin = json!({"config": config});
    // One limit for all requests of a router together. Traefik only has a limit for each value of a criterion
    // of the request. The criterion here is a header that is removed before, so all requests have the same
    // value.
    let limit = json!({
        "amount": settings.requests_in_flight,
        "sourceCriterion": {"requestHeaderName": ALIKE_BY},
    });
    let alike = json!({"customRequestHeaders": {ALIKE_BY: ""}});
    let body = json!({"http": {
        "routers": routers,
        "middlewares": {
            NAME: {"plugin": {NAME: plugin}},
            ALIKE: {"headers": alike},
            LIMIT: {"inFlightReq": limit},
        },
        "services": services,
    }});
    let mut text = literal(&format!("{body:#}"));
    text.push('\n');
    text
}

/// The generation in a middleware as Traefik's API shows it.
pub(super) fn generation(middleware: &Value) -> Option<u64> {
    let config = middleware.get("plugin")?.get(NAME)?.get("config")?.as_str()?;
    let config: Value = serde_json::from_str(config).ok()?;
    config.get("rules")?.get("generation")?.as_u64()
}

/// Escapes JSON so that it means the same as JSON, as YAML, and after Go's templates, which the file provider
/// runs first. The escaped characters occur only in strings.
fn literal(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut last = ' ';
    for char in json.chars() {
        let opens_template = char == '{' && last == '{';
        // YAML refuses these characters, or drops them.
        let odd = matches!(
            char,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        );
        if opens_template || odd {
            out.push_str(&format!("\\u{:04x}", u32::from(char)));
            last = ' ';
        } else {
            out.push(char);
            last = char;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_providers_would_change_is_escaped_and_means_the_same() {
        for text in
            ["{{ env \"HOME\" }}", "{{{{{", "a\u{85}b\u{feff}c\u{7f}\u{2028}", "é 漢 😀 {a{b}}", "{\n{"]
        {
            let json = json!({"a": {"b": text}}).to_string();
            let escaped = literal(&json);
            assert!(!escaped.contains("{{"), "{escaped}");
            assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap()["a"]["b"], text);
            let yaml: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>> =
                serde_saphyr::from_str(&escaped).unwrap();
            assert_eq!(yaml["a"]["b"], text);
        }
    }
}
