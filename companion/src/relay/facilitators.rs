//! Which facilitator is asked.
//!
//! To verify, the facilitators of a chain are asked in turn until one gives a verdict; valid or invalid, it is
//! final. The one that vouched settles, and is written down before it is called: a second facilitator could move
//! the money a second time, so once a settle call may have arrived nobody else is ever asked.

use farebox_core::protocol::{Operation, VerifyOutcome, Version, read_verify_reply};
use reqwest::StatusCode;
use tokio::time::Instant;
use tracing::warn;

use super::Relay;
use crate::facilitator::{CallFailed, PaymentCall, Replied};
use crate::ledger::{LedgerError, PaymentKey};
use crate::state::unix_seconds;

/// What became of the wish to have a payment verified.
pub(super) struct Verdict {
    /// The last reply.
    pub(super) reply: Result<Replied, CallFailed>,
    /// Who vouched for the payment, if somebody did.
    pub(super) vouched: Option<String>,
}

/// Seconds between two log lines about one facilitator that refuses its credential.
const LOG_AGAIN: u64 = 60;

// === impl Relay ===

impl Relay {
    /// Asks the facilitators of a payment in turn, all of them within the deadline of `/verify`: each has an equal
    /// share of what is left of it, so that one that hangs leaves time for the next.
    pub(super) async fn ask_to_verify(&self, call: &PaymentCall, body: &[u8]) -> Verdict {
        let asked = self.candidates(call);
        let end = Instant::now() + self.deadlines.verify;
        let mut reply = Err(CallFailed {
            reason: "no rules are loaded, so no facilitator is known".to_owned(),
            may_have_arrived: false,
        });
        for (url, left) in asked.iter().zip((1..=asked.len()).rev()) {
            let share =
                end.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            reply = self.call(url, Operation::Verify, body, share).await;
            let outcome = reply.as_ref().map(|reply| read_verify_reply(reply.status, &reply.body));
            match outcome {
                Ok(VerifyOutcome::Valid) => return Verdict { reply, vouched: Some(url.clone()) },
                Ok(VerifyOutcome::Invalid { .. }) => break,
                Ok(VerifyOutcome::Malformed { .. } | VerifyOutcome::Failed { .. }) if left > 1 => {
                    warn!("{url} gives no verdict; asking the next facilitator");
                }
                Err(failed) if left > 1 => warn!("cannot verify: {failed}; asking the next facilitator"),
                Ok(VerifyOutcome::Malformed { .. } | VerifyOutcome::Failed { .. }) | Err(_) => {}
            }
        }
        Verdict { reply, vouched: None }
    }

    /// The facilitator that settles a payment, on record before this returns. `None` if no rules are loaded and
    /// nobody was chosen earlier.
    pub(super) async fn settles_at(
        &self,
        key: &PaymentKey,
        call: &PaymentCall,
    ) -> Result<Option<String>, LedgerError> {
        let first = self.candidates(call).into_iter().next();
        self.note(self.ledger.settles_at(key, first.as_deref()).await)
    }

    /// Calls one facilitator, and notes whether it accepts its credential and whether its reply is a verdict.
    pub(super) async fn call(
        &self,
        url: &str,
        operation: Operation,
        body: &[u8],
        deadline: std::time::Duration,
    ) -> Result<Replied, CallFailed> {
        let reply = self.client.call(url, operation, body, deadline).await;
        if let Ok(reply) = &reply {
            self.note_acceptance(url, reply.status);
            self.note_reply(url, operation, reply);
        }
        reply
    }

    /// The facilitators of a payment's chain, without those known not to take its kind; all of them if that leaves
    /// nobody.
    fn candidates(&self, call: &PaymentCall) -> Vec<String> {
        let state = self.state.lock();
        let Some(active) = &state.active else { return Vec::new() };
        let all = self.facilitators.list(&call.option.network, &active.snapshot.facilitator_url);
        let version = match call.payment.version {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        let kind = format!("v{version} exact {}", call.network);
        let may_take = |url: &&String| {
            let known = state.facilitators.iter().find(|known| known.url == **url);
            known.and_then(|known| known.kinds.as_ref()).is_none_or(|kinds| kinds.contains(&kind))
        };
        let taking: Vec<_> = all.iter().filter(may_take).cloned().collect();
        if taking.is_empty() { all } else { taking }
    }

    fn note_acceptance(&self, url: &str, status: u16) {
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].iter().any(|code| *code == status);
        let mut state = self.state.lock();
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
