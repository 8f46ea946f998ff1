//! The 402 challenge of a route, rendered once at load around the one thing a request decides: its URL.

use crate::rules::{PaymentOption, Settings};

/// Pre-rendered challenge of one route: header, JSON body and HTML page with a gap for the URL.
///
/// The base64 of the header is prepared too: the part before the URL is padded with JSON white space to
/// a multiple of three bytes, so that only URL and tail are encoded per request.
#[derive(Debug, Clone)]
pub struct Challenge {
    _private: (),
}

/// Why the attempt before this challenge failed (`extensions.paymentFailure`, contract 6.3).
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

impl Challenge {
    /// Renders the challenge of a paid route from its options (the primary first).
    pub fn prepare(options: &[&PaymentOption], description: &str, settings: &Settings) -> Self {
        let _ = (options, description, settings);
        todo!()
    }
    /// The longest header value this challenge makes for a URL of `url_len` bytes.
    pub fn header_len(&self, url_len: usize) -> usize {
        let _ = url_len;
        todo!()
    }
    /// `PAYMENT-REQUIRED`: padded base64 of the v2 challenge.
    pub fn header_value(&self, url: &str, failure: Option<&PaymentFailure>) -> String {
        let _ = (url, failure);
        todo!()
    }
    /// The JSON body: v2 with legacy copies, or v1, as the settings say.
    pub fn body(&self, url: &str, failure: Option<&PaymentFailure>) -> Vec<u8> {
        let _ = (url, failure);
        todo!()
    }
    /// The page for a browser: static, escaped, nothing of the request in it.
    pub fn html(&self) -> &[u8] {
        todo!()
    }
}
