//! Steps that are committed together, in memory: from the rows of their keys to the rows and counters that follow.

use std::collections::BTreeMap;

use farebox_core::Now;
use farebox_core::evm::Amount;
use farebox_core::metrics::{MetricSeries, series_name};
use farebox_core::payment::{
    Answer, Claim, Effect, Event, Leases, Outcome, PaymentKey, Record, State, Step, Trust, Twin, step,
};
use farebox_core::terms::Tuple;

use super::row::{Loaded, Row, Times, identifier_column};
use super::{Sale, Stepped};

/// A step somebody wants.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) key: PaymentKey,
    pub(super) event: Event,
    pub(super) sale: Option<Sale>,
    pub(super) facilitator: Option<String>,
}

/// Everything a batch works on.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    companion: &'a str,
    leases: Leases,
    now: Now,
    slots: BTreeMap<PaymentKey, Slot>,
    /// Records of purchases that are named, as they are in the database.
    named: Vec<(PaymentKey, Row)>,
    counters: Counters,
    successes: BTreeMap<String, u64>,
    contradictions: Vec<(PaymentKey, String)>,
}

/// By companion and name.
pub(super) type Counters = BTreeMap<(String, String), u64>;

/// A key of the batch.
#[derive(Debug)]
struct Slot {
    stored: Stored,
    row: Option<Row>,
    /// The row is that of a new record, not of the one stored.
    is_new: bool,
    is_touched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Nothing,
    Refused,
    Live,
}

/// What a payment is counted under.
#[derive(Debug)]
struct Counted {
    tuple: Tuple,
    amount: Amount,
    /// That has it in its books.
    companion: String,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) deleted: Vec<&'a PaymentKey>,
    pub(super) added: Vec<(&'a PaymentKey, &'a Row)>,
    pub(super) updated: Vec<(&'a PaymentKey, &'a Row)>,
}

// === impl Batch ===

impl<'a> Batch<'a> {
    /// A batch at this time. Every key of its steps has to be [`Self::loaded`] that has a row.
    pub(super) fn new(companion: &'a str, leases: Leases, now_ms: u64) -> Self {
        Self {
            companion,
            leases,
            now: Now { unix_ms: now_ms },
            slots: BTreeMap::new(),
            named: Vec::new(),
            counters: Counters::new(),
            successes: BTreeMap::new(),
            contradictions: Vec::new(),
        }
    }

    /// What the database has for a key.
    pub(super) fn loaded(&mut self, key: PaymentKey, loaded: Loaded) {
        let (stored, row) = match loaded {
            Loaded::Refused => (Stored::Refused, None),
            Loaded::Live(row) => (Stored::Live, Some(*row)),
        };
        self.slots.insert(key, Slot { stored, row, is_new: false, is_touched: false });
    }

    /// What the database has of the purchases that claims name.
    pub(super) fn loaded_by_name(&mut self, named: Vec<(PaymentKey, Row)>) {
        self.named.extend(named);
    }

    /// Takes one step.
    pub(super) fn step(&mut self, wanted: &Wanted) -> Stepped {
        let Wanted { key, sale, facilitator, .. } = wanted;
        let mut event = wanted.event.clone();
        if let Event::Claim(claim) = &mut event {
            claim.twin = claim.twin.take().or_else(|| self.twin_of(wanted));
        }
        let reason = reason_of_doubt(&event);
        let is_claim = matches!(event, Event::Claim(_));
        let (leases, now, companion) = (self.leases, self.now, self.companion);
        let slot = self.slot(key);
        let before = slot.row.as_ref().filter(|row| !row.refused);
        let counted = before.map(Row::counted);
        let record = before.map(|row| row.record.clone());
        let was = record.as_ref().map(|record| record.fingerprint);
        let was_more = record.as_ref().is_some_and(is_more_than_reserved);
        let Step { answer, record, changed, effects } = step(record, event, &leases, now);
        let freed = changed && record.is_none();
        let lasts = was_more || record.as_ref().is_some_and(is_more_than_reserved);
        if changed {
            slot.is_touched = true;
            match record {
                // A reservation may be of another request, and what was settled another payment of the nonce.
                Some(record)
                    if was != Some(record.fingerprint) || (is_claim && answer == Answer::Reserved) =>
                {
                    slot.row = Some(Row::begun(key, record, sale.as_ref(), companion, now.unix_ms));
                    slot.is_new = true;
                }
                Some(record) => {
                    if let Some(row) = &mut slot.row {
                        row.advance(record, reason, now.unix_ms);
                    }
                }
                None => slot.free(&effects, now.unix_ms),
            }
            if let Some(row) = slot.row.as_mut().filter(|row| row.facilitator.is_none() && !row.refused) {
                row.facilitator.clone_from(facilitator);
            }
        }
        let after = slot.row.as_ref().filter(|row| !row.refused);
        let facilitator = after.and_then(|row| row.facilitator.clone());
        let called = after.filter(|_| matches!(answer, Answer::Call { .. }));
        let behind = called.and_then(|row| Some(Box::new((Claim::behind(&row.record)?, row.sale()))));
        if !effects.is_empty()
            && let Some(counted) = after.map(Row::counted).or(counted)
        {
            for effect in effects {
                self.count(key, effect, &counted);
            }
        }
        Stepped { answer, facilitator, freed, lasts, behind }
    }

    /// The rows that are written.
    pub(super) fn changes(&self) -> Changes<'_> {
        let mut changes = Changes::default();
        for (key, slot) in self.slots.iter().filter(|(_, slot)| slot.is_touched) {
            let was_there = slot.stored != Stored::Nothing;
            match &slot.row {
                Some(row) if was_there && !slot.is_new => changes.updated.push((key, row)),
                row => {
                    changes.deleted.extend(was_there.then_some(key));
                    changes.added.extend(row.as_ref().map(|row| (key, row)));
                }
            }
        }
        changes
    }

    /// What the counters grow by.
    pub(super) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Gauges that only ever rise, with their values.
    pub(super) const fn successes(&self) -> &BTreeMap<String, u64> {
        &self.successes
    }

    /// What contradicted the book, for the log.
    pub(super) fn contradictions(&self) -> &[(PaymentKey, String)] {
        &self.contradictions
    }

    /// The rows as they are from here on.
    pub(super) fn into_rows(self) -> impl Iterator<Item = (PaymentKey, Row)> {
        self.slots.into_iter().filter_map(|(key, slot)| Some((key, slot.row?)))
    }

    fn slot(&mut self, key: &PaymentKey) -> &mut Slot {
        let empty = || Slot { stored: Stored::Nothing, row: None, is_new: false, is_touched: false };
        self.slots.entry(key.clone()).or_insert_with(empty)
    }

    /// Another payment, at work, open or charged, for the purchase a claim names.
    fn twin_of(&self, wanted: &Wanted) -> Option<Twin> {
        let Wanted { key, event: Event::Claim(claim), sale: Some(sale), .. } = wanted else { return None };
        let identifier = identifier_column(sale.identifier.as_ref()?);
        let is_twin = |other: &PaymentKey, row: &Row| {
            let terms = &row.record.terms;
            other != key
                && other.payer == key.payer
                && row.identifier.as_ref() == Some(&identifier)
                && (&terms.offer, &terms.route) == (&claim.terms.offer, &claim.terms.route)
                // One whose lease is over may still be settled by its request; the sweep lets go of it.
                && !row.refused
                // A claim nobody can check keeps nobody from what is proven.
                && !(claim.proven && row.is_unproven())
        };
        let here = self.slots.iter().filter_map(|(other, slot)| Some((other, slot.row.as_ref()?)));
        let elsewhere = self.named.iter().filter(|(other, _)| !self.slots.contains_key(other));
        let mut all = here.chain(elsewhere.map(|(other, row)| (other, row)));
        let (_, twin) = all.find(|(other, row)| is_twin(other, row))?;
        Some(Twin { transaction: twin.record.transaction.clone() })
    }

    fn count(&mut self, key: &PaymentKey, effect: Effect, counted: &Counted) {
        let Counted { tuple, amount, companion } = counted;
        // Who has opened a question closes it, whoever found the answer: what is left of the two is a gauge.
        let by = if matches!(effect, Effect::Opened | Effect::Closed) { companion } else { self.companion };
        if let Some(counter) = effect.counter() {
            return self.add(by, &MetricSeries::Tuple(tuple.clone(), counter));
        }
        match effect {
            Effect::Charged => {
                let success = series_name(&MetricSeries::LastSuccess(tuple.clone()));
                self.successes.insert(success, self.now.unix_seconds());
                self.add(self.companion, &MetricSeries::Charged(tuple.clone(), *amount));
            }
            Effect::Contradicted(text) => self.contradictions.push((key.clone(), text)),
            // What was refused is in the books, and who serves what is owed counts that.
            _ => {}
        }
    }

    fn add(&mut self, companion: &str, series: &MetricSeries) {
        *self.counters.entry((companion.to_owned(), series_name(series))).or_default() += 1;
    }
}

// === impl Changes ===

impl Changes<'_> {
    /// Whether nothing is written.
    pub(super) const fn is_empty(&self) -> bool {
        self.deleted.is_empty() && self.added.is_empty() && self.updated.is_empty()
    }
}

// === impl Slot ===

impl Slot {
    /// The record is gone. What was refused stays for the books.
    fn free(&mut self, effects: &[Effect], now_ms: u64) {
        let refused = effects.iter().find_map(|effect| match effect {
            Effect::Refused(reason) => Some(reason.clone()),
            _ => None,
        });
        match (&mut self.row, refused) {
            (Some(row), Some(reason)) => {
                row.refused = true;
                row.reason = Some(reason);
                row.times.ended = Some(now_ms);
            }
            (row, _) => *row = None,
        }
    }
}

// === impl Row ===

impl Row {
    /// That of a record that begins.
    fn begun(key: &PaymentKey, record: Record, sale: Option<&Sale>, companion: &str, now_ms: u64) -> Self {
        let (offer_namespace, offer_name) = record.terms.offer.split_once('/').unwrap_or_default();
        let charged = record.is_charged().then_some(now_ms);
        Self {
            tuple: Tuple {
                offer_namespace: offer_namespace.to_owned(),
                offer_name: offer_name.to_owned(),
                chain: key.network.as_str().to_owned(),
                asset_symbol: sale.map(|sale| sale.tuple.asset_symbol.clone()).unwrap_or_default(),
                born: sale.map_or(0, |sale| sale.tuple.born),
            },
            record,
            refused: false,
            generation: sale.map_or(0, |sale| sale.generation),
            proxy: sale.map(|sale| sale.proxy.clone()).unwrap_or_default(),
            companion: companion.to_owned(),
            identifier: sale.and_then(|sale| sale.identifier.as_deref()).map(identifier_column),
            facilitator: None,
            reason: None,
            times: Times { reserved: now_ms, verified: None, settling: charged, ended: charged },
        }
    }

    fn counted(&self) -> Counted {
        let Self { tuple, record, companion, .. } = self;
        Counted { tuple: tuple.clone(), amount: record.terms.amount, companion: companion.clone() }
    }

    /// What was sold.
    fn sale(&self) -> Sale {
        Sale {
            tuple: self.tuple.clone(),
            generation: self.generation,
            proxy: self.proxy.clone(),
            identifier: self.identifier.clone(),
        }
    }

    /// The record became this one.
    fn advance(&mut self, record: Record, reason: Option<String>, now_ms: u64) {
        let before = std::mem::replace(&mut self.record, record);
        match (&before.state, &self.record.state) {
            (State::Reserved { .. }, State::Reserved { trust: Trust::Vouched, .. }) => {
                self.times.verified = self.times.verified.or(Some(now_ms));
            }
            (_, State::Settling { .. }) if self.record.epoch > before.epoch => {
                self.times.settling = Some(now_ms);
            }
            (_, State::Unknown) => self.reason = reason,
            _ if self.record.is_charged() && !before.is_charged() => {
                self.times.ended = Some(now_ms);
                self.reason = None;
            }
            _ => {}
        }
    }
}

/// Whether a settle call may have been begun.
const fn is_more_than_reserved(record: &Record) -> bool {
    !matches!(record.state, State::Reserved { .. })
}

/// Why the outcome of a call is not known, for people.
fn reason_of_doubt(event: &Event) -> Option<String> {
    match event {
        Event::Ended {
            outcome: Outcome::Unknown { reason, .. } | Outcome::Refused { reason, .. }, ..
        } => Some(reason.clone()),
        Event::Ended { outcome: Outcome::Malformed { words }, .. } => Some(words.clone()),
        _ => None,
    }
}
