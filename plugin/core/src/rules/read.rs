//! Reading a push. Strict: what is not known is refused, so that the host keeps the last good rules.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

use super::Extra;
use super::pushed::{
    BodyVersion, Facilitator, Flow, Gate, PaymentOption, PublicPath, PushedRoute, PushedRules, Settings,
    Tuple, Unmatched,
};
use crate::evm::{Address, Amount, Network, TransferMethod};
use crate::members::{Members, Reason, read_text};

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
        let mut push = Wire::read(
            text,
            &["format", "generation", "hash", "settings", "facilitator", "tuples", "routes", "protected"],
        )?;
        for name in ["tuples", "routes", "protected"] {
            push.required(name);
        }
        let settings = push.nested("settings", read_settings);
        push.required("settings");
        let rules = Self {
            format: push.narrow("format"),
            generation: push.number("generation"),
            hash: push.text("hash"),
            settings: settings.unwrap_or_default(),
            facilitator: push.nested("facilitator", read_facilitator),
            tuples: push.each("tuples", read_tuple),
            routes: push.each("routes", read_route),
            protected: push.each("protected", |raw| read_text(raw).ok_or_else(|| "not a string".into())),
        };
        push.end(rules)
    }
}

impl<'de> Deserialize<'de> for PushedRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Box::<RawValue>::deserialize(deserializer)?.get()).map_err(D::Error::custom)
    }
}

/// The same members and defaults as the derived reader of an operator's file, which is too large for a filter.
fn read_settings(raw: &RawValue) -> Result<Settings, Reason> {
    let base = Settings::default();
    let mut wire = Wire::read(
        raw.get(),
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
        ],
    )?;
    let settings = Settings {
        unmatched: wire.choice("unmatched", &UNMATCHED, base.unmatched),
        body: wire.choice("body", &BODIES, base.body),
        legacy_networks: wire.flag("legacyNetworks", base.legacy_networks),
        max_payment_bytes: wire.narrow_or("maxPaymentBytes", base.max_payment_bytes),
        require_secure_transport: wire.flag("requireSecureTransport", base.require_secure_transport),
        trust_forwarded: wire.flag("trustForwarded", base.trust_forwarded),
        defer_mismatching_signature: wire.flag("deferMismatchingSignature", base.defer_mismatching_signature),
        defer_undecidable_signature: wire.flag("deferUndecidableSignature", base.defer_undecidable_signature),
        strict_recovery_byte: wire.flag("strictRecoveryByte", base.strict_recovery_byte),
        clock_skew_seconds: wire.narrow_or("clockSkewSeconds", base.clock_skew_seconds),
        replay_horizon_seconds: wire.narrow_or("replayHorizonSeconds", base.replay_horizon_seconds),
        minimal_payload: wire.flag("minimalPayload", base.minimal_payload),
        public_facilitator: wire.optional_text("publicFacilitator"),
        catalog: wire.optional_text("catalog"),
    };
    wire.end(settings)
}

fn read_facilitator(raw: &RawValue) -> Result<Facilitator, Reason> {
    let mut wire = Wire::read(
        raw.get(),
        &["cluster", "authority", "pathPrefix", "verifyTimeoutMs", "settleTimeoutMs", "ready", "relay"],
    )?;
    wire.required("ready");
    wire.required("relay");
    let facilitator = Facilitator {
        cluster: wire.text("cluster"),
        authority: wire.text("authority"),
        path_prefix: wire.text("pathPrefix"),
        verify_timeout_ms: wire.narrow("verifyTimeoutMs"),
        settle_timeout_ms: wire.narrow("settleTimeoutMs"),
        ready: wire.flag("ready", false),
        relay: wire.flag("relay", false),
    };
    wire.end(facilitator)
}

fn read_tuple(raw: &RawValue) -> Result<Tuple, Reason> {
    let mut wire = Wire::read(raw.get(), &["offerNamespace", "offerName", "chain", "assetSymbol", "born"])?;
    let tuple = Tuple {
        offer_namespace: wire.text("offerNamespace"),
        offer_name: wire.text("offerName"),
        chain: wire.text("chain"),
        asset_symbol: wire.text("assetSymbol"),
        born: wire.number("born"),
    };
    wire.end(tuple)
}

fn read_route(raw: &RawValue) -> Result<PushedRoute, Reason> {
    let mut wire = Wire::read(
        raw.get(),
        &["pattern", "gate", "offerNamespace", "offerName", "options", "description", "public"],
    )?;
    wire.required("gate");
    let route = PushedRoute {
        pattern: wire.text("pattern"),
        gate: wire.choice("gate", &GATES, Gate::Blocked),
        offer_namespace: wire.optional_text("offerNamespace").unwrap_or_default(),
        offer_name: wire.optional_text("offerName").unwrap_or_default(),
        options: wire.each("options", read_option),
        description: wire.optional_text("description").unwrap_or_default(),
        public: wire.nested("public", read_public),
    };
    wire.end(route)
}

fn read_public(raw: &RawValue) -> Result<PublicPath, Reason> {
    let mut wire = Wire::read(raw.get(), &["host", "dropPrefix"])?;
    let public = PublicPath { host: wire.text("host"), drop_prefix: wire.text("dropPrefix") };
    wire.end(public)
}

fn read_option(raw: &RawValue) -> Result<PaymentOption, Reason> {
    let mut wire = Wire::read(
        raw.get(),
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
    let Some(network) = Network::from_caip2(&wire.text("network")) else {
        return wire.fail("`network` is not an eip155 CAIP-2 id".into());
    };
    wire.required("transferMethod");
    let option = PaymentOption {
        tuple: wire.narrow("tuple"),
        network,
        v1_network: wire.optional_text("v1Network"),
        v1_kind: wire.flag("v1Kind", false),
        amount: wire.parsed("amount", Amount::parse, Amount::default()),
        asset: wire.parsed("asset", Address::parse, NOBODY),
        decimals: wire.narrow("decimals"),
        pay_to: wire.parsed("payTo", Address::parse, NOBODY),
        max_timeout_seconds: wire.number("maxTimeoutSeconds"),
        flow: wire.choice("flow", &FLOWS, Flow::default()),
        transfer_method: wire.choice("transferMethod", &METHODS, TransferMethod::Eip3009),
        eip712_name: wire.text("eip712Name"),
        eip712_version: wire.text("eip712Version"),
        gas_sponsoring: wire.flag("gasSponsoring", false),
        extra: wire
            .nested("extra", |raw| Extra::read(raw).map_err(|error| error.to_string()))
            .unwrap_or_default(),
    };
    wire.end(option)
}

/// Stands in for an address that cannot be read.
const NOBODY: Address = Address([0; 20]);

/// One object, read member by member. The first thing that is wrong with it is kept and something put in its place,
/// so that a reader is left at its end alone: to leave it at each member, and drop what was read so far, is four times
/// as much code.
struct Wire<'a> {
    members: Members<'a>,
    wrong: Option<Reason>,
}

// === impl Wire ===

impl<'a> Wire<'a> {
    /// Reads an object that holds no other members.
    fn read(text: &'a str, names: &[&str]) -> Result<Self, Reason> {
        let members = Members::read(text)?;
        members.only(names)?;
        Ok(Self { members, wrong: None })
    }

    /// What was read, if nothing was wrong.
    fn end<T>(self, value: T) -> Result<T, Reason> {
        match self.wrong {
            None => Ok(value),
            Some(reason) => Err(reason),
        }
    }

    fn fail<T>(self, reason: Reason) -> Result<T, Reason> {
        Err(self.wrong.unwrap_or(reason))
    }

    fn or<T>(&mut self, read: Result<T, Reason>, absent: T) -> T {
        read.unwrap_or_else(|reason| {
            self.wrong.get_or_insert(reason);
            absent
        })
    }

    fn required(&mut self, name: &str) {
        let read = self.members.required(name).map(|_| ());
        self.or(read, ());
    }

    fn text(&mut self, name: &str) -> String {
        let read = self.members.text(name);
        self.or(read, String::new())
    }

    fn optional_text(&mut self, name: &str) -> Option<String> {
        let read = self.members.optional_text(name);
        self.or(read, None)
    }

    fn number(&mut self, name: &str) -> u64 {
        let read = self.members.number(name);
        self.or(read, 0)
    }

    fn narrow<T: TryFrom<u64> + Default>(&mut self, name: &str) -> T {
        self.required(name);
        self.narrow_or(name, T::default())
    }

    fn narrow_or<T: TryFrom<u64>>(&mut self, name: &str, absent: T) -> T {
        let read = self.members.optional_number(name);
        let Some(number) = self.or(read, None) else { return absent };
        let read = T::try_from(number).map_err(|_| format!("`{name}` is too large"));
        self.or(read, absent)
    }

    fn flag(&mut self, name: &str, absent: bool) -> bool {
        let read = self.members.flag(name, absent);
        self.or(read, absent)
    }

    /// Reads one of some words.
    fn choice<T: Copy>(&mut self, name: &str, all: &[(&str, T)], absent: T) -> T {
        let Some(text) = self.optional_text(name) else { return absent };
        let found = all.iter().find(|(known, _)| *known == text).map(|(_, value)| *value);
        let read = found.ok_or_else(|| format!("`{name}` is `{text}`, which is not known"));
        self.or(read, absent)
    }

    fn parsed<T, E: core::fmt::Display>(
        &mut self,
        name: &str,
        parse: fn(&str) -> Result<T, E>,
        absent: T,
    ) -> T {
        let text = self.text(name);
        let read = parse(&text).map_err(|error| format!("`{name}` {error}"));
        self.or(read, absent)
    }

    fn nested<T>(&mut self, name: &str, read: fn(&RawValue) -> Result<T, Reason>) -> Option<T> {
        let raw = self.members.optional(name);
        let raw = self.or(raw, None)?;
        let read = read(raw).map(Some).map_err(|reason| format!("{name}: {reason}"));
        self.or(read, None)
    }

    /// Reads a list that may be absent.
    fn each<T>(&mut self, name: &str, read: fn(&RawValue) -> Result<T, Reason>) -> Vec<T> {
        let list = self.members.list(name);
        let entries = self.or(list, Vec::new());
        let mut all = Vec::with_capacity(entries.len());
        for (position, raw) in entries.into_iter().enumerate() {
            match read(raw) {
                Ok(value) => all.push(value),
                Err(reason) => {
                    self.wrong.get_or_insert(format!("{name}[{position}]: {reason}"));
                    break;
                }
            }
        }
        all
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
