//! The 402 challenge of a route. It is rendered once, with a gap for the URL, because only the URL depends on the
//! request.

use serde::Serialize;

use super::header::{append_base64, encode_base64};
use super::html::page;
use super::json::{quoted, to_bytes};
use super::requirement::{MIME_TYPE, Requirement, V1Requirement};
use crate::terms::{BodyVersion, PaymentOption, Settings};

/// The `error` of a challenge before any attempt to pay.
const PAYMENT_REQUIRED: &str = "Payment required";
/// Placeholder of the URL while a v1 body is rendered. An operator's text never contains it; if it did, buyers would
/// see the URL there.
const GAP: &str = "\u{1}";
/// Longest URL in a challenge, bytes. A longer URL loses its query, or is cut, because the answer must stay within the
/// header limits of the proxies on the way back.
const MAX_URL: usize = 2048;

/// Pre-rendered challenge of one route: header, JSON body and HTML page with a gap for the URL.
///
/// The base64 of the header is prepared too: the text on both sides of the URL is padded with JSON white space to whole
/// triples of bytes, so that a request encodes only the URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Challenge {
    /// Base64 of everything before the URL's opening quote.
    header_before: Box<str>,
    /// Base64 of everything after the URL's closing quote and its padding.
    header_after: Box<str>,
    /// The JSON of the header and of a v2 body, with gaps for the members that a failed attempt changes.
    header: Parts,
    body: Parts,
    html: Box<[u8]>,
}

/// The pieces of a challenge; see [`Parts::render`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Parts {
    /// `x402Version`.
    version: u8,
    /// [`opening`] of a challenge before any attempt to pay.
    opening: Box<str>,
    /// The text from after `url` to before the members of `extensions`, without the opening of `extensions`, cut where
    /// the URL appears again.
    after_url: Vec<Box<str>>,
    /// Members of `extensions`, without braces; may be empty.
    extensions: Box<str>,
}

/// Why the attempt before this challenge failed (`extensions.paymentFailure`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentFailure {
    /// Text of the top-level `error`, e.g. `Payment verification failed: …`.
    pub error: String,
    /// Protocol code or metric reason.
    pub reason: String,
    /// At most 200 printable characters.
    pub detail: Option<String>,
    /// What the buyer can do.
    pub hint: Option<String>,
}

/// `extensions.paymentFailure`.
#[derive(Serialize)]
struct FailureExtension<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

// === impl Challenge ===

impl Challenge {
    /// Renders the challenge of a paid route from its options (the primary first). With `has_ledger` the challenge
    /// offers the extension `payment-identifier`, because a ledger can recognise a named purchase.
    pub fn prepare(
        options: &[&PaymentOption],
        description: &str,
        settings: &Settings,
        has_ledger: bool,
    ) -> Self {
        let prepare =
            |version, entries: &str| Parts::new(version, entries, options, description, settings, has_ledger);
        let header = prepare(2, &json_text(&canonical_entries(options)));
        let before = aligned(opening(2, PAYMENT_REQUIRED));
        let after = aligned(format!("{}{}}}", header.after_url.concat(), header.extensions_member(None)));
        let (version, entries) = body_entries(options, description, settings);
        Self {
            header_before: encode_base64(before.as_bytes()).into(),
            header_after: encode_base64(after.as_bytes()).into(),
            body: prepare(version, &entries),
            html: page(options, description).into_bytes().into(),
            header,
        }
    }

    /// The length of the header value, without a failed attempt, for a URL of `url_len` bytes that need no JSON
    /// escapes.
    pub fn header_len(&self, url_len: usize) -> usize {
        let url = url_len.min(MAX_URL).saturating_add(2);
        self.header_before.len() + url.div_ceil(3) * 4 + self.header_after.len()
    }

    /// `PAYMENT-REQUIRED`: padded base64 of the v2 challenge.
    pub fn header_value(&self, url: &str, failure: Option<&PaymentFailure>) -> String {
        let url = quoted(bounded(url));
        if failure.is_some() {
            return encode_base64(self.header.render(&url, failure).as_bytes());
        }
        let mut value = String::with_capacity(self.header_len(url.len()));
        value.push_str(&self.header_before);
        append_base64(aligned(url).as_bytes(), &mut value);
        value.push_str(&self.header_after);
        value
    }

    /// The JSON body: v1, or v2 with legacy copies, by the settings. A v1 body also has the members of v2 that say what
    /// is sold and why an attempt failed.
    pub fn body(&self, url: &str, failure: Option<&PaymentFailure>) -> Vec<u8> {
        self.body.render(&quoted(bounded(url)), failure).into_bytes()
    }

    /// The page for a browser: static, escaped, without any text of the request.
    pub fn html(&self) -> &[u8] {
        &self.html
    }
}

// === impl Parts ===

impl Parts {
    fn new(
        version: u8,
        entries: &str,
        options: &[&PaymentOption],
        description: &str,
        settings: &Settings,
        has_ledger: bool,
    ) -> Self {
        let facilitator = settings
            .public_facilitator
            .as_deref()
            .map_or_else(String::new, |url| format!(",\"facilitator\":{}", quoted(url)));
        let after_url = format!(
            ",\"description\":{},\"mimeType\":{}}},\"accepts\":{}{facilitator}",
            quoted(description),
            quoted(MIME_TYPE),
            entries,
        );
        let after_url = after_url.split(&quoted(GAP)).map(Into::into).collect();
        let sponsored = options.iter().any(|option| option.gas_sponsoring);
        let extensions: Vec<&str> = [has_ledger.then_some(IDENTIFIER), sponsored.then_some(GAS_SPONSORING)]
            .into_iter()
            .flatten()
            .collect();
        let opening = opening(version, PAYMENT_REQUIRED).into();
        Self { version, opening, after_url, extensions: extensions.join(",").into() }
    }

    fn render(&self, quoted_url: &str, failure: Option<&PaymentFailure>) -> String {
        let failed = failure.map(|failure| opening(self.version, &failure.error));
        let opening = failed.as_deref().unwrap_or(&self.opening);
        let after_url = self.after_url.join(quoted_url);
        [opening, quoted_url, &after_url, &self.extensions_member(failure), "}"].concat()
    }

    fn extensions_member(&self, failure: Option<&PaymentFailure>) -> String {
        if self.extensions.is_empty() && failure.is_none() {
            return String::new();
        }
        let failure = failure.map(|failure| {
            let extension = FailureExtension {
                reason: &failure.reason,
                detail: failure.detail.as_deref(),
                hint: failure.hint.as_deref(),
            };
            format!("\"paymentFailure\":{}", json_text(&extension))
        });
        let members: Vec<&str> = [&*self.extensions]
            .into_iter()
            .chain(failure.as_deref())
            .filter(|text| !text.is_empty())
            .collect();
        format!(",\"extensions\":{{{}}}", members.join(","))
    }
}

/// The version of a body and its `accepts`. Buyers of v2 read the header, so the body is for buyers of v1, unless v1
/// cannot express any option of the route.
fn body_entries(options: &[&PaymentOption], description: &str, settings: &Settings) -> (u8, String) {
    let v1 = options.iter().filter_map(|option| V1Requirement::new(option, GAP, description));
    let v1: Vec<_> = v1.filter(|_| settings.body == BodyVersion::V1).collect();
    if !v1.is_empty() {
        return (1, json_text(&v1));
    }
    let mut entries = Vec::with_capacity(options.len() * 2);
    for option in options {
        entries.push(Requirement::new(option));
        if settings.legacy_networks {
            entries.extend(Requirement::legacy(option));
        }
    }
    (2, json_text(&entries))
}

fn canonical_entries<'a>(options: &[&'a PaymentOption]) -> Vec<Requirement<'a>> {
    options.iter().map(|option| Requirement::new(option)).collect()
}

fn opening(version: u8, error: &str) -> String {
    format!("{{\"x402Version\":{version},\"error\":{},\"resource\":{{\"url\":", quoted(error))
}

/// Pads a JSON fragment that ends between two tokens to a multiple of three bytes.
fn aligned(mut text: String) -> String {
    while !text.len().is_multiple_of(3) {
        text.push(' ');
    }
    text
}

fn bounded(url: &str) -> &str {
    if url.len() <= MAX_URL {
        return url;
    }
    let without_query = url.split_once('?').map_or(url, |(path, _)| path);
    without_query.get(..without_query.floor_char_boundary(MAX_URL)).unwrap_or_default()
}

fn json_text<T: Serialize + ?Sized>(value: &T) -> String {
    String::from_utf8(to_bytes(value)).unwrap_or_default()
}

/// Says that a buyer may name its purchase, so that no second payment for this purchase is charged.
const IDENTIFIER: &str = concat!(
    r#""payment-identifier":{"info":{"required":false},"schema":{"#,
    r#""$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"#,
    r#""required":{"type":"boolean"},"#,
    r#""id":{"type":"string","minLength":16,"maxLength":128,"pattern":"^[a-zA-Z0-9_-]+$"}},"#,
    r#""required":["required"]}}"#,
);

/// Says that a payment may carry a permit without gas (EIP-2612) instead of a prior approval of Permit2, and the
/// members of this permit.
const GAS_SPONSORING: &str = concat!(
    r#""eip2612GasSponsoring":{"info":{"description":"The facilitator submits an EIP-2612 permit for "#,
    r#"Permit2 on the payer's behalf.","version":"1"},"schema":{"#,
    r#""$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"#,
    r#""from":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$"},"#,
    r#""asset":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$"},"#,
    r#""spender":{"type":"string","pattern":"^0x[a-fA-F0-9]{40}$"},"#,
    r#""amount":{"type":"string","pattern":"^[0-9]+$"},"#,
    r#""nonce":{"type":"string","pattern":"^[0-9]+$"},"#,
    r#""deadline":{"type":"string","pattern":"^[0-9]+$"},"#,
    r#""signature":{"type":"string","pattern":"^0x[a-fA-F0-9]+$"},"#,
    r#""version":{"type":"string","pattern":"^[0-9]+([.][0-9]+)*$"}},"#,
    r#""required":["from","asset","spender","amount","nonce","deadline","signature","version"]}}"#,
);

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
