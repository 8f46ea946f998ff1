//! Who settles a payment is decided once.

use super::tests::{LEASE, NOW};
use super::*;

async fn open() -> (Ledger, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Ledger::open(&Ledger::file_url(&folder.path().join("l.db")), "c1").await.unwrap(), folder)
}

fn claim() -> Claim {
    tests::claim(1, "e1")
}

async fn begin(ledger: &Ledger) -> Begun {
    ledger.begin_settlement(&claim(), "{}", NOW, LEASE).await.unwrap()
}

async fn settles_at(ledger: &Ledger, first: Option<&str>) -> Option<String> {
    ledger.settles_at(&claim().key, first).await.unwrap()
}

#[tokio::test]
async fn the_one_that_vouched_settles() {
    let (ledger, _folder) = open().await;
    ledger.reserve(&claim(), NOW, LEASE).await.unwrap();
    ledger.verified(&claim(), "https://b", NOW).await.unwrap();
    begin(&ledger).await;
    assert_eq!(settles_at(&ledger, Some("https://a")).await.as_deref(), Some("https://b"));
    let entry = ledger.find(&claim().key).await.unwrap().unwrap();
    assert_eq!(entry.facilitator.as_deref(), Some("https://b"));
}

#[tokio::test]
async fn whoever_is_chosen_first_stays_chosen_while_the_outcome_is_unknown() {
    let (ledger, folder) = open().await;
    assert_eq!(settles_at(&ledger, Some("https://a")).await, None, "there is no such payment");
    begin(&ledger).await;
    assert_eq!(settles_at(&ledger, None).await, None);
    assert_eq!(settles_at(&ledger, Some("https://a")).await.as_deref(), Some("https://a"));
    let unknown = Outcome::Unknown { transaction: None, reason: "no answer".into() };
    ledger.finish(&claim().key, &unknown, true, NOW, NOW).await.unwrap();
    assert_eq!(settles_at(&ledger, Some("https://b")).await.as_deref(), Some("https://a"));
    assert_eq!(begin(&ledger).await, Begun::Call { again: true });
    ledger.close().await;
    let ledger = Ledger::open(&Ledger::file_url(&folder.path().join("l.db")), "c1").await.unwrap();
    assert_eq!(settles_at(&ledger, Some("https://b")).await.as_deref(), Some("https://a"));
}

#[tokio::test]
async fn a_payment_that_is_used_anew_is_nobodys_until_somebody_vouches_for_it() {
    let (ledger, _folder) = open().await;
    ledger.reserve(&claim(), NOW, LEASE).await.unwrap();
    ledger.verified(&claim(), "https://b", NOW).await.unwrap();
    ledger.reserve(&claim(), NOW, LEASE).await.unwrap();
    begin(&ledger).await;
    assert_eq!(settles_at(&ledger, Some("https://a")).await.as_deref(), Some("https://a"));
    let refused = Outcome::Refused { reason: "insufficient_funds".into() };
    ledger.finish(&claim().key, &refused, true, NOW, NOW).await.unwrap();
    begin(&ledger).await;
    assert_eq!(settles_at(&ledger, Some("https://c")).await.as_deref(), Some("https://c"));
}
