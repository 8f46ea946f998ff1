//! Exact amounts: integers of the asset's smallest unit, never floats.

use ruint::aliases::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in atomic units of its asset, or any other uint256 of the protocol.
/// On the wire always a decimal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub U256);

/// Why a text is not an atomic amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not `^[0-9]+$`.
    #[error("is not a decimal integer")]
    NotDecimal,
    /// 2^256 or more.
    #[error("does not fit 256 bits")]
    TooLarge,
}

/// Why a decimal price cannot be an amount (contract section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not `[0-9]+(\.[0-9]+)?` of at most 78 digits (`bad_price`).
    #[error("is not a plain decimal number such as 0.001")]
    Syntax,
    /// Non-zero digits finer than one atomic unit (`price_precision`).
    #[error("has non-zero digits finer than one atomic unit of the asset ({decimals} decimals)")]
    Precision {
        /// Decimals of the asset.
        decimals: u8,
    },
    /// 2^256 atomic units or more (`bad_price`).
    #[error("does not fit 256 bits in atomic units")]
    TooLarge,
}

impl Amount {
    /// Reads a decimal integer, `^[0-9]+$`, below 2^256.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let _ = text;
        todo!()
    }
    /// Shifts a decimal price by the decimals of its asset: `0.001` at 6 decimals is 1000.
    pub fn from_price(price: &str, decimals: u8) -> Result<Self, PriceError> {
        let _ = (price, decimals);
        todo!()
    }
    /// The big-endian word that enters an EIP-712 hash.
    pub fn to_be_bytes(self) -> [u8; 32] {
        self.0.to_be_bytes()
    }
    /// From a Unix time or another small number.
    pub fn from_u64(value: u64) -> Self {
        Self(U256::from(value))
    }
    /// The value as u64 where it fits.
    pub fn to_u64(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
    /// Whether this is nothing at all.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl core::fmt::Display for Amount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.0, f)
    }
}
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
