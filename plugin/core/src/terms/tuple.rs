//! The labels of a sale in the metrics.

use serde::Serialize;

/// Labels of a T series, and the generation in which the series began.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tuple {
    /// `offer_namespace`, may be empty.
    pub offer_namespace: String,
    /// `offer_name`, may be empty.
    pub offer_name: String,
    /// Resolved CAIP-2 id.
    pub chain: String,
    /// Symbol of the resolved asset.
    pub asset_symbol: String,
    /// Generation in which the tuple (re)entered the keep-set; 0 for the first load after a start.
    pub born: u64,
}

/// Whether a text can be the value of a metric label: short, printable, and unambiguous in the name
/// of a series, where `;.;` ends a value.
pub fn is_label(text: &str) -> bool {
    const END: &[u8] = b";.;";
    text.len() <= 253
        && !text.contains(char::is_control)
        && [text.as_bytes(), END].concat().windows(END.len()).position(|window| window == END)
            == Some(text.len())
}
