//! Base64 as x402 headers use it: standard alphabet, padding optional on input, present on output.

/// Why header bytes are not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A byte outside `A-Za-z0-9+/=` or misplaced padding or an impossible length.
    #[error("is not standard base64")]
    NotBase64,
}

/// Decodes `^[A-Za-z0-9+/]*={0,2}$`; the URL-safe alphabet is refused.
pub fn decode_base64(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let _ = bytes;
    todo!()
}
/// Encodes with padding, on one line.
pub fn encode_base64(bytes: &[u8]) -> String {
    let _ = bytes;
    todo!()
}
