//! The record of one key in the small form that the states of the model keep. It becomes a [`Record`] again
//! for every step.

use std::sync::Arc;

use farebox_core::Now;
use farebox_core::evm::{Address, Amount};
use farebox_core::payment::{Fingerprint, Hold, Holder, Leases, Record, State, Terms, Trust};
use farebox_core::terms::Flow;

use crate::cast::{Body, Payment, Tick};

/// One step of the model's time, milliseconds. Longer than any pause of the reconciliation.
pub(crate) const TICK_MS: u64 = 320_000;
/// Both leases last one step of time.
pub(crate) const LEASES: Leases = Leases { hold_ms: TICK_MS, settle_ms: TICK_MS };
/// The retention is two steps, longer than any window.
pub(crate) const RETENTION_TICKS: u8 = 2;
/// A lease that never ends.
const NEVER: Tick = u8::MAX;

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) payment: Payment,
    pub(crate) terms: u8,
    /// `None` once no more calls are made.
    pub(crate) body: Option<Body>,
    pub(crate) epoch: u8,
    pub(crate) redeemed: bool,
    pub(crate) before: Option<u8>,
    pub(crate) transaction: Option<Payment>,
    pub(crate) since: Tick,
    pub(crate) life: Life,
}

/// [`State`], small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    Reserved { holder: u8, until: Tick, verified: bool },
    Settling { holder: u8, until: Tick, waits: bool },
    Unknown,
    Owed,
    UnderWay { holder: u8, until: Tick },
    Delivered,
}

/// The time of this step.
pub(crate) fn now(tick: Tick) -> Now {
    Now { unix_ms: u64::from(tick) * TICK_MS }
}

/// The holder of the request with this number.
pub(crate) const fn holder(number: u8) -> Holder {
    Holder([number; 16])
}

/// The terms with this number.
pub(crate) fn terms(number: u8) -> Terms {
    Terms {
        offer: if number == 0 { "cheap" } else { "dear" }.to_owned(),
        route: "/".to_owned(),
        asset: Address([1; 20]),
        amount: Amount::from_u64(u64::from(number)),
        pay_to: Address([2; 20]),
        flow: Flow::Authorization,
    }
}

/// The transaction that moves the money of a payment.
pub(crate) fn transaction(payment: Payment) -> String {
    format!("0x{}", payment as u8)
}

const fn ticks(unix_ms: u64) -> Tick {
    if unix_ms >= NEVER as u64 * TICK_MS { NEVER } else { (unix_ms / TICK_MS) as Tick }
}

const fn unix_ms(tick: Tick) -> u64 {
    if tick == NEVER { u64::MAX } else { tick as u64 * TICK_MS }
}

// === impl Entry ===

impl Entry {
    pub(crate) fn read(record: &Record) -> Self {
        let Fingerprint(fingerprint) = record.fingerprint.expect("every payment of the model has one");
        let hold = |hold: &Hold| (hold.holder.0[0], ticks(hold.until_ms));
        let life = match &record.state {
            State::Reserved { hold: held, trust } => {
                let (holder, until) = hold(held);
                Life::Reserved { holder, until, verified: *trust == Trust::Vouched }
            }
            State::Settling { hold: held, waits } => {
                let (holder, until) = hold(held);
                Life::Settling { holder, until, waits: *waits }
            }
            State::Unknown => Life::Unknown,
            State::Owed { hold: None } => Life::Owed,
            State::Owed { hold: Some(held) } => {
                let (holder, until) = hold(held);
                Life::UnderWay { holder, until }
            }
            State::Delivered => Life::Delivered,
        };
        let entry = Self {
            payment: Payment::ALL[usize::from(fingerprint[0])],
            terms: u8::from(record.terms.offer == "dear"),
            body: Body::read(&record.call),
            epoch: u8::try_from(record.epoch).expect("few calls fit into a run"),
            redeemed: record.redeemed,
            before: record.before.map(|holder| holder.0[0]),
            transaction: record
                .transaction
                .as_ref()
                .and_then(|text| Payment::ALL.into_iter().find(|payment| transaction(*payment) == *text)),
            since: ticks(record.since_ms),
            life,
        };
        debug_assert_eq!(&entry.record(), record, "nothing of a record is lost");
        entry
    }

    pub(crate) fn record(&self) -> Record {
        let hold = |number, until| Hold { holder: holder(number), until_ms: unix_ms(until) };
        let state = match self.life {
            Life::Reserved { holder, until, verified } => {
                let trust = if verified { Trust::Vouched } else { self.payment.trust() };
                State::Reserved { hold: hold(holder, until), trust }
            }
            Life::Settling { holder, until, waits } => State::Settling { hold: hold(holder, until), waits },
            Life::Unknown => State::Unknown,
            Life::Owed => State::Owed { hold: None },
            Life::UnderWay { holder, until } => State::Owed { hold: Some(hold(holder, until)) },
            Life::Delivered => State::Delivered,
        };
        Record {
            fingerprint: Some(self.payment.fingerprint()),
            terms: terms(self.terms),
            call: self.body.map_or_else(Arc::default, Body::bytes),
            ends: self.payment.ends_seconds(),
            epoch: u32::from(self.epoch),
            redeemed: self.redeemed,
            before: self.before.map(holder),
            transaction: self.transaction.map(transaction),
            since_ms: unix_ms(self.since),
            state,
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        match self.life {
            Life::Unknown => true,
            Life::Settling { .. } => self.epoch > 1,
            Life::Reserved { .. } | Life::Owed | Life::UnderWay { .. } | Life::Delivered => false,
        }
    }

    pub(crate) const fn is_charged(&self) -> bool {
        matches!(self.life, Life::Owed | Life::UnderWay { .. } | Life::Delivered)
    }
}
