//! The receipt of a settlement, sent as `PAYMENT-RESPONSE` and `X-PAYMENT-RESPONSE`.

use serde::Serialize;

/// `SettleResponse` as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Whether money moved.
    pub success: bool,
    /// Protocol code when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Transaction hash, `""` when nothing was broadcast or it is not known.
    pub transaction: String,
    /// CAIP-2 id (v2) or v1 name (v1 payment).
    pub network: String,
    /// The payer, EIP-55.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
}

impl Receipt {
    /// The header value: padded base64 of the JSON.
    pub fn header_value(&self) -> String {
        super::encode_base64(&super::json::to_bytes(self))
    }
}
