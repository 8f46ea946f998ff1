use std::time::Duration;

use farebox_core::evm::Amount;
use farebox_core::metrics::{HostSeries, LateResult, TupleCounter, UnchargedReason};
use farebox_core::rules::Tuple;

use super::*;
use crate::testing::{Database, on_every_database};

pub(super) const NOW: u64 = 1_800_000_000_000;
pub(super) const LEASE: Duration = Duration::from_secs(600);
const BODY: &str = r#"{"x402Version":2}"#;

/// A ledger in a database that goes with it.
struct Book {
    ledger: Ledger,
    database: Database,
}

impl std::ops::Deref for Book {
    type Target = Ledger;
    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl Book {
    async fn open(database: Database) -> Self {
        Self { ledger: Ledger::open(&database.url, "c1").await.unwrap(), database }
    }

    /// Another companion on the same database.
    async fn companion_named(&self, name: &str) -> Ledger {
        Ledger::open(&self.database.url, name).await.unwrap()
    }

    /// The same database after the companion ended.
    async fn reopen(self) -> Self {
        self.ledger.close().await;
        Self::open(self.database).await
    }

    async fn reserves(&self, claim: &Claim, now_ms: u64) -> Reservation {
        self.reserve(claim, now_ms, LEASE).await.unwrap()
    }

    async fn begins(&self, claim: &Claim, now_ms: u64) -> Begun {
        self.begin_settlement(claim, BODY, now_ms, LEASE).await.unwrap()
    }

    async fn ends(&self, claim: &Claim, outcome: Outcome, told: bool) {
        self.finish(&claim.key, &outcome, told, NOW, NOW + 1_000).await.unwrap();
    }

    /// Counters above zero, in short.
    async fn counted(&self) -> Vec<(String, u64)> {
        let mut counted: Vec<_> = self
            .counters()
            .await
            .unwrap()
            .into_iter()
            .map(|(series, value)| match series {
                HostSeries::Tuple(_, counter) => (format!("{counter:?}"), value),
                HostSeries::Charged(_, amount) => (format!("Charged {amount}"), value),
                HostSeries::LastSuccess(_) => ("LastSuccess".to_owned(), value),
                other => panic!("{other:?}"),
            })
            .collect();
        counted.sort();
        counted
    }
}

pub(super) fn claim(nonce: u8, holder: &str) -> Claim {
    Claim {
        key: PaymentKey {
            network: "eip155:84532".into(),
            contract: "0xasset".into(),
            payer: "0xpayer".into(),
            nonce: format!("0x{nonce:064x}"),
        },
        holder: holder.into(),
        attempt: "1".into(),
        tuple: Tuple {
            offer_namespace: "ns".into(),
            offer_name: "a".into(),
            chain: "eip155:84532".into(),
            asset_symbol: "USDC".into(),
            born: 7,
        },
        generation: 9,
        asset: "0xasset".into(),
        amount: "1000".into(),
        pay_to: "0xshop".into(),
        ends: NOW / 1000 + 300,
    }
}

pub(super) fn settled() -> Outcome {
    Outcome::Settled { transaction: "0xtx".into() }
}

pub(super) fn unknown() -> Outcome {
    Outcome::Unknown { transaction: None, reason: "no answer".into() }
}

fn count(name: &str, value: u64) -> (String, u64) {
    (name.to_owned(), value)
}

on_every_database! {
    the_one_holder_of_a_hundred_at_several_companions_settles_once,
    an_open_payment_is_asked_about_by_one_companion_at_a_time,
    each_companion_counts_what_it_settled,
    a_payment_is_one_holders_until_its_lease_ends,
    a_released_payment_is_free_and_a_verified_one_is_not,
    a_release_that_comes_late_takes_nothing_from_the_next_use_and_nothing_that_is_being_settled,
    an_answer_that_is_owed_and_was_not_given_is_owed_by_every_proxy_again,
    a_settlement_is_made_once_and_its_receipt_can_be_asked_for_again_by_its_holder,
    a_refused_payment_is_free_again_and_counts_nothing,
    an_unknown_outcome_is_open_until_it_is_known_and_counted_once,
    what_was_settled_while_nobody_waited_buys_one_answer_from_any_proxy,
    an_unknown_payment_is_settled_again_only_for_its_own_offer,
    what_a_companion_was_settling_when_it_died_is_found_by_the_next,
    of_a_hundred_holders_at_once_one_gets_the_payment,
    reservations_nothing_came_of_are_forgotten_when_their_authorization_has_ended,
    payments_are_found_by_offer_payer_state_and_time_and_their_money_adds_up,
    a_schema_of_a_later_version_is_refused_and_left_alone,
}

async fn a_payment_is_one_holders_until_its_lease_ends(database: Database) {
    let book = Book::open(database).await;
    assert_eq!(book.reserves(&claim(1, "e1"), NOW).await, Reservation::Fresh);
    assert_eq!(book.reserves(&claim(1, "e2"), NOW + 1).await, Reservation::InFlight);
    assert_eq!(book.begins(&claim(1, "e2"), NOW + 1).await, Begun::InFlight);
    // The holder itself knows that its earlier use is over.
    assert_eq!(book.reserves(&claim(1, "e1"), NOW + 2).await, Reservation::Fresh);
    let after = NOW + 3 + 600_000;
    assert_eq!(book.reserves(&claim(1, "e2"), after).await, Reservation::Fresh);
    assert_eq!(book.begins(&claim(1, "e1"), after).await, Begun::InFlight);
    assert_eq!(book.reserves(&claim(2, "e1"), NOW).await, Reservation::Fresh);
}

async fn a_released_payment_is_free_and_a_verified_one_is_not(database: Database) {
    let book = Book::open(database).await;
    let first = claim(1, "e1");
    book.reserves(&first, NOW).await;
    book.verified(&first, "https://f1", NOW).await.unwrap();
    book.release(&claim(1, "e2")).await.unwrap();
    assert_eq!(book.reserves(&claim(1, "e2"), NOW).await, Reservation::InFlight);
    book.release(&first).await.unwrap();
    assert_eq!(book.reserves(&claim(1, "e2"), NOW).await, Reservation::Fresh);
}

async fn a_release_that_comes_late_takes_nothing_from_the_next_use_and_nothing_that_is_being_settled(
    database: Database,
) {
    let book = Book::open(database).await;
    let first = claim(1, "e1");
    let next = Claim { attempt: "2".into(), ..first.clone() };
    book.reserves(&first, NOW).await;
    book.reserves(&next, NOW).await;
    book.release(&first).await.unwrap();
    assert_eq!(book.reserves(&claim(1, "e2"), NOW).await, Reservation::InFlight);
    assert_eq!(book.begins(&next, NOW).await, Begun::Call { again: false });
    book.release(&next).await.unwrap();
    assert_eq!(book.begins(&next, NOW).await, Begun::Joined);
    book.ends(&next, unknown(), true).await;
    book.release(&next).await.unwrap();
    assert_eq!(book.reserves(&claim(1, "e2"), NOW).await, Reservation::Unknown { transaction: None });
}

async fn an_answer_that_is_owed_and_was_not_given_is_owed_by_every_proxy_again(database: Database) {
    let book = Book::open(database).await;
    book.begins(&claim(1, "e1"), NOW).await;
    book.ends(&claim(1, "e1"), settled(), false).await;
    assert_eq!(book.reserves(&claim(1, "e2"), NOW + 1).await, Reservation::Redeem);
    assert_eq!(book.reserves(&claim(1, "e3"), NOW + 2).await, Reservation::Used);
    book.release(&claim(1, "e2")).await.unwrap();
    assert_eq!(book.reserves(&claim(1, "e3"), NOW + 3).await, Reservation::Redeem);
}

async fn a_settlement_is_made_once_and_its_receipt_can_be_asked_for_again_by_its_holder(database: Database) {
    let book = Book::open(database).await;
    let first = claim(1, "e1");
    book.reserves(&first, NOW).await;
    assert_eq!(book.begins(&first, NOW).await, Begun::Call { again: false });
    assert_eq!(book.begins(&first, NOW).await, Begun::Joined);
    assert_eq!(book.begins(&claim(1, "e2"), NOW).await, Begun::InFlight);
    book.ends(&first, settled(), true).await;
    assert_eq!(book.begins(&first, NOW).await, Begun::Settled { transaction: "0xtx".into() });
    assert_eq!(book.begins(&claim(1, "e2"), NOW).await, Begun::Used);
    assert_eq!(book.reserves(&claim(1, "e2"), NOW).await, Reservation::Used);
    let all = [count("Charged 1000", 1), count("LastSuccess", NOW / 1000)];
    assert_eq!(book.counted().await, all);
    // A second end of the same settlement changes nothing.
    book.ends(&first, settled(), true).await;
    assert_eq!(book.counted().await, all);
}

async fn a_refused_payment_is_free_again_and_counts_nothing(database: Database) {
    let book = Book::open(database).await;
    let first = claim(1, "e1");
    book.begins(&first, NOW).await;
    book.ends(&first, Outcome::Refused { reason: "insufficient_funds".into() }, true).await;
    assert_eq!(book.reserves(&claim(1, "e2"), NOW).await, Reservation::Fresh);
    assert_eq!(book.counted().await, []);
}

async fn an_unknown_outcome_is_open_until_it_is_known_and_counted_once(database: Database) {
    let book = Book::open(database).await;
    let first = claim(1, "e1");
    book.begins(&first, NOW).await;
    book.ends(&first, unknown(), true).await;
    let open = Reservation::Unknown { transaction: None };
    assert_eq!(book.reserves(&claim(1, "e2"), NOW).await, open);
    // The buyer sends it again, and again nobody knows.
    assert_eq!(book.begins(&first, NOW).await, Begun::Call { again: true });
    let pending = Outcome::Unknown { transaction: Some("0xtx".into()), reason: "pending".into() };
    book.ends(&first, pending, true).await;
    assert_eq!(book.counted().await, [count("UnresolvedOpened", 1)]);
    assert_eq!(book.due(NOW, LEASE, 10).await.unwrap(), []);
    let due = book.due(NOW + 1_000, LEASE, 10).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(
        (due[0].key.clone(), due[0].call_body.as_str(), due[0].attempts),
        (first.key.clone(), BODY, 1)
    );
    assert_eq!(book.due(NOW + 1_000, LEASE, 10).await.unwrap(), [], "one companion asks at a time");
    book.ends(&first, settled(), false).await;
    assert_eq!(
        book.counted().await,
        [
            count("Charged 1000", 1),
            count("LastSuccess", NOW / 1000),
            count(&format!("{:?}", TupleCounter::ResolvedLate(LateResult::Settled)), 1),
            count("UnresolvedClosed", 1),
            count("UnresolvedOpened", 1),
        ]
    );
}

async fn what_was_settled_while_nobody_waited_buys_one_answer_from_any_proxy(database: Database) {
    let book = Book::open(database).await;
    let first = claim(1, "e1");
    book.begins(&first, NOW).await;
    book.ends(&first, settled(), false).await;
    assert_eq!(book.reserves(&claim(1, "e2"), NOW + 1).await, Reservation::Redeem);
    assert_eq!(book.reserves(&claim(1, "e3"), NOW + 1).await, Reservation::Used, "one at a time");
    assert_eq!(book.begins(&claim(1, "e2"), NOW + 2).await, Begun::Settled { transaction: "0xtx".into() });
    assert_eq!(book.reserves(&claim(1, "e3"), NOW + 700_000).await, Reservation::Used);
    let redeemed = format!("{:?}", TupleCounter::VerifiedUncharged(UnchargedReason::Redeemed));
    let late = format!("{:?}", TupleCounter::ResolvedLate(LateResult::Settled));
    let expected =
        [count("Charged 1000", 1), count("LastSuccess", NOW / 1000), count(&late, 1), count(&redeemed, 1)];
    assert_eq!(book.counted().await, expected);
}

async fn an_unknown_payment_is_settled_again_only_for_its_own_offer(database: Database) {
    let book = Book::open(database).await;
    book.begins(&claim(1, "e1"), NOW).await;
    book.ends(&claim(1, "e1"), unknown(), true).await;
    let mut other = claim(1, "e1");
    other.tuple.offer_name = "b".into();
    assert_eq!(book.begins(&other, NOW).await, Begun::Used);
    assert_eq!(book.begins(&claim(1, "e2"), NOW).await, Begun::Call { again: true });
}

async fn what_a_companion_was_settling_when_it_died_is_found_by_the_next(database: Database) {
    let book = Book::open(database).await;
    book.begins(&claim(1, "e1"), NOW).await;
    book.begins(&claim(2, "e1"), NOW).await;
    book.ends(&claim(2, "e1"), settled(), true).await;
    assert_eq!(book.orphans(NOW, false).await.unwrap(), []);
    let book = book.reopen().await;
    assert_eq!(book.orphans(NOW, true).await.unwrap(), [claim(1, "e1").key]);
    assert_eq!(book.orphans(NOW + 600_001, false).await.unwrap(), [claim(1, "e1").key]);
    assert_eq!(book.counted().await, [count("Charged 1000", 1), count("LastSuccess", NOW / 1000)]);
}

async fn of_a_hundred_holders_at_once_one_gets_the_payment(database: Database) {
    let book = Book::open(database).await;
    let holders: Vec<String> = (0..100).map(|holder| format!("e{holder}")).collect();
    let claims: Vec<Claim> = holders.iter().map(|holder| claim(1, holder)).collect();
    let all = futures_util::future::join_all(claims.iter().map(|claim| book.reserves(claim, NOW))).await;
    assert_eq!(all.iter().filter(|reservation| **reservation == Reservation::Fresh).count(), 1);
    assert_eq!(all.iter().filter(|reservation| **reservation == Reservation::InFlight).count(), 99);
}

async fn reservations_nothing_came_of_are_forgotten_when_their_authorization_has_ended(database: Database) {
    let book = Book::open(database).await;
    book.reserves(&claim(1, "e1"), NOW).await;
    book.begins(&claim(2, "e1"), NOW).await;
    book.ends(&claim(2, "e1"), settled(), true).await;
    assert_eq!(book.forget_abandoned(NOW + 300_000).await.unwrap(), 0);
    assert_eq!(book.forget_abandoned(NOW + 600_001).await.unwrap(), 1);
    assert_eq!(book.list(&Filter::default(), 10).await.unwrap().len(), 1);
}

async fn payments_are_found_by_offer_payer_state_and_time_and_their_money_adds_up(database: Database) {
    let book = Book::open(database).await;
    for nonce in 1..=3 {
        let mut claim = claim(nonce, "e1");
        claim.amount = "340282366920938463463374607431768211456".into();
        book.begins(&claim, NOW + u64::from(nonce)).await;
        let outcome = if nonce == 3 { unknown() } else { settled() };
        book.ends(&claim, outcome, true).await;
    }
    let shown = async |filter: Filter| book.list(&filter, 10).await.unwrap().len();
    assert_eq!(shown(Filter { offer: Some("ns/a".into()), ..Filter::default() }).await, 3);
    assert_eq!(shown(Filter { offer: Some("a".into()), ..Filter::default() }).await, 3);
    assert_eq!(shown(Filter { offer: Some("x/a".into()), ..Filter::default() }).await, 0);
    assert_eq!(shown(Filter { payer: Some("0xPAYER".into()), ..Filter::default() }).await, 3);
    assert_eq!(shown(Filter { state: Some("unknown".into()), ..Filter::default() }).await, 1);
    assert_eq!(shown(Filter { between: Some((NOW + 2, NOW + 3)), ..Filter::default() }).await, 1);
    let totals = book.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals.len(), 1);
    assert_eq!((totals[0].payments, totals[0].asset_symbol.as_str()), (2, "USDC"));
    assert_eq!(totals[0].amount, "680564733841876926926749214863536422912");
    let entry = book.find(&claim(3, "e1").key).await.unwrap().unwrap();
    assert_eq!((entry.state.as_str(), entry.reason.as_deref()), ("unknown", Some("no answer")));
    assert!(Amount::parse(&entry.amount).is_ok());
}

async fn the_one_holder_of_a_hundred_at_several_companions_settles_once(database: Database) {
    let book = Book::open(database).await;
    let others = [book.companion_named("c2").await, book.companion_named("c3").await];
    let books = [&book.ledger, &others[0], &others[1]];
    for nonce in 1..=5 {
        let claims: Vec<Claim> = (0..100).map(|holder| claim(nonce, &format!("e{holder}"))).collect();
        let at = |index: usize| books[index % books.len()];
        let reserved = claims.iter().enumerate().map(|(index, claim)| at(index).reserve(claim, NOW, LEASE));
        let reserved = futures_util::future::join_all(reserved).await;
        let fresh: Vec<usize> =
            (0..100).filter(|index| matches!(reserved[*index], Ok(Reservation::Fresh))).collect();
        assert_eq!(fresh.len(), 1);
        // All of them go on as if they had been the one, which a proxy with a fault might.
        let begun = claims
            .iter()
            .enumerate()
            .map(|(index, claim)| at(index).begin_settlement(claim, BODY, NOW, LEASE));
        let begun = futures_util::future::join_all(begun).await;
        let calls: Vec<usize> =
            (0..100).filter(|index| matches!(begun[*index], Ok(Begun::Call { again: false }))).collect();
        assert_eq!(calls, fresh, "only the one who reserved it settles it");
        let end = settled();
        let ends = books.iter().map(|ledger| ledger.finish(&claims[0].key, &end, true, NOW, NOW));
        for ended in futures_util::future::join_all(ends).await {
            ended.unwrap();
        }
    }
    let mut charged = 0;
    for ledger in books {
        let counters = ledger.counters().await.unwrap();
        charged += counters
            .iter()
            .filter(|(series, _)| matches!(series, HostSeries::Charged(..)))
            .map(|(_, value)| value)
            .sum::<u64>();
    }
    assert_eq!(charged, 5, "by whichever companion, but once each");
    assert_eq!(book.totals(&Filter::default()).await.unwrap()[0].payments, 5);
}

async fn an_open_payment_is_asked_about_by_one_companion_at_a_time(database: Database) {
    let book = Book::open(database).await;
    for nonce in 1..=40 {
        book.begins(&claim(nonce, "e1"), NOW).await;
        book.ends(&claim(nonce, "e1"), unknown(), true).await;
    }
    let others = [book.companion_named("c2").await, book.companion_named("c3").await];
    let rounds = [&book.ledger, &others[0], &others[1], &book.ledger, &others[0], &others[1]];
    let due = rounds.iter().map(|ledger| ledger.due(NOW + 1_000, LEASE, 10));
    let due = futures_util::future::join_all(due).await;
    let mut asked: Vec<PaymentKey> = due.into_iter().flat_map(Result::unwrap).map(|open| open.key).collect();
    // What two choose at once the later one does without: the next round is a second away.
    while let more = book.due(NOW + 1_000, LEASE, 10).await.unwrap()
        && !more.is_empty()
    {
        asked.extend(more.into_iter().map(|open| open.key));
    }
    asked.sort();
    let expected: Vec<PaymentKey> = (1..=40).map(|nonce| claim(nonce, "e1").key).collect();
    assert_eq!(asked, expected, "each once");
}

async fn each_companion_counts_what_it_settled(database: Database) {
    let book = Book::open(database).await;
    let other = book.companion_named("c2").await;
    book.begins(&claim(1, "e1"), NOW).await;
    book.ends(&claim(1, "e1"), settled(), true).await;
    for nonce in 2..=3 {
        let claim = claim(nonce, "e2");
        other.begin_settlement(&claim, BODY, NOW + 1_000, LEASE).await.unwrap();
        other.finish(&claim.key, &settled(), true, NOW + 1_000, NOW).await.unwrap();
    }
    assert_eq!(book.counted().await, [count("Charged 1000", 1), count("LastSuccess", NOW / 1000)]);
    let book = Book { ledger: other, database: book.database };
    assert_eq!(book.counted().await, [count("Charged 1000", 2), count("LastSuccess", NOW / 1000 + 1)]);
    let book = book.reopen().await;
    assert_eq!(book.counted().await, [count("Charged 1000", 1), count("LastSuccess", NOW / 1000)]);
}

async fn a_schema_of_a_later_version_is_refused_and_left_alone(database: Database) {
    let book = Book::open(database).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999, 'later', TRUE, '00', 0)",
    )
    .execute(&mut *book.connection().await.unwrap())
    .await
    .unwrap();
    book.ledger.close().await;
    let error = Ledger::open(&book.database.url, "c1").await.unwrap_err().to_string();
    assert!(error.contains("a schema this version does not know"), "{error}");
}
