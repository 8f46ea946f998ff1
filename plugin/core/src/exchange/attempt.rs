//! A payment that passed the local checks, with the data that its request needs until the end.

use std::sync::Arc;

use super::cors::grant_reply;
use super::refusal::{Cause, Counted};
use super::reply::{Asker, OpenSettlement, Terms, Told, refuse};
use super::{Abandoned, HeaderEdits, Next, Note, Reply, Turn};
use crate::Now;
use crate::evm::Address;
use crate::metrics::{CallOutcome, FailureReason, Stamp, TupleCounter, tuple_text};
use crate::payment::{Claim, End, Event, Fingerprint, Holder, PaymentKey, Terms as Bought, tuple_hash};
use crate::protocol::{
    Operation, RELAY_GENERATION, RELAY_HOLDER, RELAY_KNOWN, RELAY_OFFER, RELAY_PROVEN, RELAY_ROUTE, Receipt,
    Version,
};
use crate::rules::{ChargeIndex, RouteIndex, RuleSet, TupleIndex};
use crate::terms::{Flow, PaymentOption, Tuple};

/// One attempt to pay. It keeps the rules under which it began until its end.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) rules: Arc<RuleSet>,
    pub(super) route: RouteIndex,
    pub(super) option: PaymentOption,
    pub(super) tuple: TupleIndex,
    pub(super) charge: ChargeIndex,
    pub(super) asker: Asker,
    pub(super) url: String,
    pub(super) version: Version,
    /// The key, with payer and nonce.
    pub(super) key: PaymentKey,
    pub(super) fingerprint: Fingerprint,
    /// The terms of the purchase, with the signed amount, asset and recipient.
    pub(super) bought: Bought,
    pub(super) holder: Holder,
    /// The body of every call about the payment.
    pub(super) call: Arc<[u8]>,
    /// Unix seconds.
    pub(super) ends: u64,
    /// Whether the signer of the payment was recovered.
    pub(super) proven: bool,
    /// Edits for the upstream; the payer is added when the payment is known to be valid.
    pub(super) edits: HeaderEdits,
    /// Whether these rules have the charge series of its settlement.
    pub(super) can_settle: bool,
    /// The refusal if the payment is not known, because it did not pass the checks of a new payment.
    pub(super) refusal: Option<Box<Refusal>>,
}

/// Why a payment is refused, and the tuple for its counts.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) tuple: TupleIndex,
    pub(super) cause: Cause,
    pub(super) told: Told,
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(tuple: TupleIndex, cause: Cause, told: Told) -> Box<Self> {
        Box::new(Self { tuple, cause, told })
    }
}

// === impl Attempt ===

impl Attempt {
    pub(super) fn claim(&self) -> Claim {
        Claim {
            fingerprint: self.fingerprint,
            terms: self.bought.clone(),
            holder: self.holder,
            call: Arc::clone(&self.call),
            ends: self.ends,
            proven: self.proven,
            only_known: self.refusal.is_some(),
            can_settle: self.can_settle,
            twin: None,
        }
    }
    pub(super) fn tuple_hash(&self) -> u32 {
        self.rules.tuples.get(self.tuple.0 as usize).map_or(0, tuple_hash)
    }
    pub(super) fn note(&self, event: Event) -> Note {
        Note { key: self.key.clone(), tuple: self.tuple_hash(), holder: self.holder, event }
    }
    /// The note that the request ended for its payment.
    pub(super) fn over(&self, end: End) -> Vec<Note> {
        vec![self.note(Event::Over(self.holder, end))]
    }
    pub(super) fn has_relay(&self) -> bool {
        self.rules.has_relay()
    }
    pub(super) const fn payer(&self) -> Address {
        self.key.payer
    }
    pub(super) fn upfront(&self) -> bool {
        self.option.flow == Flow::Upfront
    }
    pub(super) fn timeout_ms(&self, operation: Operation) -> u32 {
        let facilitator = self.rules.facilitator.as_ref();
        facilitator.map_or(0, |facilitator| match operation {
            Operation::Verify => facilitator.verify_timeout_ms,
            Operation::Settle => facilitator.settle_timeout_ms,
        })
    }
    pub(super) fn stamp(&self, counter: TupleCounter) -> Stamp {
        Stamp::Tuple(self.tuple, counter)
    }
    pub(super) fn failed(&self, reason: FailureReason) -> Stamp {
        self.stamp(TupleCounter::PaymentFailed(reason))
    }
    /// The stamps of one settlement beside the verified count: the charge with its amount, and its time.
    pub(super) fn charged(&self, now: Now) -> [Stamp; 2] {
        [Stamp::Charged(self.charge), Stamp::LastSuccess(self.tuple, now.unix_seconds())]
    }
    /// Edits for the upstream, once the payer is known.
    pub(super) fn take_edits(&mut self) -> HeaderEdits {
        let edits = core::mem::take(&mut self.edits);
        self.with_payer(edits)
    }
    /// The edits that [`Self::take_edits`] will return.
    pub(super) fn edits_once_paid(&self) -> HeaderEdits {
        self.with_payer(self.edits.clone())
    }
    /// The receipt of a settlement.
    pub(super) fn receipt(&self, transaction: &str) -> Receipt {
        Receipt {
            success: true,
            error_reason: None,
            transaction: transaction.to_owned(),
            network: self.network_name(),
            payer: Some(self.payer().checksummed()),
        }
    }
    /// The receipt of a settlement that failed, or whose outcome is unknown.
    pub(super) fn failed_receipt(&self, reason: &str, transaction: Option<&str>) -> Receipt {
        Receipt {
            success: false,
            error_reason: Some(reason.to_owned()),
            transaction: transaction.unwrap_or_default().to_owned(),
            network: self.network_name(),
            payer: Some(self.payer().checksummed()),
        }
    }
    /// The details for a settlement of unknown outcome.
    pub(super) fn told_unknown(&self, reason: &str, transaction: Option<&str>) -> Told {
        Told {
            code: Some(reason.to_owned()),
            open: Some(self.open_settlement(transaction)),
            receipt: Some(self.failed_receipt(reason, transaction)),
            ..Told::default()
        }
    }
    /// The data by which a buyer can look up an open settlement.
    fn open_settlement(&self, transaction: Option<&str>) -> OpenSettlement {
        OpenSettlement {
            network: self.network_name(),
            asset: self.option.asset.checksummed(),
            payer: self.payer().checksummed(),
            nonce: self.key.nonce.to_string(),
            transaction: transaction.map(str::to_owned),
        }
    }
    /// The headers of a call to a relay.
    pub(super) fn relay_headers(&self) -> Vec<(&'static str, String)> {
        let tuple = self.rules.tuples.get(self.tuple.0 as usize).filter(|_| self.has_relay());
        let Some(tuple) = tuple else { return Vec::new() };
        // A payment that matches no option is counted under the primary option, which may be of another
        // chain.
        let tuple = Tuple { chain: self.option.network.as_str().to_owned(), ..tuple.clone() };
        let mut headers = vec![
            (RELAY_HOLDER, self.holder.to_string()),
            (RELAY_OFFER, tuple_text(&tuple)),
            (RELAY_ROUTE, self.bought.route.clone()),
            (RELAY_GENERATION, self.rules.generation.to_string()),
        ];
        if self.proven {
            headers.push((RELAY_PROVEN, "1".to_owned()));
        }
        if self.refusal.is_some() {
            headers.push((RELAY_KNOWN, "1".to_owned()));
        }
        headers
    }
    /// The reply to a refusal of this attempt, uncounted.
    pub(super) fn reply(&self, cause: Cause, told: &Told) -> Reply {
        let mut reply = refuse(cause, told, self.terms(), self.asker);
        grant_reply(&mut reply, &self.rules.settings, self.asker);
        reply
    }
    /// Ends the attempt with a refusal, counted as the table says. Challenges need the route's terms;
    /// without terms the refusal would be an internal error.
    pub(super) fn refuse(&self, cause: Cause, told: &Told, mut stamps: Vec<Stamp>, notes: Vec<Note>) -> Turn {
        match cause.row().counted {
            Counted::Failed(reason) => stamps.push(self.failed(reason)),
            Counted::UpstreamFailed => stamps.push(self.stamp(TupleCounter::UpstreamFailedAfterVerify)),
            Counted::Blocked(_) => stamps.push(self.failed(FailureReason::InternalError)),
        }
        Turn { stamps, notes, next: Next::Reply(self.reply(cause, told)) }
    }
    /// Ends the attempt of a client that left before any known settlement.
    pub(super) fn client_gone(&self, end: End) -> Abandoned {
        Abandoned { stamps: vec![self.failed(FailureReason::ClientDisconnected)], notes: self.over(end) }
    }

    fn with_payer(&self, mut edits: HeaderEdits) -> HeaderEdits {
        edits.set.push(("x-payment-payer".into(), self.payer().checksummed()));
        edits
    }
    fn terms(&self) -> Option<Terms<'_>> {
        let route = self.rules.routes.get(self.route.0 as usize)?;
        Terms::of(&self.rules, route, &self.url)
    }
    /// The network as the payment's version writes it.
    fn network_name(&self) -> String {
        match (self.version, &self.option.v1_network) {
            (Version::V1, Some(name)) => name.clone(),
            _ => self.option.network.as_str().to_owned(),
        }
    }
}

/// The stamp of one facilitator call, made when the call ends.
pub(super) fn call_stamp(operation: Operation, outcome: CallOutcome, started: Now, now: Now) -> Stamp {
    Stamp::Call(operation, outcome, now.unix_ms.saturating_sub(started.unix_ms))
}
