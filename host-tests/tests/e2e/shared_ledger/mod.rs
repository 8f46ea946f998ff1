//! Two companions on one PostgreSQL, each with its own Envoy: they sell as one.

mod shop;

use std::collections::BTreeMap;

use farebox_testkit::stack::Part;
use farebox_testkit::wallet::{Wallet, header_value};
use serde_json::json;
use tokio::task::JoinSet;

use self::shop::Shop;
use crate::support::{Answer, Buyer, PAYMENT, until};

/// How often one payment is used at both proxies together.
const USES: usize = 1_000;
/// Requests under way at once. More would test the limits of sockets.
const AT_ONCE: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_1000_uses_of_one_payment_at_two_proxies_of_two_companions_one_is_served() {
    let mut shop = Shop::open().await;
    let buyers = [0, 1].map(|at| Buyer::new(shop.stack(at), Wallet::development()));
    let offer = buyers[0].offers("/goods/1").await.remove(0);
    let payment = buyers[0].payment(&offer);
    let value = header_value(&payment);

    // Slow enough for many to arrive at either proxy while the first is served.
    let mut uses = (0..USES).map(|number| {
        let buyer = &buyers[number % 2];
        Answer::to(buyer.get("/goods/slow/500").header(PAYMENT, &value))
    });
    let mut running: JoinSet<Answer> = uses.by_ref().take(AT_ONCE).collect();
    let mut answers = Vec::new();
    while let Some(answer) = running.join_next().await {
        answers.push(answer.expect("no task panics"));
        if let Some(next) = uses.next() {
            running.spawn(next);
        }
    }
    let mut statuses = BTreeMap::new();
    for answer in &answers {
        *statuses.entry(answer.status).or_insert(0_usize) += 1;
        assert!([200, 402, 409].contains(&answer.status), "{statuses:?}");
        assert_eq!(answer.receipt(), (answer.status == 200).then_some(true));
    }
    assert_eq!((answers.len(), statuses.get(&200)), (USES, Some(&1)), "{statuses:?}");
    assert_eq!(shop.origin_hits(), 1);
    let nonce = payment["payload"]["authorization"]["nonce"].as_str().unwrap().to_owned();
    let facilitator = shop.facilitator();
    assert_eq!(facilitator.settled(&nonce).await, 1);
    let settles = |operations: Vec<String>| operations.iter().filter(|made| *made == "settle").count();
    assert_eq!(settles(facilitator.operations().await), 1);
    let sold = |shop: &Shop| shop.ledger(&["--state", "delivered"]);
    until("the books have the sale", async || !sold(&shop).is_empty()).await;
    let books = sold(&shop);
    assert_eq!(books.len(), 1, "{books:?}");
    assert_eq!((&books[0]["nonce"], &books[0]["amount"]), (&json!(nonce), &json!("1000")));
    assert_eq!(shop.ledger(&[]), books, "and there is nothing else");
    assert_eq!(shop.charged().await, 1, "by one of the companions");

    // The result is the same for each companion, and after its restart.
    shop.stack_mut(0).kill_part(Part::Companion);
    let elsewhere = buyers[1].pay("/goods/1", &payment).await;
    assert_eq!(elsewhere.status, 402);
    shop.stack_mut(0).start_part(Part::Companion).unwrap();
    shop.stack(0).ready().await.unwrap();
    for buyer in &buyers {
        let again = buyer.pay("/goods/1", &payment).await;
        assert_eq!((again.status, again.receipt()), (402, None));
    }
    assert_eq!((facilitator.settled(&nonce).await, shop.origin_hits()), (1, 1));
    assert_eq!(sold(&shop), books);
    assert_eq!(shop.charged().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_broke_off_at_one_companion_is_fetched_once_at_the_other() {
    let shop = Shop::open().await;
    let buyers = [0, 1].map(|at| Buyer::new(shop.stack(at), Wallet::development()));
    let payment = buyers[0].payment(&buyers[0].offers("/goods/1").await[0]);
    let broken = buyers[0].pay("/goods/cut", &payment).await;
    assert_eq!((broken.status, broken.whole, broken.receipt()), (200, false, Some(true)));
    until("the books have it as owed", async || shop.ledger(&["--state", "owed"]).len() == 1).await;

    let whole = buyers[1].pay("/goods/1", &payment).await;
    assert_eq!((whole.status, whole.whole), (200, true));
    assert_eq!(whole.header("payment-response"), broken.header("payment-response"));
    until("the books have it as answered", async || shop.ledger(&["--state", "delivered"]).len() == 1).await;
    for buyer in &buyers {
        let again = buyer.pay("/goods/1", &payment).await;
        assert_eq!((again.status, again.receipt()), (402, None));
    }
    assert_eq!((shop.facilitator().operations().await.len(), shop.origin_hits()), (2, 2));
    assert_eq!(shop.charged().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_closes_both_proxies_and_opens_them_when_it_is_back() {
    let mut shop = Shop::open().await;
    let buyers = [0, 1].map(|at| Buyer::new(shop.stack(at), Wallet::development()));
    let offer = buyers[0].offers("/goods/1").await.remove(0);
    let bought = buyers[0].payment(&offer);
    assert_eq!(buyers[0].pay("/goods/1", &bought).await.status, 200);
    until("the books have the sale", async || shop.ledger(&["--state", "delivered"]).len() == 1).await;

    shop.database.stop();
    for at in [0, 1] {
        let answer = buyers[at].pay("/goods/1", &buyers[at].payment(&offer)).await;
        assert_eq!((answer.status, answer.header("payment-required")), (503, None));
        assert_eq!(buyers[at].pay("/goods/1", &bought).await.header("payment-response"), None);
        shop.until_not_ready(at, "the ledger postgres://farebox@127.0.0.1:").await;
    }
    assert_eq!(shop.origin_hits(), 1);

    shop.database.start_again().unwrap();
    for at in [0, 1] {
        shop.until_ready(at).await;
        assert_eq!(buyers[at].pay("/goods/1", &buyers[at].payment(&offer)).await.status, 200);
        let used = buyers[at].pay("/goods/1", &bought).await;
        assert_eq!((used.status, used.receipt()), (402, None), "nothing was forgotten");
    }
    assert_eq!((shop.origin_hits(), shop.charged().await), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_companions_push_the_same_generation_of_the_same_rules() {
    let mut shop = Shop::open().await;
    assert_eq!(shop.pushed(0).await, shop.pushed(1).await);
    let first = shop.pushed(0).await["config_generation"].as_u64().unwrap();
    for at in [0, 1] {
        shop.stack(at).rewrite_pricing(&shop::pricing("0.002")).unwrap();
    }
    for at in [0, 1] {
        shop.stack(at).later_generation(first).await.unwrap();
    }
    shop.until_agreed().await;
    let filters = [0, 1].map(|at| shop.published(at));
    assert_eq!(filters[0], filters[1]);

    // A restarted companion takes the rules of the other.
    let second = shop.stack(0).enforced().await.unwrap().unwrap();
    shop.stack_mut(1).kill_part(Part::Companion);
    for at in [0, 1] {
        shop.stack(at).rewrite_pricing(&shop::pricing("0.003")).unwrap();
    }
    shop.stack(0).later_generation(second).await.unwrap();
    shop.stack_mut(1).start_part(Part::Companion).unwrap();
    shop.stack(1).later_generation(second).await.unwrap();
    shop.until_agreed().await;
    assert_eq!(shop.published(0), shop.published(1));
}
