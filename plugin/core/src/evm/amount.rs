//! Exact amounts: integers of the asset's smallest unit, never floats.

use ruint::aliases::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in atomic units of its asset, or any other uint256 of the protocol.
/// On the wire always a decimal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub U256);

/// A price has at most this many digits: as many as the largest uint256.
const MAX_PRICE_DIGITS: usize = 78;

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

/// Why a decimal price cannot be an amount.
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

// === impl Amount ===

impl Amount {
    /// Reads a decimal integer, `^[0-9]+$`, below 2^256.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AmountError::NotDecimal);
        }
        U256::from_str_radix(text, 10).map(Self).map_err(|_| AmountError::TooLarge)
    }

    /// Shifts a decimal price by the decimals of its asset: `0.001` at 6 decimals is 1000.
    pub fn from_price(price: &str, decimals: u8) -> Result<Self, PriceError> {
        let (whole, fraction) = price.split_once('.').unwrap_or((price, "0"));
        let is_decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let digits = price.bytes().filter(u8::is_ascii_digit).count();
        if !is_decimal(whole) || !is_decimal(fraction) || digits > MAX_PRICE_DIGITS {
            return Err(PriceError::Syntax);
        }
        let fraction = fraction.trim_end_matches('0');
        let places = usize::from(decimals);
        if fraction.len() > places {
            return Err(PriceError::Precision { decimals });
        }
        Self::parse(&format!("{whole}{fraction:0<places$}")).map_err(|_| PriceError::TooLarge)
    }

    /// The amount in whole units of the asset, for people: 1500 at 6 decimals is `0.0015`.
    pub fn to_price(self, decimals: u8) -> String {
        let places = usize::from(decimals);
        let digits = format!("{:0>width$}", self.to_string(), width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
    }

    /// Reads a big-endian word.
    pub fn from_be_bytes(word: [u8; 32]) -> Self {
        Self(U256::from_be_bytes(word))
    }
    /// The big-endian word that enters an EIP-712 hash.
    pub fn to_be_bytes(self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// Makes an amount of a Unix time or another small number.
    pub fn from_u64(value: u64) -> Self {
        Self(U256::from(value))
    }

    /// The value as u64 where it fits.
    pub fn to_u64(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }

    /// Whether the amount is zero.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl core::fmt::Display for Amount {
    /// Writes decimal digits by long division, because the formatter of `U256` is ten times as much code, in every
    /// guest.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut limbs = *self.0.as_limbs();
        let mut digits = String::with_capacity(MAX_PRICE_DIGITS);
        loop {
            let rest = limbs.iter_mut().rev().fold(0, |rest, limb| {
                let high = (rest << 32) | (*limb >> 32);
                let low = ((high % 10) << 32) | (*limb & u64::from(u32::MAX));
                *limb = ((high / 10) << 32) | (low / 10);
                low % 10
            });
            digits.push(char::from(b'0' + u8::try_from(rest).unwrap_or_default()));
            if limbs == [0; 4] {
                break;
            }
        }
        f.pad_integral(true, "", &digits.chars().rev().collect::<String>())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn atomic(price: &str, decimals: u8) -> String {
        Amount::from_price(price, decimals).unwrap().to_string()
    }

    #[test]
    fn a_price_is_shifted_by_the_decimals_of_its_asset() {
        assert_eq!(atomic("0.001", 6), "1000");
        assert_eq!(atomic("0.001", 18), "1000000000000000");
        assert_eq!(atomic("1", 0), "1");
        assert_eq!(atomic("1.50", 1), "15");
        assert_eq!(atomic("007", 6), "7000000");
        assert_eq!(atomic("0", 255), "0");
        assert_eq!(atomic("0.0010000000000000000000000", 6), "1000");
    }

    #[test]
    fn a_price_finer_than_one_unit_is_refused_not_rounded() {
        assert_eq!(Amount::from_price("0.0000001", 6), Err(PriceError::Precision { decimals: 6 }));
        assert_eq!(Amount::from_price("1.5", 0), Err(PriceError::Precision { decimals: 0 }));
    }

    #[test]
    fn only_plain_decimals_are_prices() {
        for text in ["", "1e-3", "-1", "+1", ".5", "1.", "$1", "1_000", " 1", "1 ", "1.2.3", "٣", "0x1"] {
            assert_eq!(Amount::from_price(text, 6), Err(PriceError::Syntax), "{text:?}");
        }
        assert_eq!(Amount::from_price(&"0".repeat(79), 6), Err(PriceError::Syntax));
        assert_eq!(atomic(&"0".repeat(78), 6), "0");
    }

    #[test]
    fn a_price_of_two_to_the_256_is_refused() {
        let max = U256::MAX.to_string();
        assert_eq!(atomic(&max, 0), max);
        assert_eq!(Amount::from_price(&max, 1), Err(PriceError::TooLarge));
        let beyond = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
        assert_eq!(Amount::from_price(beyond, 0), Err(PriceError::TooLarge));
        assert_eq!(Amount::parse(beyond), Err(AmountError::TooLarge));
    }

    #[test]
    fn an_amount_is_digits_only() {
        assert_eq!(Amount::parse("10000"), Ok(Amount::from_u64(10_000)));
        for text in ["", "1e4", "0x10", "1_000", "-1", "1.0", " 1"] {
            assert_eq!(Amount::parse(text), Err(AmountError::NotDecimal), "{text:?}");
        }
        assert_eq!(serde_json::from_str::<Amount>("\"7\"").unwrap(), Amount::from_u64(7));
        assert!(serde_json::from_str::<Amount>("7").is_err());
    }

    #[test]
    fn an_amount_is_written_digit_by_digit() {
        assert_eq!(Amount::default().to_string(), "0");
        for shift in 0..256 {
            for number in [U256::MAX >> shift, U256::from(1) << shift] {
                assert_eq!(Amount(number).to_string(), number.to_string());
            }
        }
    }

    #[test]
    fn people_read_whole_units() {
        assert_eq!(Amount::from_u64(1000).to_price(6), "0.001");
        assert_eq!(Amount::from_u64(2_500_000).to_price(6), "2.5");
        assert_eq!(Amount::from_u64(3).to_price(0), "3");
        assert_eq!(Amount::from_u64(0).to_price(18), "0");
    }
}
