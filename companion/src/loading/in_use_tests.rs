use std::sync::Arc;

use farebox_core::evm::chain_by_name;

use super::*;
use crate::facilitator::SupportedKind;
use crate::rules::Known;
use crate::testing::pricing;

const SEPOLIA: &str = "eip155:84532";
const BASE: &str = "eip155:8453";
const DEFAULT: &str = "https://default";

/// Offers on Base Sepolia and on Base. Base has its own facilitators, with the default one as fall-back.
fn in_use() -> InUse {
    let text = pricing(DEFAULT, &["a", "b"]) + "  network: base\n";
    let snapshot = farebox_pricing::load(&text).snapshot.unwrap();
    let own = vec!["https://own-1".to_owned(), "https://own-2".to_owned()];
    let facilitators = Facilitators {
        fallbacks: vec!["https://fallback".into()],
        chains: [(chain_by_name("base").unwrap(), own)].into(),
        ..Facilitators::default()
    };
    InUse::of(Some(&facilitators), &snapshot)
}

fn known(all: &[(&str, &[(u64, &str)])]) -> AllKnown {
    let known = |(url, kinds): &(&str, &[(u64, &str)])| {
        let kind = |(x402_version, network): &(u64, &str)| SupportedKind {
            x402_version: *x402_version,
            scheme: "exact".into(),
            network: (*network).into(),
        };
        let supported = Supported { kinds: kinds.iter().map(kind).collect(), ..Supported::default() };
        let known = Known { url: (*url).into(), supported: Some(Arc::new(supported)), ..Known::default() };
        ((*url).to_owned(), known)
    };
    all.iter().map(known).collect()
}

#[test]
fn every_facilitator_a_payment_may_go_to_is_in_use() {
    let urls = ["https://default", "https://fallback", "https://own-1", "https://own-2"];
    assert_eq!(in_use().urls(), urls.map(str::to_owned).into());
    let networks: Vec<_> = in_use().states(&AllKnown::new()).into_iter().map(|of| of.networks).collect();
    assert_eq!(networks, [[SEPOLIA], [SEPOLIA], [BASE], [BASE]]);
}

#[test]
fn the_default_one_is_in_use_only_where_a_chain_is_left_to_it_or_nothing_is_sold() {
    let own = [(chain_by_name("base-sepolia").unwrap(), vec!["https://own".to_owned()])].into();
    let facilitators = Facilitators { chains: own, ..Facilitators::default() };
    for (offers, expected) in [(&["a"][..], "https://own"), (&[], DEFAULT)] {
        let snapshot = farebox_pricing::load(&pricing(DEFAULT, offers)).snapshot.unwrap();
        let urls = InUse::of(Some(&facilitators), &snapshot).urls();
        assert_eq!(urls, [expected.to_owned()].into(), "{offers:?}");
    }
}

#[test]
fn paid_routes_are_ready_when_somebody_is_known_for_every_chain() {
    let kinds: &[(u64, &str)] = &[(2, SEPOLIA)];
    for (urls, ready) in [
        (&[][..], false),
        (&["https://default"], false),
        (&["https://own-1", "https://own-2"], false),
        (&["https://default", "https://own-1"], true),
        (&["https://fallback", "https://own-2"], true),
    ] {
        let known = known(&urls.iter().map(|url| (*url, kinds)).collect::<Vec<_>>());
        assert_eq!(in_use().is_ready(&known), ready, "{urls:?}");
    }
}

#[test]
fn version_1_payments_are_taken_on_chains_one_of_whose_own_facilitators_takes_them() {
    let known = known(&[
        ("https://default", &[(2, SEPOLIA), (1, "base")]),
        ("https://own-2", &[(2, BASE), (1, "base"), (1, "base-sepolia")]),
    ]);
    assert_eq!(in_use().v1_networks(&known), [BASE.to_owned()].into());
}

#[test]
fn a_chain_is_unlisted_once_all_its_facilitators_have_answered_without_it() {
    let default: (&str, &[(u64, &str)]) = ("https://default", &[(2, BASE)]);
    assert_eq!(in_use().unlisted(&known(&[default])), [""; 0], "the fall-back may list it");
    let both = |kinds| known(&[default, ("https://fallback", kinds)]);
    assert_eq!(in_use().unlisted(&both(&[(2, BASE)])), [SEPOLIA]);
    assert_eq!(in_use().unlisted(&both(&[(2, SEPOLIA)])), [""; 0]);
    assert_eq!(in_use().unlisted(&both(&[(1, "base-sepolia")])), [""; 0]);
}
