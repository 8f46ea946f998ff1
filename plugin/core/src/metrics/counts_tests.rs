use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::metrics::{FailureReason, series_name};
use crate::rules::{ChargeIndex, OfferIndex};

/// Two offers, the second with two prices.
fn rules() -> RuleSet {
    let tuple = |name: &str| {
        json!({
            "offerNamespace": "shop", "offerName": name, "chain": "eip155:84532", "assetSymbol": "USDC", "born": 0,
        })
    };
    let route = |pattern: &str, offer: &str, tuple: u32, amount: &str| {
        json!({
            "pattern": pattern, "gate": "paid", "offerNamespace": "shop", "offerName": offer,
            "options": [{
                "tuple": tuple, "network": "eip155:84532", "v1Kind": false, "amount": amount,
                "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "decimals": 6,
                "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "maxTimeoutSeconds": 600,
                "flow": "authorization", "transferMethod": "eip3009", "eip712Name": "USDC", "eip712Version": "2",
            }],
        })
    };
    let push = json!({
        "format": 1, "generation": 7, "hash": "0x00", "settings": {},
        "facilitator": {
            "cluster": "f", "authority": "f", "pathPrefix": "", "verifyTimeoutMs": 1, "settleTimeoutMs": 1,
            "ready": true, "relay": false,
        },
        "tuples": [tuple("a"), tuple("b")],
        "routes": [route("/a", "a", 0, "1"), route("/b", "b", 1, "2"), route("/c", "b", 1, "3")],
        "protected": [],
    });
    RuleSet::from_json(push.to_string().as_bytes()).unwrap()
}

/// Every possible stamp of these rules.
fn all() -> Vec<Stamp> {
    let mut all: Vec<Stamp> = Vec::new();
    for tuple in [TupleIndex(0), TupleIndex(1)] {
        all.extend(TupleCounter::all().map(|counter| Stamp::Tuple(tuple, counter)));
        all.push(Stamp::LastSuccess(tuple, 5));
    }
    all.extend([0, 1, 2].map(|charge| Stamp::Charged(ChargeIndex(charge))));
    for offer in [Some(OfferIndex(0)), Some(OfferIndex(1)), None] {
        all.extend(BlockedReason::ALL.iter().map(|reason| Stamp::Blocked(offer, *reason)));
    }
    for operation in [Operation::Verify, Operation::Settle] {
        for outcome in CallOutcome::ALL {
            all.extend([5, 6, 60_001].map(|millis| Stamp::Call(operation, *outcome, millis)));
        }
    }
    all
}

#[test]
fn each_stamp_counts_in_series_of_its_own() {
    let rules = rules();
    let mut names = BTreeSet::new();
    for stamp in all() {
        let series = series_of(&stamp, &rules);
        assert_eq!(series.len(), if matches!(stamp, Stamp::Call(..)) { 2 } else { 1 }, "{stamp:?}");
        for (series, amount) in series {
            let is_known = !names.insert(series_name(&series));
            assert_eq!(is_known, matches!(series, MetricSeries::CallMillis(..)) && amount > 5, "{stamp:?}");
        }
    }
    let layout = Layout::of(&rules);
    let end = layout.calls + 2 * CallOutcome::COUNT * OF_CALL;
    for position in 0..end {
        assert!(layout.series(position, &rules).is_some(), "{position}");
    }
    assert_eq!(layout.series(end, &rules), None);
}

#[test]
fn what_is_counted_is_what_the_stamps_say_in_any_order() {
    let rules = rules();
    let tuple = TupleIndex(1);
    let failed = TupleCounter::PaymentFailed(FailureReason::Other);
    let mut counts = Counts::default();
    let mut stamps = [all(), all()].concat();
    stamps.extend([Stamp::LastSuccess(tuple, 9), Stamp::LastSuccess(tuple, 8), Stamp::Tuple(tuple, failed)]);
    stamps.reverse();
    let mut expected = std::collections::BTreeMap::new();
    for stamp in &stamps {
        counts.add(stamp, &rules);
        for (series, amount) in series_of(stamp, &rules) {
            let is_time = matches!(series, MetricSeries::LastSuccess(_));
            let known: &mut u64 = expected.entry(series).or_default();
            *known = if is_time { amount.max(*known) } else { *known + amount };
        }
    }
    let taken: std::collections::BTreeMap<_, _> = std::iter::from_fn(|| counts.take(&rules)).collect();
    assert_eq!(taken, expected);
    assert!(counts.is_empty());
    let other = MetricSeries::Tuple(rules.tuples[1].clone(), failed);
    assert_eq!((taken[&other], taken[&MetricSeries::LastSuccess(rules.tuples[1].clone())]), (3, 9));
}

#[test]
fn a_stamp_of_other_rules_counts_nowhere() {
    let rules = rules();
    let mut counts = Counts::default();
    for stamp in [
        Stamp::Tuple(TupleIndex(2), TupleCounter::PaymentRequired),
        Stamp::LastSuccess(TupleIndex(2), 1),
        Stamp::Charged(ChargeIndex(3)),
        Stamp::Blocked(Some(OfferIndex(2)), BlockedReason::ALL[0]),
    ] {
        counts.add(&stamp, &rules);
        assert!(series_of(&stamp, &rules).is_empty(), "{stamp:?}");
    }
    assert!(counts.is_empty());
}
