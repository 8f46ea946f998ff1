//! The scheme-specific `payload`: the signed fields and the signature. It is read strictly, and written back
//! in one canonical form.

use serde::Serialize;
use serde_json::value::RawValue;

use super::payment::Proof;
use crate::evm::{Address, Amount, Authorization, B256, PermitAuthorization, from_hex, to_hex};
use crate::members::Members;

/// Reads `payload`. The error names the member and what is wrong with it.
pub(super) fn read_proof(text: &str) -> Result<Proof, String> {
    let place = |reason: String| format!("payload: {reason}");
    let payload = Members::read(text).map_err(place)?;
    let signature = payload.optional_text("signature").map_err(place)?;
    let authorization = payload.optional("authorization").map_err(place)?;
    let permit = payload.optional("permit2Authorization").map_err(place)?;
    match (authorization, permit) {
        (Some(raw), None) => Ok(Proof::Eip3009 {
            authorization: read_authorization(raw)?,
            signature: read_signature(signature)?,
        }),
        (None, Some(raw)) => {
            Ok(Proof::Permit2 { permit: read_permit(raw)?, signature: read_signature(signature)? })
        }
        (Some(_), Some(_)) => Err("payload holds authorization and permit2Authorization".into()),
        (None, None) => Err("payload holds neither authorization nor permit2Authorization".into()),
    }
}

/// A proof in the form that is sent on: addresses and numbers are canonical, members are in alphabetical
/// order, and unknown members are left out.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WireProof<'a> {
    Eip3009 {
        authorization: WireAuthorization<'a>,
        signature: String,
    },
    Permit2 {
        #[serde(rename = "permit2Authorization")]
        permit: WirePermit<'a>,
        signature: String,
    },
    Unusable {},
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireAuthorization<'a> {
    from: &'a Address,
    nonce: String,
    to: &'a Address,
    valid_after: &'a Amount,
    valid_before: &'a Amount,
    value: &'a Amount,
}

#[derive(Serialize)]
pub(super) struct WirePermit<'a> {
    deadline: &'a Amount,
    from: &'a Address,
    nonce: &'a Amount,
    permitted: WirePermitted<'a>,
    spender: &'a Address,
    witness: WireWitness<'a>,
}

#[derive(Serialize)]
struct WirePermitted<'a> {
    amount: &'a Amount,
    token: &'a Address,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireWitness<'a> {
    to: &'a Address,
    valid_after: &'a Amount,
}

// === impl WireProof ===

impl<'a> WireProof<'a> {
    /// Writes a proof back with the given signature.
    pub(super) fn new(proof: &'a Proof, signature: &[u8]) -> Self {
        let signature = to_hex(signature);
        match proof {
            Proof::Eip3009 { authorization, .. } => Self::Eip3009 {
                authorization: WireAuthorization {
                    from: &authorization.from,
                    nonce: authorization.nonce.to_string(),
                    to: &authorization.to,
                    valid_after: &authorization.valid_after,
                    valid_before: &authorization.valid_before,
                    value: &authorization.value,
                },
                signature,
            },
            Proof::Permit2 { permit, .. } => Self::Permit2 {
                permit: WirePermit {
                    deadline: &permit.deadline,
                    from: &permit.from,
                    nonce: &permit.nonce,
                    permitted: WirePermitted { amount: &permit.amount, token: &permit.token },
                    spender: &permit.spender,
                    witness: WireWitness { to: &permit.witness_to, valid_after: &permit.witness_valid_after },
                },
                signature,
            },
            Proof::Unusable(_) => Self::Unusable {},
        }
    }
}

fn read_signature(text: Option<String>) -> Result<Vec<u8>, String> {
    let text = text.ok_or("payload.signature is missing")?;
    from_hex(&text).ok_or_else(|| "payload.signature is not 0x-hex".into())
}

fn read_authorization(raw: &RawValue) -> Result<Authorization, String> {
    let wire = Place::read(raw, "authorization")?;
    Ok(Authorization {
        from: wire.address("from")?,
        to: wire.address("to")?,
        value: wire.number("value")?,
        valid_after: wire.number("validAfter")?,
        valid_before: wire.number("validBefore")?,
        nonce: B256::parse(&wire.text("nonce")?).map_err(|error| format!("authorization.nonce {error}"))?,
    })
}

fn read_permit(raw: &RawValue) -> Result<PermitAuthorization, String> {
    let wire = Place::read(raw, "permit2Authorization")?;
    let permitted = Place::read(wire.required("permitted")?, "permit2Authorization.permitted")?;
    let witness = Place::read(wire.required("witness")?, "permit2Authorization.witness")?;
    Ok(PermitAuthorization {
        from: wire.address("from")?,
        token: permitted.address("token")?,
        amount: permitted.number("amount")?,
        spender: wire.address("spender")?,
        nonce: wire.number("nonce")?,
        deadline: wire.number("deadline")?,
        witness_to: witness.address("to")?,
        witness_valid_after: witness.number("validAfter")?,
    })
}

/// An object and its path, for errors that name the member.
struct Place<'a> {
    members: Members<'a>,
    name: &'static str,
}

impl<'a> Place<'a> {
    fn read(raw: &'a RawValue, name: &'static str) -> Result<Self, String> {
        let members = Members::read(raw.get()).map_err(|reason| format!("{name}: {reason}"))?;
        Ok(Self { members, name })
    }

    fn required(&self, member: &str) -> Result<&'a RawValue, String> {
        self.members.required(member).map_err(|reason| format!("{}: {reason}", self.name))
    }

    fn text(&self, member: &str) -> Result<String, String> {
        self.members.text(member).map_err(|reason| format!("{}: {reason}", self.name))
    }

    fn address(&self, member: &str) -> Result<Address, String> {
        Address::parse(&self.text(member)?).map_err(|error| format!("{}.{member} {error}", self.name))
    }

    fn number(&self, member: &str) -> Result<Amount, String> {
        Amount::parse(&self.text(member)?).map_err(|error| format!("{}.{member} {error}", self.name))
    }
}
