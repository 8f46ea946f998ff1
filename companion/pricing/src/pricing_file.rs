//! The pricing file: keys and values with their lines.
//!
//! This module checks keys and types, all at once. [`super::resolve`] interprets the values.

use std::collections::HashMap;

use super::Credential;
use super::load::{Finding, Severity};
use super::yaml::{Entry, Node, Value};

/// A value and the line of its key.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct PricingFile {
    pub(super) wallet: Option<At<String>>,
    pub(super) chain: Option<At<String>>,
    pub(super) facilitator_url: Option<At<String>>,
    pub(super) verify_only: Option<At<bool>>,
    pub(super) require_secure_transport: Option<At<bool>>,
    pub(super) unlock: Option<Unlock>,
    pub(super) routes: Vec<RouteEntry>,
}

/// `authCaptureUnlock`: whether it is enabled, which is not supported, and its prefix.
#[derive(Debug)]
pub(super) struct Unlock {
    pub(super) line: usize,
    pub(super) enabled: bool,
    pub(super) offer_prefix: Option<At<String>>,
}

/// One entry of `routes`.
#[derive(Debug)]
pub(super) struct RouteEntry {
    /// Key path, `routes[3]`.
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) pattern: Option<At<String>>,
    pub(super) gate: Option<At<String>>,
    pub(super) inline: Money,
    pub(super) payments: Vec<Money>,
    /// The first key of terms, with or without a value.
    pub(super) terms: Option<(usize, &'static str)>,
    pub(super) upstream_url: Option<At<String>>,
    pub(super) strip_prefix: Option<At<String>>,
    /// The inner `None` is an unusable value. The value is a secret.
    pub(super) upstream_auth: Option<At<Option<Credential>>>,
    pub(super) offer_namespace: Option<At<String>>,
    pub(super) offer_name: Option<At<String>>,
    pub(super) offer_type: Option<At<String>>,
    pub(super) description: Option<At<String>>,
    pub(super) hostname: Option<At<String>>,
    pub(super) min_remaining: Option<At<i64>>,
    pub(super) agent_skills: Vec<String>,
    pub(super) agent_runtime: Option<At<String>>,
    pub(super) free_quota: Option<At<i64>>,
    pub(super) is_async: Option<At<bool>>,
    pub(super) async_visibility: Option<At<String>>,
}

/// The money keys, inline or of one entry of `payments`.
#[derive(Debug, Clone, Default)]
pub(super) struct Money {
    /// Key path of the mapping with these keys.
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) price: Option<At<String>>,
    pub(super) pay_to: Option<At<String>>,
    pub(super) network: Option<At<String>>,
    pub(super) asset_address: Option<At<String>>,
    pub(super) asset_symbol: Option<At<String>>,
    pub(super) asset_decimals: Option<At<i64>>,
    pub(super) transfer_method: Option<At<String>>,
    pub(super) eip712_name: Option<At<String>>,
    pub(super) eip712_version: Option<At<String>>,
    pub(super) price_model: Option<At<String>>,
    pub(super) per_mtok: Option<At<String>>,
    pub(super) tokens: Option<At<i64>>,
    pub(super) max_timeout: Option<At<i64>>,
    pub(super) payment_flow: Option<At<String>>,
}

const TOP_KEYS: &[&str] = &[
    "wallet",
    "chain",
    "facilitatorURL",
    "verifyOnly",
    "routes",
    "authCaptureUnlock",
    "requireSecureTransport",
];
const UNLOCK_KEYS: &[&str] = &[
    "enabled",
    "offerPrefix",
    "price",
    "network",
    "payTo",
    "asset",
    "feeRecipient",
    "minFeeBps",
    "maxFeeBps",
    "captureAuthorizer",
    "captureDeadlineSecs",
    "refundDeadlineSecs",
];
const MONEY_KEYS: &[&str] = &[
    "price",
    "payTo",
    "network",
    "assetAddress",
    "assetSymbol",
    "assetDecimals",
    "assetTransferMethod",
    "eip712Name",
    "eip712Version",
    "priceModel",
    "perMTok",
    "approxTokensPerRequest",
    "maxTimeoutSeconds",
    "paymentFlow",
];
const ROUTE_KEYS: &[&str] = &[
    "pattern",
    "payments",
    "gate",
    "upstreamAuth",
    "upstreamURL",
    "stripPrefix",
    "offerNamespace",
    "offerName",
    "description",
    "offerType",
    "model",
    "agentModel",
    "agentSkills",
    "agentRuntime",
    "hostname",
    "minRemaining",
    "freeQuota",
    "async",
    "brokerURL",
    "asyncTTL",
    "asyncVisibility",
    "branding",
];

/// Reads the root of the document. Every finding here rejects the file.
pub(super) fn read(root: &Node, findings: &mut Vec<Finding>) -> PricingFile {
    let mut reader = Reader { findings };
    let Some(top) = reader.map("", root, root.line, &[TOP_KEYS]) else { return PricingFile::default() };
    if top.find("routes").is_none() {
        reader.reject(root.line, "routes", "is missing; write `routes: []` if there are none".into());
    }
    PricingFile {
        wallet: reader.text(&top, "wallet"),
        chain: reader.text(&top, "chain"),
        facilitator_url: reader.text(&top, "facilitatorURL"),
        verify_only: reader.boolean(&top, "verifyOnly"),
        require_secure_transport: reader.boolean(&top, "requireSecureTransport"),
        unlock: reader.unlock(&top),
        routes: reader.routes(&top),
    }
}

// === impl Money ===

impl Money {
    /// These keys, with those of `base` for keys that are not set. The caller handles the flow, because
    /// beside a list of payments it is the default of every entry.
    pub(super) fn over(&self, base: &Self) -> Self {
        fn or<T: Clone>(own: &Option<At<T>>, base: &Option<At<T>>) -> Option<At<T>> {
            own.as_ref().or(base.as_ref()).cloned()
        }
        Self {
            path: self.path.clone(),
            line: self.line,
            price: or(&self.price, &base.price),
            pay_to: or(&self.pay_to, &base.pay_to),
            network: or(&self.network, &base.network),
            asset_address: or(&self.asset_address, &base.asset_address),
            asset_symbol: or(&self.asset_symbol, &base.asset_symbol),
            asset_decimals: or(&self.asset_decimals, &base.asset_decimals),
            transfer_method: or(&self.transfer_method, &base.transfer_method),
            eip712_name: or(&self.eip712_name, &base.eip712_name),
            eip712_version: or(&self.eip712_version, &base.eip712_version),
            price_model: or(&self.price_model, &base.price_model),
            per_mtok: or(&self.per_mtok, &base.per_mtok),
            tokens: or(&self.tokens, &base.tokens),
            max_timeout: or(&self.max_timeout, &base.max_timeout),
            payment_flow: base.payment_flow.clone(),
        }
    }

    /// Line and name of the first money key that is set, the flow aside.
    pub(super) fn first_set(&self) -> Option<(usize, &'static str)> {
        fn line<T>(key: &Option<At<T>>) -> Option<usize> {
            key.as_ref().map(|at| at.line)
        }
        let keys = [
            (line(&self.price), "price"),
            (line(&self.pay_to), "payTo"),
            (line(&self.network), "network"),
            (line(&self.asset_address), "assetAddress"),
            (line(&self.asset_symbol), "assetSymbol"),
            (line(&self.asset_decimals), "assetDecimals"),
            (line(&self.transfer_method), "assetTransferMethod"),
            (line(&self.eip712_name), "eip712Name"),
            (line(&self.eip712_version), "eip712Version"),
            (line(&self.price_model), "priceModel"),
            (line(&self.per_mtok), "perMTok"),
            (line(&self.tokens), "approxTokensPerRequest"),
            (line(&self.max_timeout), "maxTimeoutSeconds"),
        ];
        keys.into_iter().filter_map(|(line, key)| line.map(|line| (line, key))).min()
    }
}

struct Reader<'f> {
    findings: &'f mut Vec<Finding>,
}

/// A mapping with its key path.
struct Map<'n> {
    path: String,
    entries: &'n [Entry],
}

// === impl Map ===

impl<'n> Map<'n> {
    /// The first entry of a key.
    fn find(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The entry of a key that is set.
    fn get(&self, key: &str) -> Option<&'n Entry> {
        self.find(key).filter(|entry| !entry.value.is_null())
    }

    fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn reject(&mut self, line: usize, key: &str, message: String) {
        self.findings.push(Finding { severity: Severity::Reject, line, key: key.to_owned(), message });
    }

    /// Reads a mapping, and reports unknown and repeated keys.
    fn map<'n>(&mut self, path: &str, node: &'n Node, line: usize, known: &[&[&str]]) -> Option<Map<'n>> {
        let Value::Map(entries) = &node.value else {
            let key = if path.is_empty() { WHOLE_FILE } else { path };
            self.reject(line, key, format!("must be a mapping of keys, not {}", node.kind()));
            return None;
        };
        let map = Map { path: path.to_owned(), entries };
        let mut first_lines = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(first) = first_lines.insert(entry.key.as_str(), entry.line) {
                let message = format!("is repeated; the first one is on line {first}");
                self.reject(entry.line, &map.child(&entry.key), message);
            } else if !known.iter().any(|keys| keys.contains(&entry.key.as_str())) {
                let near = nearest(&entry.key, known);
                let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                self.reject(entry.line, &map.child(&entry.key), format!("is not a known key{hint}"));
            }
        }
        Some(map)
    }

    /// Source text of a scalar; empty counts as not set.
    fn text(&mut self, map: &Map<'_>, key: &str) -> Option<At<String>> {
        let entry = map.get(key)?;
        match &entry.value.value {
            Value::Scalar { text, .. } if text.is_empty() => None,
            Value::Scalar { text, .. } => Some(At { line: entry.line, value: text.clone() }),
            _ => {
                let message = format!("must be a text, not {}", entry.value.kind());
                self.reject(entry.line, &map.child(key), message);
                None
            }
        }
    }

    fn boolean(&mut self, map: &Map<'_>, key: &str) -> Option<At<bool>> {
        let entry = map.get(key)?;
        let value = match &entry.value.value {
            Value::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if value.is_none() {
            self.reject(entry.line, &map.child(key), "must be true or false, without quotes".into());
        }
        value.map(|value| At { line: entry.line, value })
    }

    fn integer(&mut self, map: &Map<'_>, key: &str) -> Option<At<i64>> {
        let entry = map.get(key)?;
        let value = match &entry.value.value {
            Value::Scalar { text, plain: true } => Some(text.strip_prefix('-').unwrap_or(text))
                .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|_| text.parse().ok()),
            _ => None,
        };
        if value.is_none() {
            self.reject(entry.line, &map.child(key), "must be a whole number, without quotes".into());
        }
        value.map(|value| At { line: entry.line, value })
    }

    fn list<'n>(&mut self, map: &Map<'n>, key: &str) -> &'n [Node] {
        let Some(entry) = map.get(key) else { return &[] };
        match &entry.value.value {
            Value::List(items) => items,
            _ => {
                let message = format!("must be a list, not {}", entry.value.kind());
                self.reject(entry.line, &map.child(key), message);
                &[]
            }
        }
    }

    fn texts(&mut self, map: &Map<'_>, key: &str) -> Vec<String> {
        let mut out = Vec::new();
        for (position, node) in self.list(map, key).iter().enumerate() {
            match &node.value {
                Value::Scalar { text, .. } => out.push(text.clone()),
                _ => {
                    let path = format!("{}[{position}]", map.child(key));
                    self.reject(node.line, &path, format!("must be a text, not {}", node.kind()));
                }
            }
        }
        out
    }

    fn unlock(&mut self, top: &Map<'_>) -> Option<Unlock> {
        let entry = top.get("authCaptureUnlock")?;
        let map = self.map("authCaptureUnlock", &entry.value, entry.line, &[UNLOCK_KEYS])?;
        for key in ["price", "network", "payTo", "asset", "feeRecipient", "captureAuthorizer"] {
            self.text(&map, key);
        }
        for key in ["minFeeBps", "maxFeeBps", "captureDeadlineSecs", "refundDeadlineSecs"] {
            self.integer(&map, key);
        }
        Some(Unlock {
            line: entry.line,
            enabled: self.boolean(&map, "enabled").is_some_and(|enabled| enabled.value),
            offer_prefix: self.text(&map, "offerPrefix"),
        })
    }

    fn routes(&mut self, top: &Map<'_>) -> Vec<RouteEntry> {
        if let Some(entry) = top.find("routes").filter(|entry| entry.value.is_null()) {
            self.reject(entry.line, "routes", "is empty; write `routes: []` if there are none".into());
        }
        let nodes = self.list(top, "routes");
        nodes.iter().enumerate().filter_map(|(position, node)| self.route(position, node)).collect()
    }

    fn route(&mut self, position: usize, node: &Node) -> Option<RouteEntry> {
        let path = format!("routes[{position}]");
        let map = self.map(&path, node, node.line, &[ROUTE_KEYS, MONEY_KEYS])?;
        for ignored in ["model", "agentModel", "brokerURL", "asyncTTL"] {
            self.text(&map, ignored);
        }
        Some(RouteEntry {
            line: node.line,
            pattern: self.text(&map, "pattern"),
            gate: self.text(&map, "gate"),
            inline: self.money(&map, node.line),
            payments: self.payments(&map),
            terms: MONEY_KEYS
                .iter()
                .chain(&["payments", "minRemaining"])
                .filter_map(|key| Some((map.find(key)?.line, *key)))
                .min(),
            upstream_url: self.text(&map, "upstreamURL"),
            strip_prefix: self.text(&map, "stripPrefix"),
            upstream_auth: self
                .text(&map, "upstreamAuth")
                .map(|At { line, value }| At { line, value: Credential::parse(&value) }),
            offer_namespace: self.text(&map, "offerNamespace"),
            offer_name: self.text(&map, "offerName"),
            offer_type: self.text(&map, "offerType"),
            description: self.text(&map, "description"),
            hostname: self.text(&map, "hostname"),
            min_remaining: self.integer(&map, "minRemaining"),
            agent_skills: self.texts(&map, "agentSkills"),
            agent_runtime: self.text(&map, "agentRuntime"),
            free_quota: self.integer(&map, "freeQuota"),
            is_async: self.boolean(&map, "async"),
            async_visibility: self.text(&map, "asyncVisibility"),
            path,
        })
    }

    fn payments(&mut self, route: &Map<'_>) -> Vec<Money> {
        let nodes = self.list(route, "payments");
        let mut payments = Vec::with_capacity(nodes.len());
        for (position, node) in nodes.iter().enumerate() {
            let path = format!("{}[{position}]", route.child("payments"));
            if let Some(map) = self.map(&path, node, node.line, &[MONEY_KEYS]) {
                payments.push(self.money(&map, node.line));
            }
        }
        payments
    }

    fn money(&mut self, map: &Map<'_>, line: usize) -> Money {
        let asset_decimals = self.integer(map, "assetDecimals");
        if let Some(decimals) = asset_decimals.as_ref().filter(|d| !(0..=255).contains(&d.value)) {
            self.reject(decimals.line, &map.child("assetDecimals"), "must be from 0 to 255".into());
        }
        Money {
            path: map.path.clone(),
            line,
            price: self.text(map, "price"),
            pay_to: self.text(map, "payTo"),
            network: self.text(map, "network"),
            asset_address: self.text(map, "assetAddress"),
            asset_symbol: self.text(map, "assetSymbol"),
            asset_decimals,
            transfer_method: self.text(map, "assetTransferMethod"),
            eip712_name: self.text(map, "eip712Name"),
            eip712_version: self.text(map, "eip712Version"),
            price_model: self.text(map, "priceModel"),
            per_mtok: self.text(map, "perMTok"),
            tokens: self.integer(map, "approxTokensPerRequest"),
            max_timeout: self.integer(map, "maxTimeoutSeconds"),
            payment_flow: self.text(map, "paymentFlow"),
        }
    }
}

/// Key of findings about the file as a whole.
pub(super) const WHOLE_FILE: &str = "pricing file";

/// The known key that is most similar to `typed`: letter case ignored, with at most a third of it
/// wrong.
pub(super) fn nearest<'k>(typed: &str, known: &[&[&'k str]]) -> Option<&'k str> {
    if typed.len() > 64 {
        return None;
    }
    let typed = typed.to_lowercase();
    let candidates = known.iter().copied().flatten().map(|key| (distance(&typed, &key.to_lowercase()), *key));
    let (distance, key) = candidates.min()?;
    (distance <= (key.len() / 3).max(1)).then_some(key)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (position, from) in a.bytes().enumerate() {
        let mut diagonal = position;
        let mut left = position + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let substituted = diagonal + usize::from(from != to);
            diagonal = *cell;
            *cell = substituted.min(left + 1).min(*cell + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = position + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "pricing_file_tests.rs"]
mod tests;
