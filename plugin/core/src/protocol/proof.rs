//! The scheme-specific `payload`: what was signed, and the signature; read strictly and written back in
//! one canonical form.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::json::read_object;
use super::payment::Proof;
use crate::evm::{Address, Amount, Authorization, B256, PermitAuthorization, from_hex, to_hex};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePayload<'a> {
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    authorization: Option<&'a RawValue>,
    #[serde(borrow)]
    permit2_authorization: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAuthorization<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    valid_after: Cow<'a, str>,
    #[serde(borrow)]
    valid_before: Cow<'a, str>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WirePermit<'a> {
    #[serde(borrow)]
    permitted: &'a RawValue,
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    spender: Cow<'a, str>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    #[serde(borrow)]
    deadline: Cow<'a, str>,
    #[serde(borrow)]
    witness: &'a RawValue,
}

#[derive(Deserialize)]
struct WirePermitted<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    #[serde(borrow)]
    amount: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireWitness<'a> {
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(borrow)]
    valid_after: Cow<'a, str>,
}

/// Reads `payload`. The error names the member and what is wrong with it.
pub(super) fn read_proof(text: &str) -> Result<Proof, String> {
    let wire: WirePayload<'_> = read_object(text).map_err(|reason| format!("payload: {reason}"))?;
    match (wire.authorization, wire.permit2_authorization) {
        (Some(raw), None) => Ok(Proof::Eip3009 {
            authorization: read_authorization(raw)?,
            signature: read_signature(wire.signature)?,
        }),
        (None, Some(raw)) => {
            Ok(Proof::Permit2 { permit: read_permit(raw)?, signature: read_signature(wire.signature)? })
        }
        (Some(_), Some(_)) => Err("payload holds authorization and permit2Authorization".into()),
        (None, None) => Err("payload holds neither authorization nor permit2Authorization".into()),
    }
}

/// Writes a proof back with addresses and numbers in canonical form and the given signature. Members we
/// did not read are not sent on.
pub(super) fn write_proof(proof: &Proof, signature: &[u8]) -> Value {
    match proof {
        Proof::Eip3009 { authorization, .. } => json!({
            "signature": to_hex(signature),
            "authorization": {
                "from": authorization.from,
                "to": authorization.to,
                "value": authorization.value,
                "validAfter": authorization.valid_after,
                "validBefore": authorization.valid_before,
                "nonce": authorization.nonce.to_string(),
            },
        }),
        Proof::Permit2 { permit, .. } => json!({
            "signature": to_hex(signature),
            "permit2Authorization": {
                "permitted": { "token": permit.token, "amount": permit.amount },
                "from": permit.from,
                "spender": permit.spender,
                "nonce": permit.nonce,
                "deadline": permit.deadline,
                "witness": { "to": permit.witness_to, "validAfter": permit.witness_valid_after },
            },
        }),
        Proof::Unusable(_) => json!({}),
    }
}

fn read_signature(text: Option<Cow<'_, str>>) -> Result<Vec<u8>, String> {
    let text = text.ok_or("payload.signature is missing")?;
    from_hex(&text).ok_or_else(|| "payload.signature is not 0x-hex".into())
}

fn read_authorization(raw: &RawValue) -> Result<Authorization, String> {
    let wire: WireAuthorization<'_> =
        read_object(raw.get()).map_err(|reason| format!("authorization: {reason}"))?;
    Ok(Authorization {
        from: address(&wire.from, "authorization.from")?,
        to: address(&wire.to, "authorization.to")?,
        value: number(&wire.value, "authorization.value")?,
        valid_after: number(&wire.valid_after, "authorization.validAfter")?,
        valid_before: number(&wire.valid_before, "authorization.validBefore")?,
        nonce: B256::parse(&wire.nonce).map_err(|error| format!("authorization.nonce {error}"))?,
    })
}

fn read_permit(raw: &RawValue) -> Result<PermitAuthorization, String> {
    let place = |name: &str, reason: String| format!("permit2Authorization{name}: {reason}");
    let wire: WirePermit<'_> = read_object(raw.get()).map_err(|reason| place("", reason))?;
    let permitted: WirePermitted<'_> =
        read_object(wire.permitted.get()).map_err(|reason| place(".permitted", reason))?;
    let witness: WireWitness<'_> =
        read_object(wire.witness.get()).map_err(|reason| place(".witness", reason))?;
    Ok(PermitAuthorization {
        from: address(&wire.from, "permit2Authorization.from")?,
        token: address(&permitted.token, "permit2Authorization.permitted.token")?,
        amount: number(&permitted.amount, "permit2Authorization.permitted.amount")?,
        spender: address(&wire.spender, "permit2Authorization.spender")?,
        nonce: number(&wire.nonce, "permit2Authorization.nonce")?,
        deadline: number(&wire.deadline, "permit2Authorization.deadline")?,
        witness_to: address(&witness.to, "permit2Authorization.witness.to")?,
        witness_valid_after: number(&witness.valid_after, "permit2Authorization.witness.validAfter")?,
    })
}

fn address(text: &str, name: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| format!("{name} {error}"))
}

fn number(text: &str, name: &str) -> Result<Amount, String> {
    Amount::parse(text).map_err(|error| format!("{name} {error}"))
}
