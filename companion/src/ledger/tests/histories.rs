//! The same random histories give the same records and counts in a database and in shared data.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use farebox_core::Now;
use farebox_core::payment::{
    Answer, Claim, Effect, End, Event, Fingerprint, Holder, Leases, Limits, Outcome, Record, Resolution,
    State, records, step_in, sweep,
};
use futures_util::future::join_all;

use super::book::counted;
use super::*;
use crate::testing::{Database, on_every_database};

on_every_database! {
    random_histories_give_the_same_records_and_counts_as_shared_data,
}

const KEYS: u8 = 3;
const RETENTION: u64 = 90 * 86_400;

/// The other form of the ledger.
struct Bucket {
    bytes: Vec<u8>,
    limits: Limits,
    counted: BTreeMap<String, u64>,
}

impl Bucket {
    fn new() -> Self {
        let leases = Leases { hold_ms: 10 * MINUTE, settle_ms: 2 * MINUTE };
        let limits = Limits { leases, retention: RETENTION, records: 100, bytes: 1 << 20 };
        Self { bytes: Vec::new(), limits, counted: BTreeMap::new() }
    }

    fn step(&mut self, nonce: u8, event: Event, now: Now) -> Answer {
        let stepped = step_in(&self.bytes, key(nonce).digest(), 1, event, &self.limits, now);
        if let Some(bytes) = stepped.write {
            self.bytes = bytes;
            stepped.effects.iter().for_each(|expired| self.count(&expired.effect));
        }
        stepped.answer.unwrap()
    }

    fn sweep(&mut self, now: Now) {
        if let Some((bytes, expired)) = sweep(&self.bytes, &self.limits, now) {
            self.bytes = bytes;
            expired.iter().for_each(|expired| self.count(&expired.effect));
        }
    }

    fn count(&mut self, effect: &Effect) {
        let name = match effect {
            Effect::Opened => "UnresolvedOpened",
            Effect::Closed => "UnresolvedClosed",
            Effect::Charged => "Charged 1000",
            Effect::SettledLate => "ResolvedLate(Settled)",
            Effect::RefusedLate => "ResolvedLate(Refused)",
            Effect::NeverKnown => "ResolvedLate(Expired)",
            // Whoever serves what is owed counts that.
            Effect::Redeemed | Effect::Refused(_) | Effect::Contradicted(_) => return,
        };
        *self.counted.entry(name.to_owned()).or_default() += 1;
    }

    fn record(&self, nonce: u8) -> Option<Record> {
        let all = records(&self.bytes).unwrap();
        all.into_iter().find(|(digest, _)| *digest == key(nonce).digest()).map(|(_, record)| record)
    }
}

/// Numbers that are as good as random (splitmix64), the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// The same one more often than not, so that steps follow each other.
    fn holder(&mut self) -> Holder {
        Holder([u8::try_from(self.below(6).saturating_sub(3)).unwrap() + 1; 16])
    }

    fn claim(&mut self, nonce: u8, now: Now) -> Claim {
        let mut claim = claim_by(self.holder(), nonce);
        claim.ends = now.unix_seconds() + self.below(2_000);
        match self.below(8) {
            0 => claim.fingerprint = Fingerprint([0xff; 32]),
            1 => claim.terms.route = "/v2/*".to_owned(),
            2 => claim.only_known = true,
            3 => claim.can_settle = false,
            _ => {}
        }
        claim
    }

    fn outcome(&mut self) -> Outcome {
        match self.below(8) {
            0 => settled(),
            1..5 => unknown(),
            5 => Outcome::Unknown { transaction: Some("0xsent".to_owned()), reason: "pending".to_owned() },
            6 => Outcome::Refused { reason: "insufficient_funds".to_owned(), detail: None },
            _ => Outcome::NotSent,
        }
    }

    fn event(&mut self, nonce: u8, now: Now) -> Event {
        match self.below(24) {
            0..6 => Event::Claim(self.claim(nonce, now)),
            6..12 => Event::Verified(self.holder()),
            12..18 => Event::Begin(self.holder()),
            18..20 => {
                let epoch = u32::try_from(self.below(6).saturating_sub(3)).unwrap() + 1;
                let claim = (self.below(8) == 0).then(|| Box::new(self.claim(nonce, now)));
                Event::Ended { epoch, holder: self.holder(), outcome: self.outcome(), claim }
            }
            20 => {
                let end = [End::Whole, End::Broken, End::Unsent][usize::try_from(self.below(3)).unwrap()];
                Event::Over(self.holder(), end)
            }
            21..23 => Event::Ask(self.holder()),
            _ if self.below(2) == 0 => Event::Resolve(Resolution::Refused),
            _ => Event::Resolve(Resolution::Settled { transaction: "0xfound".to_owned() }),
        }
    }

    /// From a moment to more than the retention.
    fn pause(&mut self) -> u64 {
        match self.below(40) {
            0 => (RETENTION + 1) * 1_000,
            1..8 => 11 * MINUTE,
            8..20 => self.below(3 * MINUTE),
            _ => self.below(2_000),
        }
    }
}

async fn random_histories_give_the_same_records_and_counts_as_shared_data(database: Database) {
    let book = Book::open(database).await;
    let (mut random, mut bucket) = (Random(7), Bucket::new());
    let mut seen = BTreeMap::<&str, u32>::new();
    for round in 0..250 {
        book.passes(random.pause());
        let now = Now { unix_ms: book.clock.load(Ordering::Relaxed) };
        bucket.sweep(now);
        book.sweep().await.unwrap();
        let steps: Vec<_> = (0..=random.below(6))
            .map(|_| {
                let nonce = 1 + u8::try_from(random.below(KEYS.into())).unwrap();
                (nonce, random.event(nonce, now))
            })
            .collect();
        // They wait together, and so they are committed together.
        let answers = join_all(steps.iter().map(|(nonce, event)| book.does(*nonce, event.clone()))).await;
        for ((nonce, event), answer) in steps.iter().zip(answers) {
            let expected = bucket.step(*nonce, event.clone(), now);
            // Shared data forgets the transaction of what is delivered.
            let forgot = expected == Answer::Settled { transaction: String::new() };
            let same = answer == expected || forgot && matches!(answer, Answer::Settled { .. });
            assert!(same, "round {round}: {event:?}: {answer:?}, {expected:?}");
        }
        for nonce in 1..=KEYS {
            let (here, there) = (book.record(&key(nonce)).await.unwrap(), bucket.record(nonce));
            if let Some(record) = &here {
                *seen.entry(word(record)).or_default() += 1;
            }
            assert_eq!(here.map(plain), there.map(plain), "round {round}: {steps:?}");
        }
    }
    assert_eq!(seen.len(), 5, "the histories visit every state: {seen:?}");
    let mut counted = counted(&book.ledger).await;
    counted.retain(|(name, _)| name != "LastSuccess");
    assert_eq!(counted, bucket.counted.into_iter().collect::<Vec<_>>());
}

const fn word(record: &Record) -> &'static str {
    match record.state {
        State::Reserved { .. } => "reserved",
        State::Settling { .. } => "settling",
        State::Unknown => "unknown",
        State::Owed { .. } => "owed",
        State::Delivered => "delivered",
    }
}

/// Of a delivered payment shared data keeps its state and its times.
fn plain(record: Record) -> Record {
    if record.state != State::Delivered {
        return record;
    }
    let terms = claim(0).terms;
    Record {
        fingerprint: None,
        terms,
        call: [].into(),
        epoch: 0,
        redeemed: false,
        before: None,
        transaction: None,
        ..record
    }
}
