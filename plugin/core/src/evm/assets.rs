//! The assets Farebox knows, compiled in. Every field can be overridden by the pricing file.

use serde::{Deserialize, Serialize};

use super::{Address, Network};

/// How an `exact` payment moves the asset (`extra.assetTransferMethod`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferMethod {
    /// `transferWithAuthorization` of EIP-3009: the protocol's default.
    Eip3009,
    /// Uniswap's Permit2 with the x402 exact proxy as spender.
    Permit2,
}

/// One row of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// CAIP-2 id of the chain, e.g. `eip155:8453`.
    pub network: &'static str,
    /// Symbol used as the `asset_symbol` label.
    pub symbol: &'static str,
    /// Address of the token contract.
    pub address: Address,
    /// Decimals of one whole unit.
    pub decimals: u8,
    /// Default transfer method.
    pub transfer_method: TransferMethod,
    /// EIP-712 domain name of the token contract.
    pub eip712_name: &'static str,
    /// EIP-712 domain version of the token contract.
    pub eip712_version: &'static str,
    /// Whether the token supports permits without gas (EIP-2612). Then the challenge offers them.
    pub gas_sponsoring: bool,
    /// Whether sources disagree on the EIP-712 domain. Then the load warns unless the pricing file
    /// names the domain.
    pub disputed: bool,
}

/// The registry, in no particular order. A chain's default asset is its USDC.
const ASSETS: &[Asset] = &[
    eip3009("eip155:8453", "USDC", b"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", 6, "USD Coin", "2"),
    eip3009("eip155:84532", "USDC", b"0x036CbD53842c5426634e7929541eC2318f3dCF7e", 6, "USDC", "2"),
    eip3009("eip155:1", "USDC", b"0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", 6, "USD Coin", "2"),
    eip3009("eip155:43114", "USDC", b"0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", 6, "USD Coin", "2"),
    permit2("eip155:4326", "MegaUSD", b"0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7", 18, "MegaUSD", "1")
        .sponsored(),
    eip3009("eip155:143", "USDC", b"0x754704Bc059F8C67012fEd69BC8A327a5aafb603", 6, "USDC", "2").disputed(),
    eip3009("eip155:988", "USDT0", b"0x779Ded0c9e1022225f8E0630b35a9b54bE713736", 6, "USDT0", "1"),
    eip3009("eip155:2201", "USDT0", b"0x78Cf24370174180738C5B8E352B6D14c83a6c9A9", 6, "USDT0", "1"),
    eip3009("eip155:137", "USDC", b"0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", 6, "USD Coin", "2"),
    eip3009("eip155:42161", "USDC", b"0xaf88d065e77c8cC2239327C5EDb3A432268e5831", 6, "USD Coin", "2"),
    eip3009("eip155:421614", "USDC", b"0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d", 6, "USD Coin", "2"),
    permit2("eip155:31612", "mUSD", b"0xdD468A1DDc392dcdbEf6db6e34E89AA338F9F186", 18, "Mezo USD", "1")
        .sponsored(),
    permit2("eip155:31611", "mUSD", b"0x118917a40FAF1CD7a13dB0Ef56C86De7973Ac503", 18, "Mezo USD", "1")
        .sponsored(),
    permit2("eip155:723487", "SBC", b"0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb", 6, "Stable Coin", "1")
        .sponsored(),
    permit2("eip155:72344", "SBC", b"0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb", 6, "Stable Coin", "1")
        .sponsored(),
    eip3009("eip155:36900", "USDC.e", b"0x9cb8142aEBBcdc60AF7c97Af897A67A8f3CA71C2", 6, "USDC.e", "2"),
    eip3009("eip155:190415", "USDC.e", b"0x401eCb1D350407f13ba348573E5630B83638E30D", 6, "Bridged USDC", "2"),
    eip3009("eip155:181228", "USDC.e", b"0x401eCb1D350407f13ba348573E5630B83638E30D", 6, "Bridged USDC", "2"),
    eip3009("eip155:50", "USDC", b"0xfA2958CB79b0491CC627c1557F441eF849Ca8eb1", 6, "USDC", "2"),
    eip3009("eip155:51", "USDC", b"0xb5AB69F7bBada22B28e79C8FFAECe55eF1c771D4", 6, "USDC", "2"),
    permit2("eip155:38833", "USDC", b"0xA5b8BF902b2844dA17d4506cc827F7F1681735E7", 6, "USDC", "1"),
    eip3009("eip155:14", "USDT0", b"0xe7cd86e13AC4309349F30B3435a9d337750fC82D", 6, "USD₮0", "1"),
    eip3009("eip155:42220", "USDC", b"0xcebA9300f2b948710d2653dD7B07f33A8B32118C", 6, "USDC", "2"),
    eip3009("eip155:42220", "USDT", b"0x48065fbBE25f71C9282ddf5e1cD6D6A887483D5e", 6, "Tether USD", "1"),
    eip3009(
        "eip155:42220",
        "USAT",
        b"0xD2ab3C9A02DBBAB236BfEC45D1d755DF4267F771",
        6,
        "Tether America USD",
        "1",
    ),
    eip3009("eip155:11142220", "USDC", b"0x01C5C0122039549AD1493B8220cABEdD739BC44E", 6, "USDC", "2"),
    eip3009("eip155:1329", "USDC", b"0xe15fC38F6D8c56aF07bbCBe3BAf5708A2Bf42392", 6, "USDC", "2"),
    eip3009("eip155:1328", "USDC", b"0x4fCF1784B31630811181f670Aea7A7bEF803eaED", 6, "USDC", "2"),
    eip3009("eip155:10143", "USDC", b"0x534b2f3A21130d7a60830c2Df862319e593943A3", 6, "USDC", "2"),
    eip3009("eip155:5042", "USDC", b"0x3600000000000000000000000000000000000000", 6, "USDC", "2"),
    eip3009("eip155:5042002", "USDC", b"0x3600000000000000000000000000000000000000", 6, "USDC", "2"),
    eip3009("eip155:43113", "USDC", b"0x5425890298aed601595a70AB815c96711a31Bc65", 6, "USD Coin", "2"),
    eip3009("eip155:80002", "USDC", b"0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582", 6, "USDC", "2").disputed(),
    eip3009("eip155:3338", "USDC", b"0xbbA60da06c2c5424f03f7434542280FCAd453d10", 6, "USDC", "2"),
    eip3009("eip155:4689", "USDC.e", b"0xcDf79194C6C285077A58da47641D4dBe51F63542", 6, "Bridged USDC", "2"),
    permit2("eip155:1440000", "USDC", b"0xDaF4556169c4F3f2231d8ab7BC8772Ddb7D4c84C", 15, "USDC", "1")
        .disputed(),
    eip3009("eip155:8453", "EURC", b"0x60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42", 6, "EURC", "2"),
    permit2("eip155:1", "OBOL", b"0x0B010000b7624eb9B3DfBC279673C76E9D29D5F7", 18, "Obol Network", "1")
        .sponsored(),
    permit2("eip155:84532", "OBOL", b"0x0a09371a8b011d5110656ceBCc70603e53FD2c78", 18, "Obol Network", "1")
        .sponsored(),
];

/// The asset of a route that names none: the chain's USDC. A chain without USDC has no default, so
/// that a route never charges another currency than the operator expects.
pub fn default_asset(network: &Network) -> Option<&'static Asset> {
    asset_by_symbol(network, "USDC")
}

/// A registry asset of a chain by symbol; the symbol's case is ignored.
pub fn asset_by_symbol(network: &Network, symbol: &str) -> Option<&'static Asset> {
    assets()
        .iter()
        .find(|asset| asset.network == network.as_str() && asset.symbol.eq_ignore_ascii_case(symbol))
}

/// A registry asset of a chain by contract.
pub fn asset_by_address(network: &Network, address: &Address) -> Option<&'static Asset> {
    assets().iter().find(|asset| asset.network == network.as_str() && asset.address == *address)
}

/// Every row of the registry.
pub const fn assets() -> &'static [Asset] {
    ASSETS
}

const fn eip3009(
    network: &'static str,
    symbol: &'static str,
    address: &[u8; 42],
    decimals: u8,
    eip712_name: &'static str,
    eip712_version: &'static str,
) -> Asset {
    Asset {
        network,
        symbol,
        address: Address::literal(address),
        decimals,
        transfer_method: TransferMethod::Eip3009,
        eip712_name,
        eip712_version,
        gas_sponsoring: false,
        disputed: false,
    }
}

const fn permit2(
    network: &'static str,
    symbol: &'static str,
    address: &[u8; 42],
    decimals: u8,
    eip712_name: &'static str,
    eip712_version: &'static str,
) -> Asset {
    let asset = eip3009(network, symbol, address, decimals, eip712_name, eip712_version);
    Asset { transfer_method: TransferMethod::Permit2, ..asset }
}

// === impl Asset ===

impl Asset {
    /// Marks a token that supports EIP-2612.
    const fn sponsored(self) -> Self {
        Self { gas_sponsoring: true, ..self }
    }

    /// Marks a row on which sources disagree, and which was not read from the chain.
    const fn disputed(self) -> Self {
        Self { disputed: true, ..self }
    }
}

// === impl TransferMethod ===

impl TransferMethod {
    /// The value of `extra.assetTransferMethod`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eip3009 => "eip3009",
            Self::Permit2 => "permit2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evm::chain_by_name;

    fn usdc(chain: &str) -> &'static Asset {
        default_asset(&chain_by_name(chain).unwrap()).unwrap()
    }

    #[test]
    fn each_chain_of_the_pricing_file_has_its_usdc() {
        for (chain, address, name) in [
            ("base", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin"),
            ("base-sepolia", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC"),
            ("ethereum", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "USD Coin"),
            ("polygon", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "USD Coin"),
            ("polygon-amoy", "0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582", "USDC"),
            ("avalanche", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", "USD Coin"),
            ("avalanche-fuji", "0x5425890298aed601595a70AB815c96711a31Bc65", "USD Coin"),
            ("arbitrum-one", "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", "USD Coin"),
            ("arbitrum-sepolia", "0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d", "USD Coin"),
        ] {
            let asset = usdc(chain);
            assert_eq!(asset.address.to_string(), address, "{chain}");
            assert_eq!((asset.eip712_name, asset.eip712_version), (name, "2"), "{chain}");
            assert_eq!((asset.decimals, asset.transfer_method), (6, TransferMethod::Eip3009), "{chain}");
            assert_eq!(asset.disputed, chain == "polygon-amoy", "{chain}");
        }
    }

    #[test]
    fn obol_is_an_18_decimal_permit2_asset_with_gas_sponsoring() {
        for (chain, address) in [
            ("ethereum", "0x0B010000b7624eb9B3DfBC279673C76E9D29D5F7"),
            ("base-sepolia", "0x0a09371a8b011d5110656ceBCc70603e53FD2c78"),
        ] {
            let network = chain_by_name(chain).unwrap();
            let asset = asset_by_symbol(&network, "obol").unwrap();
            assert_eq!(asset.address.to_string(), address);
            assert_eq!((asset.eip712_name, asset.eip712_version), ("Obol Network", "1"));
            assert_eq!((asset.decimals, asset.transfer_method), (18, TransferMethod::Permit2));
            assert!(asset.gas_sponsoring && !asset.disputed);
            assert_eq!(asset_by_address(&network, &asset.address), Some(asset));
        }
    }

    #[test]
    fn a_chain_without_usdc_has_no_default() {
        assert_eq!(default_asset(&chain_by_name("megaeth").unwrap()), None);
        assert_eq!(default_asset(&chain_by_name("eip155:999999").unwrap()), None);
    }

    #[test]
    fn every_row_resolves_and_is_unique() {
        for asset in assets() {
            let network = Network::from_caip2(asset.network).unwrap();
            assert_eq!(asset_by_symbol(&network, asset.symbol), Some(asset));
            assert_eq!(asset_by_address(&network, &asset.address), Some(asset));
        }
    }
}
