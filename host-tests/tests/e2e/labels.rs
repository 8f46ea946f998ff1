//! The `chain` label is the resolved CAIP-2 id, for every spelling in the file and for inherited
//! chains.

use std::collections::BTreeSet;

use farebox_testkit::stack::{Options, Scrape, Series, Stack};
use farebox_testkit::wallet::Wallet;

use crate::support::Buyer;

const SPELLINGS: [&str; 4] = ["inherits", "alias", "shouted", "caip"];

/// `same` is one offer whose routes spell the chain in two ways.
fn pricing(global: &str) -> String {
    format!(
        r#"
wallet: "0x00000000000000000000000000000000000000a0"
chain: {global}
routes:
  - {{ pattern: /inherits/*, price: 0.001, offerNamespace: shop, offerName: inherits }}
  - {{ pattern: /alias/*, price: 0.001, network: base-sepolia, offerNamespace: shop, offerName: alias }}
  - {{ pattern: /shouted/*, price: 0.001, network: BASE-Sepolia, offerNamespace: shop, offerName: shouted }}
  - {{ pattern: /caip/*, price: 0.001, network: "eip155:84532", offerNamespace: shop, offerName: caip }}
  - {{ pattern: /same-inherits/*, price: 0.001, offerNamespace: shop, offerName: same }}
  - {{ pattern: /same-named/*, price: 0.001, network: "eip155:84532", offerNamespace: shop, offerName: same }}
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_inherits_the_chain_is_labelled_like_one_that_names_it() {
    let stack = Stack::start(Options::priced(pricing("base-sepolia"))).await.unwrap();
    let buyer = Buyer::new(&stack, Wallet::development());
    for route in ["inherits", "alias", "shouted", "caip", "same-inherits", "same-named"] {
        let path = format!("/{route}/1");
        let offer = buyer.offers(&path).await.remove(0);
        assert_eq!(offer["network"], "eip155:84532");
        assert_eq!(buyer.pay(&path, &buyer.payment(&offer)).await.status, 200);
    }

    let page = stack.counted().await.unwrap();
    assert_eq!(chains(&page), BTreeSet::from(["eip155:84532"]));
    let of_inherits = shapes(&page, "inherits");
    assert!(of_inherits.len() > 20);
    for spelling in SPELLINGS {
        assert_eq!(count(&page, "requests_total", spelling), 2, "{spelling}");
        assert_eq!(count(&page, "charged_requests_total", spelling), 1, "{spelling}");
        assert_eq!(shapes(&page, spelling), of_inherits, "{spelling}");
    }
    // Two spellings of one chain are one series, not two.
    assert_eq!(shapes(&page, "same"), of_inherits);
    assert_eq!(count(&page, "charged_requests_total", "same"), 2);

    // Another global chain moves the routes that inherit it, and no other.
    let before = stack.enforced().await.unwrap().unwrap();
    stack.rewrite_pricing(&pricing("base-mainnet")).unwrap();
    stack.later_generation(before).await.unwrap();
    stack.ready().await.unwrap();
    let page = stack.metrics().await.unwrap();
    assert_eq!(chains(&page), BTreeSet::from(["eip155:84532", "eip155:8453"]));
    let chains_of = |offer: &str| -> BTreeSet<String> {
        of_offer(&page, offer).filter_map(|series| series.labels.get("chain")).cloned().collect()
    };
    assert_eq!(chains_of("inherits"), BTreeSet::from(["eip155:8453".to_owned()]));
    assert_eq!(count(&page, "charged_requests_total", "inherits"), 0);
    for named in ["alias", "shouted", "caip"] {
        assert_eq!(chains_of(named), BTreeSet::from(["eip155:84532".to_owned()]));
        assert_eq!(count(&page, "charged_requests_total", named), 1, "{named}");
    }
    assert_eq!(buyer.offers("/inherits/1").await[0]["network"], "eip155:8453");
}

/// Every chain any series names.
fn chains(page: &Scrape) -> BTreeSet<&str> {
    page.series().iter().filter_map(|series| series.labels.get("chain")).map(String::as_str).collect()
}

fn of_offer<'a>(page: &'a Scrape, offer: &'a str) -> impl Iterator<Item = &'a Series> {
    page.series()
        .iter()
        .filter(move |series| series.labels.get("offer_name").is_some_and(|name| name == offer))
}

/// Names and labels of an offer's series, without its own name.
fn shapes(page: &Scrape, offer: &str) -> BTreeSet<(String, Vec<(String, String)>)> {
    let shape = |series: &Series| {
        let labels = series.labels.clone().into_iter().filter(|(name, _)| name != "offer_name").collect();
        (series.name.clone(), labels)
    };
    let mut shapes = BTreeSet::new();
    for series in of_offer(page, offer) {
        assert!(shapes.insert(shape(series)), "a series is there twice: {series:?}");
    }
    shapes
}

fn count(page: &Scrape, family: &str, offer: &str) -> u128 {
    page.sum(&format!("obol_x402_verifier_{family}"), &[("offer_name", offer)]).unwrap()
}
