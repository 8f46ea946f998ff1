//! Reading what a facilitator answered. Total: every status and every body has exactly one meaning, and
//! whatever is not clearly one of the good answers is the bad one.

use serde_json::value::RawValue;

use super::facilitator::{Complaint, Operation, SettleReply, VerifyOutcome};
use super::json::{check_depth, printable};
use super::reasons::{Meaning, meaning};
use super::requirement::same_network;
use crate::members::{Members, read_text};
use crate::rules::PaymentOption;

/// Longest facilitator text that is passed on, characters.
const MAX_TEXT: usize = 200;
/// Longest id of a call, characters.
const MAX_ID: usize = 100;

/// Members of a `/settle` reply. Raw, so that a member of the wrong type is told from an absent one.
struct Settlement<'a> {
    success: Option<&'a RawValue>,
    transaction: Option<&'a RawValue>,
    network: Option<&'a RawValue>,
    error_reason: Option<&'a RawValue>,
    error_message: Option<&'a RawValue>,
    payer: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
}

/// An optional text member: absent, a text, or something else.
enum Text {
    Absent,
    Is(String),
    Other,
}

/// What a reply says of its own progress in `status`, which the protocol does not have.
#[derive(PartialEq, Eq)]
enum Progress {
    /// That it is over, or nothing.
    Over,
    UnderWay,
    Other,
}

/// Reads a `/verify` reply.
pub fn read_verify_reply(status: u16, body: &[u8]) -> VerifyOutcome {
    let failed = || match malformed(status, body) {
        Some(Complaint { words, correlation, .. }) => VerifyOutcome::Malformed { words, correlation },
        None => VerifyOutcome::Failed { retriable: is_retriable(status, body) },
    };
    let members = read(body).and_then(|reply| {
        let message = reply.optional("invalidMessage").ok()?;
        Some((
            reply.optional("isValid").ok()?,
            reply.optional("invalidReason").ok()?,
            message.or(reply.optional("invalidReasonDetails").ok()?),
        ))
    });
    let Some((is_valid, reason, message)) = members else { return failed() };
    match (is_valid.and_then(read_bool), text(reason), text(message)) {
        (Some(true), _, _) if is_success(status) => VerifyOutcome::Valid,
        (Some(false), Text::Is(reason), _) if is_its_own_failure(&reason) => failed(),
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

/// Reads a `/settle` reply. A success on a network that is neither the option's CAIP-2 id nor one of its names
/// is unclear.
pub fn read_settle_reply(status: u16, body: &[u8], option: &PaymentOption) -> SettleReply {
    let Some(reply) = read(body).and_then(|reply| Settlement::of(&reply)) else {
        return without_settlement(status, body);
    };
    let transaction = reply.transaction();
    if reply.is_pending(status) {
        return SettleReply::Pending { transaction };
    }
    match reply.success.and_then(read_bool) {
        Some(true) => read_success(status, &reply, option, transaction),
        Some(false) => read_failure(status, &reply, transaction),
        None => match malformed(status, body) {
            Some(Complaint { words, correlation, .. }) if transaction.is_none() => {
                SettleReply::Malformed { words, correlation }
            }
            _ => unclear(
                transaction,
                &format!("the reply to /settle (status {status}) does not say whether it succeeded"),
            ),
        },
    }
}

/// What an operator has to know of a reply that is no verdict; `None` of one that is.
pub fn complaint(operation: Operation, status: u16, body: &[u8]) -> Option<Complaint> {
    let is_verdict = match operation {
        Operation::Verify => {
            matches!(read_verify_reply(status, body), VerifyOutcome::Valid | VerifyOutcome::Invalid { .. })
        }
        Operation::Settle => read(body).and_then(|reply| Settlement::of(&reply)).map_or_else(
            || status == ACCEPTED,
            |reply| {
                let says = reply.success.and_then(read_bool).is_some();
                reply.is_pending(status) || says && is_answer(status)
            },
        ),
    };
    if is_verdict {
        return None;
    }
    Some(malformed(status, body).unwrap_or_else(|| Complaint {
        malformed: false,
        words: words(body),
        correlation: correlation(body),
    }))
}

/// The reply is not the JSON of a settlement.
fn without_settlement(status: u16, body: &[u8]) -> SettleReply {
    if status == ACCEPTED {
        return SettleReply::Pending { transaction: None };
    }
    match malformed(status, body) {
        Some(Complaint { words, correlation, .. }) => SettleReply::Malformed { words, correlation },
        None => {
            unclear(None, &format!("the reply to /settle (status {status}) is not the JSON of a settlement"))
        }
    }
}

fn read_success(
    status: u16,
    reply: &Settlement<'_>,
    option: &PaymentOption,
    transaction: Option<String>,
) -> SettleReply {
    if !is_success(status) {
        return unclear(transaction, "the reply to /settle says success under an error status");
    }
    if reply.progress() == Progress::Other {
        return unclear(transaction, "the reply to /settle says success and another state at once");
    }
    let Text::Is(network) = text(reply.network) else {
        return unclear(transaction, "the reply to /settle names no network");
    };
    if !same_network(&network, option) {
        return unclear(transaction, "the reply to /settle names another network");
    }
    match transaction {
        Some(transaction) => SettleReply::Settled { transaction, payer: text(reply.payer).into_option() },
        None => unclear(None, "the reply to /settle says success and names no transaction"),
    }
}

fn read_failure(status: u16, reply: &Settlement<'_>, transaction: Option<String>) -> SettleReply {
    let Text::Is(reason) = text(reply.error_reason) else {
        return unclear(transaction, "the reply to /settle gives no reason");
    };
    if reply.names_a_transaction() || !is_answer(status) || meaning(&reason) != Meaning::Refused {
        return unclear(transaction, &reason);
    }
    SettleReply::Refused { reason, detail: text(reply.error_message).into_option() }
}

fn unclear(transaction: Option<String>, reason: &str) -> SettleReply {
    SettleReply::Unclear { transaction, reason: reason.to_owned() }
}

/// What says that the call was not read, so that nothing was done with it. Statuses that HTTP has for requests
/// that are too large or of the wrong kind say so alone. Under 400 and 422, which some servers also give for a
/// failure on chain, the reply has to be one that is made before a call is looked at: CDP's `invalid_request`,
/// the list of faults of a FastAPI host, the words of x402-rs's own parser.
fn malformed(status: u16, body: &[u8]) -> Option<Complaint> {
    const UNPARSED: [&[u8]; 2] =
        [b"Failed to parse the request body as JSON", b"Failed to deserialize the JSON body"];
    let reply = read(body);
    let has = |name| reply.as_ref().is_some_and(|reply| !matches!(reply.optional(name), Ok(None)));
    if has("success") || has("isValid") || has("transaction") {
        return None;
    }
    let says = match status {
        413 | 414 | 415 | 431 => true,
        400 | 422 => {
            let member = |name| reply.as_ref().and_then(|reply| reply.optional(name).ok()?);
            text(member("errorType")).is("invalid_request")
                || status == 422 && member("detail").is_some_and(|raw| raw.get().starts_with('['))
                || UNPARSED.iter().any(|start| body.starts_with(start))
        }
        _ => false,
    };
    says.then(|| Complaint { malformed: true, words: words(body), correlation: correlation(body) })
}

/// What a reply says in prose, else its head.
fn words(body: &[u8]) -> String {
    const MEMBERS: [&str; 6] = ["errorMessage", "errorReason", "invalidReason", "error", "message", "detail"];
    let reply = read(body);
    let said = reply.as_ref().and_then(|reply| {
        MEMBERS
            .iter()
            .find_map(|name| text(reply.optional(name).ok()?).into_option().filter(|it| !it.is_empty()))
    });
    said.unwrap_or_else(|| {
        let head = body.get(..MAX_TEXT * 4).unwrap_or(body);
        printable(String::from_utf8_lossy(head).trim(), MAX_TEXT)
    })
}

/// The id that a facilitator gave the call, if the body has it.
fn correlation(body: &[u8]) -> Option<String> {
    const MEMBERS: [&str; 3] = ["correlationId", "requestId", "request_id"];
    let reply = read(body)?;
    let id = MEMBERS.iter().find_map(|name| read_text(reply.optional(name).ok()??))?;
    Some(printable(&id, MAX_ID)).filter(|id| !id.is_empty())
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

/// The status of a call that is not over yet.
const ACCEPTED: u16 = 202;

const fn is_success(status: u16) -> bool {
    matches!(status, 200..=299)
}

/// Whether a refusal under this status is the facilitator's own word: not a redirect, which was never executed
/// there, not a call that another one is in the way of (409, 425), not a time or rate limit, and not a server's
/// failure.
const fn is_answer(status: u16) -> bool {
    matches!(status, 200..=299 | 400..=499) && !matches!(status, 408 | 409 | 425 | 429)
}

/// A reason to verify elsewhere or later: it is not about the payment.
fn is_its_own_failure(reason: &str) -> bool {
    matches!(reason, "unexpected_verify_error" | "unexpected_error" | "unknown_error")
}

/// A new attempt is worth it after a rate limit or a gateway's failure, unless the facilitator says it
/// broke on this very payment.
fn is_retriable(status: u16, body: &[u8]) -> bool {
    const BROKE: &[u8] = b"unexpected_error";
    matches!(status, 429 | 502 | 503 | 504) && !body.windows(BROKE.len()).any(|window| window == BROKE)
}

// === impl Settlement ===

impl<'a> Settlement<'a> {
    /// `None` if one of them is repeated.
    fn of(reply: &Members<'a>) -> Option<Self> {
        let member = |name| reply.optional(name).ok();
        Some(Self {
            success: member("success")?,
            transaction: member("transaction")?,
            network: member("network")?,
            error_reason: member("errorReason")?,
            error_message: member("errorMessage")?,
            payer: member("payer")?,
            status: member("status")?,
        })
    }

    fn transaction(&self) -> Option<String> {
        text(self.transaction).into_option().filter(|text| !text.is_empty())
    }

    /// Also one that cannot be read.
    fn names_a_transaction(&self) -> bool {
        !matches!(text(self.transaction), Text::Absent) && !text(self.transaction).is("")
    }

    /// Whether the call is not over, under whatever status: CDP says so in a 500.
    fn is_pending(&self, status: u16) -> bool {
        status == ACCEPTED
            || self.progress() == Progress::UnderWay
            || matches!(text(self.error_reason), Text::Is(reason) if meaning(&reason) == Meaning::Pending)
    }

    fn progress(&self) -> Progress {
        match text(self.status) {
            Text::Absent => Progress::Over,
            Text::Is(said) => match said.as_str() {
                "settled" | "success" | "completed" | "confirmed" => Progress::Over,
                "pending" | "processing" | "submitted" | "queued" => Progress::UnderWay,
                _ => Progress::Other,
            },
            Text::Other => Progress::Other,
        }
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
