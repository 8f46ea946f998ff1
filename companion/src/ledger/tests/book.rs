//! A ledger of a test, at a time of the test's choosing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farebox_core::evm::{Address, Amount, B256, Network};
use farebox_core::metrics::MetricSeries;
use farebox_core::payment::{
    Answer, Claim, End, Event, Fingerprint, Holder, Leases, Outcome, PaymentKey, Terms,
};
use farebox_core::terms::{Flow, Tuple};

use super::super::{Clock, Entry, Ledger, LedgerOptions, Sale, Stepped};
use crate::testing::Database;

pub(crate) const NOW: u64 = 1_800_000_000_000;
pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const HOLDER: Holder = Holder([1; 16]);
pub(crate) const OTHER: Holder = Holder([2; 16]);

/// A ledger in a database that goes with it.
pub(crate) struct Book {
    pub(crate) ledger: Ledger,
    pub(crate) database: Database,
    pub(crate) clock: Arc<AtomicU64>,
}

impl std::ops::Deref for Book {
    type Target = Ledger;
    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl Book {
    pub(crate) async fn open(database: Database) -> Self {
        Self::at(database, Arc::new(AtomicU64::new(NOW))).await
    }

    async fn at(database: Database, clock: Arc<AtomicU64>) -> Self {
        let ledger = Ledger::open(&database.url, "c1", options(&clock)).await.unwrap();
        Self { ledger, database, clock }
    }

    /// Another companion on the same database, at the same time.
    pub(crate) async fn companion_named(&self, name: &str) -> Ledger {
        Ledger::open(&self.database.url, name, options(&self.clock)).await.unwrap()
    }

    /// The same database after the companion ended.
    pub(crate) async fn reopen(self) -> Self {
        self.ledger.close().await;
        Self::at(self.database, self.clock).await
    }

    pub(crate) fn passes(&self, millis: u64) {
        self.clock.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) async fn does(&self, nonce: u8, event: Event) -> Answer {
        self.steps(nonce, event).await.answer
    }

    pub(crate) async fn steps(&self, nonce: u8, event: Event) -> Stepped {
        self.step(&key(nonce), event, Some(&sale()), Some("https://f1")).await.unwrap()
    }

    /// Reserved, verified and begun, by [`HOLDER`].
    pub(crate) async fn begins(&self, nonce: u8) {
        assert_eq!(self.does(nonce, Event::Claim(claim(nonce))).await, Answer::Reserved);
        assert_eq!(self.does(nonce, Event::Verified(HOLDER)).await, Answer::Noted);
        assert!(matches!(self.does(nonce, Event::Begin(HOLDER)).await, Answer::Call { epoch: 1, .. }));
    }

    /// The end of the first call is [`HOLDER`]'s, that of later ones [`OTHER`]'s, who asked.
    pub(crate) async fn ends(&self, nonce: u8, epoch: u32, outcome: Outcome) -> Answer {
        let holder = if epoch == 1 { HOLDER } else { OTHER };
        self.does(nonce, Event::Ended { epoch, holder, outcome, claim: None }).await
    }

    /// Paid for and delivered.
    pub(crate) async fn sells(&self, nonce: u8) {
        self.begins(nonce).await;
        assert!(matches!(self.ends(nonce, 1, settled()).await, Answer::Settled { .. }));
        assert_eq!(self.does(nonce, Event::Over(HOLDER, End::Whole)).await, Answer::Noted);
    }

    pub(crate) async fn state(&self, nonce: u8) -> Option<String> {
        self.entry(nonce).await.map(|entry| entry.state)
    }

    pub(crate) async fn entry(&self, nonce: u8) -> Option<Entry> {
        self.find(&key(nonce)).await.unwrap()
    }

    /// Counters above zero, in short.
    pub(crate) async fn counted(&self) -> Vec<(String, u64)> {
        counted(&self.ledger).await
    }
}

pub(crate) async fn counted(ledger: &Ledger) -> Vec<(String, u64)> {
    let short = |(series, value)| match series {
        MetricSeries::Tuple(_, counter) => (format!("{counter:?}"), value),
        MetricSeries::Charged(_, amount) => (format!("Charged {amount}"), value),
        MetricSeries::LastSuccess(_) => ("LastSuccess".to_owned(), value),
        other => panic!("{other:?}"),
    };
    let mut counted: Vec<_> = ledger.counters().await.unwrap().into_iter().map(short).collect();
    counted.sort();
    counted
}

fn options(clock: &Arc<AtomicU64>) -> LedgerOptions {
    LedgerOptions {
        leases: Leases { hold_ms: 10 * MINUTE, settle_ms: 2 * MINUTE },
        retention: Duration::from_secs(90 * 86_400),
        clock: Clock::Set(Arc::clone(clock)),
    }
}

pub(crate) fn key(nonce: u8) -> PaymentKey {
    PaymentKey {
        network: Network::from_caip2("eip155:84532").unwrap(),
        contract: Address([0xc0; 20]),
        payer: Address([0xb0; 20]),
        nonce: B256([nonce; 32]),
    }
}

pub(crate) fn claim(nonce: u8) -> Claim {
    claim_by(HOLDER, nonce)
}

pub(crate) fn claim_by(holder: Holder, nonce: u8) -> Claim {
    Claim {
        fingerprint: Fingerprint([nonce; 32]),
        terms: Terms {
            offer: "ns/a".to_owned(),
            route: "/v1/*".to_owned(),
            asset: Address([0xa0; 20]),
            amount: Amount::from_u64(1_000),
            pay_to: Address([0x50; 20]),
            flow: Flow::Authorization,
        },
        holder,
        call: Arc::from(format!(r#"{{"x402Version":2,"nonce":{nonce}}}"#).into_bytes()),
        ends: NOW / 1000 + 300,
        proven: true,
        only_known: false,
        can_settle: true,
        twin: None,
    }
}

pub(crate) fn sale() -> Sale {
    let tuple = Tuple {
        offer_namespace: "ns".to_owned(),
        offer_name: "a".to_owned(),
        chain: "eip155:84532".to_owned(),
        asset_symbol: "USDC".to_owned(),
        born: 7,
    };
    Sale { tuple, generation: 9, proxy: "e1".to_owned(), identifier: None }
}

pub(crate) fn settled() -> Outcome {
    Outcome::Settled { transaction: "0xtx".to_owned() }
}

pub(crate) fn unknown() -> Outcome {
    Outcome::Unknown { transaction: None, reason: "no answer".to_owned() }
}
