//! Chains: names, aliases and CAIP-2 ids.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A chain as CAIP-2 id (`eip155:8453`). The only form that enters labels and replay keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    caip2: Box<str>,
    chain_id: u64,
}

/// One row of the chain table.
struct Chain {
    chain_id: u64,
    /// The name in the pricing file, and in the legacy copies of a challenge.
    name: &'static str,
    aliases: &'static [&'static str],
    /// The name in the closed list of protocol v1, where the chain has one.
    v1_name: Option<&'static str>,
}

/// Chains with a name. The first nine names are those of the pricing file. The others are the names
/// of protocol v1, and from `xdc` on those of a widespread implementation of v1.
const CHAINS: &[Chain] = &[
    both(8453, "base", &["base-mainnet"]),
    both(84532, "base-sepolia", &[]),
    both(1, "ethereum", &["ethereum-mainnet"]),
    both(137, "polygon", &["polygon-mainnet"]),
    both(80002, "polygon-amoy", &[]),
    both(43114, "avalanche", &["avalanche-mainnet"]),
    both(43113, "avalanche-fuji", &[]),
    v2_only(42161, "arbitrum-one", &["arbitrum"]),
    v2_only(421614, "arbitrum-sepolia", &[]),
    both(1329, "sei", &[]),
    both(1328, "sei-testnet", &[]),
    both(2741, "abstract", &[]),
    both(11124, "abstract-testnet", &[]),
    both(4689, "iotex", &[]),
    both(3338, "peaq", &[]),
    both(1514, "story", &[]),
    both(41923, "educhain", &[]),
    both(324_705_682, "skale-base-sepolia", &[]),
    both(4326, "megaeth", &[]),
    both(143, "monad", &[]),
    both(988, "stable", &[]),
    both(2201, "stable-testnet", &[]),
    both(42220, "celo", &[]),
    both(14, "flare", &[]),
    both(50, "xdc", &[]),
    both(1_440_000, "xrpl-evm", &[]),
    both(11_142_220, "celo-sepolia", &[]),
    both(723_487, "radius", &[]),
    both(72_344, "radius-testnet", &[]),
];

const fn both(chain_id: u64, name: &'static str, aliases: &'static [&'static str]) -> Chain {
    Chain { chain_id, name, aliases, v1_name: Some(name) }
}

const fn v2_only(chain_id: u64, name: &'static str, aliases: &'static [&'static str]) -> Chain {
    Chain { chain_id, name, aliases, v1_name: None }
}

/// Resolves the text of an operator or a client: a name, an alias or a CAIP-2 id, trimmed, in any
/// letter case. Any `eip155:<id>` resolves, also of a chain without a name (see [`is_named_chain`]);
/// every other text is `None`.
pub fn chain_by_name(text: &str) -> Option<Network> {
    let text = text.trim();
    let same = |name: &&str| name.eq_ignore_ascii_case(text);
    CHAINS
        .iter()
        .find(|chain| same(&chain.name) || chain.aliases.iter().any(same))
        .map(|chain| Network::from_chain_id(chain.chain_id))
        .or_else(|| Network::from_caip2(&text.to_ascii_lowercase()))
}

/// Whether the chain is in the table. For any other `eip155:<id>`, a price needs a registry asset or
/// a complete custom asset.
pub fn is_named_chain(network: &Network) -> bool {
    chain_name(network).is_some()
}

/// The chain's name for operators (`arbitrum-one`). The legacy copies of a challenge, for older
/// buyers, have it too.
pub fn chain_name(network: &Network) -> Option<&'static str> {
    row(network).map(|chain| chain.name)
}

/// The chain's name in protocol v1 (`base-sepolia`), if there is one.
pub fn v1_name(network: &Network) -> Option<&'static str> {
    row(network).and_then(|chain| chain.v1_name)
}

/// CAIP-2 ids of every chain of the table.
pub fn named_chains() -> impl Iterator<Item = Network> {
    CHAINS.iter().map(|chain| Network::from_chain_id(chain.chain_id))
}

fn row(network: &Network) -> Option<&'static Chain> {
    CHAINS.iter().find(|chain| chain.chain_id == network.chain_id)
}

// === impl Network ===

impl Network {
    /// Reads a CAIP-2 id of the `eip155` namespace: `eip155:` and a decimal chain id without
    /// leading zeros. `None` for every other namespace or spelling.
    pub fn from_caip2(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("eip155:")?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        if !plain {
            return None;
        }
        Some(Self { caip2: text.into(), chain_id: digits.parse().ok()? })
    }

    /// The CAIP-2 id.
    pub fn as_str(&self) -> &str {
        &self.caip2
    }

    /// The EVM chain id.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    fn from_chain_id(chain_id: u64) -> Self {
        Self { caip2: format!("eip155:{chain_id}").into(), chain_id }
    }
}

impl core::fmt::Display for Network {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.caip2)
    }
}
impl Serialize for Network {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.caip2)
    }
}
impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(d)?;
        Self::from_caip2(&text).ok_or_else(|| serde::de::Error::custom("not an eip155 CAIP-2 id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_chain_resolves_to_its_caip_2_id() {
        for (spellings, caip2) in [
            (&["base", "base-mainnet", "eip155:8453", " BASE ", "EIP155:8453"][..], "eip155:8453"),
            (&["base-sepolia", "Base-Sepolia"], "eip155:84532"),
            (&["ethereum", "ethereum-mainnet"], "eip155:1"),
            (&["polygon", "polygon-mainnet"], "eip155:137"),
            (&["polygon-amoy"], "eip155:80002"),
            (&["avalanche", "avalanche-mainnet"], "eip155:43114"),
            (&["avalanche-fuji"], "eip155:43113"),
            (&["arbitrum-one", "arbitrum"], "eip155:42161"),
            (&["arbitrum-sepolia"], "eip155:421614"),
        ] {
            for spelling in spellings {
                let network = chain_by_name(spelling).unwrap_or_else(|| panic!("{spelling:?}"));
                assert_eq!(network.as_str(), caip2, "{spelling:?}");
                assert!(is_named_chain(&network));
            }
        }
    }

    #[test]
    fn other_names_namespaces_and_spellings_do_not_resolve() {
        for text in [
            "",
            "sepolia",
            "mainnet",
            "solana",
            "8453",
            "eip155:",
            "eip155:0",
            "eip155:08453",
            "eip155:+1",
            "eip155:1 1",
            "eip155:99999999999999999999",
            "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        ] {
            assert_eq!(chain_by_name(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_unknown_chain_id_resolves_but_has_no_name() {
        let network = chain_by_name("eip155:999999").unwrap();
        assert_eq!(network.chain_id(), 999_999);
        assert!(!is_named_chain(&network));
        assert_eq!(v1_name(&network), None);
    }

    #[test]
    fn arbitrum_has_a_name_for_operators_but_none_in_v1() {
        let network = chain_by_name("arbitrum").unwrap();
        assert_eq!(chain_name(&network), Some("arbitrum-one"));
        assert_eq!(v1_name(&network), None);
    }

    #[test]
    fn names_and_ids_are_unique() {
        let mut names: Vec<&str> =
            CHAINS.iter().flat_map(|chain| chain.aliases.iter().copied().chain([chain.name])).collect();
        let mut ids: Vec<u64> = CHAINS.iter().map(|chain| chain.chain_id).collect();
        let (all_names, all_ids) = (names.len(), ids.len());
        names.sort_unstable();
        names.dedup();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((names.len(), ids.len()), (all_names, all_ids));
    }
}
