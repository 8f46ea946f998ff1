//! Stand-ins for the companion's neighbours.

mod database;
mod gate;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use farebox_core::metrics::Standing;
use farebox_core::terms::Tuple;
use serde_json::json;
use tokio::net::TcpListener;

use crate::settings::{FacilitatorSettings, Listen, Settings, Settlement};

pub(crate) use database::{Database, on_every_database};
pub(crate) use gate::{Gate, Lost};

/// Settings of a companion without proxies, by which settlements are made like this.
pub(crate) fn settings(settlement: Settlement) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        shutdown_delay: Duration::ZERO,
        pricing: "pricing.yaml".into(),
        watch: true,
        facilitator: FacilitatorSettings {
            allow_plain_http: false,
            url: None,
            cluster: "facilitator".into(),
            verify_timeout: Duration::from_secs(5),
            settle_timeout: Duration::from_secs(60),
            settlement,
        },
        relay: None,
        gateway: None,
        filter: farebox_core::terms::Settings::default(),
        envoy: None,
        traefik: None,
    }
}

/// The address of a port that is no Unix socket.
pub(crate) fn tcp(listen: &Listen) -> SocketAddr {
    match listen {
        Listen::Tcp(address) => *address,
        Listen::Unix(path) => panic!("{}", path.display()),
    }
}

/// What a filter says of itself that enforces this generation, and whose clock is right.
pub(crate) fn standing(vm: &str, generation: u64) -> Standing {
    Standing {
        process: "p".to_owned(),
        vm: vm.to_owned(),
        generation,
        hash: "0x00".to_owned(),
        unix_ms: crate::clock::unix_millis(),
        ..Standing::default()
    }
}

/// A facilitator that lists exact payments on base-sepolia, in both versions.
pub(crate) async fn fake_facilitator() -> String {
    let kinds = json!({"kinds": [
        {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
        {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
    ], "extensions": [], "signers": {}});
    serve(Router::new().route("/supported", get(async move || kinds.to_string()))).await
}

/// Serves on a free port; the address.
pub(crate) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// A tuple on base-sepolia, paid in USDC.
pub(crate) fn tuple(namespace: &str, name: &str, born: u64) -> Tuple {
    Tuple {
        offer_namespace: namespace.into(),
        offer_name: name.into(),
        chain: "eip155:84532".into(),
        asset_symbol: "USDC".into(),
        born,
    }
}

/// A pricing file with one paid route per offer of namespace `ns`.
pub(crate) fn pricing(facilitator: &str, offers: &[&str]) -> String {
    let mut text = format!(
        "wallet: \"0x1111111111111111111111111111111111111111\"\nchain: base-sepolia\nfacilitatorURL: {facilitator}\n"
    );
    text.push_str(if offers.is_empty() { "routes: []\n" } else { "routes:\n" });
    for offer in offers {
        text.push_str(&format!(
            "- pattern: /services/{offer}/*\n  price: \"0.001\"\n  offerNamespace: ns\n  offerName: {offer}\n"
        ));
    }
    text
}

/// Polls until `check` holds; fails after five seconds.
pub(crate) async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..500 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come true: {what}");
}
