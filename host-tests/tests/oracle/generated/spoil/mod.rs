//! The faults of a payment, from its terms to the bytes of its header.

mod encoding;
mod request;
mod signature;
mod terms;

use farebox_host_tests::traefik::Request;
use serde_json::Value;

use farebox_host_tests::Dice;

/// The level of a fault.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// The payment.
    Payment(fn(&mut Value, &mut Dice)),
    /// Its JSON text.
    Text(fn(String, &mut Dice) -> Vec<u8>),
    /// The value of its header, with the longest allowed length.
    Value(fn(String, usize, &mut Dice) -> Vec<u8>),
    /// The request, which gets the header of this name and value, or does not.
    Request(fn(Request, &str, String, &mut Dice) -> Request),
}

/// All faults, by name.
pub(super) const ALL: &[(&str, Kind)] = &[
    ("another amount", Kind::Payment(terms::amount)),
    ("another amount signed", Kind::Payment(terms::signed_amount)),
    ("another recipient", Kind::Payment(terms::recipient)),
    ("another recipient signed", Kind::Payment(terms::signed_recipient)),
    ("another network", Kind::Payment(terms::network)),
    ("another scheme", Kind::Payment(terms::scheme)),
    ("another asset", Kind::Payment(terms::asset)),
    ("another flow", Kind::Payment(terms::flow)),
    ("extra is odd", Kind::Payment(terms::extra)),
    ("a nonce", Kind::Payment(terms::nonce)),
    ("a time", Kind::Payment(terms::time)),
    ("another payer", Kind::Payment(terms::payer)),
    ("spender and token of a permit", Kind::Payment(terms::permit)),
    ("letter case of addresses", Kind::Payment(terms::letter_case)),
    ("a member is gone", Kind::Payment(terms::missing)),
    ("a member of another type", Kind::Payment(terms::retyped)),
    ("both proofs, or the other one", Kind::Payment(terms::other_proof)),
    ("a resource and extensions", Kind::Payment(terms::attachments)),
    ("a bit of the signature", Kind::Payment(signature::flipped)),
    ("s in the upper half", Kind::Payment(signature::malleable)),
    ("the recovery byte", Kind::Payment(signature::recovery_byte)),
    ("the length of the signature", Kind::Payment(signature::length)),
    ("a wrapped signature", Kind::Payment(signature::wrapped)),
    ("r or s out of range", Kind::Payment(signature::out_of_range)),
    ("the text of the signature", Kind::Payment(signature::text)),
    ("a version", Kind::Text(encoding::version)),
    ("a repeated member", Kind::Text(encoding::repeated)),
    ("nesting", Kind::Text(encoding::nested)),
    ("cut JSON", Kind::Text(encoding::cut)),
    ("bytes in JSON", Kind::Text(encoding::bytes)),
    ("white space in JSON", Kind::Text(encoding::spaced)),
    ("escapes in JSON", Kind::Text(encoding::escaped)),
    ("no object", Kind::Text(encoding::no_object)),
    ("base64", Kind::Value(encoding::base64)),
    ("bytes of the header", Kind::Value(encoding::header_bytes)),
    ("the size", Kind::Value(encoding::size)),
    ("no payment", Kind::Request(request::none)),
    ("payments twice", Kind::Request(request::twice)),
    ("both headers", Kind::Request(request::both)),
    ("the other header", Kind::Request(request::other_header)),
    ("another path", Kind::Request(request::path)),
    ("another route", Kind::Request(request::route)),
    ("a free route", Kind::Request(request::free)),
    ("an upgrade", Kind::Request(request::upgrade)),
    ("a preflight", Kind::Request(request::preflight)),
];

/// The signed part: an authorization or a permit.
fn proof(payment: &mut Value) -> &mut Value {
    let permit = payment["payload"]["permit2Authorization"].is_object();
    &mut payment["payload"][if permit { "permit2Authorization" } else { "authorization" }]
}

/// Sets a member where there is one.
fn replace(object: &mut Value, member: &str, value: Value) {
    if let Some(place) = object.get_mut(member) {
        *place = value;
    }
}
