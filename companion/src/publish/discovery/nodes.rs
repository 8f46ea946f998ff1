//! The answers of each proxy over the discovery channel, by the `node.id` of its bootstrap.

use std::collections::BTreeMap;

use super::subscription::Verdict;
use crate::publish::proxies::{FORGOTTEN_SECONDS, MAX_PROXIES, OTHER, UNNAMED, printable};
use crate::settings::Listen;

/// The state of the discovery channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Its address; `None` if it is not served.
    pub address: Option<Listen>,
    nodes: BTreeMap<String, Node>,
}

/// One proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// When its first open stream began, Unix seconds; `None` without a stream.
    pub connected_since: Option<u64>,
    /// The version last sent to it, which begins with a generation.
    pub sent: Option<String>,
    /// The version that it acknowledged last.
    pub acknowledged: Option<String>,
    /// Number of pushes that it acknowledged, on any stream. A push that a newer one has replaced is
    /// not counted.
    pub acknowledgements: u64,
    /// The last push it refused.
    pub refusal: Option<Refusal>,
    /// Number of pushes that it refused, counted in the same way.
    pub refusals: u64,
    streams: usize,
    ended_at: Option<u64>,
}

/// A push that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its version.
    pub version: String,
    /// Envoy's message. The filter's reason is only in Envoy's log.
    pub message: String,
    /// Unix seconds.
    pub at: u64,
}

/// Longest text of a refusal.
const MAX_MESSAGE: usize = 500;

// === impl Discovery ===

impl Discovery {
    /// The known proxies, in the order of their names.
    pub fn nodes(&self, now: u64) -> impl Iterator<Item = (&str, &Node)> {
        let known = self.nodes.iter().filter(move |(_, node)| node.is_known(now));
        known.map(|(name, node)| (name.as_str(), node))
    }

    /// Whether a proxy that is connected has acknowledged rules.
    pub fn has_acknowledged(&self, now: u64) -> bool {
        self.nodes(now).any(|(_, node)| node.connected_since.is_some() && node.acknowledged.is_some())
    }

    /// Notes a new stream of the proxy with this id. Returns the name of its entry.
    pub(super) fn opened(&mut self, id: &str, now: u64) -> String {
        self.nodes.retain(|_, node| node.is_known(now));
        let mut name = printable(id);
        if !self.nodes.contains_key(&name) && self.nodes.len() >= MAX_PROXIES {
            name = OTHER.to_owned();
        }
        let node = self.nodes.entry(name.clone()).or_default();
        node.streams += 1;
        node.ended_at = None;
        node.connected_since.get_or_insert(now);
        name
    }

    /// Notes the end of a stream.
    pub(super) fn closed(&mut self, name: &str, now: u64) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.streams = node.streams.saturating_sub(1);
            if node.streams == 0 {
                node.connected_since = None;
                node.ended_at = Some(now);
            }
        }
    }

    /// Notes that a version was sent.
    pub(super) fn sent(&mut self, name: &str, version: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.sent = Some(version.to_owned());
        }
    }

    /// Notes the answer to a push.
    pub(super) fn answered(&mut self, name: &str, verdict: Verdict, now: u64) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        match verdict {
            Verdict::Acknowledged(version) => {
                node.acknowledgements += 1;
                node.acknowledged = Some(version);
            }
            Verdict::Refused(version, message) => {
                node.refusals += 1;
                let message = message.chars().take(MAX_MESSAGE).collect();
                node.refusal = Some(Refusal { version, message, at: now });
            }
        }
    }

    /// The version that this proxy refused last. `None` for proxies that share a name.
    pub(super) fn refused_by(&self, name: &str) -> Option<String> {
        let node = self.nodes.get(name).filter(|_| is_own(name))?;
        node.refusal.as_ref().map(|refusal| refusal.version.clone())
    }
}

#[cfg(test)]
impl Discovery {
    /// A proxy that took versions 10 and 11 and refused 12.
    pub(crate) fn with_answers(name: &str, now: u64) -> Self {
        let address = Some(Listen::Tcp(([127, 0, 0, 1], 9403).into()));
        let mut discovery = Self { address, ..Self::default() };
        discovery.opened(name, now);
        for verdict in [
            Verdict::Acknowledged("10".to_owned()),
            Verdict::Acknowledged("11".to_owned()),
            Verdict::Refused("12".to_owned(), "no such filter".to_owned()),
        ] {
            discovery.answered(name, verdict, now);
        }
        discovery.sent(name, "12");
        discovery
    }
}

// === impl Node ===

impl Node {
    fn is_known(&self, now: u64) -> bool {
        self.ended_at.is_none_or(|at| now.saturating_sub(at) <= FORGOTTEN_SECONDS)
    }
}

/// Whether a name belongs to only one proxy.
fn is_own(name: &str) -> bool {
    name != OTHER && name != UNNAMED
}
