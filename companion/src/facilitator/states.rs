//! What is known of the facilitators: what they support, and how calls of them went.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

/// What is known of every facilitator. Relay and loader note it.
#[derive(Debug, Default)]
pub struct FacilitatorStates {
    /// The facilitators of the active rules.
    pub all: Vec<FacilitatorState>,
    /// CAIP-2 ids of the chains something is sold on and none of whose facilitators lists them.
    pub unlisted_networks: Vec<String>,
    /// What is wrong with the credentials of facilitators, by address.
    pub credentials: BTreeMap<String, CredentialState>,
    /// The last reply of a facilitator that was no verdict, by address.
    pub bad_replies: BTreeMap<String, BadReply>,
    /// The last call of a facilitator if no reply came, by address.
    pub failed_calls: BTreeMap<String, FailedCall>,
    /// Once every chain something is sold on was open. What closes or comes later closes alone, and is no reason to send
    /// clients of the others elsewhere.
    was_open: bool,
}

/// Whether a facilitator's kinds are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FacilitatorState {
    /// Its address.
    pub url: String,
    /// CAIP-2 ids of the chains it is used for.
    pub networks: Vec<String>,
    /// `version scheme network` of each kind; `None` until loaded.
    pub kinds: Option<Vec<String>>,
    /// Whether it says that it moves no money.
    pub is_for_development: bool,
    /// Unix seconds.
    pub loaded_at: Option<u64>,
    /// Why the last attempt to load them failed.
    pub last_error: Option<String>,
    /// When attempts began to fail, Unix seconds; `None` while the last one succeeded.
    pub failing_since: Option<u64>,
}

/// What is wrong with the credential of a facilitator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialState {
    /// Why it cannot be used.
    pub unusable: Option<String>,
    /// What the facilitator said to it; `None` again once a call is accepted.
    pub refused: Option<String>,
    /// When that was last logged, Unix seconds.
    pub logged_at: u64,
}

/// A call of a facilitator to which no reply came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// The endpoint: `verify` or `settle`.
    pub operation: &'static str,
    /// Why.
    pub error: String,
    /// When, Unix seconds.
    pub at: u64,
}

/// A reply of a facilitator that is no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadReply {
    /// The endpoint: `verify` or `settle`.
    pub operation: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Whether it calls our request malformed.
    pub malformed: bool,
    /// What it says, printable and cut.
    pub words: String,
    /// Its id of the call.
    pub correlation: Option<String>,
    /// When it came, Unix seconds.
    pub at: u64,
    /// When one of this facilitator was last logged, Unix seconds.
    pub logged_at: u64,
}

/// Seconds without an answer after which a facilitator is dead rather than restarting.
const DEAD_SECONDS: u64 = 30;

// === impl FacilitatorStates ===

impl FacilitatorStates {
    /// Notes what is known of the facilitators of the rules.
    pub fn are(&mut self, all: Vec<FacilitatorState>, unlisted: Vec<String>) {
        for network in unlisted.iter().filter(|network| !self.unlisted_networks.contains(network)) {
            warn!("no facilitator used for {network} lists it among its kinds: its payments may be refused");
        }
        let before = self.closed();
        self.all = all;
        self.unlisted_networks = unlisted;
        let closed = self.closed();
        self.was_open |= closed.is_empty();
        for (_, cause) in closed.iter().filter(|(network, _)| !before.contains_key(*network)) {
            warn!("{cause}");
        }
        for network in before.keys().filter(|network| !closed.contains_key(*network)) {
            info!("payments on {network} are taken now");
        }
    }

    /// The chains on which no payment is taken because none of their facilitators has said yet what it supports, by CAIP-2
    /// id, with the reason.
    pub fn closed(&self) -> BTreeMap<String, String> {
        let networks: BTreeSet<_> = self.all.iter().flat_map(|of| &of.networks).collect();
        networks
            .into_iter()
            .filter_map(|network| Some((network.clone(), self.closed_for(network)?)))
            .collect()
    }

    /// Why no payment is taken on the chain with this CAIP-2 id; `None` if it is open.
    pub fn closed_for(&self, network: &str) -> Option<String> {
        let used: Vec<_> =
            self.all.iter().filter(|of| of.networks.iter().any(|used| used == network)).collect();
        if used.is_empty() || used.iter().any(|of| of.kinds.is_some()) {
            return None;
        }
        let says = |of: &&FacilitatorState| {
            format!("{} ({})", of.url, of.last_error.as_deref().unwrap_or("not answered yet"))
        };
        let says = used.iter().map(says).collect::<Vec<_>>().join(", ");
        Some(format!("no payment on {network} is taken: no facilitator has said what it supports: {says}"))
    }

    /// Why not every chain has been open yet.
    pub fn not_open_yet(&self) -> Option<String> {
        let causes = || self.closed().into_values().collect::<Vec<_>>().join("; ");
        Some(causes()).filter(|causes| !self.was_open && !causes.is_empty())
    }

    /// Why nothing at all can be sold: not one facilitator has answered for a while. One chain that is left sells.
    pub fn all_dead(&self, now: u64) -> Option<String> {
        let is_dead = |of: &FacilitatorState| {
            of.failing_since.is_some_and(|since| now.saturating_sub(since) >= DEAD_SECONDS)
        };
        let used = || self.all.iter().filter(|of| !of.networks.is_empty());
        if used().next().is_none() || !used().all(is_dead) {
            return None;
        }
        let says = |of: &FacilitatorState| {
            format!("{} ({})", of.url, of.last_error.as_deref().unwrap_or("no answer"))
        };
        Some(format!(
            "no payment can be verified: no facilitator answers: {}",
            used().map(says).collect::<Vec<_>>().join(", ")
        ))
    }

    /// Why nobody can pay on a chain: each of its facilitators needs a credential that cannot be used.
    pub fn unpayable(&self) -> Option<String> {
        let unusable = |of: &FacilitatorState| self.credentials.get(&of.url)?.unusable.clone();
        let networks: BTreeSet<_> = self.all.iter().flat_map(|of| &of.networks).collect();
        networks.into_iter().find_map(|network| {
            let mut used = self.all.iter().filter(|of| of.networks.contains(network));
            let error = unusable(used.next()?)?;
            used.all(|of| unusable(of).is_some())
                .then(|| format!("no payment on {network} can be verified: {error}"))
        })
    }
}
