//! Reading the replies of a facilitator. Every status and every body has exactly one meaning, and a reply that is not
//! clearly good counts as bad.

use super::facilitator::{Complaint, Operation, SettleReply, VerifyOutcome};
use super::json::{check_depth, printable};
use super::reasons::{Meaning, meaning};
use super::requirement::same_network;
use crate::evm::Address;
use crate::members::{Members, read_text};
use crate::terms::PaymentOption;

/// Longest facilitator text that is passed on, characters.
const MAX_TEXT: usize = 200;
/// The status of a call that is still pending.
const ACCEPTED: u16 = 202;

/// A reply, as far as it is a JSON object.
struct Reply<'a> {
    status: u16,
    body: &'a [u8],
    members: Option<Members<'a>>,
}

/// A text member: absent, a text, or something else, such as a repeated member.
#[derive(PartialEq, Eq)]
enum Text {
    Absent,
    Is(String),
    Other,
}

/// The member `status` of a reply, which the protocol does not define.
#[derive(PartialEq, Eq)]
enum Progress {
    /// The call is over, or there is no `status`.
    Over,
    UnderWay,
    Other,
}

/// Reads a `/verify` reply to a payment of `payer`, the signed `from` or owner. A reply that names another payer is
/// about another payment, so it is no verdict.
pub fn read_verify_reply(status: u16, body: &[u8], payer: Address) -> VerifyOutcome {
    Reply::of(status, body).verification(payer)
}

/// Reads a `/settle` reply to a payment of `payer`. A success on a network that is neither the option's CAIP-2 id nor
/// one of its names is unclear, and so is a reply that names another payer.
pub fn read_settle_reply(status: u16, body: &[u8], option: &PaymentOption, payer: Address) -> SettleReply {
    Reply::of(status, body).settlement(option, payer)
}

/// The complaint of a reply that is no verdict, for the operator; `None` for a verdict.
pub fn complaint(operation: Operation, status: u16, body: &[u8], payer: Address) -> Option<Complaint> {
    let reply = Reply::of(status, body);
    let other_payer = reply.other_payer(payer);
    let is_verdict = match operation {
        Operation::Verify => {
            matches!(reply.verification(payer), VerifyOutcome::Valid | VerifyOutcome::Invalid { .. })
        }
        Operation::Settle => {
            other_payer.is_none()
                && (reply.is_pending() || reply.flag("success").is_some() && reply.is_answer())
        }
    };
    (!is_verdict).then(|| Complaint {
        malformed: reply.is_malformed(),
        other_payer: other_payer.is_some(),
        words: other_payer.map_or_else(|| reply.words(), |other| format!("it names another payer, {other}")),
        correlation: reply.correlation(),
    })
}

// === impl Reply ===

impl<'a> Reply<'a> {
    fn of(status: u16, body: &'a [u8]) -> Self {
        let text = core::str::from_utf8(body).ok().filter(|text| check_depth(text).is_ok());
        Self { status, body, members: text.and_then(|text| Members::read(text).ok()) }
    }

    fn verification(&self, payer: Address) -> VerifyOutcome {
        if self.other_payer(payer).is_some() {
            return VerifyOutcome::Failed { retriable: false };
        }
        let valid = self.flag("isValid");
        if valid == Some(true) && self.is_success() {
            return VerifyOutcome::Valid;
        }
        if valid == Some(false) && self.is_answer() {
            let reason = match self.text("invalidReason") {
                Text::Is(reason) if !is_its_own_failure(&reason) => Some(reason),
                Text::Absent => Some("unspecified".to_owned()),
                Text::Is(_) | Text::Other => None,
            };
            if let Some(reason) = reason {
                let detail = self.first(&["invalidMessage", "invalidReasonDetails"]);
                return VerifyOutcome::Invalid { reason, detail };
            }
        }
        if self.is_malformed() {
            return VerifyOutcome::Malformed { words: self.words(), correlation: self.correlation() };
        }
        VerifyOutcome::Failed { retriable: self.is_retriable() }
    }

    fn settlement(&self, option: &PaymentOption, payer: Address) -> SettleReply {
        if let Some(other) = self.other_payer(payer) {
            let reason = format!("the reply to /settle names another payer, {other}");
            return SettleReply::Unclear { transaction: None, reason };
        }
        let transaction = self.first(&["transaction"]);
        if self.is_pending() {
            return SettleReply::Pending { transaction };
        }
        let reason = match self.flag("success") {
            Some(true) => match self.success(option) {
                Ok(transaction) => return SettleReply::Settled { transaction },
                Err(odd) => odd.to_owned(),
            },
            Some(false) => match self.text("errorReason") {
                Text::Is(reason) if self.refuses(&reason) => {
                    return SettleReply::Refused { reason, detail: self.first(&["errorMessage"]) };
                }
                Text::Is(reason) => reason,
                Text::Absent | Text::Other => "the reply to /settle gives no reason".to_owned(),
            },
            None if self.is_malformed() => {
                return SettleReply::Malformed { words: self.words(), correlation: self.correlation() };
            }
            None => {
                format!("the reply to /settle (status {}) does not say whether it succeeded", self.status)
            }
        };
        SettleReply::Unclear { transaction, reason }
    }

    /// The transaction of a success, or what is odd about it.
    fn success(&self, option: &PaymentOption) -> Result<String, &'static str> {
        if !self.is_success() {
            return Err("the reply to /settle says success under an error status");
        }
        if self.progress() == Progress::Other {
            return Err("the reply to /settle says success and another state at once");
        }
        match self.text("network") {
            Text::Is(network) if same_network(&network, option) => {}
            Text::Is(_) => return Err("the reply to /settle names another network"),
            Text::Absent | Text::Other => return Err("the reply to /settle names no network"),
        }
        self.first(&["transaction"]).ok_or("the reply to /settle says success and names no transaction")
    }

    /// The payer in the reply, if it is another payer. A text that is not an address is ignored.
    fn other_payer(&self, payer: Address) -> Option<Address> {
        let named = Address::parse(&self.text("payer").into_option()?).ok()?;
        (named != payer).then_some(named)
    }

    /// Whether a reason ends the payment. A reply that also has a transaction, even an unreadable one, does not end it.
    fn refuses(&self, reason: &str) -> bool {
        let transaction = self.text("transaction");
        self.is_answer()
            && (transaction == Text::Absent || transaction == Text::Is(String::new()))
            && meaning(reason) == Meaning::Refused
    }

    /// Whether the call is still pending, under any status: CDP says that in a 500.
    fn is_pending(&self) -> bool {
        self.status == ACCEPTED
            || self.progress() == Progress::UnderWay
            || matches!(self.text("errorReason"), Text::Is(reason) if meaning(&reason) == Meaning::Pending)
    }

    fn progress(&self) -> Progress {
        match self.text("status") {
            Text::Absent => Progress::Over,
            Text::Is(said) => match said.as_str() {
                "settled" | "success" | "completed" | "confirmed" => Progress::Over,
                "pending" | "processing" | "submitted" | "queued" => Progress::UnderWay,
                _ => Progress::Other,
            },
            Text::Other => Progress::Other,
        }
    }

    /// Whether the facilitator could not read the call, so that nothing was done. The HTTP statuses for requests that
    /// are too large or of the wrong type are enough. Some servers also give 400 and 422 for a failure on chain, so
    /// under these the reply has to be one that is made before the call is processed: CDP's `invalid_request`, the list
    /// of faults of a FastAPI host, or the messages of x402-rs's parser.
    fn is_malformed(&self) -> bool {
        const UNPARSED: [&[u8]; 2] =
            [b"Failed to parse the request body as JSON", b"Failed to deserialize the JSON body"];
        // A verdict, or possibly one.
        if ["success", "isValid", "transaction"].iter().any(|name| self.text(name) != Text::Absent) {
            return false;
        }
        match self.status {
            413 | 414 | 415 | 431 => true,
            400 | 422 => {
                let detail = self.members.as_ref().and_then(|members| members.optional("detail").ok()?);
                self.text("errorType") == Text::Is("invalid_request".to_owned())
                    || self.status == 422 && detail.is_some_and(|raw| raw.get().starts_with('['))
                    || UNPARSED.iter().any(|start| self.body.starts_with(start))
            }
            _ => false,
        }
    }

    /// The message of the reply, or the beginning of its body.
    fn words(&self) -> String {
        let said = ["errorMessage", "errorReason", "invalidReason", "error", "message", "detail"];
        self.first(&said).unwrap_or_else(|| {
            let shown = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
            self.body.trim_ascii().iter().take(MAX_TEXT).map(shown).collect()
        })
    }

    /// The id that the facilitator gave the call, if the body has it.
    fn correlation(&self) -> Option<String> {
        self.first(&["correlationId", "requestId", "request_id"])
    }

    /// The first of these members that is a text and not empty.
    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name).into_option().filter(|text| !text.is_empty()))
    }

    fn text(&self, name: &str) -> Text {
        let Some(members) = &self.members else { return Text::Absent };
        match members.optional(name) {
            Ok(None) => Text::Absent,
            Ok(Some(raw)) => read_text(raw).map_or(Text::Other, |text| Text::Is(printable(&text, MAX_TEXT))),
            Err(_) => Text::Other,
        }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        match self.members.as_ref()?.optional(name).ok()??.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Whether a refusal under this status is the facilitator's own decision. These are not: a redirect, which was not
    /// executed; a conflict with another call (409, 425); a time or rate limit; a failure of the server.
    const fn is_answer(&self) -> bool {
        matches!(self.status, 200..=299 | 400..=499) && !matches!(self.status, 408 | 409 | 425 | 429)
    }

    /// Whether a new attempt makes sense: after a rate limit or a gateway's failure, unless the facilitator says that it
    /// failed because of this payment.
    fn is_retriable(&self) -> bool {
        const BROKE: &[u8] = b"unexpected_error";
        matches!(self.status, 429 | 502 | 503 | 504)
            && !self.body.windows(BROKE.len()).any(|window| window == BROKE)
    }
}

/// Whether the reason is a failure of the facilitator and not about the payment, so that verifying elsewhere or later
/// makes sense.
fn is_its_own_failure(reason: &str) -> bool {
    matches!(reason, "unexpected_verify_error" | "unexpected_error" | "unknown_error")
}

// === impl Text ===

impl Text {
    fn into_option(self) -> Option<String> {
        match self {
            Self::Is(text) => Some(text),
            Self::Absent | Self::Other => None,
        }
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
