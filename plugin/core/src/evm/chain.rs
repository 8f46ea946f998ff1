//! Chains: names, aliases and CAIP-2 ids.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A chain as CAIP-2 id (`eip155:8453`). The only form that enters labels and replay keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(Box<str>);

impl Network {
    /// Reads a CAIP-2 id of the `eip155` namespace: `eip155:` and a decimal chain id without
    /// leading zeros. `None` for every other namespace or spelling.
    pub fn from_caip2(text: &str) -> Option<Self> {
        let _ = text;
        todo!()
    }
    /// The CAIP-2 id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The EVM chain id.
    pub fn chain_id(&self) -> u64 {
        todo!()
    }
}

/// Resolves what an operator or a v1 client wrote: a name, an alias or a CAIP-2 id of a known chain;
/// trimmed, letter case ignored. Unknown `eip155:<id>` resolve too (they need a complete custom
/// asset); everything else is `None`.
pub fn chain_by_name(text: &str) -> Option<Network> {
    let _ = text;
    todo!()
}

/// The name protocol v1 gave the chain (`base-sepolia`), where it has one.
pub fn v1_name(network: &Network) -> Option<&'static str> {
    let _ = network;
    todo!()
}

impl core::fmt::Display for Network {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}
impl Serialize for Network {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(d)?;
        Self::from_caip2(&text).ok_or_else(|| serde::de::Error::custom("not an eip155 CAIP-2 id"))
    }
}
