//! Faults of the accepted terms and of the signed fields.

use serde_json::{Value, json};

use super::{proof, replace};
use farebox_host_tests::Dice;

const STRANGER: &str = "0x00000000000000000000000000000000000000b6";
/// 2^256 and its neighbour.
const LARGE: [&str; 2] = [
    "115792089237316195423570985008687907853269984665640564039457584007913129639935",
    "115792089237316195423570985008687907853269984665640564039457584007913129639936",
];

/// A text that is almost a number, or not a number.
fn odd_number(text: &str, dice: &mut Dice) -> Value {
    let number: u128 = text.parse().unwrap_or_default();
    match dice.below(11) {
        0 => json!((number + 1).to_string()),
        1 => json!(number.saturating_sub(1).to_string()),
        2 => json!("0"),
        3 => json!(format!("0{number}")),
        4 => json!(format!("-{number}")),
        5 => json!(format!("+{number}")),
        6 => json!(format!("{number}.0")),
        7 => json!(format!("{number:#x}")),
        8 => json!(*dice.one_of(&LARGE)),
        9 => json!(format!(" {number}")),
        _ => json!(u64::try_from(number).unwrap_or(1)),
    }
}

fn change_number(object: &mut Value, member: &str, dice: &mut Dice) {
    let text = object[member].as_str().unwrap_or_default().to_owned();
    replace(object, member, odd_number(&text, dice));
}

fn odd_address(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0..=2 => json!(STRANGER),
        3 => json!(&STRANGER[..40]),
        4 => json!(&STRANGER[2..]),
        _ => json!(STRANGER.replace('b', "g")),
    }
}

pub(super) fn amount(payment: &mut Value, dice: &mut Dice) {
    change_number(&mut payment["accepted"], "amount", dice);
}

pub(super) fn signed_amount(payment: &mut Value, dice: &mut Dice) {
    let signed = proof(payment);
    change_number(signed, "value", dice);
    if signed["permitted"].is_object() {
        change_number(&mut signed["permitted"], "amount", dice);
    }
}

pub(super) fn recipient(payment: &mut Value, dice: &mut Dice) {
    replace(&mut payment["accepted"], "payTo", odd_address(dice));
}

pub(super) fn signed_recipient(payment: &mut Value, dice: &mut Dice) {
    let signed = proof(payment);
    replace(signed, "to", odd_address(dice));
    if signed["witness"].is_object() {
        replace(&mut signed["witness"], "to", odd_address(dice));
    }
}

pub(super) fn network(payment: &mut Value, dice: &mut Dice) {
    const NETWORKS: [&str; 10] = [
        "eip155:8453",
        "eip155:84532",
        "base",
        "base-sepolia",
        "Base-Sepolia",
        "eip155:084532",
        "EIP155:84532",
        "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        "sepolia",
        "",
    ];
    let network = json!(*dice.one_of(&NETWORKS));
    replace(&mut payment["accepted"], "network", network.clone());
    replace(payment, "network", network);
}

pub(super) fn scheme(payment: &mut Value, dice: &mut Dice) {
    let scheme = json!(*dice.one_of(&["upto", "Exact", "", "exact "]));
    replace(&mut payment["accepted"], "scheme", scheme.clone());
    replace(payment, "scheme", scheme);
}

pub(super) fn asset(payment: &mut Value, dice: &mut Dice) {
    replace(&mut payment["accepted"], "asset", odd_address(dice));
}

pub(super) fn flow(payment: &mut Value, dice: &mut Dice) {
    let flow = [json!("authorization"), json!("upfront"), json!("later"), json!(null), json!(7)];
    if payment["accepted"]["extra"].is_object() {
        payment["accepted"]["extra"]["paymentFlow"] = dice.one_of(&flow).clone();
    }
}

pub(super) fn extra(payment: &mut Value, dice: &mut Dice) {
    let extra = [json!({}), json!(null), json!("text"), json!([]), json!({"name": 7, "more": {"a": [1]}})];
    let accepted = &mut payment["accepted"];
    match (dice.once_in(4), accepted.as_object_mut()) {
        (true, Some(members)) => _ = members.remove("extra"),
        _ => replace(accepted, "extra", dice.one_of(&extra).clone()),
    }
}

pub(super) fn nonce(payment: &mut Value, dice: &mut Dice) {
    let signed = proof(payment);
    let text = signed["nonce"].as_str().unwrap_or_default().to_owned();
    let changed = match dice.below(6) {
        0 => text.to_uppercase(),
        1 => text.replacen("0x", "0X", 1),
        2 => text.chars().rev().collect(),
        3 => format!("{text}0"),
        4 => text.get(..text.len() - 1).unwrap_or_default().to_owned(),
        _ => text.replace(['1', '2', '3'], "9"),
    };
    replace(signed, "nonce", json!(changed));
}

pub(super) fn time(payment: &mut Value, dice: &mut Dice) {
    let signed = proof(payment);
    for member in ["validAfter", "validBefore", "deadline"] {
        if dice.once_in(2) {
            change_number(signed, member, dice);
        }
    }
    if signed["witness"].is_object() && dice.once_in(2) {
        change_number(&mut signed["witness"], "validAfter", dice);
    }
}

pub(super) fn payer(payment: &mut Value, dice: &mut Dice) {
    replace(proof(payment), "from", odd_address(dice));
}

pub(super) fn permit(payment: &mut Value, dice: &mut Dice) {
    let signed = proof(payment);
    if signed["permitted"].is_object() && dice.once_in(2) {
        replace(&mut signed["permitted"], "token", odd_address(dice));
    } else {
        replace(signed, "spender", odd_address(dice));
    }
}

pub(super) fn letter_case(payment: &mut Value, dice: &mut Dice) {
    let upper = dice.once_in(2);
    let recase = |place: &mut Value| {
        if let Some(text) = place.as_str() {
            let digits = text.trim_start_matches("0x");
            let digits = if upper { digits.to_uppercase() } else { digits.to_lowercase() };
            *place = json!(format!("0x{digits}"));
        }
    };
    for member in ["asset", "payTo"] {
        payment["accepted"].get_mut(member).map(recase);
    }
    let signed = proof(payment);
    for member in ["from", "to", "spender"] {
        signed.get_mut(member).map(recase);
    }
}

/// The objects of a payment.
const OBJECTS: [&str; 8] = [
    "",
    "/accepted",
    "/accepted/extra",
    "/payload",
    "/payload/authorization",
    "/payload/permit2Authorization",
    "/payload/permit2Authorization/permitted",
    "/payload/permit2Authorization/witness",
];

/// Some member of some object.
fn some_member<'a>(payment: &'a mut Value, dice: &mut Dice) -> Option<(&'a mut Value, String)> {
    let there: Vec<_> =
        OBJECTS.into_iter().filter(|place| payment.pointer(place).is_some_and(Value::is_object)).collect();
    let place = *dice.one_of(&there);
    let object = payment.pointer_mut(place)?;
    let names: Vec<_> = object.as_object()?.keys().cloned().collect();
    (!names.is_empty()).then(|| (object, dice.one_of(&names).clone()))
}

pub(super) fn missing(payment: &mut Value, dice: &mut Dice) {
    if let Some((Value::Object(members), name)) = some_member(payment, dice) {
        members.remove(&name);
    }
}

pub(super) fn retyped(payment: &mut Value, dice: &mut Dice) {
    let values = [json!(null), json!(true), json!(7), json!(-0.5), json!("text"), json!([]), json!({})];
    let value = dice.one_of(&values).clone();
    if let Some((object, name)) = some_member(payment, dice) {
        object[name] = value;
    }
}

/// A proof of the other transfer method, instead of the right one or beside it.
pub(super) fn other_proof(payment: &mut Value, dice: &mut Dice) {
    let beside = dice.once_in(3);
    let signed = proof(payment).clone();
    let payload = &mut payment["payload"];
    let from = signed["from"].clone();
    let (name, other) = if signed["permitted"].is_object() {
        let other = json!({
            "from": from, "to": signed["witness"]["to"], "value": signed["permitted"]["amount"],
            "validAfter": "0", "validBefore": signed["deadline"], "nonce": format!("0x{:064x}", 7),
        });
        ("authorization", other)
    } else {
        let other = json!({
            "from": from, "spender": STRANGER, "nonce": "7", "deadline": signed["validBefore"],
            "permitted": {"token": STRANGER, "amount": signed["value"]},
            "witness": {"to": signed["to"], "validAfter": "0"},
        });
        ("permit2Authorization", other)
    };
    if !beside && let Some(members) = payload.as_object_mut() {
        members.retain(|name, _| name == "signature");
    }
    payload[name] = other;
}

pub(super) fn attachments(payment: &mut Value, dice: &mut Dice) {
    let values = [
        json!({"url": "https://api.example.com/x", "description": "é \" \\ \u{1f}"}),
        json!({"deep": {"a": [1, 2.50, {"b": null}]}, "n": 1e3}),
        json!("text"),
        json!(null),
        json!([1]),
        json!({}),
    ];
    payment["resource"] = dice.one_of(&values).clone();
    if dice.once_in(2) {
        payment["extensions"] = dice.one_of(&values).clone();
    }
}
