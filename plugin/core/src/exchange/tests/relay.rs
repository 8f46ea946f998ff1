//! A small relay: the machine with a map as store, and a scripted facilitator. It reads a call only from its body
//! and headers, and answers like a relay.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::super::{Call, Note};
use super::script::Does;
use crate::Now;
use crate::evm::{Address, Amount, Network, TransferMethod, chain_by_name};
use crate::metrics::parse_tuple_text;
use crate::payment::{
    Answer, Claim, Effect, End, Ending, Event, Fingerprint, Holder, Leases, Outcome, PaymentKey, Reading,
    Record, Settlement, Terms, due, step,
};
use crate::protocol::{
    CallEnd, Operation, Payment, RELAY_GENERATION, RELAY_HOLDER, RELAY_KNOWN, RELAY_OFFER, RELAY_PROVEN,
    RELAY_ROUTE, RelayReply, VerifyOutcome, read_verify_reply,
};
use crate::terms::{Extra, Flow, PaymentOption};

/// The facilitator behind the relay.
pub(super) type Facilitator<'a> = &'a mut dyn FnMut(Operation, &[u8]) -> Does;

/// The fate of the next call to the relay.
#[derive(Debug, Clone)]
pub(super) enum Line {
    /// The call never leaves the proxy.
    NotSent,
    /// The call never arrives.
    LosesCall,
    /// The call arrives, and the reply is lost.
    LosesReply,
    /// Another server answers.
    Says(u16, String),
}

pub(super) struct Relay {
    pub(super) records: BTreeMap<PaymentKey, Record>,
    pub(super) leases: Leases,
    pub(super) effects: Vec<Effect>,
    pub(super) line: VecDeque<Line>,
    /// The ledger cannot be used.
    pub(super) down: bool,
}

/// A call as the relay reads it.
struct Order {
    key: PaymentKey,
    claim: Claim,
    option: PaymentOption,
}

// === impl Relay ===

impl Relay {
    pub(super) fn new() -> Self {
        let leases = Leases { hold_ms: 600_000, settle_ms: 130_000 };
        let (records, effects) = (BTreeMap::new(), Vec::new());
        Self { records, leases, effects, line: VecDeque::new(), down: false }
    }

    pub(super) fn step(&mut self, key: &PaymentKey, event: Event, now: Now) -> Answer {
        let stepped = step(self.records.remove(key), event, &self.leases, now);
        if let Some(record) = stepped.record {
            self.records.insert(key.clone(), record);
        }
        self.effects.extend(stepped.effects);
        stepped.answer
    }

    pub(super) fn sweep(&mut self, retention: u64, now: Now) {
        for key in self.records.keys().cloned().collect::<Vec<_>>() {
            self.step(&key, Event::Sweep { retention }, now);
        }
    }

    /// Takes a proxy's note about the end of a request.
    pub(super) fn over(&mut self, note: &Note, now: Now) {
        let mut body = Vec::new();
        note.ending().expect("with a relay, every note is an end").write(&mut body);
        let [ending] = &Ending::read_all(&body).unwrap()[..] else { panic!("{note:?}") };
        assert_eq!(ending.holder, note.holder);
        self.step(&ending.key, Event::Over(ending.holder, ending.end), now);
    }

    /// The reply to a call. `meant` is the claim the proxy itself would make.
    pub(super) fn reply(
        &mut self,
        call: &Call,
        meant: &Claim,
        facilitator: Facilitator<'_>,
        now: Now,
    ) -> RelayReply {
        let order = Order::read(call);
        assert_eq!(order.claim, Claim { can_settle: true, twin: None, ..meant.clone() });
        let (key, holder) = (&order.key, order.claim.holder);
        match call.operation {
            _ if self.down && call.operation == Operation::Verify => RelayReply::Unavailable,
            _ if self.down => RelayReply::NotBegun,
            Operation::Verify => match self.step(key, Event::Claim(order.claim.clone()), now) {
                Answer::Reserved => self.verify(&order, facilitator, now),
                Answer::Call { epoch, call, .. } => self.settle(&order, epoch, &call, facilitator, now),
                answer => RelayReply::from(answer),
            },
            Operation::Settle => match self.step(key, Event::Begin(holder), now) {
                Answer::Call { epoch, call, .. } => self.settle(&order, epoch, &call, facilitator, now),
                answer => RelayReply::from(answer),
            },
        }
    }

    /// Asks about open payments, as the reconciliation does.
    pub(super) fn reconcile(&mut self, facilitator: &mut dyn FnMut(&Record) -> Does, now: Now) {
        let is_due = |record: &Record| due(record).is_some_and(|due| due <= now.unix_ms);
        let open = self.records.iter().filter(|(_, record)| is_due(record));
        for (key, record) in open.map(|(key, record)| (key.clone(), record.clone())).collect::<Vec<_>>() {
            let holder = Holder([0xee; 16]);
            let Answer::Call { epoch, call, .. } = self.step(&key, Event::Ask(holder), now) else { continue };
            let body: Value = serde_json::from_slice(&call).unwrap();
            let option = option_of(&body["paymentRequirements"]);
            let outcome = outcome(&option, key.payer, &mut |_, _| facilitator(&record), &call, &mut || {});
            self.step(&key, Event::Ended { epoch, holder, outcome, claim: None }, now);
        }
    }

    fn verify(&mut self, order: &Order, facilitator: Facilitator<'_>, now: Now) -> RelayReply {
        let (key, holder) = (&order.key, order.claim.holder);
        let word = match facilitator(Operation::Verify, &order.claim.call) {
            Does::Says(status, body) => match read_verify_reply(status, body.as_bytes(), key.payer) {
                VerifyOutcome::Valid => RelayReply::Valid,
                VerifyOutcome::Invalid { reason, detail } => RelayReply::Invalid { reason, detail },
                VerifyOutcome::Malformed { words, .. } => RelayReply::Malformed { words },
                VerifyOutcome::Failed { retriable: true } => RelayReply::Busy,
                VerifyOutcome::Failed { retriable: false } => RelayReply::NoVerdict,
            },
            Does::TimesOut | Does::Unreachable | Does::Cuts | Does::NotSent => RelayReply::Unreachable,
            Does::AsClientLeaves(_) => RelayReply::InFlight,
        };
        let event = match word {
            RelayReply::Valid => Event::Verified(holder),
            _ => Event::Over(holder, End::Unsent),
        };
        match self.step(key, event, now) {
            Answer::Noted => word,
            _ => RelayReply::InFlight,
        }
    }

    fn settle(
        &mut self,
        order: &Order,
        epoch: u32,
        call: &[u8],
        facilitator: Facilitator<'_>,
        now: Now,
    ) -> RelayReply {
        let (key, holder) = (&order.key, order.claim.holder);
        let mut is_gone = false;
        let outcome = outcome(&order.option, key.payer, facilitator, call, &mut || is_gone = true);
        if is_gone {
            self.step(key, Event::Over(holder, End::Unsent), now);
        }
        let claim = Some(Box::new(order.claim.clone()));
        let ended = Event::Ended { epoch, holder, outcome: outcome.clone(), claim };
        match (self.step(key, ended, now), outcome) {
            (Answer::Noted, Outcome::Refused { reason, detail }) => RelayReply::Refused { reason, detail },
            (Answer::Noted, Outcome::Malformed { words }) => RelayReply::Malformed { words },
            (Answer::Noted, Outcome::NotSent) => RelayReply::NotBegun,
            (Answer::Noted, _) => RelayReply::Open { transaction: None },
            (answer, _) => RelayReply::from(answer),
        }
    }
}

fn outcome(
    option: &PaymentOption,
    payer: Address,
    facilitator: Facilitator<'_>,
    call: &[u8],
    gone: &mut dyn FnMut(),
) -> Outcome {
    let mut settlement = Settlement::default();
    loop {
        let mut does = facilitator(Operation::Settle, call);
        if let Does::AsClientLeaves(does_so) = does {
            gone();
            does = *does_so;
        }
        match settlement.ended(does.end(), option, payer) {
            Reading::Repeat(again) => settlement = again,
            Reading::Over(outcome) => return outcome,
        }
    }
}

// === impl Does ===

impl Does {
    /// The end of the call for its caller.
    pub(super) fn end(&self) -> CallEnd<'_> {
        match self {
            Self::Says(status, body) => CallEnd::Reply { status: *status, body: body.as_bytes() },
            Self::TimesOut => CallEnd::TimedOut,
            Self::Unreachable => CallEnd::Unreachable,
            Self::Cuts => CallEnd::Cut,
            Self::NotSent => CallEnd::NotSent,
            Self::AsClientLeaves(does) => does.end(),
        }
    }
}

// === impl Order ===

impl Order {
    fn read(call: &Call) -> Self {
        let header = |name| call.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        let payment = Payment::from_json(&body["paymentPayload"].to_string(), false).unwrap();
        let option = option_of(&body["paymentRequirements"]);
        let tuple = parse_tuple_text(header(RELAY_OFFER).unwrap()).unwrap();
        assert_eq!(tuple.chain, option.network.as_str());
        assert_eq!(header(RELAY_GENERATION), Some("7"));
        let offer = [&tuple.offer_namespace, "/", &tuple.offer_name].concat();
        let route = header(RELAY_ROUTE).unwrap().to_owned();
        let claim = Claim {
            fingerprint: Fingerprint::of_canonical(&payment, &option).unwrap(),
            terms: Terms::signed(&payment, &option, offer, route).unwrap(),
            holder: Holder::parse(header(RELAY_HOLDER).unwrap()).unwrap(),
            call: Arc::from(call.body.as_slice()),
            ends: payment.valid_before().unwrap().to_u64().unwrap(),
            proven: header(RELAY_PROVEN) == Some("1"),
            only_known: header(RELAY_KNOWN) == Some("1"),
            can_settle: true,
            twin: None,
        };
        Self { key: PaymentKey::of(&payment, &option).unwrap(), claim, option }
    }
}

/// The option behind a requirement of either version.
fn option_of(requirement: &Value) -> PaymentOption {
    let text = |member: &str| requirement[member].as_str();
    let network = chain_by_name(text("network").unwrap()).unwrap();
    let extra = &requirement["extra"];
    let upfront = extra["paymentFlow"] == "upfront";
    PaymentOption {
        tuple: 0,
        v1_network: None,
        network: Network::clone(&network),
        v1_kind: false,
        amount: Amount::parse(text("amount").or_else(|| text("maxAmountRequired")).unwrap()).unwrap(),
        asset: Address::parse(text("asset").unwrap()).unwrap(),
        decimals: 6,
        pay_to: Address::parse(text("payTo").unwrap()).unwrap(),
        max_timeout_seconds: requirement["maxTimeoutSeconds"].as_u64().unwrap(),
        flow: if upfront { Flow::Upfront } else { Flow::Authorization },
        transfer_method: match extra["assetTransferMethod"].as_str() {
            Some("permit2") => TransferMethod::Permit2,
            _ => TransferMethod::Eip3009,
        },
        eip712_name: extra["name"].as_str().unwrap().to_owned(),
        eip712_version: extra["version"].as_str().unwrap().to_owned(),
        gas_sponsoring: false,
        extra: Extra::default(),
    }
}
