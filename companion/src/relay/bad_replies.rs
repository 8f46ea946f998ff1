//! Replies of facilitators that are no verdict: kept for `/status`, and told in the log now and then.

use farebox_core::evm::Address;
use farebox_core::protocol::{Complaint, Operation, complaint};
use reqwest::StatusCode;
use tracing::{error, warn};

use super::Relay;
use crate::clock::unix_seconds;
use crate::facilitator::{BadReply, Replied};

/// Seconds between two log lines about one facilitator: every buyer may run into the same fault.
const LOG_AGAIN: u64 = 60;

// === impl Relay ===

impl Relay {
    /// Notes a reply of the facilitator at `url` to a payment of `payer` if it is no verdict.
    pub(super) fn note_reply(&self, url: &str, operation: Operation, reply: &Replied, payer: Address) {
        let Some(complaint) = complaint(operation, reply.status, &reply.body, payer) else { return };
        let Complaint { malformed, other_payer, words, correlation } = complaint;
        let now = unix_seconds();
        let mut state = self.state.facilitators.lock();
        let logged_at = state.bad_replies.get(url).map_or(0, |last| last.logged_at);
        let mut bad = BadReply {
            operation: operation.name(),
            status: reply.status,
            malformed,
            words,
            correlation: correlation.or_else(|| reply.correlation.clone()),
            at: now,
            logged_at,
        };
        // A refused credential has a line of its own, which says what to do.
        let is_told = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].iter().any(|it| *it == bad.status);
        if !is_told && logged_at.saturating_add(LOG_AGAIN) <= now {
            bad.logged_at = now;
            log(url, &bad, other_payer);
        }
        state.bad_replies.insert(url.to_owned(), bad);
    }
}

fn log(url: &str, bad: &BadReply, other_payer: bool) {
    let BadReply { operation, status, words, .. } = bad;
    let id = bad.correlation.as_deref().unwrap_or("none");
    if other_payer {
        error!(
            "{url}/{operation} answers about another payment (status {status}, correlation id {id}): {words}; its word \
             does not count: look into the facilitator, and at what it settled on the chain"
        );
    } else if bad.malformed {
        warn!(
            "{url}/{operation} calls our request malformed (status {status}, correlation id {id}): {words}; \
             nothing was charged, but no payment of that kind succeeds until the rules or the facilitator change"
        );
    } else if matches!(status, 429 | 502..=504) {
        warn!(
            "{url}/{operation} is overloaded or restarting (status {status}, correlation id {id}): {words}"
        );
    } else {
        warn!("{url}/{operation} gave no verdict (status {status}, correlation id {id}): {words}");
    }
}
