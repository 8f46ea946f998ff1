//! Reading what a facilitator answered. Total: every status and every body has exactly one meaning, and
//! whatever is not clearly one of the good answers is the bad one.

use serde_json::value::RawValue;

use super::facilitator::{SettleReply, VerifyOutcome};
use super::json::{check_depth, printable};
use super::reasons::is_pre_broadcast;
use super::requirement::same_network;
use crate::members::{Members, read_text};
use crate::rules::PaymentOption;

/// Longest facilitator text that is passed on, characters.
const MAX_TEXT: usize = 200;

/// Members of a `/settle` reply. Raw, so that a member of the wrong type is told from an absent one.
struct SettleMembers<'a> {
    success: Option<&'a RawValue>,
    transaction: Option<&'a RawValue>,
    network: Option<&'a RawValue>,
    error_reason: Option<&'a RawValue>,
    payer: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
}

/// An optional text member: absent, a text, or something else.
enum Text {
    Absent,
    Is(String),
    Other,
}

/// Reads a `/verify` reply.
pub fn read_verify_reply(status: u16, body: &[u8]) -> VerifyOutcome {
    let failed = || VerifyOutcome::Failed { retriable: is_retriable(status, body) };
    let members = read(body).and_then(|reply| {
        Some((
            reply.optional("isValid").ok()?,
            reply.optional("invalidReason").ok()?,
            reply.optional("invalidMessage").ok()?,
        ))
    });
    let Some((is_valid, reason, message)) = members else { return failed() };
    match (is_valid.and_then(read_bool), text(reason), text(message)) {
        (Some(true), _, _) if is_success(status) => VerifyOutcome::Valid,
        (Some(false), Text::Is(reason), _) if reason == "unexpected_verify_error" => failed(),
        (Some(false), reason @ (Text::Absent | Text::Is(_)), detail @ (Text::Absent | Text::Is(_)))
            if is_answer(status) =>
        {
            VerifyOutcome::Invalid {
                reason: reason.into_option().unwrap_or_else(|| "unspecified".to_owned()),
                detail: detail.into_option(),
            }
        }
        _ => failed(),
    }
}

/// Reads a `/settle` reply: what it says about this one call.
pub fn read_settle_reply(status: u16, body: &[u8], option: &PaymentOption) -> SettleReply {
    let Some(reply) = read(body).and_then(|reply| SettleMembers::of(&reply)) else {
        let reason = format!("the reply to /settle (status {status}) is not the JSON of a settlement");
        return SettleReply::Unclear { transaction: None, reason };
    };
    let transaction = text(reply.transaction).into_option().filter(|text| !text.is_empty());
    match reply.success.and_then(read_bool) {
        Some(true) => read_success(status, &reply, option, transaction),
        Some(false) => read_failure(status, &reply, transaction),
        None => unknown(transaction, "the reply to /settle does not say whether it succeeded"),
    }
}

fn read_success(
    status: u16,
    reply: &SettleMembers<'_>,
    option: &PaymentOption,
    transaction: Option<String>,
) -> SettleReply {
    if !is_success(status) {
        return unknown(transaction, "the reply to /settle says success under an error status");
    }
    if !matches!(text(reply.status), Text::Absent) && !text(reply.status).is("settled") {
        return unknown(transaction, "the reply to /settle says success and another state at once");
    }
    let Text::Is(network) = text(reply.network) else {
        return unknown(transaction, "the reply to /settle names no network");
    };
    if !same_network(&network, option) {
        return unknown(transaction, "the reply to /settle names another network");
    }
    match transaction {
        Some(transaction) => SettleReply::Settled { transaction, payer: text(reply.payer).into_option() },
        None => unknown(None, "the reply to /settle says success and names no transaction"),
    }
}

fn read_failure(status: u16, reply: &SettleMembers<'_>, transaction: Option<String>) -> SettleReply {
    let Text::Is(reason) = text(reply.error_reason) else {
        return unknown(transaction, "the reply to /settle gives no reason");
    };
    if reason == "settlement_pending" {
        return SettleReply::Pending { transaction };
    }
    if !is_answer(status) || transaction.is_some() || !is_pre_broadcast(&reason) {
        return unknown(transaction, &reason);
    }
    SettleReply::Refused { reason, detail: None }
}

fn unknown(transaction: Option<String>, reason: &str) -> SettleReply {
    SettleReply::Unclear { transaction, reason: reason.to_owned() }
}

fn read(body: &[u8]) -> Option<Members<'_>> {
    let text = core::str::from_utf8(body).ok()?;
    check_depth(text).ok()?;
    Members::read(text).ok()
}

fn read_bool(raw: &RawValue) -> Option<bool> {
    match raw.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn text(raw: Option<&RawValue>) -> Text {
    match raw {
        None => Text::Absent,
        Some(raw) => read_text(raw).map_or(Text::Other, |text| Text::Is(printable(&text, MAX_TEXT))),
    }
}

const fn is_success(status: u16) -> bool {
    matches!(status, 200..=299)
}

/// Whether a refusal under this status is the facilitator's own word: not a redirect, which was never
/// executed there, not a rate limit and not a server's failure.
const fn is_answer(status: u16) -> bool {
    matches!(status, 200..=299 | 400..=428 | 430..=499)
}

/// A new attempt is worth it after a rate limit or a gateway's failure, unless the facilitator says it
/// broke on this very payment.
fn is_retriable(status: u16, body: &[u8]) -> bool {
    const BROKE: &[u8] = b"unexpected_error";
    matches!(status, 429 | 502 | 503 | 504) && !body.windows(BROKE.len()).any(|window| window == BROKE)
}

// === impl SettleMembers ===

impl<'a> SettleMembers<'a> {
    /// `None` if one of them is repeated.
    fn of(reply: &Members<'a>) -> Option<Self> {
        let member = |name| reply.optional(name).ok();
        Some(Self {
            success: member("success")?,
            transaction: member("transaction")?,
            network: member("network")?,
            error_reason: member("errorReason")?,
            payer: member("payer")?,
            status: member("status")?,
        })
    }
}

// === impl Text ===

impl Text {
    fn into_option(self) -> Option<String> {
        match self {
            Self::Is(text) => Some(text),
            Self::Absent | Self::Other => None,
        }
    }

    fn is(&self, expected: &str) -> bool {
        matches!(self, Self::Is(text) if text == expected)
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
