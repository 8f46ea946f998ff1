//! Hex text, both ways.

/// Lower-case hex digits of `bytes`, with `0x`.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0x0f));
    }
    text
}

/// Reads `0x` (or `0X`) and an even number of hex digits of any case; `None` for anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = strip_prefix(text)?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.as_chunks::<2>().0.iter().map(|pair| decode_pair(*pair)).collect()
}

/// The digits after `0x` or `0X`.
pub(super) fn strip_prefix(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// One byte from two hex digits.
pub(super) const fn decode_pair(pair: [u8; 2]) -> Option<u8> {
    match (nibble(pair[0]), nibble(pair[1])) {
        (Some(high), Some(low)) => Some(high << 4 | low),
        _ => None,
    }
}

pub(super) fn digit(nibble: u8) -> char {
    char::from(if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) })
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_round_trip_in_lower_case() {
        assert_eq!(to_hex(&[0x00, 0x9f, 0xff]), "0x009fff");
        assert_eq!(from_hex("0X009FfF"), Some(vec![0x00, 0x9f, 0xff]));
        assert_eq!(from_hex("0x"), Some(vec![]));
    }

    #[test]
    fn odd_lengths_foreign_digits_and_missing_prefixes_are_no_hex() {
        for text in ["", "0", "x00", "00", "0x0", "0x0g", "0x€", "0x0\u{0}", "0x 0"] {
            assert_eq!(from_hex(text), None, "{text:?}");
        }
    }
}
