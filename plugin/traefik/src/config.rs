//! What the companion publishes for this guest.
//!
//! It is one string inside the middleware's configuration, `config: '<json>'`, because Traefik's providers turn
//! numbers and booleans into strings wherever they find them.

use farebox_core::rules::RuleSet;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What Traefik hands over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    #[serde(default)]
    config: Option<String>,
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

/// Who checks signatures first. The gateway always does.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Signature {
    /// This guest, so that a forgery costs the gateway nothing.
    #[default]
    Guest,
    /// The gateway alone, whose processor is several times quicker at it.
    Gateway,
}

/// Where to count.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Spool {
    /// A file in a folder that Traefik mounts for the plugin.
    pub(crate) file: String,
    /// Nothing is written beyond this size.
    pub(crate) max_bytes: u64,
}

/// A configuration that can be used.
pub(crate) struct Config {
    pub(crate) rules: RuleSet,
    pub(crate) spool: Option<Spool>,
}

/// Reads what Traefik hands over; `None` if nothing is configured, as in the plugin catalogue's trial run. The
/// error names the place.
pub(crate) fn read(json: &[u8]) -> Result<Option<Config>, String> {
    if json.trim_ascii().is_empty() {
        return Ok(None);
    }
    let outer: Option<Outer> = serde_json::from_slice(json)
        .map_err(|error| format!("the middleware's configuration is not {{config: '…'}}: {error}"))?;
    let Some(text) = outer.and_then(|outer| outer.config) else { return Ok(None) };
    let inner: Inner<'_> =
        serde_json::from_str(&text).map_err(|error| format!("`config` is not readable: {error}"))?;
    let rules = RuleSet::from_json(inner.rules.get().as_bytes()).map_err(|error| error.to_string())?;
    let rules = match inner.signature {
        Signature::Guest => rules,
        Signature::Gateway => rules.leaving_signatures(),
    };
    Ok(Some(Config { rules, spool: inner.spool }))
}
