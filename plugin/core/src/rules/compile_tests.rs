use super::*;
use crate::evm::{Address, Network, TransferMethod};
use crate::rules::{Facilitator, Lookup, canonicalize};
use crate::terms::{Extra, Flow, Settings, Tuple};
use serde_json::json;

fn option(tuple: usize, amount: u64) -> PaymentOption {
    PaymentOption {
        tuple,
        network: Network::from_caip2("eip155:84532").unwrap(),
        v1_network: Some("base-sepolia".into()),
        v1_kind: false,
        amount: Amount::from_u64(amount),
        asset: Address::parse("0x036CbD53842c5426634e7929541eC2318f3dCF7e").unwrap(),
        decimals: 6,
        pay_to: Address([0x11; 20]),
        max_timeout_seconds: 600,
        flow: Flow::Authorization,
        transfer_method: TransferMethod::Eip3009,
        eip712_name: "USDC".into(),
        eip712_version: "2".into(),
        gas_sponsoring: false,
        extra: Extra::default(),
    }
}

fn route(pattern: &str, gate: Gate, options: Vec<PaymentOption>) -> PushedRoute {
    PushedRoute {
        pattern: pattern.into(),
        gate,
        offer_namespace: "ns".into(),
        offer_name: "o".into(),
        options,
        min_remaining: None,
        description: String::new(),
        public: None,
    }
}

fn pushed(routes: Vec<PushedRoute>) -> PushedRules {
    PushedRules {
        format: FORMAT,
        generation: 7,
        hash: "0xabc".into(),
        settings: Settings::default(),
        facilitator: Some(Facilitator {
            cluster: "facilitator".into(),
            authority: "f.example".into(),
            path_prefix: String::new(),
            verify_timeout_ms: 5_000,
            settle_timeout_ms: 60_000,
            ready: true,
            relay: false,
        }),
        tuples: vec![Tuple {
            offer_namespace: "ns".into(),
            offer_name: "o".into(),
            chain: "eip155:84532".into(),
            asset_symbol: "USDC".into(),
            born: 0,
        }],
        routes,
        protected: vec!["/services/o".into()],
    }
}

fn error(pushed: PushedRules) -> String {
    RuleSet::compile(pushed).expect_err("must be refused").0
}

#[test]
fn a_closed_set_is_not_loaded_and_finds_nothing() {
    let closed = RuleSet::closed();
    assert!(!closed.is_loaded());
    assert_eq!(closed.generation, 0);
    assert_eq!(closed.lookup(&canonicalize(b"/services/o").unwrap()), Lookup::Unmatched);
}

#[test]
fn a_push_survives_its_json_and_is_matched() {
    let push = pushed(vec![
        route("/services/o/health", Gate::Free, vec![]),
        route("/services/o/*", Gate::Paid, vec![option(0, 1000)]),
    ]);
    let json = serde_json::to_vec(&push).unwrap();
    let set = RuleSet::from_json(&json).unwrap();
    assert!(set.is_loaded());
    assert_eq!((set.generation, &*set.hash), (7, "0xabc"));
    assert_eq!(set.offers, vec![("ns".to_owned(), "o".to_owned())]);
    assert_eq!(set.charges, vec![(TupleIndex(0), Amount::from_u64(1000))]);
    assert_eq!(set.lookup(&canonicalize(b"/services/o/health").unwrap()), Lookup::Route(RouteIndex(0)));
    assert_eq!(set.lookup(&canonicalize(b"/services/o/x").unwrap()), Lookup::Route(RouteIndex(1)));
    assert_eq!(set.lookup(&canonicalize(b"/Services/o/x").unwrap()), Lookup::Protected);
    assert!(set.routes[0].challenge.is_none());
    assert!(set.routes[1].challenge.is_some());
}

#[test]
fn a_push_with_an_unknown_member_is_refused() {
    let mut json = serde_json::to_value(pushed(vec![])).unwrap();
    json["routez"] = json!([]);
    let error = RuleSet::from_json(json.to_string().as_bytes()).unwrap_err().0;
    assert!(error.starts_with("the rules are not readable: unknown field `routez`"), "{error}");
}

#[test]
fn a_push_of_another_format_is_refused() {
    let mut other = pushed(vec![]);
    other.format = 2;
    assert_eq!(error(other), "format is 2, this filter reads 1");
}

#[test]
fn every_unusable_push_is_refused_with_its_place() {
    let paid = |options| pushed(vec![route("/a", Gate::Paid, options)]);
    assert_eq!(error(paid(vec![])), "routes[0]: a paid route needs a way to pay");
    assert_eq!(error(paid(vec![option(1, 5)])), "routes[0]: tuple 1 does not exist");
    assert_eq!(error(paid(vec![option(0, 0)])), "routes[0]: an amount is zero");
    let free = pushed(vec![route("/a", Gate::Free, vec![option(0, 1)])]);
    assert_eq!(error(free), "routes[0]: only a paid route has ways to pay");
    let mut alone = paid(vec![option(0, 1)]);
    alone.facilitator = None;
    assert_eq!(error(alone), "routes[0]: a paid route needs a facilitator");
    assert_eq!(error(pushed(vec![route("a", Gate::Free, vec![])])), "routes[0]: a pattern starts with /");
    assert_eq!(error(pushed(vec![route("/a*[", Gate::Free, vec![])])), "routes[0]: a [ is never closed by ]");
    let mut place = pushed(vec![]);
    place.protected = vec!["/a*[".into()];
    assert_eq!(error(place), "protected[0]: a [ is never closed by ]");
    let mut label = pushed(vec![]);
    label.tuples[0].offer_name = "a;.;b".into();
    assert_eq!(error(label), "tuples[0] cannot be metric labels");
    let mut never = pushed(vec![]);
    never.generation = 0;
    assert_eq!(error(never), "generation is 0, which stands for no rules at all");
}

#[test]
fn each_amount_of_a_tuple_has_one_charge_series() {
    let set = RuleSet::compile(pushed(vec![
        route("/a", Gate::Paid, vec![option(0, 1), option(0, 2)]),
        route("/b", Gate::Paid, vec![option(0, 2)]),
    ]))
    .unwrap();
    assert_eq!(set.charges.len(), 2);
    assert_eq!(set.routes[0].options[1].1, ChargeIndex(1));
    assert_eq!(set.routes[1].options[0].1, ChargeIndex(1));
}

#[test]
fn ten_thousand_routes_compile() {
    let routes =
        (0..10_000).map(|index| route(&format!("/s/{index}/*"), Gate::Paid, vec![option(0, 1000)])).collect();
    let set = RuleSet::compile(pushed(routes)).unwrap();
    assert_eq!(set.lookup(&canonicalize(b"/s/9999/x").unwrap()), Lookup::Route(RouteIndex(9999)));
    assert_eq!(set.charges.len(), 1);
}

#[test]
fn label_values_can_be_read_back_from_a_counter_name() {
    for good in ["", "ns", "a b", "ü", "a=.=b", "a;", ";"] {
        assert!(is_label(good), "{good:?}");
    }
    for bad in ["a;.;b", "a;.", "a\nb", "\u{0}", &"x".repeat(254)] {
        assert!(!is_label(bad), "{bad:?}");
    }
}
