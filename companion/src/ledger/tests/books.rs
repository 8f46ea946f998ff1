//! The books.

use farebox_core::evm::Amount;
use farebox_core::payment::{Answer, Claim, Event, Outcome, Resolution};

use super::*;
use crate::ledger::{Books, Filter};
use crate::testing::{Database, on_every_database};

on_every_database! {
    payments_are_found_by_offer_payer_state_nonce_and_time_and_their_money_adds_up,
    whoever_reads_the_books_can_write_nothing_and_reads_while_they_are_written,
    what_is_exported_page_by_page_is_everything_once_and_what_is_over_may_go,
    an_operator_ends_what_nobody_could_find_out,
}

async fn payments_are_found_by_offer_payer_state_nonce_and_time_and_their_money_adds_up(database: Database) {
    let book = Book::open(database).await;
    for nonce in 1..=3 {
        book.passes(1);
        let mut claim = claim(nonce);
        claim.terms.amount = Amount::parse("340282366920938463463374607431768211456").unwrap();
        book.does(nonce, Event::Claim(claim)).await;
        book.does(nonce, Event::Verified(HOLDER)).await;
        book.does(nonce, Event::Begin(HOLDER)).await;
        book.ends(nonce, 1, if nonce == 3 { unknown() } else { settled() }).await;
    }
    let shown = async |filter: Filter| book.list(&filter, 10).await.unwrap().len();
    assert_eq!(shown(Filter { offer: Some("ns/a".into()), ..Filter::default() }).await, 3);
    assert_eq!(shown(Filter { offer: Some("a".into()), ..Filter::default() }).await, 3);
    assert_eq!(shown(Filter { offer: Some("x/a".into()), ..Filter::default() }).await, 0);
    let payer = key(1).payer.to_string();
    assert_eq!(
        shown(Filter { payer: Some(payer.to_uppercase().replace("0X", "0x")), ..Filter::default() }).await,
        3
    );
    assert_eq!(shown(Filter { state: Some("unknown".into()), ..Filter::default() }).await, 1);
    assert_eq!(shown(Filter { nonce: Some(key(2).nonce.to_string()), ..Filter::default() }).await, 1);
    assert_eq!(shown(Filter { between: Some((NOW + 2, NOW + 3)), ..Filter::default() }).await, 1);
    let totals = book.totals(&Filter::default()).await.unwrap();
    assert_eq!((totals.len(), totals[0].payments, totals[0].asset_symbol.as_str()), (1, 2, "USDC"));
    assert_eq!(totals[0].amount, "680564733841876926926749214863536422912");
    let entry = book.entry(3).await.unwrap();
    assert_eq!((entry.state.as_str(), entry.reason.as_deref()), ("unknown", Some("no answer")));
}

async fn whoever_reads_the_books_can_write_nothing_and_reads_while_they_are_written(database: Database) {
    let book = Book::open(database).await;
    book.sells(1).await;
    let mut books = Books::read(&book.database.url).await.unwrap();
    assert_eq!(books.list(&Filter::default(), 10).await.unwrap().len(), 1);
    book.sells(2).await;
    let listed = books.list(&Filter::default(), 10).await.unwrap();
    assert_eq!(listed.len(), 2);
    let text = books.delete(&listed).await.unwrap_err().to_string();
    assert!(text.contains("read-only") || text.contains("readonly"), "{text}");
    books.close().await;
    let book = book.reopen().await;
    assert_eq!(book.totals(&Filter::default()).await.unwrap()[0].payments, 2);
}

async fn what_is_exported_page_by_page_is_everything_once_and_what_is_over_may_go(database: Database) {
    let book = Book::open(database).await;
    for nonce in 0..250 {
        // Many of one instant.
        book.passes(u64::from(nonce % 50 == 0));
        book.does(nonce, Event::Claim(Claim { ends: NOW / 1000 + u64::from(nonce), ..claim(nonce) })).await;
    }
    let refused = Outcome::Refused { reason: "x".into(), detail: None };
    for nonce in 0..240 {
        book.does(nonce, Event::Verified(HOLDER)).await;
        book.does(nonce, Event::Begin(HOLDER)).await;
        book.ends(nonce, 1, if nonce % 2 == 0 { refused.clone() } else { settled() }).await;
    }
    let mut books = Books::clear(&book.database.url).await.unwrap();
    let (mut page, mut nonces) = (Vec::new(), Vec::new());
    loop {
        page = books.next_page(&Filter::default(), &page).await.unwrap();
        if page.is_empty() {
            break;
        }
        nonces.extend(page.iter().map(|entry| entry.nonce.clone()));
    }
    let all = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert_eq!((all, nonces.len()), (250, 250));
    let over = Filter { over: Some(NOW / 1000 + 100), ..Filter::default() };
    let page = books.next_page(&over, &[]).await.unwrap();
    assert_eq!(page.len(), 50, "refused, and with a window that has closed; what is owed stays");
    assert_eq!(books.delete(&page).await.unwrap(), 50);
    assert_eq!(books.delete(&page).await.unwrap(), 0);
    // What is not over is never taken out, whoever asks.
    let open = Filter { state: Some("owed".into()), ..Filter::default() };
    let page = books.next_page(&open, &[]).await.unwrap();
    assert_eq!(books.delete(&page).await.unwrap(), 0);
    books.close().await;
    assert_eq!(book.list(&Filter::default(), 1_000).await.unwrap().len(), 200);
}

async fn an_operator_ends_what_nobody_could_find_out(database: Database) {
    let book = Book::open(database).await;
    for nonce in 1..=3 {
        book.begins(nonce).await;
    }
    book.ends(1, 1, unknown()).await;
    book.ends(2, 1, unknown()).await;
    let says =
        async |nonce: u8, resolution: Resolution| book.resolve(&key(nonce), resolution).await.unwrap().answer;
    let found = || Resolution::Settled { transaction: "0xfound".into() };
    assert!(matches!(says(1, found()).await, Answer::Settled { .. }));
    assert_eq!(says(1, Resolution::Refused).await, Answer::Used, "what is proven stays");
    assert_eq!(says(2, Resolution::Refused).await, Answer::Noted);
    assert_eq!(says(3, Resolution::Refused).await, Answer::InFlight, "a call is under way");
    assert_eq!(says(3, found()).await, Answer::InFlight, "whatever it ends in");
    assert_eq!(says(4, found()).await, Answer::New);
    let entry = book.entry(2).await.unwrap();
    assert_eq!((entry.state.as_str(), entry.reason.as_deref()), ("refused", Some("said by an operator")));
    assert!(matches!(book.does(1, Event::Claim(claim(1))).await, Answer::Redeem { .. }));
    let counted = book.counted().await;
    for (name, value) in [("Charged 1000", 1), ("UnresolvedClosed", 2), ("UnresolvedOpened", 2)] {
        assert!(counted.contains(&(name.to_owned(), value)), "{counted:?}");
    }
}
