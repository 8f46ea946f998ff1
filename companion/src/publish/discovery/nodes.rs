//! What each proxy said over the discovery channel, by the id its bootstrap gives it.

use std::collections::BTreeMap;

use super::subscription::Verdict;
use crate::publish::proxies::{FORGOTTEN_SECONDS, MAX_PROXIES, OTHER, UNNAMED, printable};
use crate::settings::Listen;

/// The discovery channel, as far as proxies have used it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Where it is served; `None` if it is not.
    pub address: Option<Listen>,
    nodes: BTreeMap<String, Node>,
}

/// One proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// When its streams began, Unix seconds; `None` while it has none.
    pub connected_since: Option<u64>,
    /// The version last sent to it: it begins with a generation.
    pub sent: Option<String>,
    /// The version it last said it took.
    pub acknowledged: Option<String>,
    /// Pushes it acknowledged, on any of its streams. One that a newer push overtook is not counted.
    pub acknowledgements: u64,
    /// The last push it refused.
    pub refusal: Option<Refusal>,
    /// Pushes it refused, counted in the same way.
    pub refusals: u64,
    streams: usize,
    ended_at: Option<u64>,
}

/// A push that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The version of it.
    pub version: String,
    /// What Envoy said. Why the filter refused is in Envoy's log only.
    pub message: String,
    /// Unix seconds.
    pub at: u64,
}

/// Longest text of a refusal.
const MAX_MESSAGE: usize = 500;

// === impl Discovery ===

impl Discovery {
    /// The proxies that are remembered, in the order of their names.
    pub fn nodes(&self, now: u64) -> impl Iterator<Item = (&str, &Node)> {
        let known = self.nodes.iter().filter(move |(_, node)| node.is_known(now));
        known.map(|(name, node)| (name.as_str(), node))
    }

    /// Whether a proxy that is connected has acknowledged rules.
    pub fn has_acknowledged(&self, now: u64) -> bool {
        self.nodes(now).any(|(_, node)| node.connected_since.is_some() && node.acknowledged.is_some())
    }

    /// A stream of the proxy with this id began. Returns the name it is kept under.
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

    /// A stream ended.
    pub(super) fn closed(&mut self, name: &str, now: u64) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.streams = node.streams.saturating_sub(1);
            if node.streams == 0 {
                node.connected_since = None;
                node.ended_at = Some(now);
            }
        }
    }

    /// A version is on its way.
    pub(super) fn sent(&mut self, name: &str, version: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.sent = Some(version.to_owned());
        }
    }

    /// A push was answered.
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

    /// The version this proxy refused last. Nothing is known of one that shares its name.
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

/// Whether a name is one proxy's alone.
fn is_own(name: &str) -> bool {
    name != OTHER && name != UNNAMED
}
