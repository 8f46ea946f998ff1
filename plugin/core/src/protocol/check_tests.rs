use serde_json::{Value, json};

use super::*;
use crate::protocol::fixtures::{NOW, PAYER, check, decode, option, usdc, v2};

const POLICY: CheckPolicy = CheckPolicy {
    min_remaining_seconds: 6,
    leave_signature: false,
    clock_skew_seconds: 0,
    defer_mismatch: false,
    defer_undecidable: true,
    strict_recovery_byte: false,
};

fn code(payment: &Value, option: &PaymentOption, policy: &CheckPolicy, now: u64) -> &'static str {
    check(&decode(payment), option, policy, now).unwrap_err().code
}

fn obol() -> PaymentOption {
    option("base-sepolia", "OBOL")
}

#[test]
fn a_sound_payment_of_either_method_is_recovered() {
    for option in [usdc(), obol()] {
        let checked = check(&decode(&v2(&option)), &option, &POLICY, NOW).unwrap();
        assert_eq!(checked.payer.to_string(), PAYER);
        assert_eq!(checked.trust, SignatureTrust::Recovered);
        assert_eq!(checked.forward_signature.len(), 65);
    }
}

#[test]
fn scheme_and_network_are_checked_even_without_a_match_before() {
    let mut payment = v2(&usdc());
    payment["accepted"]["scheme"] = "upto".into();
    assert_eq!(code(&payment, &usdc(), &POLICY, NOW), "invalid_scheme");
    assert_eq!(code(&v2(&usdc()), &option("base", "USDC"), &POLICY, NOW), "invalid_network");
}

#[test]
fn the_kind_of_proof_must_be_the_one_of_the_option() {
    let permit2 = PaymentOption { transfer_method: TransferMethod::Permit2, ..usdc() };
    assert_eq!(code(&v2(&usdc()), &permit2, &POLICY, NOW), "unsupported_payload_type");
    assert_eq!(code(&v2(&permit2), &usdc(), &POLICY, NOW), "unsupported_payload_type");
}

#[test]
fn an_option_without_a_token_domain_refuses_rather_than_guesses() {
    let nameless = PaymentOption { eip712_name: String::new(), ..usdc() };
    assert_eq!(code(&v2(&usdc()), &nameless, &POLICY, NOW), "invalid_payment_requirements");
}

#[test]
fn clock_skew_widens_the_window_on_both_sides() {
    let payment = |begin: u64| {
        let mut payment = v2(&usdc());
        payment["payload"]["authorization"]["validAfter"] = begin.to_string().into();
        payment
    };
    let skewed = CheckPolicy { clock_skew_seconds: 10, ..POLICY };
    let end = NOW + 3600;
    let before = "invalid_exact_evm_payload_authorization_valid_before";
    assert_eq!(code(&v2(&usdc()), &usdc(), &POLICY, end - 5), before);
    assert!(check(&decode(&v2(&usdc())), &usdc(), &skewed, end + 4).is_ok());
    assert_eq!(code(&v2(&usdc()), &usdc(), &skewed, end + 5), before);
    let after = "invalid_exact_evm_payload_authorization_valid_after";
    assert_eq!(code(&payment(NOW + 1), &usdc(), &POLICY, NOW), after);
    assert_eq!(code(&payment(NOW + 11), &usdc(), &skewed, NOW), after);
    // Within the skew the time is fine; the altered message no longer fits its signature.
    let signature = "invalid_exact_evm_payload_signature";
    assert_eq!(code(&payment(NOW + 10), &usdc(), &skewed, NOW), signature);
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    let mut payment = v2(&usdc());
    let max = crate::evm::Amount::from_u64(0).0.wrapping_sub(Amount::from_u64(1).0).to_string();
    payment["payload"]["authorization"]["validBefore"] = max.into();
    let skewed = CheckPolicy { clock_skew_seconds: u64::MAX, ..POLICY };
    assert_eq!(code(&payment, &usdc(), &skewed, u64::MAX), "invalid_exact_evm_payload_signature");
}

#[test]
fn a_forged_signature_is_refused_unless_contract_wallets_are_expected() {
    let mut payment = v2(&usdc());
    payment["payload"]["authorization"]["nonce"] = format!("0x{}", "08".repeat(32)).into();
    assert_eq!(code(&payment, &usdc(), &POLICY, NOW), "invalid_exact_evm_payload_signature");
    let defer = CheckPolicy { defer_mismatch: true, ..POLICY };
    let checked = check(&decode(&payment), &usdc(), &defer, NOW).unwrap();
    assert_eq!(checked.trust, SignatureTrust::Deferred);
}

#[test]
fn a_deferred_signature_is_sent_on_as_it_came() {
    let mut payment = v2(&usdc());
    let signature = format!("0x{}{}00", "11".repeat(32), "22".repeat(32));
    payment["payload"]["signature"] = signature.as_str().into();
    let defer = CheckPolicy { defer_mismatch: true, ..POLICY };
    let checked = check(&decode(&payment), &usdc(), &defer, NOW).unwrap();
    assert_eq!(crate::evm::to_hex(&checked.forward_signature), signature);
}

#[test]
fn a_foreign_recovery_byte_is_judged_like_a_mismatch_and_a_high_s_never_deferred() {
    let mut payment = v2(&usdc());
    payment["payload"]["signature"] = format!("0x{}{}1f", "11".repeat(32), "22".repeat(32)).into();
    let defer = CheckPolicy { defer_mismatch: true, ..POLICY };
    let signature = "invalid_exact_evm_payload_signature";
    assert_eq!(code(&payment, &usdc(), &POLICY, NOW), signature);
    assert!(check(&decode(&payment), &usdc(), &defer, NOW).is_ok());
    payment["payload"]["signature"] = format!("0x{}{}1b", "11".repeat(32), "f2".repeat(32)).into();
    assert_eq!(code(&payment, &usdc(), &defer, NOW), signature);
}

#[test]
fn a_shell_that_leaves_signatures_still_checks_everything_else() {
    let leaving = CheckPolicy { leave_signature: true, ..POLICY };
    let mut payment = v2(&usdc());
    payment["payload"]["signature"] = format!("0x{}{}1b", "11".repeat(32), "22".repeat(32)).into();
    assert_eq!(check(&decode(&payment), &usdc(), &leaving, NOW).unwrap().trust, SignatureTrust::Deferred);
    payment["payload"]["signature"] = format!("0x{}{}1b", "11".repeat(32), "f2".repeat(32)).into();
    assert_eq!(code(&payment, &usdc(), &leaving, NOW), "invalid_exact_evm_payload_signature");
    payment["payload"]["authorization"]["value"] = "1".into();
    let value = "invalid_exact_evm_payload_authorization_value_mismatch";
    assert_eq!(code(&payment, &usdc(), &leaving, NOW), value);
}

#[test]
fn a_broken_payload_is_invalid_payload() {
    let mut payment = v2(&usdc());
    payment["payload"] = json!({});
    assert_eq!(code(&payment, &usdc(), &POLICY, NOW), "invalid_payload");
}

#[test]
fn who_signed_is_told_of_a_payment_that_is_no_good_here() {
    let changed = [
        PaymentOption { amount: Amount::from_u64(7), ..usdc() },
        PaymentOption { pay_to: Address([9; 20]), ..usdc() },
        PaymentOption { flow: crate::terms::Flow::Upfront, ..usdc() },
    ];
    for option in changed {
        let signed = authenticate(&decode(&v2(&usdc())), &option, &POLICY).unwrap();
        assert_eq!((signed.payer.to_string(), signed.trust), (PAYER.to_owned(), SignatureTrust::Recovered));
    }
    let other = PaymentOption { asset: Address([9; 20]), ..usdc() };
    let refused = authenticate(&decode(&v2(&usdc())), &other, &POLICY).unwrap_err();
    assert_eq!(refused.code, "invalid_exact_evm_payload_signature");
    let refused = authenticate(&decode(&v2(&usdc())), &obol(), &POLICY).unwrap_err();
    assert_eq!(refused.code, "invalid_payload", "another kind of proof has no digest here");
}
