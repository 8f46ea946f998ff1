//! Offers whose terms change.

use crate::reload::metrics::{exists, of_offer, sum};
use crate::reload::pricing::{file, file_on, free, paid};
use crate::reload::stage::Stage;

const SEPOLIA: &str = "eip155:84532";
const BASE: &str = "eip155:8453";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_global_chain_rekeys_only_the_routes_that_inherit_it() {
    let routes = [paid("inheriting", "0.001"), format!("{}  network: base-sepolia\n", paid("own", "0.001"))];
    let mut stage = Stage::start(&file(&routes)).await;
    let buyer = stage.buyer();
    for path in ["/inheriting/api", "/own/api"] {
        let terms = buyer.terms(path).await.unwrap();
        assert!(buyer.pay(path, &terms).await.unwrap().is_settled());
    }

    stage.reload(&file_on("base", &routes)).await;
    let page = stage.counted().await;
    let requests = |offer: &str, chain: &str| {
        let labels = [("offer_name", offer), ("chain", chain)];
        exists(&page, "requests_total", &labels).then(|| sum(&page, "requests_total", &labels))
    };
    assert_eq!(requests("inheriting", SEPOLIA), None);
    assert_eq!(requests("inheriting", BASE), Some(0));
    assert_eq!(requests("own", SEPOLIA), Some(2));
    assert_eq!(requests("own", BASE), None);
    assert!(!exists(&page, "last_payment_success_seconds", &[("offer_name", "inheriting")]));
    assert!(exists(&page, "last_payment_success_seconds", &[("offer_name", "own"), ("chain", SEPOLIA)]));
    for series in page
        .series()
        .iter()
        .filter(|series| series.labels.get("offer_name").is_some_and(|name| name == "inheriting"))
    {
        assert!(series.labels.get("chain").is_none_or(|chain| chain == BASE), "{series:?}");
    }

    // On the new chain it is offered, sold and counted.
    let terms = buyer.terms("/inheriting/api").await.unwrap();
    assert_eq!(terms["network"], BASE);
    assert!(buyer.pay("/inheriting/api", &terms).await.unwrap().is_settled());
    let page = stage.counted().await;
    let on_base = [("offer_name", "inheriting"), ("chain", BASE)];
    assert_eq!(sum(&page, "requests_total", &on_base), 2);
    assert_eq!(sum(&page, "charged_requests_total", &on_base), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repinned_asset_drops_the_old_tuple_and_starts_the_new_one_at_zero() {
    let mut stage = Stage::start(&file(&[paid("pinned", "0.001")])).await;
    let buyer = stage.buyer();
    let usdc = buyer.terms("/pinned/api").await.unwrap();
    assert!(buyer.pay("/pinned/api", &usdc).await.unwrap().is_settled());
    assert_eq!(sum(&stage.counted().await, "charged_requests_total", &[("asset_symbol", "USDC")]), 1);

    let custom = "  assetAddress: \"0x00000000000000000000000000000000000CaFE1\"\n  assetSymbol: BEAN\n  \
        assetDecimals: 8\n  assetTransferMethod: eip3009\n  eip712Name: Bean\n  eip712Version: \"1\"\n";
    stage.reload(&file(&[format!("{}{custom}", paid("pinned", "0.001"))])).await;
    let page = stage.counted().await;
    for series in page.series() {
        assert_ne!(series.labels.get("asset_symbol").map(String::as_str), Some("USDC"), "{series:?}");
    }
    let bean = [("offer_name", "pinned"), ("chain", SEPOLIA), ("asset_symbol", "BEAN")];
    for family in ["requests_total", "charged_requests_total", "settled_amount_atomic_total"] {
        assert!(exists(&page, family, &bean), "{family}");
        assert_eq!(sum(&page, family, &bean), 0, "{family}");
    }
    assert!(!exists(&page, "last_payment_success_seconds", &[]));

    let refused = buyer.pay("/pinned/api", &usdc).await.unwrap();
    assert_eq!((refused.status, refused.failure().as_deref()), (402, Some("no_matching_requirement")));
    let terms = refused.terms().unwrap();
    assert_eq!(terms["amount"], "100000");
    assert!(buyer.pay("/pinned/api", &terms).await.unwrap().is_settled());
    assert_eq!(sum(&stage.counted().await, "settled_amount_atomic_total", &bean), 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_change_keeps_the_counters_and_refuses_payments_of_the_old_price_with_the_new_terms() {
    let mut stage = Stage::start(&file(&[paid("kept", "0.001")])).await;
    let buyer = stage.buyer();
    let old = buyer.terms("/kept/api").await.unwrap();
    assert!(buyer.pay("/kept/api", &old).await.unwrap().is_settled());

    stage.reload(&file(&[paid("kept", "0.003")])).await;
    let page = stage.counted().await;
    assert_eq!(of_offer(&page, "requests_total", "kept"), 2);
    assert_eq!(of_offer(&page, "charged_requests_total", "kept"), 1);
    assert_eq!(of_offer(&page, "settled_amount_atomic_total", "kept"), 1000);

    let refused = buyer.pay("/kept/api", &old).await.unwrap();
    assert_eq!((refused.status, refused.failure().as_deref()), (402, Some("no_matching_requirement")));
    let new = refused.terms().unwrap();
    assert_eq!(new["amount"], "3000");
    assert!(buyer.pay("/kept/api", &new).await.unwrap().is_settled());
    let page = stage.counted().await;
    assert_eq!(of_offer(&page, "requests_total", "kept"), 4);
    assert_eq!(of_offer(&page, "payment_failed_total", "kept"), 1);
    assert_eq!(of_offer(&page, "charged_requests_total", "kept"), 2);
    assert_eq!(of_offer(&page, "settled_amount_atomic_total", "kept"), 4000);
    assert_eq!(stage.hits("/kept/api"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_becomes_paid_and_free_again() {
    let mut stage = Stage::start(&file(&[free("door"), paid("kept", "0.001")])).await;
    let buyer = stage.buyer();
    assert_eq!(buyer.ask("/door/api").await.unwrap().status, 200);
    assert!(!exists(&stage.counted().await, "requests_total", &[("offer_name", "door")]));

    stage.reload(&file(&[paid("door", "0.001"), paid("kept", "0.001")])).await;
    assert_eq!(sum(&stage.counted().await, "requests_total", &[("offer_name", "door")]), 0);
    assert!(exists(&stage.counted().await, "requests_total", &[("offer_name", "door")]));
    let terms = buyer.terms("/door/api").await.unwrap();
    assert!(buyer.pay("/door/api", &terms).await.unwrap().is_settled());
    assert_eq!(of_offer(&stage.counted().await, "charged_requests_total", "door"), 1);
    assert_eq!(stage.hits("/door/api"), 2);

    stage.reload(&file(&[free("door"), paid("kept", "0.001")])).await;
    let reply = buyer.ask("/door/api").await.unwrap();
    assert_eq!((reply.status, reply.is_settled()), (200, false));
    // A live authorization does not leak to the upstream, and nobody is charged.
    let reply = buyer.pay("/door/api", &terms).await.unwrap();
    assert_eq!((reply.status, reply.is_settled()), (200, false));
    assert!(!String::from_utf8(reply.body).unwrap().to_lowercase().contains("payment-signature"));
    let page = stage.counted().await;
    assert!(!exists(&page, "requests_total", &[("offer_name", "door")]));
    assert!(!exists(&page, "last_payment_success_seconds", &[("offer_name", "door")]));
}
