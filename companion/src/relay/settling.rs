//! One settlement, from the machine's permission to its record.

use std::sync::Arc;
use std::time::Duration;

use farebox_core::payment::{Answer, Claim, End, Event, Holder, Outcome, PaymentKey, Reading, Settlement};
use farebox_core::protocol::{CallEnd, Operation, PaymentCall, RelayReply};
use tokio::time::Instant;
use tracing::{error, warn};

use super::Relay;
use super::books::{Entry, Happening};
use super::order::Order;
use super::told::Waiting;
use super::under_way::Call;
use crate::ledger::{LedgerError, Sale, Stepped};

/// A settle call the machine asked for.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) key: PaymentKey,
    pub(super) holder: Holder,
    pub(super) epoch: u32,
    /// Its body, as it is on record.
    pub(super) call: Arc<[u8]>,
    /// The same, read. `None` if it cannot be read.
    pub(super) read: Option<PaymentCall>,
    /// Who settles it, as it is on record.
    pub(super) facilitator: Option<String>,
    /// What is behind it on record, in case the record is lost.
    pub(super) origin: Option<Origin>,
    /// The reconciliation makes it.
    pub(super) is_asked: bool,
    /// For the log.
    pub(super) entry: Entry,
    /// Registers it until it is over.
    pub(super) under_way: Call,
}

/// What is behind a settle call.
#[derive(Debug)]
pub(super) struct Origin {
    claim: Box<Claim>,
    sale: Sale,
}

/// First pause between two looks at a settlement another call of the same request is making, doubled each time.
const LOOK: Duration = Duration::from_millis(25);
/// Longest pause between two looks.
const MAX_LOOK: Duration = Duration::from_millis(400);
/// Pause between attempts to write down what cannot be undone.
const RECORD_AGAIN: Duration = Duration::from_millis(500);

/// Settles a payment its holder has had verified, and answers. Goes on when nobody waits any more.
pub(super) async fn settle(relay: Relay, order: Order, waiting: Waiting) {
    let under_way = relay.under_way.begin(&order.key);
    let began = Instant::now();
    let reply = match relay.begin(&order).await {
        Ok(Stepped { answer: Answer::Call { epoch, call, .. }, facilitator, behind, .. }) => {
            let origin = behind.map(Origin::from);
            let making = Making::of(order, began, epoch, call, facilitator, origin, under_way);
            return making.make(&relay, Some(waiting)).await;
        }
        Ok(Stepped { answer: Answer::Begun, .. }) => {
            relay.wait_for(&order, began + relay.deadlines.settle).await
        }
        Ok(stepped) => RelayReply::from(stepped.answer),
        Err(reply) => {
            relay.give_up(&order.key, order.claim.holder);
            reply
        }
    };
    waiting.send(reply);
}

/// Whether a step that failed like this cannot be on disk.
const fn did_nothing(error: &LedgerError) -> bool {
    match error {
        // Its commit may have arrived.
        LedgerError::Failed(_) | LedgerError::Unreachable { .. } => false,
        LedgerError::Open { .. }
        | LedgerError::Schema { .. }
        | LedgerError::Older { .. }
        | LedgerError::Settlement { .. }
        | LedgerError::Superseded { .. }
        | LedgerError::Replaced { .. }
        | LedgerError::Unreadable { .. }
        | LedgerError::Closed => true,
    }
}

// === impl Relay ===

impl Relay {
    /// Begins to settle. Where the ledger fails, a buyer is told that nothing was charged only if no call can follow
    /// from this: a step whose acknowledgement was lost may be on disk, and then the reconciliation makes its call.
    async fn begin(&self, order: &Order) -> Result<Stepped, RelayReply> {
        let open = RelayReply::Open { transaction: None };
        let fallback = self.candidates(&order.call).into_iter().next();
        let begin = Event::Begin(order.claim.holder);
        let first = self.ledger.step(&order.key, begin.clone(), None, fallback.as_deref()).await;
        match self.noted(first) {
            Ok(stepped) => return Ok(stepped),
            Err(error) if did_nothing(&error) => return Err(RelayReply::NotBegun),
            Err(_) => {}
        }
        let second = self.ledger.step(&order.key, begin, None, fallback.as_deref()).await;
        match self.noted(second) {
            // By the first step: no call was made, and one will be.
            Ok(Stepped { answer: Answer::Begun, .. }) => return Err(open),
            Ok(stepped) => return Ok(stepped),
            Err(_) => {}
        }
        // It cannot be written. Maybe it can be read: what another holder is told changes nothing.
        let Some(other) = super::fresh_holder() else { return Err(open) };
        match self
            .ledger
            .step(&order.key, Event::Begin(other), None, None)
            .await
            .map(|stepped| stepped.answer)
        {
            Ok(Answer::InFlight | Answer::NotHeld) => Err(RelayReply::NotBegun),
            _ => Err(open),
        }
    }

    /// Waits for the end of a settlement that another call of the same request makes.
    async fn wait_for(&self, order: &Order, deadline: Instant) -> RelayReply {
        let mut pause = LOOK;
        while Instant::now() < deadline {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_LOOK);
            let event = Event::Begin(order.claim.holder);
            match self.noted(self.ledger.step(&order.key, event, None, None).await) {
                Ok(Stepped { answer: Answer::Begun, .. }) | Err(_) => {}
                Ok(stepped) => return RelayReply::from(stepped.answer),
            }
        }
        RelayReply::Open { transaction: None }
    }
}

// === impl Origin ===

impl From<Box<(Claim, Sale)>> for Origin {
    fn from(behind: Box<(Claim, Sale)>) -> Self {
        let (claim, sale) = *behind;
        Self { claim: Box::new(claim), sale }
    }
}

// === impl Making ===

impl Making {
    /// That of a request.
    pub(super) fn of(
        order: Order,
        began: Instant,
        epoch: u32,
        call: Arc<[u8]>,
        facilitator: Option<String>,
        origin: Option<Origin>,
        under_way: Call,
    ) -> Self {
        let entry = Entry::of(&order, began);
        let Order { key, claim, call: brought, .. } = order;
        // A request brings the same bytes, unless its proxy writes them in another way than the one that claimed.
        let read = if call == claim.call { Some(brought) } else { PaymentCall::read(&call).ok() };
        let holder = claim.holder;
        Self { key, holder, epoch, call, read, facilitator, origin, is_asked: false, entry, under_way }
    }

    /// Makes the call, writes down what came of it, and tells whoever waits.
    pub(super) async fn make(self, relay: &Relay, waiting: Option<Waiting>) {
        let (outcome, facilitator) = self.call(relay).await;
        let reply = self.record(relay, &outcome, &facilitator, waiting.as_ref()).await;
        if let Some(waiting) = waiting {
            waiting.send(reply);
        }
        drop(self.under_way);
    }

    /// Calls the facilitator on record, and once more if it says that the transaction is on its way.
    async fn call(&self, relay: &Relay) -> (Outcome, Option<String>) {
        let (payer, nonce) = (self.key.payer.to_string(), self.key.nonce.to_string());
        let Some(call) = &self.read else {
            error!(payer, nonce, "the call on record cannot be read; look the payment up on the chain");
            let reason = "the call on record cannot be read".to_owned();
            return (Outcome::Unknown { transaction: None, reason }, self.facilitator.clone());
        };
        // On record since before the first call; it is missing only where nobody was known then.
        let recorded = self.facilitator.clone();
        let Some(url) = recorded.or_else(|| relay.candidates(call).into_iter().next()) else {
            warn!(payer, nonce, "cannot settle: no rules are loaded, so no facilitator is known");
            return (Outcome::NotSent, None);
        };
        let _place = relay.under_way.settle(call.option.network.as_str());
        let mut settlement = Settlement::default();
        loop {
            let called =
                relay.call(&url, Operation::Settle, &self.call, self.key.payer, relay.deadlines.settle).await;
            let end = match &called {
                Ok(reply) => CallEnd::Reply { status: reply.status, body: &reply.body },
                Err(failed) => {
                    relay.quietly(&url, |more| {
                        warn!(payer, nonce, "a settlement got no reply from {url}: {failed}{more}");
                    });
                    if failed.may_have_arrived { CallEnd::Unreachable } else { CallEnd::NotSent }
                }
            };
            match settlement.ended(end, &call.option, self.key.payer) {
                Reading::Repeat(again) => settlement = again,
                Reading::Over(outcome) => return (outcome, Some(url)),
            }
        }
    }

    /// Writes an outcome down, again and again until it is written: it happened, and nobody else knows. A companion
    /// that ends first leaves a settlement without an end, which is asked about when its lease is over.
    async fn record(
        &self,
        relay: &Relay,
        outcome: &Outcome,
        facilitator: &Option<String>,
        waiting: Option<&Waiting>,
    ) -> RelayReply {
        let (claim, sale) = match &self.origin {
            Some(Origin { claim, sale }) => (Some(claim.clone()), Some(sale)),
            None => (None, None),
        };
        let ended = Event::Ended { epoch: self.epoch, holder: self.holder, outcome: outcome.clone(), claim };
        let mut is_over = false;
        loop {
            // Whether anybody hears of it is asked as late as it can be: a charge nobody heard of is owed.
            if waiting.is_some_and(Waiting::is_gone) && !is_over {
                let over = Event::Over(self.holder, End::Unheard);
                is_over = relay.noted(relay.ledger.step(&self.key, over, None, None).await).is_ok();
            }
            let step = relay.ledger.step(&self.key, ended.clone(), sale, facilitator.as_deref()).await;
            match relay.noted(step) {
                Ok(stepped) => {
                    relay.state.ledger.lock().works();
                    let reply = Self::reply(stepped.answer, outcome);
                    self.write_down(relay, &reply, outcome);
                    return reply;
                }
                Err(_) => {
                    let (payer, nonce) = (self.key.payer.to_string(), self.key.nonce.to_string());
                    error!(payer, nonce, ?outcome, "an outcome is not written down yet");
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
            }
        }
    }

    /// What whoever waits is told: the record's answer, where it says more than the outcome.
    fn reply(answer: Answer, outcome: &Outcome) -> RelayReply {
        match (answer, outcome.clone()) {
            (Answer::Noted, Outcome::Refused { reason, detail }) => RelayReply::Refused { reason, detail },
            (Answer::Noted, Outcome::Malformed { words }) => RelayReply::Malformed { words },
            (Answer::Noted, Outcome::NotSent) => RelayReply::Unreachable,
            (Answer::Noted, Outcome::Settled { transaction }) => {
                RelayReply::Open { transaction: Some(transaction) }
            }
            (Answer::Noted, Outcome::Unknown { transaction, .. }) => RelayReply::Open { transaction },
            (answer, _) => RelayReply::from(answer),
        }
    }

    fn write_down(&self, relay: &Relay, reply: &RelayReply, outcome: &Outcome) {
        let (happening, transaction, reason) = match outcome {
            Outcome::Settled { transaction } => {
                let is_told = matches!(reply, RelayReply::Settled { .. });
                let happening = if is_told { Happening::Settled } else { Happening::Late };
                (happening, Some(transaction.as_str()), String::new())
            }
            // Many calls of the reconciliation may change nothing: the first two say so.
            _ if matches!(reply, RelayReply::Open { .. }) && self.is_asked && self.epoch > 2 => {
                return;
            }
            Outcome::Unknown { transaction, reason } => {
                (Happening::Open, transaction.as_deref(), reason.clone())
            }
            Outcome::Refused { reason, detail } => {
                let words = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
                (Happening::Refused, None, format!("{reason}{words}"))
            }
            Outcome::Malformed { words } => (Happening::Refused, None, words.clone()),
            Outcome::NotSent => (Happening::Refused, None, "the facilitator could not be reached".to_owned()),
        };
        // What a later call is told says nothing of the first.
        let is_open = happening == Happening::Refused && matches!(reply, RelayReply::Open { .. });
        let happening = if is_open { Happening::Open } else { happening };
        self.entry.write(happening, transaction, &reason);
        if happening == Happening::Refused {
            let url = self.facilitator.as_deref().unwrap_or("the facilitator");
            relay.quietly(url, |more| warn!("{url} does not settle a payment: {reason}{more}"));
        }
    }
}
