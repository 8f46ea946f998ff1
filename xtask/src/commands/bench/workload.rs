//! The rules under measurement: any number of routes, half of them exact and half prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use farebox_core::rules::{Facilitator, Gate, PushedRules};
use farebox_core::terms::Settings;
use farebox_pricing::load;

/// A path of the one free route.
pub(super) const FREE_PATH: &str = "/free/item";

/// Offers of a large file: routes beyond it share them.
const OFFERS: usize = 100;

/// The push of a pricing file with this many paid routes and one free one, with a facilitator that is ready.
pub(super) fn push(routes: usize, generation: u64) -> Result<PushedRules> {
    let loaded = load(&pricing(routes));
    ensure!(loaded.findings.is_empty(), "the pricing file of the benchmark: {:?}", loaded.findings);
    let snapshot = loaded.snapshot.context("the pricing file of the benchmark is rejected")?;
    ensure!(snapshot.routes_with(Gate::Paid) == routes, "routes are missing");
    let facilitator = Facilitator {
        cluster: "facilitator".to_owned(),
        authority: "127.0.0.1".to_owned(),
        path_prefix: String::new(),
        verify_timeout_ms: 5_000,
        settle_timeout_ms: 60_000,
        ready: true,
        relay: false,
    };
    let born = BTreeMap::new();
    Ok(snapshot.push(generation, &Settings::default(), &facilitator, &born, &BTreeSet::new()))
}

/// A path of each paid route of [`push`], in an order that jumps about.
pub(super) fn paid_paths(routes: usize) -> Vec<String> {
    // Coprime with every count used, so each route comes once.
    (0..routes).map(|turn| turn * 7_919 % routes).map(path).collect()
}

fn path(route: usize) -> String {
    if route.is_multiple_of(2) { format!("/exact/r{route:05}") } else { format!("/prefix/p{route:05}/item") }
}

fn pattern(route: usize) -> String {
    if route.is_multiple_of(2) { format!("/exact/r{route:05}") } else { format!("/prefix/p{route:05}/*") }
}

/// A pricing file with this many paid routes and a free one.
pub(super) fn pricing(routes: usize) -> String {
    let mut text = String::from(
        "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\n\
         facilitatorURL: http://127.0.0.1:4020\nroutes:\n- pattern: /free/*\n  gate: free\n",
    );
    for route in 0..routes {
        let (pattern, offer) = (pattern(route), route % OFFERS);
        let _ = writeln!(
            text,
            "- pattern: {pattern}\n  price: \"0.001\"\n  offerNamespace: bench\n  offerName: offer-{offer}\n  \
             description: One call of offer {offer}.",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_asked_for_once() {
        for routes in [10, 1_000, 10_000] {
            let distinct: BTreeSet<String> = paid_paths(routes).into_iter().collect();
            assert_eq!(distinct.len(), routes);
        }
    }

    #[test]
    fn the_push_holds_the_routes_asked_for_and_a_free_one() {
        let push = push(250, 7).unwrap();
        assert_eq!((push.generation, push.routes.len(), push.tuples.len()), (7, 251, OFFERS));
    }
}
