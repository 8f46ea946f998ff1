//! Base64 as x402 headers use it: standard alphabet, padding optional on input, present on output.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding is optional because deployed clients leave it out. Stray bits in the last character are
/// ignored, as in every other decoder. Both are safe, because the encoded bytes are never used as a
/// key.
const CODEC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why header bytes are not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A byte outside `A-Za-z0-9+/=` or misplaced padding or an impossible length.
    #[error("is not standard base64")]
    NotBase64,
}

/// Decodes `^[A-Za-z0-9+/]*={0,2}$`; the URL-safe alphabet is refused.
pub fn decode_base64(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    CODEC.decode(bytes).map_err(|_| DecodeError::NotBase64)
}

/// Encodes with padding, on one line.
pub fn encode_base64(bytes: &[u8]) -> String {
    CODEC.encode(bytes)
}

/// Appends the encoding of `bytes`. Appending whole triples first and the rest last gives the encoding
/// of the concatenation.
pub(super) fn append_base64(bytes: &[u8], to: &mut String) {
    CODEC.encode_string(bytes, to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_written_and_not_demanded() {
        assert_eq!(encode_base64(b"{}"), "e30=");
        assert_eq!(decode_base64(b"e30=").unwrap(), b"{}");
        assert_eq!(decode_base64(b"e30").unwrap(), b"{}");
        assert_eq!(decode_base64(b"QQ=").unwrap(), b"A");
        assert_eq!(decode_base64(b"").unwrap(), b"");
    }

    #[test]
    fn another_alphabet_white_space_and_stray_padding_are_refused() {
        for text in ["_-8=", "e 30=", "e30=\n", "=", "e=30", "e30==", "e", "\u{ff}", "e3\0="] {
            assert_eq!(decode_base64(text.as_bytes()), Err(DecodeError::NotBase64), "{text:?}");
        }
    }

    #[test]
    fn aligned_pieces_encode_like_the_whole() {
        let mut pieces = encode_base64(b"abcdef");
        append_base64(b"g", &mut pieces);
        assert_eq!(pieces, encode_base64(b"abcdefg"));
    }
}
