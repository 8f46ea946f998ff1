//! One settlement, from the ledger's permission to its record.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use farebox_core::protocol::{Operation, SettleReply, read_settle_reply};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{error, warn};

use super::order::Order;
use super::{Relay, json_reply, pass_on};
use crate::facilitator::{PaymentCall, Replied};
use crate::ledger::{Begun, Outcome, PaymentKey};
use crate::state::unix_millis;

/// What a facilitator's answer came to, and the answer if there is one.
pub(super) struct Asked {
    pub(super) outcome: Outcome,
    reply: Option<Replied>,
}

/// Slack between the end of a call and the end of the lease that covers it.
const SLACK: Duration = Duration::from_secs(10);
/// Pause between two looks at a settlement somebody else of the same proxy is making.
const LOOK: Duration = Duration::from_millis(50);
/// When an unknown outcome is asked about first.
const FIRST_RETRY_MS: u64 = 2_000;
/// Pause between attempts to write down what cannot be undone.
const RECORD_AGAIN: Duration = Duration::from_millis(500);

/// Settles and answers. Goes on when nobody waits any more.
pub(super) async fn settle(
    relay: Relay,
    order: Order,
    body: Bytes,
    waiting: oneshot::Sender<Response<Body>>,
) {
    let _under_way = relay.under_way.clone();
    let claim = &order.claim;
    let call_body = String::from_utf8_lossy(&body);
    let deadline = Instant::now() + relay.deadlines.settle;
    loop {
        let lease = relay.deadlines.settle * 2 + SLACK;
        let begun = relay.ledger.begin_settlement(claim, &call_body, unix_millis(), lease).await;
        let reply = match relay.note(begun) {
            Ok(Begun::Call { again }) => {
                let asked = ask(&relay, &claim.key, &order.call, &body, again).await;
                let told = !waiting.is_closed();
                record(&relay, &claim.key, &asked.outcome, told, unix_millis() + FIRST_RETRY_MS).await;
                reply(&order, &asked)
            }
            Ok(Begun::Settled { transaction }) => settled(&order, &transaction),
            Ok(Begun::Joined) if Instant::now() < deadline => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Ok(Begun::Joined) => not_known(&order, None),
            Ok(Begun::InFlight | Begun::Used) => refused(&order, order.call.nonce_used_code()),
            // Nothing was sent, but an earlier call may have been: nobody may sign anew because of this.
            Err(_) => not_known(&order, None),
        };
        // Nobody waiting is no fault: the record is what counts.
        let _ = waiting.send(reply);
        return;
    }
}

/// Calls the facilitator on record, and once more if it says that the transaction is on its way.
pub(super) async fn ask(
    relay: &Relay,
    key: &PaymentKey,
    call: &PaymentCall,
    body: &[u8],
    again: bool,
) -> Asked {
    let facilitator = match relay.settles_at(key, call).await {
        Ok(Some(facilitator)) => facilitator,
        // Nothing is sent; the reconciliation does it as soon as somebody can be asked.
        Ok(None) => return Asked::nobody("no rules are loaded, so no facilitator is known".to_owned()),
        Err(error) => return Asked::nobody(error.to_string()),
    };
    let mut pending: Option<String> = None;
    loop {
        let called = relay.call(&facilitator, Operation::Settle, body, relay.deadlines.settle).await;
        let reply = match called {
            Ok(reply) => reply,
            Err(failed) => {
                warn!(payer = key.payer, nonce = key.nonce, "a settlement got no reply: {failed}");
                let outcome = if failed.may_have_arrived || again || pending.is_some() {
                    Outcome::Unknown { transaction: pending, reason: failed.reason }
                } else {
                    Outcome::Refused { reason: "unexpected_settle_error".to_owned() }
                };
                return Asked { outcome, reply: None };
            }
        };
        let outcome = match read_settle_reply(reply.status, &reply.body, &call.option) {
            SettleReply::Settled { transaction, .. } => Outcome::Settled { transaction },
            // What an earlier call did, this one cannot say.
            SettleReply::Refused { reason, .. } if again || pending.is_some() => {
                Outcome::Unknown { transaction: pending, reason }
            }
            SettleReply::Malformed { words, .. } if again || pending.is_some() => {
                Outcome::Unknown { transaction: pending, reason: words }
            }
            SettleReply::Refused { reason, .. } => Outcome::Refused { reason },
            SettleReply::Malformed { .. } => Outcome::Refused { reason: "invalid_request".to_owned() },
            SettleReply::Pending { transaction: Some(transaction) } if pending.is_none() => {
                pending = Some(transaction);
                continue;
            }
            SettleReply::Pending { transaction } => Outcome::Unknown {
                transaction: transaction.or(pending),
                reason: "settlement_pending".to_owned(),
            },
            SettleReply::Unclear { transaction, reason } => {
                Outcome::Unknown { transaction: transaction.or(pending), reason }
            }
        };
        return Asked { outcome, reply: Some(reply) };
    }
}

// === impl Asked ===

impl Asked {
    const fn nobody(reason: String) -> Self {
        Self { outcome: Outcome::Unknown { transaction: None, reason }, reply: None }
    }
}

/// Writes an outcome down, again and again until it is written: it happened, and nobody else knows. A companion
/// that ends first leaves a settlement without an end, which its next life asks about.
pub(super) async fn record(
    relay: &Relay,
    key: &PaymentKey,
    outcome: &Outcome,
    told: bool,
    next_attempt_ms: u64,
) {
    loop {
        let recorded = relay.ledger.finish(key, outcome, told, unix_millis(), next_attempt_ms).await;
        if relay.note(recorded).is_ok() {
            return;
        }
        error!(payer = key.payer, nonce = key.nonce, ?outcome, "an outcome is not written down yet");
        tokio::time::sleep(RECORD_AGAIN).await;
    }
}

fn reply(order: &Order, asked: &Asked) -> Response<Body> {
    match (&asked.outcome, &asked.reply) {
        (Outcome::Settled { .. } | Outcome::Refused { .. }, Some(reply)) => pass_on(reply.clone()),
        (Outcome::Settled { transaction }, None) => settled(order, transaction),
        (Outcome::Refused { reason }, None) => refused(order, reason),
        (Outcome::Unknown { transaction, .. }, _) => not_known(order, transaction.as_deref()),
        (Outcome::Expired, _) => not_known(order, None),
    }
}

fn settled(order: &Order, transaction: &str) -> Response<Body> {
    let reply = json!({
        "success": true,
        "transaction": transaction,
        "network": order.call.network,
        "payer": order.call.payment.payer(),
    });
    json_reply(200, &reply)
}

fn refused(order: &Order, reason: &str) -> Response<Body> {
    json_reply(200, &not_settled(reason, "", &order.call.network))
}

fn not_known(order: &Order, transaction: Option<&str>) -> Response<Body> {
    let reason = if transaction.is_some() { "settlement_pending" } else { "unexpected_settle_error" };
    let reply = not_settled(reason, transaction.unwrap_or_default(), &order.call.network);
    json_reply(if transaction.is_some() { 200 } else { 502 }, &reply)
}

/// A settle reply that is no success.
pub(super) fn not_settled(reason: &str, transaction: &str, network: &str) -> Value {
    json!({ "success": false, "errorReason": reason, "transaction": transaction, "network": network })
}
