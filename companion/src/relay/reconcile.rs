//! Finding out, in the background, what became of settlements of unknown outcome.

use std::sync::Arc;
use std::time::Duration;

use farebox_core::payment::{Answer, Event, PaymentKey};
use farebox_core::protocol::PaymentCall;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};

use super::books::Entry;
use super::settling::{Making, Origin};
use super::under_way::Call;
use super::{Relay, fresh_holder};
use crate::ledger::{LedgerError, Stepped};

const EVERY: Duration = Duration::from_secs(1);
/// Asked about at once. A facilitator that hangs holds each for two settle timeouts at most.
const AT_ONCE: usize = 64;
/// How often what is over is cleared away.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Asks for ever. When a payment is due, and how often it is asked about, its record says.
pub async fn reconcile(relay: Relay) {
    let asking = Arc::new(Semaphore::new(AT_ONCE));
    let mut swept = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // What cannot be done now is done in the next round; the failure is noted for readiness.
        if relay.noted(relay.round(&asking, &mut swept).await).is_ok() {
            relay.state.ledger.lock().works();
        }
    }
}

// === impl Relay ===

impl Relay {
    pub(super) async fn round(
        &self,
        asking: &Arc<Semaphore>,
        swept: &mut Option<Instant>,
    ) -> Result<(), LedgerError> {
        let free = u32::try_from(asking.available_permits()).unwrap_or(u32::MAX);
        let due = if free == 0 { Vec::new() } else { self.ledger.due(free).await? };
        for key in due {
            if self.under_way.holds(&key) {
                continue;
            }
            let Ok(permit) = asking.clone().try_acquire_owned() else { break };
            let (relay, under_way) = (self.clone(), self.under_way.begin(&key));
            tokio::spawn(async move {
                relay.ask(key, under_way).await;
                drop(permit);
            });
        }
        if swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY) {
            self.ledger.sweep().await?;
            *swept = Some(Instant::now());
        }
        self.ledger.check().await
    }

    /// Makes the call of one payment again, if it is still due.
    async fn ask(&self, key: PaymentKey, under_way: Call) {
        let Some(holder) = fresh_holder() else { return };
        let step = self.noted(self.ledger.step(&key, Event::Ask(holder), None, None).await);
        let Ok(Stepped { answer: Answer::Call { epoch, call, .. }, facilitator, behind, .. }) = step else {
            return;
        };
        let mut entry = Entry::of_key(&key, holder, Instant::now());
        if let Some((claim, _)) = behind.as_deref() {
            entry = entry.of_claim(claim);
        }
        let (origin, read) = (behind.map(Origin::from), PaymentCall::read(&call).ok());
        let making =
            Making { key, holder, epoch, call, read, facilitator, origin, is_asked: true, entry, under_way };
        making.make(self, None).await;
    }
}
