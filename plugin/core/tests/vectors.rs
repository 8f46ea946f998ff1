//! The signed test vectors, run natively and on a real wasm engine from the same bodies.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use farebox_core::evm::{
    Address, Amount, Authorization, B256, Domain, Network, PERMIT2, PermitAuthorization, SignatureClass,
    TransferMethod, assets, chain_by_name, classify, domain_separator, from_hex, keccak256,
    permit_witness_transfer_from_hash, permit2_domain_separator, recover, to_hex,
    transfer_with_authorization_hash, typed_data_digest, v1_name,
};
use farebox_core::payment::PaymentKey;
use farebox_core::protocol::{
    CallBody, CheckPolicy, Payment, SignatureTrust, Signed, authenticate, decode_base64, encode_base64,
    find_match, judge,
};
use farebox_core::terms::{Extra, Flow, PaymentOption};
use serde_json::Value;

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test;

const MAX_BYTES: usize = 48 * 1024;
/// Cases under `vectors`.
const CASES: usize = 48;
const POLICY: CheckPolicy = CheckPolicy {
    min_remaining_seconds: 6,
    leave_signature: false,
    clock_skew_seconds: 0,
    defer_mismatch: false,
    defer_undecidable: true,
    strict_recovery_byte: false,
};

/// The note of the only case with another result in Farebox: a payment whose `extra` is an older copy
/// still matches, and the facilitator gets the operator's own entry.
const OLDER_EXTRA: &str = "accepted.extra lacks a member of the offer";

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} of {value}"))
}

fn word(value: &Value, member: &str) -> B256 {
    B256::parse(text(value, member)).unwrap()
}

fn address(value: &Value, member: &str) -> Address {
    Address::parse(text(value, member)).unwrap()
}

fn amount(value: &Value, member: &str) -> Amount {
    Amount::parse(text(value, member)).unwrap()
}

/// Makes an option from a server requirement of either version.
fn option(requirement: &Value) -> PaymentOption {
    let network = chain_by_name(text(requirement, "network")).unwrap();
    let amount_member = if requirement["amount"].is_null() { "maxAmountRequired" } else { "amount" };
    let extra = &requirement["extra"];
    PaymentOption {
        tuple: 0,
        v1_network: v1_name(&network).map(str::to_owned),
        network,
        v1_kind: true,
        amount: amount(requirement, amount_member),
        asset: address(requirement, "asset"),
        decimals: 6,
        pay_to: address(requirement, "payTo"),
        max_timeout_seconds: requirement["maxTimeoutSeconds"].as_u64().unwrap(),
        flow: Flow::Authorization,
        transfer_method: match extra["assetTransferMethod"].as_str() {
            Some("permit2") => TransferMethod::Permit2,
            _ => TransferMethod::Eip3009,
        },
        eip712_name: text(extra, "name").to_owned(),
        eip712_version: text(extra, "version").to_owned(),
        gas_sponsoring: false,
        extra: Extra::default(),
    }
}

/// The result of one case: a verdict and, for a refusal, stage, code and status.
#[derive(Debug, PartialEq)]
enum Outcome {
    Accept { forward_signature: String },
    Defer,
    Challenge,
    Reject { stage: &'static str, code: String, status: u64 },
}

fn run(header: &str, value: &str, option: &PaymentOption, clock: u64, policy: &CheckPolicy) -> Outcome {
    if value.is_empty() {
        return Outcome::Challenge;
    }
    let reject = |stage, code: &str, status| Outcome::Reject { stage, code: code.to_owned(), status };
    let payment = match Payment::decode(value.as_bytes(), header == "PAYMENT-SIGNATURE", MAX_BYTES) {
        Ok(payment) => payment,
        Err(error) => return reject("decode", error.code(), 400),
    };
    if find_match(&payment, [option]).is_none() {
        return reject("match", "No matching payment requirements", 402);
    }
    let checked =
        judge(&payment, option, policy, clock).and_then(|()| authenticate(&payment, option, policy));
    match checked {
        Err(refused) if refused.code.ends_with("_signature") || refused.code.ends_with("_wallet") => {
            reject("signature", refused.code, 402)
        }
        Err(refused) => reject("fields", refused.code, 402),
        Ok(signed) if signed.trust == SignatureTrust::Deferred => Outcome::Defer,
        Ok(signed) => {
            assert_forwards_our_terms(&payment, &signed, option);
            Outcome::Accept { forward_signature: to_hex(&signed.forward_signature) }
        }
    }
}

/// The call body of an accepted payment holds our requirement and the signature as checked.
fn assert_forwards_our_terms(payment: &Payment, signed: &Signed, option: &PaymentOption) {
    let body = CallBody::new(payment, signed, option, "https://api.example.com/x", false);
    let body: Value = serde_json::from_slice(&body.0).unwrap();
    let requirements = &body["paymentRequirements"];
    assert_eq!(address(requirements, "payTo"), option.pay_to);
    assert_eq!(address(requirements, "asset"), option.asset);
    assert_eq!(body["x402Version"], body["paymentPayload"]["x402Version"]);
    if body["x402Version"] == 2 {
        assert_eq!(&body["paymentPayload"]["accepted"], requirements);
        assert_eq!(text(requirements, "network"), option.network.as_str());
        assert_eq!(amount(requirements, "amount"), option.amount);
    } else {
        assert_eq!(amount(requirements, "maxAmountRequired"), option.amount);
        assert_eq!(requirements["network"], body["paymentPayload"]["network"]);
    }
    assert_eq!(text(&body["paymentPayload"]["payload"], "signature"), to_hex(&signed.forward_signature));
}

fn assert_expected(place: &str, outcome: &Outcome, expected: &Value) {
    match (text(expected, "verdict"), outcome) {
        ("accept", Outcome::Accept { forward_signature }) => {
            if let Some(wanted) = expected["forward_signature"].as_str() {
                assert_eq!(forward_signature, wanted, "{place}");
            }
        }
        ("defer", Outcome::Defer) | ("challenge", Outcome::Challenge) => {}
        ("reject", Outcome::Reject { stage, code, status }) => {
            assert_eq!(*status, expected["http_status"].as_u64().unwrap(), "{place}");
            let also = expected["also_acceptable"].as_array().cloned().unwrap_or_default();
            let acceptable = code == text(expected, "reason") || also.iter().any(|other| other == code);
            assert!(acceptable, "{place}: {code} is not {expected}");
            if let Some(wanted) = expected["stage"].as_str() {
                assert_eq!(*stage, wanted, "{place}");
            }
        }
        (verdict, outcome) => panic!("{place}: expected {verdict}, got {outcome:?}"),
    }
}

/// The option of a case: the requirement of its protocol version with the case's override.
fn case_option(requirements: &Value, case: &Value) -> PaymentOption {
    let protocol = case["protocol"].as_str().unwrap_or("v2");
    let mut requirement = requirements[protocol].clone();
    if let Some(changes) = case["server_requirement_override"].as_object() {
        for (member, value) in changes {
            requirement[member] = value.clone();
        }
    }
    option(&requirement)
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn every_case_gets_its_verdict() {
    let file = vectors();
    let mut cases = 0;
    for vector in file["vectors"].as_array().unwrap() {
        for (index, case) in vector["cases"].as_array().unwrap().iter().enumerate() {
            let place = format!("{} case {index}", text(vector, "id"));
            let option = case_option(&vector["server_requirement"], case);
            let (header, value) = (text(case, "header"), text(case, "value"));
            let clock = case["clock"].as_u64().unwrap();
            let expected = &case["expected"];
            let outcome = run(header, value, &option, clock, &POLICY);
            if case["note"] == OLDER_EXTRA {
                assert!(matches!(outcome, Outcome::Accept { .. }), "{place}: {outcome:?}");
            } else {
                assert_expected(&place, &outcome, expected);
            }
            if expected["strict_mode"].is_object() {
                let strict = CheckPolicy { strict_recovery_byte: true, ..POLICY };
                let outcome = run(header, value, &option, clock, &strict);
                assert_expected(&format!("{place} (strict)"), &outcome, &expected["strict_mode"]);
            }
            if expected["local_only"].is_object() {
                let local = CheckPolicy { defer_undecidable: false, ..POLICY };
                let outcome = run(header, value, &option, clock, &local);
                assert_expected(&format!("{place} (local only)"), &outcome, &expected["local_only"]);
            }
            cases += 1;
        }
    }
    assert_eq!(cases, CASES, "a case was lost or added");
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn every_header_is_decoded_or_refused_as_written() {
    let file = vectors();
    let decoding = &file["header_decoding"];
    for case in decoding["cases"].as_array().unwrap() {
        let option = case_option(&decoding["server_requirement"], case);
        let clock = case["expected"]["clock"].as_u64().unwrap_or(1_800_000_000);
        let outcome = run(text(case, "header"), text(case, "value"), &option, clock, &POLICY);
        assert_expected(text(case, "id"), &outcome, &case["expected"]);
    }
    assert_eq!(decoding["cases"].as_array().unwrap().len(), 18);
}

/// The option a vector is signed for, v2 form.
fn vector_option(vector: &Value) -> PaymentOption {
    option(&vector["server_requirement"]["v2"])
}

fn domain_of<'a>(value: &'a Value, network: &'a Network) -> Domain<'a> {
    Domain {
        name: text(value, "name"),
        version: text(value, "version"),
        network,
        verifying_contract: address(value, "verifyingContract"),
    }
}

fn network_of(domain: &Value) -> Network {
    Network::from_caip2(&format!("eip155:{}", domain["chainId"])).unwrap()
}

/// Recovery without the rules about s and v, to show that these rules decide.
fn plain_recovery(digest: &B256, signature: &str) -> Option<Address> {
    let bytes = from_hex(signature).unwrap();
    let (rs, v) = bytes.split_first_chunk::<64>().unwrap();
    let v = if v[0] < 27 { v[0] + 27 } else { v[0] };
    recover(digest, rs, v)
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn every_hash_and_recovery_is_reproduced() {
    for vector in vectors()["vectors"].as_array().unwrap() {
        let id = text(vector, "id");
        let network = network_of(&vector["domain"]);
        let (separator, struct_hash) = if vector["authorization"].is_object() {
            let signed = &vector["authorization"];
            let authorization = Authorization {
                from: address(signed, "from"),
                to: address(signed, "to"),
                value: amount(signed, "value"),
                valid_after: amount(signed, "validAfter"),
                valid_before: amount(signed, "validBefore"),
                nonce: word(signed, "nonce"),
            };
            (
                domain_separator(&domain_of(&vector["domain"], &network)),
                transfer_with_authorization_hash(&authorization),
            )
        } else {
            let signed = &vector["permit2_authorization"];
            let permit = PermitAuthorization {
                from: address(signed, "from"),
                token: address(&signed["permitted"], "token"),
                amount: amount(&signed["permitted"], "amount"),
                spender: address(signed, "spender"),
                nonce: amount(signed, "nonce"),
                deadline: amount(signed, "deadline"),
                witness_to: address(&signed["witness"], "to"),
                witness_valid_after: amount(&signed["witness"], "validAfter"),
            };
            (permit2_domain_separator(&network), permit_witness_transfer_from_hash(&permit))
        };
        let digest = typed_data_digest(&separator, &struct_hash);
        assert_eq!(separator, word(vector, "domain_separator"), "{id}");
        assert_eq!(struct_hash, word(vector, "struct_hash"), "{id}");
        assert_eq!(digest, word(vector, "digest"), "{id}");

        if vector["recovered"].is_string() {
            let recovered = plain_recovery(&digest, text(vector, "signature"));
            assert_eq!(recovered, Some(address(vector, "recovered")), "{id}");
        }
        if vector["expands_to"].is_string() {
            let recovered = plain_recovery(&digest, text(vector, "expands_to"));
            assert_eq!(recovered, Some(address(vector, "recovered_if_expanded")), "{id}");
        }
        if vector["flipped_v"].is_object() {
            let recovered = plain_recovery(&digest, text(&vector["flipped_v"], "signature"));
            assert_eq!(recovered, Some(address(&vector["flipped_v"], "recovered")), "{id}");
        }
        for wrong in vector["wrong_domain_recoveries"].as_array().into_iter().flatten() {
            let network = network_of(&wrong["domain"]);
            let separator = domain_separator(&domain_of(&wrong["domain"], &network));
            let digest = typed_data_digest(&separator, &struct_hash);
            assert_eq!(digest, word(wrong, "digest"), "{id}: {}", wrong["what"]);
            let recovered = plain_recovery(&digest, text(vector, "signature"));
            assert_eq!(recovered, Some(address(wrong, "recovered")), "{id}: {}", wrong["what"]);
        }
    }
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn every_payment_gives_its_key() {
    for vector in vectors()["vectors"].as_array().unwrap() {
        let id = text(vector, "id");
        let option = vector_option(vector);
        let key = &vector["replay_key"];
        let case = &vector["cases"][0];
        let payment = Payment::decode(
            text(case, "value").as_bytes(),
            text(case, "header") == "PAYMENT-SIGNATURE",
            MAX_BYTES,
        )
        .unwrap();
        let found = PaymentKey::of(&payment, &option).unwrap_or_else(|| panic!("{id} has no key"));
        assert_eq!(found.network.chain_id(), key["chain_id"].as_u64().unwrap(), "{id}");
        assert_eq!(found.contract, address(key, "contract"), "{id}");
        assert_eq!(found.payer, address(key, "owner"), "{id}");
        assert_eq!(found.nonce, word(key, "nonce"), "{id}");
    }
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn the_classes_of_the_odd_signatures_are_seen() {
    for vector in vectors()["vectors"].as_array().unwrap() {
        let signature = from_hex(text(vector, "signature")).unwrap();
        let class = classify(&signature);
        match text(vector, "id") {
            "neg-high-s-84532" => assert_eq!(class, SignatureClass::Malformed),
            "neg-eip2098-64-84532" => assert_eq!(class, SignatureClass::Contract),
            "neg-erc6492-wrapped-84532" => assert_eq!(class, SignatureClass::Undeployed),
            id => {
                let rewritten = id == "neg-v-0-1-84532";
                assert!(
                    matches!(class, SignatureClass::Recoverable { rewritten: found, .. } if found == rewritten),
                    "{id}: {class:?}"
                );
            }
        }
    }
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn the_golden_headers_of_the_specification_decode_and_encode_again() {
    let file = vectors();
    let headers = file["golden_headers"]["headers"].as_array().unwrap();
    assert_eq!(headers.len(), 5);
    for golden in headers {
        let value = text(golden, "value");
        let bytes = decode_base64(value.as_bytes()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), golden["decoded"]);
        assert_eq!(encode_base64(&bytes), value);
    }
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn every_asset_of_the_table_has_its_domain_separator() {
    let file: Value = serde_json::from_str(include_str!("assets.json")).unwrap();
    let rows = file["assets"].as_array().unwrap();
    for row in rows {
        let place = format!("{} {}", row["network"], row["symbol"]);
        let network = Network::from_caip2(text(row, "network")).unwrap();
        let known = farebox_core::evm::asset_by_address(&network, &address(row, "address"))
            .unwrap_or_else(|| panic!("{place} is not compiled in"));
        assert_eq!(known.symbol, text(row, "symbol"), "{place}");
        assert_eq!(known.eip712_name, text(row, "eip712_name"), "{place}");
        assert_eq!(known.eip712_version, text(row, "eip712_version"), "{place}");
        assert_eq!(u64::from(known.decimals), row["decimals"].as_u64().unwrap(), "{place}");
        assert_eq!(known.transfer_method.as_str(), text(row, "transfer_method"), "{place}");
        assert_eq!(known.gas_sponsoring, row["supports_eip2612"] == true, "{place}");
        assert_eq!(known.address.to_string(), text(row, "address"), "{place}");
        let domain = Domain {
            name: known.eip712_name,
            version: known.eip712_version,
            network: &network,
            verifying_contract: known.address,
        };
        assert_eq!(domain_separator(&domain), word(row, "domain_separator"), "{place}");
    }
    let obol = 2;
    assert_eq!(assets().len(), rows.len() + obol);
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn every_permit2_domain_separator_is_reproduced() {
    let file: Value = serde_json::from_str(include_str!("assets.json")).unwrap();
    let separators = file["permit2_domain_separators"].as_object().unwrap();
    assert_eq!(separators.len(), 34);
    for (network, separator) in separators {
        let network = Network::from_caip2(network).unwrap();
        assert_eq!(permit2_domain_separator(&network).to_string(), separator.as_str().unwrap());
    }
    assert_eq!(address(&file["permit2"], "contract"), PERMIT2);
    assert_eq!(address(&file["permit2"], "exact_proxy"), farebox_core::evm::EXACT_PROXY);
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn every_v1_name_of_the_table_is_known() {
    let file: Value = serde_json::from_str(include_str!("assets.json")).unwrap();
    for row in file["networks"].as_array().unwrap() {
        let name = text(row, "v1_name");
        // Farebox does not support Solana, and refuses the plain name `sepolia` on purpose.
        match Network::from_caip2(text(row, "network")) {
            Some(network) if name != "sepolia" => {
                assert_eq!(v1_name(&network), Some(name));
                assert_eq!(chain_by_name(name), Some(network));
            }
            _ => assert_eq!(chain_by_name(name), None),
        }
    }
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), wasm_bindgen_test)]
fn the_type_hashes_are_those_of_the_file() {
    let file = vectors();
    let hashes = &file["type_hashes"];
    for (name, text_of_type) in [
        (
            "EIP712Domain",
            "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
        ),
        (
            "EIP712Domain_without_version",
            "EIP712Domain(string name,uint256 chainId,address verifyingContract)",
        ),
        ("TokenPermissions", "TokenPermissions(address token,uint256 amount)"),
        ("Witness_exact", "Witness(address to,uint256 validAfter)"),
    ] {
        assert_eq!(B256(keccak256(text_of_type.as_bytes())), word(hashes, name), "{name}");
    }
}
