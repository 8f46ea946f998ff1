//! Which facilitator is asked.
//!
//! To verify, the facilitators of a chain are asked in turn until one gives a verdict; valid or invalid, it is
//! final. The one that vouched settles, and is written down before it is called: a second facilitator could move
//! the money a second time, so once a settle call may have arrived nobody else is ever asked.

use farebox_core::evm::Address;
use farebox_core::protocol::{Operation, PaymentCall, VerifyOutcome, Version, read_verify_reply};
use reqwest::StatusCode;
use tokio::time::Instant;
use tracing::warn;

use super::Relay;
use crate::clock::unix_seconds;
use crate::facilitator::{CallFailed, FailedCall, Replied};

/// What became of the wish to have a payment verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This facilitator vouches for it.
    Valid { facilitator: String },
    /// This one does not.
    Invalid { facilitator: String, reason: String, detail: Option<String> },
    /// None gave a verdict; this is what the last one did.
    None(NoVerdict),
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoVerdict {
    /// It could not be reached, or did not answer in time.
    Unreachable,
    /// It is overloaded or restarting.
    Busy,
    /// It cannot read what it is sent.
    Malformed { words: String },
    /// It answered something else.
    Unusable,
}

/// Seconds between two log lines about one facilitator that refuses its credential.
const LOG_AGAIN: u64 = 60;

// === impl Relay ===

impl Relay {
    /// Asks the facilitators of a payment in turn, all of them within the deadline of `/verify`: each has an equal
    /// share of what is left of it, so that one that hangs leaves time for the next.
    pub(super) async fn ask_to_verify(&self, call: &PaymentCall, body: &[u8], payer: Address) -> Verdict {
        let closed = self.state.facilitators.lock().closed_for(call.option.network.as_str());
        if let Some(cause) = closed {
            self.quietly(call.option.network.as_str(), |more| warn!("{cause}{more}"));
            return Verdict::None(NoVerdict::Unreachable);
        }
        let chain = call.option.network.as_str();
        let Some(_place) = self.under_way.verify(chain) else {
            self.quietly(chain, |more| {
                warn!("too many payments of {chain} wait for their facilitator; new ones are refused{more}");
            });
            return Verdict::None(NoVerdict::Busy);
        };
        let asked = self.candidates(call);
        let end = Instant::now() + self.deadlines.verify;
        let mut last = NoVerdict::Unreachable;
        if asked.is_empty() {
            warn!("cannot verify: no rules are loaded, so no facilitator is known");
        }
        for (url, left) in asked.iter().zip((1..=asked.len()).rev()) {
            let share =
                end.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            last = match self.call(url, Operation::Verify, body, payer, share).await {
                Ok(reply) => match read_verify_reply(reply.status, &reply.body, payer) {
                    VerifyOutcome::Valid => return Verdict::Valid { facilitator: url.clone() },
                    VerifyOutcome::Invalid { reason, detail } => {
                        return Verdict::Invalid { facilitator: url.clone(), reason, detail };
                    }
                    VerifyOutcome::Malformed { words, .. } => NoVerdict::Malformed { words },
                    VerifyOutcome::Failed { retriable: true } => NoVerdict::Busy,
                    VerifyOutcome::Failed { retriable: false } => NoVerdict::Unusable,
                },
                Err(failed) => {
                    let next = if left > 1 { "; asking the next facilitator" } else { "" };
                    self.quietly(url, |more| warn!("cannot verify: {failed}{next}{more}"));
                    NoVerdict::Unreachable
                }
            };
        }
        Verdict::None(last)
    }

    /// Calls one facilitator, and notes whether it accepts its credential and whether its reply is a verdict.
    pub(super) async fn call(
        &self,
        url: &str,
        operation: Operation,
        body: &[u8],
        payer: Address,
        deadline: std::time::Duration,
    ) -> Result<Replied, CallFailed> {
        let reply = self.client.call(url, operation, body, deadline).await;
        match &reply {
            Ok(reply) => {
                self.state.facilitators.lock().failed_calls.remove(url);
                self.note_acceptance(url, reply.status);
                self.note_reply(url, operation, reply, payer);
            }
            Err(failed) => {
                let failed =
                    FailedCall { operation: operation.name(), error: failed.to_string(), at: unix_seconds() };
                self.state.facilitators.lock().failed_calls.insert(url.to_owned(), failed);
            }
        }
        reply
    }

    /// The facilitators of a payment's chain, without those known not to take its kind; all of them if that leaves
    /// nobody.
    pub(super) fn candidates(&self, call: &PaymentCall) -> Vec<String> {
        let rules = self.state.rules.lock();
        let Some(active) = &rules.active else { return Vec::new() };
        let all = self.facilitators.list(&call.option.network, active.snapshot.facilitator_url.as_deref());
        let version = match call.payment.version {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        let known = self.state.facilitators.lock();
        let kind = format!("v{version} exact {}", call.network);
        let may_take = |url: &&String| {
            let known = known.all.iter().find(|known| known.url == **url);
            known.and_then(|known| known.kinds.as_ref()).is_none_or(|kinds| kinds.contains(&kind))
        };
        let taking: Vec<_> = all.iter().filter(may_take).cloned().collect();
        if taking.is_empty() { all } else { taking }
    }

    fn note_acceptance(&self, url: &str, status: u16) {
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].iter().any(|code| *code == status);
        let mut state = self.state.facilitators.lock();
        if !refused {
            if let Some(known) = state.credentials.get_mut(url) {
                known.refused = None;
            }
            return;
        }
        let now = unix_seconds();
        let known = state.credentials.entry(url.to_owned()).or_default();
        let text = format!("{url} answered {status}: {}", self.client.credentials().advice(url));
        if known.logged_at.saturating_add(LOG_AGAIN) <= now {
            known.logged_at = now;
            warn!("{text}");
        }
        known.refused = Some(text);
    }
}
