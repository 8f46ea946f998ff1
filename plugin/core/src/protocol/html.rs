//! The page for a person who opens a paid URL in a browser. It is static and contains no text of the
//! request.

use core::fmt::Write as _;

use crate::evm::{asset_by_address, chain_name};
use crate::terms::PaymentOption;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em;\
    color:#222;background:#fff}table{border-collapse:collapse;width:100%}\
    th,td{text-align:left;padding:.4em .8em .4em 0;border-bottom:1px solid #ddd;vertical-align:top}\
    code{overflow-wrap:anywhere}";

/// Renders the page of a route.
pub(super) fn page(options: &[&PaymentOption], description: &str) -> String {
    let mut rows = String::new();
    for option in options {
        let symbol = asset_by_address(&option.network, &option.asset)
            .map_or(option.eip712_name.as_str(), |asset| asset.symbol);
        // Writing to a String cannot fail.
        let _ = write!(
            rows,
            "<tr><td>{} {}</td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>",
            option.amount.to_price(option.decimals),
            escape(symbol),
            escape(chain_name(&option.network).unwrap_or(option.network.as_str())),
            option.asset,
            option.pay_to,
        );
    }
    let about =
        if description.is_empty() { String::new() } else { format!("<p>{}</p>", escape(description)) };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\">\
         <title>Payment required</title><style>{STYLE}</style></head><body>\
         <h1>Payment required</h1>{about}\
         <p>Each request to this address costs one of the following.</p>\
         <table><thead><tr><th>Price</th><th>Network</th><th>Asset</th><th>Paid to</th></tr></thead>\
         <tbody>{rows}</tbody></table>\
         <h2>How to pay</h2>\
         <p>Send the request with a client that speaks x402, such as <code>@x402/fetch</code> for JavaScript \
         or <code>x402</code> for Python, and a wallet that holds the asset. The client reads the terms from \
         the <code>PAYMENT-REQUIRED</code> header of this response, signs a payment and sends the request \
         again with it. A browser alone cannot pay.</p></body></html>"
    )
}

/// Escapes text for the place between tags, or in a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
