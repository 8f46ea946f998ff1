//! Fixed-size byte values and their 0x-hex forms.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    #[error("has {found} hex digits, needs {needed}")]
    Length {
        /// Digits found after `0x`.
        found: usize,
        /// Digits the type needs.
        needed: usize,
    },
    /// A character outside `0-9a-fA-F`.
    #[error("holds a character that is not a hex digit")]
    Digit,
}

impl Address {
    /// Reads `0x` (or `0X`) and 40 hex digits of any case.
    pub fn parse(text: &str) -> Result<Self, HexError> {
        let _ = text;
        todo!()
    }
    /// The mixed-case form with the EIP-55 checksum: what Farebox prints and puts on the wire.
    pub fn checksummed(&self) -> String {
        todo!()
    }
    /// Whether `text` is all of one case or has the right EIP-55 checksum.
    pub fn checksum_holds(text: &str) -> bool {
        let _ = text;
        todo!()
    }
    /// Whether this is the zero address, which can never be paid.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 20]
    }
}

impl B256 {
    /// Reads `0x` and 64 hex digits of any case.
    pub fn parse(text: &str) -> Result<Self, HexError> {
        let _ = text;
        todo!()
    }
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
        let _ = f;
        todo!()
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
