//! The 402 challenge of a route, rendered once at load around the one thing a request decides: its URL.

use serde::Serialize;

use super::header::{append_base64, encode_base64};
use super::html::page;
use super::json::{quoted, to_bytes};
use super::requirement::{MIME_TYPE, Requirement, V1Requirement};
use crate::rules::{BodyVersion, PaymentOption, Settings};

/// The `error` of a challenge nobody failed yet.
const PAYMENT_REQUIRED: &str = "Payment required";
/// Stands for the URL while a v1 body is rendered: a text no operator writes, and one that would only
/// be shown as the URL if one did.
const GAP: &str = "\u{1}";
/// Longest URL repeated in a challenge, bytes. A client that sends more gets it without its query, or
/// cut: an answer must not outgrow the header limits of the proxies on the way back.
const MAX_URL: usize = 2048;

/// Pre-rendered challenge of one route: header, JSON body and HTML page with a gap for the URL.
///
/// The base64 of the header is prepared too: the text on both sides of the URL is padded with JSON
/// white space to whole triples of bytes, so that only the URL itself is encoded per request.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// Base64 of everything before the URL's opening quote.
    header_before: Box<str>,
    /// Base64 of everything after the URL's closing quote and its padding.
    header_after: Box<str>,
    /// The JSON the header and a v2 body are made of, with what a failed attempt changes left open.
    header: Parts,
    body: Body,
    html: Box<[u8]>,
}

/// A v2 challenge in pieces; see [`Parts::render`].
#[derive(Debug, Clone)]
struct Parts {
    /// [`opening`] of a challenge nobody failed yet.
    opening: Box<str>,
    /// From after `url` to before the members of `extensions`, without the opening of `extensions`.
    after_url: Box<str>,
    /// Members of `extensions`, without braces; may be empty.
    extensions: Box<str>,
}

#[derive(Debug, Clone)]
enum Body {
    V2(Parts),
    /// What stands between the URLs of a v1 body, from after the text of `error` on.
    V1(Vec<Box<str>>),
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
    /// Renders the challenge of a paid route from its options (the primary first). `has_ledger` says that purchases
    /// can be told by the `payment-identifier` their buyers give them.
    pub fn prepare(
        options: &[&PaymentOption],
        description: &str,
        settings: &Settings,
        has_ledger: bool,
    ) -> Self {
        let header = Parts::new(&canonical_entries(options), options, description, settings, has_ledger);
        let before = aligned(opening(PAYMENT_REQUIRED));
        let after = aligned(format!("{}{}}}", header.after_url, header.extensions_member(None)));
        Self {
            header_before: encode_base64(before.as_bytes()).into(),
            header_after: encode_base64(after.as_bytes()).into(),
            body: Body::new(options, description, settings, has_ledger),
            html: page(options, description).into_bytes().into(),
            header,
        }
    }

    /// The longest header value this challenge makes, without a failed attempt before it, for a URL of
    /// `url_len` bytes in which JSON escapes nothing.
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

    /// The JSON body: v2 with legacy copies, or v1, as the settings say.
    pub fn body(&self, url: &str, failure: Option<&PaymentFailure>) -> Vec<u8> {
        let url = quoted(bounded(url));
        match &self.body {
            Body::V2(parts) => parts.render(&url, failure).into_bytes(),
            Body::V1(pieces) => {
                let error = failure.map_or(PAYMENT_REQUIRED, |failure| &failure.error);
                let body = format!("{{\"x402Version\":1,\"error\":{}{}", quoted(error), pieces.join(&url));
                body.into_bytes()
            }
        }
    }

    /// The page for a browser: static, escaped, nothing of the request in it.
    pub fn html(&self) -> &[u8] {
        &self.html
    }
}

// === impl Parts ===

impl Parts {
    fn new(
        entries: &[Requirement<'_>],
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
            json_text(entries),
        );
        let sponsored = options.iter().any(|option| option.gas_sponsoring);
        let extensions: Vec<&str> = [has_ledger.then_some(IDENTIFIER), sponsored.then_some(GAS_SPONSORING)]
            .into_iter()
            .flatten()
            .collect();
        let opening = opening(PAYMENT_REQUIRED).into();
        Self { opening, after_url: after_url.into(), extensions: extensions.join(",").into() }
    }

    fn render(&self, quoted_url: &str, failure: Option<&PaymentFailure>) -> String {
        let failed = failure.map(|failure| opening(&failure.error));
        let opening = failed.as_deref().unwrap_or(&self.opening);
        [opening, quoted_url, &self.after_url, &self.extensions_member(failure), "}"].concat()
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

// === impl Body ===

impl Body {
    fn new(options: &[&PaymentOption], description: &str, settings: &Settings, has_ledger: bool) -> Self {
        let v1: Vec<_> =
            options.iter().filter_map(|option| V1Requirement::new(option, GAP, description)).collect();
        // A route v1 cannot express at all says more with the v2 body than with an empty list.
        if settings.body == BodyVersion::V1 && !v1.is_empty() {
            let rest = format!(",\"accepts\":{}}}", json_text(&v1));
            let escaped_gap = quoted(GAP);
            return Self::V1(rest.split(escaped_gap.as_str()).map(Into::into).collect());
        }
        let mut entries = Vec::with_capacity(options.len() * 2);
        for option in options {
            entries.push(Requirement::new(option));
            if settings.legacy_networks {
                entries.extend(Requirement::legacy(option));
            }
        }
        Self::V2(Parts::new(&entries, options, description, settings, has_ledger))
    }
}

fn canonical_entries<'a>(options: &[&'a PaymentOption]) -> Vec<Requirement<'a>> {
    options.iter().map(|option| Requirement::new(option)).collect()
}

fn opening(error: &str) -> String {
    format!("{{\"x402Version\":2,\"error\":{},\"resource\":{{\"url\":", quoted(error))
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

/// Tells a buyer that it may name its purchase, so that no second payment is charged for the same one.
const IDENTIFIER: &str = concat!(
    r#""payment-identifier":{"info":{"required":false},"schema":{"#,
    r#""$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"#,
    r#""required":{"type":"boolean"},"#,
    r#""id":{"type":"string","minLength":16,"maxLength":128,"pattern":"^[a-zA-Z0-9_-]+$"}},"#,
    r#""required":["required"]}}"#,
);

/// Tells a buyer that a gasless permit (EIP-2612) may come with the payment instead of a prior approval
/// of Permit2, and what it has to hold.
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
