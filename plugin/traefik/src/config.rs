//! The configuration that the companion publishes for this guest.
//!
//! The configuration is one string inside the middleware's configuration, `config: '<json>'`, because Traefik's providers
//! turn numbers and booleans into strings.
//!
//! Traefik makes an instance for each request in flight, every instance reads the configuration, and an instance never
//! gives memory back. So each text is dropped as soon as its next form exists, and a challenge is rendered only when a
//! request needs it.

use std::fmt::Display;
use std::str::Chars;

use farebox_core::rules::{PushedRules, RuleSet};
use http_wasm_guest::host::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The configuration as Traefik passes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer<'a> {
    #[serde(default, borrow)]
    config: Option<&'a RawValue>,
}

/// The document in the string.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner<'a> {
    #[serde(default)]
    signature: Signature,
    #[serde(default)]
    spool: Option<Spool>,
    #[serde(borrow)]
    rules: &'a RawValue,
}

/// Which program checks signatures first. The gateway checks them in any case.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Signature {
    /// This guest, so that a forgery costs the gateway nothing.
    #[default]
    Guest,
    /// Only the gateway, whose native code is several times faster.
    Gateway,
}

/// Where to count.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Spool {
    /// A file in a folder that Traefik mounts for the plugin.
    pub(crate) file: String,
    /// Largest size of the file, bytes. Beyond it nothing is written.
    pub(crate) max_bytes: u64,
}

/// A configuration that can be used.
pub(crate) struct Config {
    pub(crate) rules: RuleSet,
    pub(crate) spool: Option<Spool>,
}

/// Reads the configuration from Traefik. `None` if nothing is configured, as in the trial run of the plugin catalogue. The
/// error names the place.
pub(crate) fn read(json: Bytes) -> Result<Option<Config>, String> {
    let Some(text) = text_of(json)? else { return Ok(None) };
    let inner: Inner<'_> =
        serde_json::from_str(&text).map_err(|error| format!("`config` is not readable: {error}"))?;
    let Inner { signature, spool, rules } = inner;
    let pushed = PushedRules::from_json(rules.get())
        .map_err(|error| format!("the rules are not readable: {error}"))?;
    drop(text);
    let rules = RuleSet::compile(pushed).map_err(|error| error.to_string())?.keeping_no_challenges();
    let rules = match signature {
        Signature::Guest => rules,
        Signature::Gateway => rules.leaving_signatures(),
    };
    Ok(Some(Config { rules, spool }))
}

/// The document in the configuration from Traefik.
fn text_of(json: Bytes) -> Result<Option<String>, String> {
    if json.trim_ascii().is_empty() {
        return Ok(None);
    }
    let unusable =
        |why: &dyn Display| format!("the middleware's configuration is not {{config: '…'}}: {why}");
    let outer: Option<Outer<'_>> = serde_json::from_slice(&json).map_err(|error| unusable(&error))?;
    let Some(raw) = outer.and_then(|outer| outer.config) else { return Ok(None) };
    unescaped(raw.get()).map(Some).ok_or_else(|| unusable(&"it is not a string"))
}

/// Decodes a JSON string. serde_json needs three times the length of the text for that, which would be half of the memory
/// of an instance.
fn unescaped(quoted: &str) -> Option<String> {
    let mut rest = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(rest.len());
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut after = escaped.chars();
        let character = match after.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = code_unit(&mut after)?;
                let mut units = vec![unit];
                // The other half of a character beyond the first 65,536.
                if matches!(unit, 0xd800..0xdc00) {
                    after = after.as_str().strip_prefix("\\u")?.chars();
                    units.push(code_unit(&mut after)?);
                }
                char::decode_utf16(units).next()?.ok()?
            }
            same => same,
        };
        text.push(character);
        rest = after.as_str();
    }
    text.push_str(rest);
    Some(text)
}

/// Four hexadecimal digits.
fn code_unit(digits: &mut Chars<'_>) -> Option<u16> {
    let four = digits.as_str().get(..4)?;
    *digits = digits.as_str().get(4..)?.chars();
    u16::from_str_radix(four, 16).ok()
}
