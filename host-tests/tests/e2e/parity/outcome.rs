//! The result of a case, without the parts that may differ between hosts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::common::{Answer, text};

/// Headers of an answer that are about the connection or the host, not about the answer.
const OF_THE_HOST: [&str; 7] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "transfer-encoding",
    "x-envoy-upstream-service-time",
];
/// Headers a proxy adds to a request or takes off it, each in its own way.
const OF_THE_WAY: [&str; 6] =
    ["accept-encoding", "connection", "content-length", "expect", "transfer-encoding", "via"];
/// Starts of names of such headers.
const OF_THE_WAY_TOO: [&str; 4] = ["x-forwarded-", "x-envoy-", "x-real-", "x-request-"];

/// The result of one case on one host. It must be equal on all hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: u16,
    /// In order of names; copies of one name in order of arrival.
    pub(super) headers: Vec<(String, String)>,
    /// The body as text. If it describes the upstream's request, without headers that the proxy
    /// adds.
    pub(super) body: String,
    pub(super) whole: bool,
    /// Requests by path at the upstream.
    pub(super) reached: BTreeMap<String, u64>,
    /// Calls to the facilitator; empty if the companion decides about them.
    pub(super) asked: Vec<String>,
    /// The payment in the ledger.
    pub(super) ledger: Option<Value>,
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn of(answer: &Answer) -> Self {
        let is_of_nothing = |name: &str| name == "content-type" && answer.body.is_empty();
        let is_ours = |name: &str| !OF_THE_HOST.contains(&name) && !is_of_nothing(name);
        let headers = answer.headers.iter().filter(|(name, _)| is_ours(name));
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.clone(), text(value))).collect();
        headers.sort_by(|one, other| one.0.cmp(&other.0));
        Self {
            status: answer.status,
            headers,
            body: body(&answer.body),
            whole: answer.complete,
            ..Self::default()
        }
    }

    /// The differences of two hosts.
    pub(super) fn difference(&self, other: &Self) -> String {
        let mut lines = String::new();
        let mut line = |what: &str, one: String, two: String| {
            if one != two {
                let _ = write!(lines, "\n    {what}: {one}\n    {0:1$}  {two}", "", what.len());
            }
        };
        line("status", self.status.to_string(), other.status.to_string());
        line("headers", format!("{:?}", self.headers), format!("{:?}", other.headers));
        line("body", cut(&self.body), cut(&other.body));
        line("whole", self.whole.to_string(), other.whole.to_string());
        line("reached", format!("{:?}", self.reached), format!("{:?}", other.reached));
        line("asked", format!("{:?}", self.asked), format!("{:?}", other.asked));
        line("ledger", format!("{:?}", self.ledger), format!("{:?}", other.ledger));
        lines
    }
}

/// A row of the ledger without times, and without names that differ by host.
pub(super) fn of_ledger(entry: &Value) -> Value {
    let members = [
        "state",
        "network",
        "asset",
        "asset_symbol",
        "amount",
        "payer",
        "pay_to",
        "nonce",
        "offer_namespace",
        "offer_name",
        "transaction",
        "reason",
    ];
    let mut entry = entry.clone();
    if entry["state"] == "unknown" {
        // The result of the last question depends on how long the run takes.
        entry["reason"] = Value::Null;
    }
    if entry["reason"].as_str().is_some_and(|reason| reason.starts_with("http://")) {
        // The text has the facilitator's address, which differs by host.
        entry["reason"] = entry["reason"]
            .as_str()
            .and_then(|reason| reason.split_once("/settle"))
            .map_or(Value::Null, |(_, why)| why.into());
    }
    members
        .into_iter()
        .map(|member| (member.to_owned(), entry[member].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn body(bytes: &[u8]) -> String {
    let Ok(mut json) = serde_json::from_slice::<Value>(bytes) else { return text(bytes) };
    if let Some(headers) = json["headers"].as_array() {
        let ours = |pair: &&Value| {
            let name = pair[0].as_str().unwrap_or_default();
            !OF_THE_WAY.contains(&name) && !OF_THE_WAY_TOO.iter().any(|start| name.starts_with(start))
        };
        let mut kept: Vec<Value> = headers.iter().filter(ours).cloned().collect();
        kept.sort_by_key(ToString::to_string);
        json["headers"] = json!(kept);
    }
    json.to_string()
}

fn cut(text: &str) -> String {
    if text.len() <= 1_500 { text.to_owned() } else { format!("{} bytes: {:.300}", text.len(), text) }
}
