//! Reading a push. The reader is strict: it refuses unknown members and values, so that the host keeps the
//! last good rules.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

use super::pushed::{Facilitator, Gate, PublicPath, PushedRoute, PushedRules};
use crate::evm::{Address, Amount, Network, TransferMethod};
use crate::members::{Members, Reason};
use crate::terms::{
    BodyVersion, Cors, Extra, Flow, PaymentOption, Settings, Tuple, Unmatched, default_max_age,
};

const UNMATCHED: [(&str, Unmatched); 2] = [("deny", Unmatched::Deny), ("pass", Unmatched::Pass)];
const BODIES: [(&str, BodyVersion); 2] = [("v2", BodyVersion::V2), ("v1", BodyVersion::V1)];
const GATES: [(&str, Gate); 4] =
    [("paid", Gate::Paid), ("free", Gate::Free), ("auth", Gate::Auth), ("blocked", Gate::Blocked)];
const FLOWS: [(&str, Flow); 2] = [("authorization", Flow::Authorization), ("upfront", Flow::Upfront)];
const METHODS: [(&str, TransferMethod); 2] =
    [("eip3009", TransferMethod::Eip3009), ("permit2", TransferMethod::Permit2)];

impl PushedRules {
    /// Reads the JSON of a push. The error names the member and the place.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let push = object(
            text,
            &["format", "generation", "hash", "settings", "facilitator", "tuples", "routes", "protected"],
        )?;
        for name in ["tuples", "routes", "protected"] {
            push.required(name)?;
        }
        Ok(Self {
            format: narrow(push.number("format")?, "format")?,
            generation: push.number("generation")?,
            hash: push.text("hash")?,
            settings: nested(&push, "settings", read_settings)?.ok_or("missing field `settings`")?,
            facilitator: nested(&push, "facilitator", read_facilitator)?,
            tuples: each(&push, "tuples", read_tuple)?,
            routes: each(&push, "routes", read_route)?,
            protected: each(&push, "protected", read_string)?,
        })
    }
}

impl<'de> Deserialize<'de> for PushedRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Box::<RawValue>::deserialize(deserializer)?.get()).map_err(D::Error::custom)
    }
}

/// The same members and defaults as the derived reader of an operator's file, which is too large for a filter.
fn read_settings(text: &str) -> Result<Settings, Reason> {
    let base = Settings::default();
    let wire = object(
        text,
        &[
            "unmatched",
            "body",
            "legacyNetworks",
            "maxPaymentBytes",
            "requireSecureTransport",
            "trustForwarded",
            "deferMismatchingSignature",
            "deferUndecidableSignature",
            "strictRecoveryByte",
            "clockSkewSeconds",
            "replayHorizonSeconds",
            "minimalPayload",
            "publicFacilitator",
            "catalog",
            "cors",
        ],
    )?;
    Ok(Settings {
        unmatched: choice(&wire, "unmatched", &UNMATCHED)?.unwrap_or(base.unmatched),
        body: choice(&wire, "body", &BODIES)?.unwrap_or(base.body),
        legacy_networks: wire.flag("legacyNetworks", base.legacy_networks)?,
        max_payment_bytes: match wire.optional_number("maxPaymentBytes")? {
            Some(bytes) => narrow(bytes, "maxPaymentBytes")?,
            None => base.max_payment_bytes,
        },
        require_secure_transport: wire.flag("requireSecureTransport", base.require_secure_transport)?,
        trust_forwarded: wire.flag("trustForwarded", base.trust_forwarded)?,
        defer_mismatching_signature: wire
            .flag("deferMismatchingSignature", base.defer_mismatching_signature)?,
        defer_undecidable_signature: wire
            .flag("deferUndecidableSignature", base.defer_undecidable_signature)?,
        strict_recovery_byte: wire.flag("strictRecoveryByte", base.strict_recovery_byte)?,
        clock_skew_seconds: wire.optional_number("clockSkewSeconds")?.unwrap_or(base.clock_skew_seconds),
        replay_horizon_seconds: wire
            .optional_number("replayHorizonSeconds")?
            .unwrap_or(base.replay_horizon_seconds),
        minimal_payload: wire.flag("minimalPayload", base.minimal_payload)?,
        public_facilitator: wire.optional_text("publicFacilitator")?,
        catalog: wire.optional_text("catalog")?,
        upstream_timeout_seconds: None,
        cors: nested(&wire, "cors", read_cors)?,
    })
}

fn read_cors(text: &str) -> Result<Cors, Reason> {
    let wire = object(text, &["origins", "credentials", "maxAge"])?;
    wire.required("origins")?;
    Ok(Cors {
        origins: each(&wire, "origins", read_string)?,
        credentials: wire.flag("credentials", false)?,
        max_age: match wire.optional_number("maxAge")? {
            Some(seconds) => narrow(seconds, "maxAge")?,
            None => default_max_age(),
        },
    })
}

pub(super) fn read_string(text: &str) -> Result<String, Reason> {
    serde_json::from_str(text).map_err(|_| "not a string".into())
}

fn read_facilitator(text: &str) -> Result<Facilitator, Reason> {
    let wire = object(
        text,
        &["cluster", "authority", "pathPrefix", "verifyTimeoutMs", "settleTimeoutMs", "ready", "relay"],
    )?;
    wire.required("ready")?;
    wire.required("relay")?;
    Ok(Facilitator {
        cluster: wire.text("cluster")?,
        authority: wire.text("authority")?,
        path_prefix: wire.text("pathPrefix")?,
        verify_timeout_ms: narrow(wire.number("verifyTimeoutMs")?, "verifyTimeoutMs")?,
        settle_timeout_ms: narrow(wire.number("settleTimeoutMs")?, "settleTimeoutMs")?,
        ready: wire.flag("ready", false)?,
        relay: wire.flag("relay", false)?,
    })
}

pub(super) fn read_tuple(text: &str) -> Result<Tuple, Reason> {
    let wire = object(text, &["offerNamespace", "offerName", "chain", "assetSymbol", "born"])?;
    Ok(Tuple {
        offer_namespace: wire.text("offerNamespace")?,
        offer_name: wire.text("offerName")?,
        chain: wire.text("chain")?,
        asset_symbol: wire.text("assetSymbol")?,
        born: wire.number("born")?,
    })
}

pub(super) fn read_route(text: &str) -> Result<PushedRoute, Reason> {
    let wire = object(
        text,
        &[
            "pattern",
            "gate",
            "offerNamespace",
            "offerName",
            "options",
            "minRemaining",
            "description",
            "public",
        ],
    )?;
    Ok(PushedRoute {
        pattern: wire.text("pattern")?,
        gate: choice(&wire, "gate", &GATES)?.ok_or("missing field `gate`")?,
        offer_namespace: wire.optional_text("offerNamespace")?.unwrap_or_default(),
        offer_name: wire.optional_text("offerName")?.unwrap_or_default(),
        options: each(&wire, "options", read_option)?,
        min_remaining: wire.optional_number("minRemaining")?,
        description: wire.optional_text("description")?.unwrap_or_default(),
        public: nested(&wire, "public", read_public)?,
    })
}

fn read_public(text: &str) -> Result<PublicPath, Reason> {
    let wire = object(text, &["host", "dropPrefix"])?;
    Ok(PublicPath { host: wire.text("host")?, drop_prefix: wire.text("dropPrefix")? })
}

fn read_option(text: &str) -> Result<PaymentOption, Reason> {
    let wire = object(
        text,
        &[
            "tuple",
            "network",
            "v1Network",
            "v1Kind",
            "amount",
            "asset",
            "decimals",
            "payTo",
            "maxTimeoutSeconds",
            "flow",
            "transferMethod",
            "eip712Name",
            "eip712Version",
            "gasSponsoring",
            "extra",
        ],
    )?;
    let network = wire.text("network")?;
    Ok(PaymentOption {
        tuple: narrow(wire.number("tuple")?, "tuple")?,
        network: Network::from_caip2(&network).ok_or("`network` is not an eip155 CAIP-2 id")?,
        v1_network: wire.optional_text("v1Network")?,
        v1_kind: wire.flag("v1Kind", false)?,
        amount: Amount::parse(&wire.text("amount")?).map_err(|error| format!("`amount` {error}"))?,
        asset: Address::parse(&wire.text("asset")?).map_err(|error| format!("`asset` {error}"))?,
        decimals: narrow(wire.number("decimals")?, "decimals")?,
        pay_to: Address::parse(&wire.text("payTo")?).map_err(|error| format!("`payTo` {error}"))?,
        max_timeout_seconds: wire.number("maxTimeoutSeconds")?,
        flow: choice(&wire, "flow", &FLOWS)?.unwrap_or_default(),
        transfer_method: choice(&wire, "transferMethod", &METHODS)?
            .ok_or("missing field `transferMethod`")?,
        eip712_name: wire.text("eip712Name")?,
        eip712_version: wire.text("eip712Version")?,
        gas_sponsoring: wire.flag("gasSponsoring", false)?,
        extra: match wire.optional("extra")? {
            Some(raw) => Extra::read(raw.get()).map_err(|error| format!("`extra` {error}"))?,
            None => Extra::default(),
        },
    })
}

/// Reads an object that holds no other members.
fn object<'a>(text: &'a str, names: &[&str]) -> Result<Members<'a>, Reason> {
    let members = Members::read(text)?;
    members.only(names)?;
    Ok(members)
}

fn nested<T>(
    members: &Members<'_>,
    name: &str,
    read: fn(&str) -> Result<T, Reason>,
) -> Result<Option<T>, Reason> {
    let Some(raw) = members.optional(name)? else { return Ok(None) };
    read(raw.get()).map(Some).map_err(|reason| format!("{name}: {reason}"))
}

/// Reads a list that may be absent.
fn each<T>(members: &Members<'_>, name: &str, read: fn(&str) -> Result<T, Reason>) -> Result<Vec<T>, Reason> {
    let entries = members.list(name)?;
    let mut all = Vec::with_capacity(entries.len());
    for (position, raw) in entries.into_iter().enumerate() {
        all.push(read(raw.get()).map_err(|reason| format!("{name}[{position}]: {reason}"))?);
    }
    Ok(all)
}

/// Reads a member that must be one of some words, if it is there.
fn choice<T: Copy>(members: &Members<'_>, name: &str, all: &[(&str, T)]) -> Result<Option<T>, Reason> {
    let Some(text) = members.optional_text(name)? else { return Ok(None) };
    match all.iter().find(|(known, _)| *known == text) {
        Some((_, value)) => Ok(Some(*value)),
        None => Err(format!("`{name}` is `{text}`, which is not known")),
    }
}

fn narrow<T: TryFrom<u64>>(number: u64, name: &str) -> Result<T, Reason> {
    T::try_from(number).map_err(|_| format!("`{name}` is too large"))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
