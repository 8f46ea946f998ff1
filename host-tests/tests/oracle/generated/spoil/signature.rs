//! Faults of the signature.

use farebox_core::evm::{from_hex, to_hex};
use serde_json::{Value, json};

use farebox_host_tests::Dice;

/// Order of secp256k1.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
    0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// Changes the bytes.
fn change(payment: &mut Value, with: impl FnOnce(&mut Vec<u8>)) {
    let text = payment["payload"]["signature"].as_str().expect("every payment is signed");
    let mut bytes = from_hex(text).expect("a signature is hex");
    with(&mut bytes);
    payment["payload"]["signature"] = json!(to_hex(&bytes));
}

pub(super) fn flipped(payment: &mut Value, dice: &mut Dice) {
    change(payment, |bytes| {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    });
}

/// The other signature of the same message: the order less s, and the other recovery byte.
pub(super) fn malleable(payment: &mut Value, dice: &mut Dice) {
    change(payment, |bytes| {
        let mut borrow = 0;
        for (byte, order) in bytes[32..64].iter_mut().zip(ORDER).rev() {
            let difference = i16::from(order) - i16::from(*byte) - borrow;
            borrow = i16::from(difference < 0);
            *byte = u8::try_from(difference.rem_euclid(256)).expect("it is below 256");
        }
        if !dice.once_in(4) {
            bytes[64] = if bytes[64] == 27 { 28 } else { 27 };
        }
    });
}

pub(super) fn recovery_byte(payment: &mut Value, dice: &mut Dice) {
    change(payment, |bytes| {
        bytes[64] = match dice.below(4) {
            0 => dice.byte(),
            1 => 55 - bytes[64],
            _ => bytes[64] - 27,
        };
    });
}

pub(super) fn length(payment: &mut Value, dice: &mut Dice) {
    const LENGTHS: [usize; 8] = [0, 1, 32, 63, 64, 66, 130, 1_000];
    change(payment, |bytes| bytes.resize(*dice.one_of(&LENGTHS), 0x1b));
}

/// Wraps the signature as ERC-6492 does for a wallet that is not deployed, or almost so.
pub(super) fn wrapped(payment: &mut Value, dice: &mut Dice) {
    change(payment, |bytes| {
        let blocks = if dice.once_in(4) { 15 } else { 16 };
        bytes.resize(96 * (1 + dice.below(3)), 0);
        bytes.extend([0x64, 0x92].repeat(blocks));
    });
}

pub(super) fn out_of_range(payment: &mut Value, dice: &mut Dice) {
    change(payment, |bytes| {
        let word = if dice.once_in(2) { 0..32 } else { 32..64 };
        let number = *dice.one_of(&[[0; 32], [0xff; 32], ORDER]);
        bytes[word].copy_from_slice(&number);
    });
}

pub(super) fn text(payment: &mut Value, dice: &mut Dice) {
    let place = &mut payment["payload"]["signature"];
    let text = place.as_str().expect("every payment is signed").to_owned();
    *place = json!(match dice.below(7) {
        0 => text.to_uppercase(),
        1 => text.replacen("0x", "0X", 1),
        2 => text.replacen("0x", "", 1),
        3 => format!("{text}0"),
        4 => text.replacen('a', "g", 1),
        5 => format!(" {text}"),
        _ => "0x".to_owned(),
    });
}
