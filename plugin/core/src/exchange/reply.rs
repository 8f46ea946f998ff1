//! Farebox's own responses: challenges and errors, from the table of refusals.

use std::borrow::Cow;

use serde::Serialize;

use super::Reply;
use super::refusal::{Cause, Counted, Form, Row};
use super::response::EXPOSED;
use super::seen::Seen;
use super::strip::OWED;
use crate::protocol::{PaymentFailure, Receipt, printable};
use crate::rules::{Route, RouteChallenge, RuleSet};
use crate::terms::Settings;

/// Longest foreign text in an answer, characters.
const MAX_DETAIL: usize = 200;

/// The properties of the client that an answer depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asker {
    /// A HEAD request: no body.
    pub(super) head: bool,
    /// A person: the challenge is a page.
    pub(super) browser: bool,
    /// A script on a page of another origin: the payment headers have to be exposed.
    pub(super) cors: bool,
    /// Index of its origin in `filter.cors`.
    pub(super) page: Option<u16>,
    /// A client that asks to switch protocols.
    pub(super) upgrade: bool,
}

/// The details that an event adds to the row of its cause.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Protocol error code.
    pub(super) code: Option<String>,
    /// A message more precise than the row's.
    pub(super) message: Option<String>,
    /// Text of the facilitator or relay that refused.
    pub(super) detail: Option<String>,
    /// A hint in place of the row's.
    pub(super) hint: Option<&'static str>,
    /// The payer has paid already, so a new authorization would pay twice.
    pub(super) paid: bool,
    /// The settlement whose outcome is open.
    pub(super) open: Option<OpenSettlement>,
    /// Sent in both receipt headers.
    pub(super) receipt: Option<Receipt>,
}

/// The data by which a buyer can find out the outcome of a payment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct OpenSettlement {
    pub(super) network: String,
    pub(super) asset: String,
    pub(super) payer: String,
    pub(super) nonce: String,
    pub(super) transaction: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    x402_version: Option<u8>,
    error: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    retriable: bool,
    #[serde(flatten)]
    open: Option<&'a OpenSettlement>,
}

/// The terms of a challenge: the route and the URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    rules: &'a RuleSet,
    route: &'a Route,
    challenge: &'a RouteChallenge,
    url: &'a str,
}

// === impl Terms ===

impl<'a> Terms<'a> {
    /// `None` if the route is not paid.
    pub(super) fn of(rules: &'a RuleSet, route: &'a Route, url: &'a str) -> Option<Self> {
        Some(Self { rules, route, challenge: route.challenge.as_ref()?, url })
    }
}

/// Header: `false` if a retry could mean another payment. SDKs that retry around a paying client obey it.
pub(super) const NO_RETRY: &str = "x-should-retry";

/// The 402 of a request without a payment.
pub(super) fn payment_required(terms: Terms<'_>, asker: Asker) -> Reply {
    challenge(402, terms, None, asker)
}

/// The answer to a refusal. A cause that asks for another payment needs `terms`. Without `terms` the answer is an
/// error, which asks for no payment.
pub(super) fn refuse(cause: Cause, told: &Told, terms: Option<Terms<'_>>, asker: Asker) -> Reply {
    let row = cause.row();
    let message = told.message.as_deref().unwrap_or(row.message);
    let message = printable(message, MAX_DETAIL);
    let text = if message.is_empty() { row.error.to_owned() } else { [row.error, ": ", &message].concat() };
    let detail = told.detail.as_deref().map(|detail| printable(detail, MAX_DETAIL));
    let mut reply = match (row.form, terms) {
        (Form::Challenge, Some(terms)) => {
            let failure = PaymentFailure {
                error: text,
                reason: row.reason.to_owned(),
                detail: detail.or_else(|| told.code.clone()),
                hint: told.hint.or_else(|| optional(row.hint)).map(str::to_owned),
            };
            challenge(row.status, terms, Some(&failure), asker)
        }
        _ => error(&row, &text, detail.as_deref(), told, asker),
    };
    if let Some(seconds) = row.retry_after.filter(|_| !told.paid) {
        reply.headers.push(("retry-after".into(), seconds.to_string()));
    }
    if row.status == 409 || told.paid || told.open.is_some() {
        reply.headers.push((NO_RETRY.into(), "false".to_owned()));
    }
    if let Some(hint) = told.hint.filter(|_| told.paid) {
        reply.headers.push((OWED.into(), hint.to_owned()));
    }
    if let Some(receipt) = &told.receipt {
        push_receipts(&mut reply.headers, receipt);
    }
    reply
}

/// Adds both receipt headers, because v1 and v2 buyers each read their own.
pub(super) fn push_receipts(headers: &mut Vec<(Cow<'static, str>, String)>, receipt: &Receipt) {
    let value = receipt.header_value();
    headers.push(("payment-response".into(), value.clone()));
    headers.push(("x-payment-response".into(), value));
}

fn challenge(status: u16, terms: Terms<'_>, failure: Option<&PaymentFailure>, asker: Asker) -> Reply {
    let kind = if asker.browser { "text/html; charset=utf-8" } else { "application/json" };
    let mut headers = own_headers(kind, asker);
    let rendered = terms.challenge.rendered(terms.route, terms.rules);
    let value = rendered.header_value(terms.url, failure);
    headers.push(("payment-required".into(), value));
    if let Some(catalog) = &terms.rules.settings.catalog {
        headers.push(("link".into(), ["<", catalog, ">; rel=\"catalog\""].concat()));
    }
    let body = match asker {
        Asker { head: true, .. } => Vec::new(),
        Asker { browser: true, .. } => rendered.html().to_vec(),
        _ => rendered.body(terms.url, failure),
    };
    Reply { status, headers, body }
}

/// The answer of a shell that cannot continue an exchange. Money may have moved by then, so the answer does not ask
/// for another payment.
pub fn internal() -> Reply {
    let (row, asker) = (Cause::Internal.row(), Asker::default());
    error(&row, row.error, None, &Told::default(), asker)
}

fn error(row: &Row, text: &str, detail: Option<&str>, told: &Told, asker: Asker) -> Reply {
    let body = ErrorBody {
        x402_version: (!matches!(row.counted, Counted::Blocked(_))).then_some(2),
        error: text,
        reason: row.reason,
        code: told.code.as_deref(),
        detail,
        hint: told.hint.or_else(|| optional(row.hint)),
        retriable: row.retriable && !told.paid,
        open: told.open.as_ref(),
    };
    // Serializing texts and numbers cannot fail; an empty body would still carry its status.
    let body = if asker.head { Vec::new() } else { serde_json::to_vec(&body).unwrap_or_default() };
    Reply { status: row.status, headers: own_headers("application/json", asker), body }
}

fn own_headers(kind: &'static str, asker: Asker) -> Vec<(Cow<'static, str>, String)> {
    let mut headers = Vec::with_capacity(8);
    headers.push(("content-type".into(), kind.to_owned()));
    headers.push(("cache-control".into(), "no-store".to_owned()));
    if asker.cors {
        headers.push(("access-control-expose-headers".into(), EXPOSED.join(", ")));
    }
    headers
}

const fn optional(text: &str) -> Option<&str> {
    if text.is_empty() { None } else { Some(text) }
}

// === impl Asker ===

impl Asker {
    pub(super) fn of(seen: &Seen<'_>, settings: &Settings) -> Self {
        let allowed = |origin: &String| origin == "*" || origin.as_bytes() == seen.origin;
        let cors = !seen.origin.is_empty();
        let place =
            settings.cors.as_ref().filter(|_| cors).and_then(|cors| cors.origins.iter().position(allowed));
        Self {
            head: seen.is_head(),
            browser: seen.accepts_html && seen.mozilla,
            cors,
            page: place.and_then(|place| u16::try_from(place).ok()),
            upgrade: seen.wants_upgrade(),
        }
    }
}

// === impl Told ===

impl Told {
    pub(super) fn code(code: &str) -> Self {
        Self { code: Some(code.to_owned()), message: Some(code.to_owned()), ..Self::default() }
    }
    pub(super) fn message(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::default() }
    }
}
