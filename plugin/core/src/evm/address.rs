//! Fixed-size byte values and their 0x-hex forms.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hex::{decode_pair, strip_prefix, to_hex};
use super::keccak256;

/// A 20-byte account or contract address. Compared as bytes, so letter case never matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 20]);

/// A 32-byte word: a hash, a nonce, a domain separator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct B256(pub [u8; 32]);

/// Why a text is not the 0x-hex form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// The text does not start with `0x`.
    #[error("must start with 0x")]
    NoPrefix,
    /// The number of digits is not the one the type needs.
    #[error("has {found} hex digits after 0x, needs {needed}")]
    Length {
        /// Digits found after `0x`.
        found: usize,
        /// Digits the type needs.
        needed: usize,
    },
    /// A character outside `0-9a-fA-F`.
    #[error("is not hex: after 0x it holds a character outside 0-9, a-f and A-F")]
    Digit,
}

// === impl Address ===

impl Address {
    /// Reads `0x` (or `0X`) and 40 hex digits of any case.
    pub fn parse(text: &str) -> Result<Self, HexError> {
        parse_fixed(text).map(Self)
    }

    /// The mixed-case form with the EIP-55 checksum: what Farebox prints and puts on the wire.
    pub fn checksummed(&self) -> String {
        let lower = to_hex(&self.0);
        let digits = lower.strip_prefix("0x").unwrap_or_default();
        let hash = to_hex(&keccak256(digits.as_bytes()));
        let hash_digits = hash.strip_prefix("0x").unwrap_or_default();
        let cased = digits.chars().zip(hash_digits.chars()).map(|(digit, decides)| {
            // EIP-55: a letter is upper case where the hash digit in its place is 8 or more.
            if decides >= '8' { digit.to_ascii_uppercase() } else { digit }
        });
        core::iter::once('0').chain(core::iter::once('x')).chain(cased).collect()
    }

    /// Whether `text` is all of one case or has the right EIP-55 checksum.
    pub fn checksum_holds(text: &str) -> bool {
        let (Some(digits), Ok(address)) = (strip_prefix(text), Self::parse(text)) else { return false };
        let has_upper = digits.bytes().any(|byte| byte.is_ascii_uppercase());
        let has_lower = digits.bytes().any(|byte| byte.is_ascii_lowercase());
        !(has_upper && has_lower) || address.checksummed().strip_prefix("0x") == Some(digits)
    }

    /// Whether this is the zero address, which can never be paid.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 20]
    }

    /// Reads a literal at compile time; a bad literal does not compile.
    #[expect(
        clippy::indexing_slicing,
        clippy::panic,
        reason = "only evaluated in constants, where both are compile errors"
    )]
    pub(super) const fn literal(text: &[u8; 42]) -> Self {
        assert!(text[0] == b'0' && text[1] == b'x');
        let mut bytes = [0; 20];
        let mut at = 0;
        while at < 20 {
            bytes[at] = match decode_pair([text[2 + at * 2], text[3 + at * 2]]) {
                Some(byte) => byte,
                None => panic!("not a hex digit"),
            };
            at += 1;
        }
        Self(bytes)
    }
}

// === impl B256 ===

impl B256 {
    /// Reads `0x` and 64 hex digits of any case.
    pub fn parse(text: &str) -> Result<Self, HexError> {
        parse_fixed(text).map(Self)
    }
}

fn parse_fixed<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let digits = strip_prefix(text).ok_or(HexError::NoPrefix)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(HexError::Digit);
    }
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(HexError::Length { found: digits.len(), needed: N * 2 });
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = decode_pair(*pair).ok_or(HexError::Digit)?;
    }
    Ok(bytes)
}

// === impl Display: Address as EIP-55, B256 as lower-case 0x-hex; Debug the same ===

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.checksummed())
    }
}
impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
impl core::fmt::Display for B256 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}
impl core::fmt::Debug for B256 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of EIP-55.
    const CHECKSUMMED: [&str; 4] = [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];

    #[test]
    fn an_address_is_printed_with_its_eip_55_checksum() {
        for text in CHECKSUMMED {
            let address = Address::parse(&text.to_ascii_lowercase()).unwrap();
            assert_eq!(address.to_string(), text);
            assert!(Address::checksum_holds(text));
        }
    }

    #[test]
    fn one_case_needs_no_checksum_and_a_mixed_case_must_be_right() {
        let lower = CHECKSUMMED[0].to_ascii_lowercase();
        assert!(Address::checksum_holds(&lower));
        assert!(Address::checksum_holds(&lower.to_ascii_uppercase()));
        assert!(!Address::checksum_holds("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"));
        assert!(!Address::checksum_holds("0x5aAe"));
    }

    #[test]
    fn a_text_that_is_no_address_says_why() {
        assert_eq!(Address::parse("5aAe"), Err(HexError::NoPrefix));
        assert_eq!(Address::parse("0x5aAe"), Err(HexError::Length { found: 4, needed: 40 }));
        let foreign = format!("0x{}zz", "0".repeat(38));
        assert_eq!(Address::parse(&foreign), Err(HexError::Digit));
        assert_eq!(Address::parse(&format!("0x{}", "€".repeat(40))), Err(HexError::Digit));
    }

    #[test]
    fn a_word_is_printed_in_lower_case() {
        let text = format!("0x{}", "AB".repeat(32));
        assert_eq!(B256::parse(&text).unwrap().to_string(), text.to_ascii_lowercase().replace("0X", "0x"));
    }
}
