//! Finding out, in the background, what became of settlements of unknown outcome.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::Relay;
use super::settling::{ask, record};
use crate::facilitator::PaymentCall;
use crate::ledger::{LedgerError, Open, Outcome};
use crate::state::unix_millis;

const EVERY: Duration = Duration::from_secs(1);
/// Asked about together.
const AT_ONCE: u32 = 20;
/// Pause after an attempt, doubled up to the maximum.
const FIRST_PAUSE_MS: u64 = 2_000;
const MAX_PAUSE_MS: u64 = 60_000;
/// A transaction sent at the last moment is known by then, and so is one that was never sent.
const GRACE_SECONDS: u64 = 900;
/// How often old reservations are cleared away, in rounds.
const CLEAR_EVERY: u64 = 600;

/// Asks for ever. At the start, what an earlier life of this companion was settling counts as unknown.
pub async fn reconcile(relay: Relay) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_u64.. {
        ticks.tick().await;
        // What cannot be done now is done in the next round; the failure is noted for readiness.
        let done = relay.round(round).await;
        let _ = relay.note(done);
    }
}

// === impl Relay ===

impl Relay {
    async fn round(&self, round: u64) -> Result<(), LedgerError> {
        let now = unix_millis();
        for key in self.ledger.orphans(now, round == 0).await? {
            warn!(
                payer = key.payer,
                nonce = key.nonce,
                "a settlement was interrupted; asking what became of it"
            );
            let reason = "the settlement was interrupted".to_owned();
            self.ledger
                .finish(&key, &Outcome::Unknown { transaction: None, reason }, false, now, now)
                .await?;
        }
        let due = self.ledger.due(now, self.deadlines.settle * 2, AT_ONCE).await?;
        futures_util::future::join_all(due.iter().map(|open| self.resolve(open))).await;
        if round.is_multiple_of(CLEAR_EVERY) {
            self.ledger.forget_abandoned(now).await?;
        }
        self.ledger.check().await
    }

    async fn resolve(&self, open: &Open) {
        let Ok(call) = PaymentCall::read(open.call_body.as_bytes()) else {
            warn!(payer = open.key.payer, nonce = open.key.nonce, "an open settlement has no call to repeat");
            record(self, &open.key, &Outcome::Expired, false, 0).await;
            return;
        };
        let asked = ask(self, &open.key, &call, open.call_body.as_bytes(), true).await;
        let now = unix_millis();
        let outcome = match asked.outcome {
            Outcome::Unknown { .. } if now / 1000 > open.ends.saturating_add(GRACE_SECONDS) => {
                Outcome::Expired
            }
            outcome => outcome,
        };
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << open.attempts.min(10)).min(MAX_PAUSE_MS);
        if !matches!(outcome, Outcome::Unknown { .. }) {
            info!(payer = open.key.payer, nonce = open.key.nonce, ?outcome, "an open settlement is resolved");
        }
        record(self, &open.key, &outcome, false, now + pause).await;
    }
}
