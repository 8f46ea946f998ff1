use serde_json::json;

use super::*;
use crate::evm::Amount;
use crate::protocol::fixtures::{decode, option, usdc, v1, v2};

fn with(member: &str, value: serde_json::Value) -> Payment {
    let mut payment = v2(&usdc());
    payment["accepted"][member] = value;
    decode(&payment)
}

#[test]
fn a_payment_matches_the_option_it_was_made_for() {
    assert!(matches(&decode(&v2(&usdc())), &usdc()));
    assert!(matches(&decode(&v1(&usdc())), &usdc()));
}

#[test]
fn network_aliases_and_address_case_do_not_matter() {
    for network in ["base-sepolia", "BASE-SEPOLIA", "eip155:84532"] {
        assert!(matches(&with("network", network.into()), &usdc()), "{network}");
    }
    let lower = |address: crate::evm::Address| json!(address.to_string().to_ascii_lowercase());
    assert!(matches(&with("asset", lower(usdc().asset)), &usdc()));
    assert!(matches(&with("payTo", lower(usdc().pay_to)), &usdc()));
}

#[test]
fn another_extra_or_timeout_still_matches() {
    assert!(matches(&with("extra", json!({ "name": "old" })), &usdc()));
    assert!(matches(&with("extra", serde_json::Value::Null), &usdc()));
    assert!(matches(&with("maxTimeoutSeconds", 1.into()), &usdc()));
}

#[test]
fn other_terms_do_not_match() {
    for (member, value) in [
        ("scheme", json!("upto")),
        ("network", json!("base")),
        ("network", json!("solana")),
        ("amount", json!("999")),
        ("amount", json!("01000")),
        ("asset", json!("0x0000000000000000000000000000000000000001")),
        ("payTo", json!("0x0000000000000000000000000000000000000001")),
        ("payTo", json!("merchant")),
        ("extra", json!({ "paymentFlow": "upfront" })),
        ("extra", json!({ "paymentFlow": "escrow" })),
    ] {
        assert!(!matches(&with(member, value.clone()), &usdc()), "{member} {value}");
    }
}

#[test]
fn an_upfront_option_wants_the_flow_named() {
    let upfront = PaymentOption { flow: Flow::Upfront, ..usdc() };
    assert!(matches(&with("extra", json!({ "paymentFlow": "upfront" })), &upfront));
    assert!(!matches(&decode(&v2(&usdc())), &upfront));
    assert!(!matches(&decode(&v1(&usdc())), &upfront), "v1 knows no flow");
}

#[test]
fn the_first_match_wins_unless_a_later_one_fits_what_was_signed() {
    let dearer = PaymentOption { amount: Amount::from_u64(5000), ..usdc() };
    let options = [option("base", "USDC"), dearer.clone(), usdc()];
    assert_eq!(find_match(&decode(&v1(&usdc())), &options), Some(2));
    assert_eq!(find_match(&decode(&v1(&dearer)), &options), Some(1));
    let permit2 = PaymentOption { transfer_method: TransferMethod::Permit2, ..usdc() };
    assert_eq!(find_match(&decode(&v2(&permit2)), [&usdc(), &permit2]), Some(1));
    assert_eq!(find_match(&decode(&v2(&usdc())), [&permit2, &usdc()]), Some(1));
    let neither = PaymentOption { amount: Amount::from_u64(7), ..usdc() };
    assert_eq!(find_match(&decode(&v1(&neither)), &options), Some(1));
    assert_eq!(find_match(&decode(&v2(&neither)), &options), None);
}
