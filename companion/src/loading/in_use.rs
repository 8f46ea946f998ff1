//! The facilitators that the active rules use, and their chains.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::evm::{Network, v1_name};
use farebox_pricing::Snapshot;

use crate::facilitator::{FacilitatorState, Supported};
use crate::rules::AllKnown;
use crate::settings::Facilitators;

/// Each chain of an offer, with its facilitators in the order of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InUse {
    chains: BTreeMap<Network, Vec<String>>,
    /// The facilitators of chains without their own. They are asked what they support even if nothing is sold
    /// yet.
    default: Vec<String>,
}

// === impl InUse ===

impl InUse {
    /// The facilitators of a snapshot. Without a relay there is only the one of the rules.
    pub(super) fn of(facilitators: Option<&Facilitators>, snapshot: &Snapshot) -> Self {
        let none = Facilitators::default();
        let (facilitators, default) = (facilitators.unwrap_or(&none), snapshot.facilitator_url.as_deref());
        let options = snapshot.routes.iter().flat_map(|route| &route.options);
        let networks: BTreeSet<_> = options.map(|option| &option.network).collect();
        let chains = networks
            .into_iter()
            .map(|network| (network.clone(), facilitators.list(network, default)))
            .collect();
        Self { chains, default: facilitators.default_list(default) }
    }

    /// Every facilitator in use. The default ones are among them if a chain uses them or nothing is sold.
    pub(super) fn urls(&self) -> BTreeSet<String> {
        self.lists().flatten().cloned().collect()
    }

    /// Whether payments can be verified: in each list, the kinds of at least one facilitator are known.
    pub(super) fn is_ready(&self, known: &AllKnown) -> bool {
        self.lists().all(|urls| supported(urls, known).next().is_some())
    }

    /// CAIP-2 ids of the chains on which a facilitator takes version 1 payments.
    pub(super) fn v1_networks(&self, known: &AllKnown) -> BTreeSet<String> {
        let takes_v1 = |(network, urls): &(&Network, &Vec<String>)| {
            supported(urls, known).any(|supported| supported.v1_networks().contains(network.as_str()))
        };
        self.chains.iter().filter(takes_v1).map(|(network, _)| network.to_string()).collect()
    }

    /// CAIP-2 ids of the chains that none of their facilitators lists, although all lists are known.
    pub(super) fn unlisted(&self, known: &AllKnown) -> Vec<String> {
        let is_unlisted = |(network, urls): &(&Network, &Vec<String>)| {
            supported(urls, known).count() == urls.len()
                && !supported(urls, known).any(|supported| lists(supported, network))
        };
        self.chains.iter().filter(is_unlisted).map(|(network, _)| network.to_string()).collect()
    }

    /// The state of each facilitator, for `/status`.
    pub(super) fn states(&self, known: &AllKnown) -> Vec<FacilitatorState> {
        let state = |url: String| {
            let chains = self.chains.iter().filter(|(_, urls)| urls.contains(&url));
            let networks = chains.map(|(network, _)| network.to_string()).collect();
            let known = known.get(&url).cloned().unwrap_or_default();
            FacilitatorState {
                is_for_development: known.supported.as_ref().is_some_and(|known| known.is_for_development),
                kinds: known
                    .supported
                    .map(|supported| supported.kinds.iter().map(ToString::to_string).collect()),
                loaded_at: known.loaded_at,
                last_error: known.last_error,
                failing_since: known.failing_since,
                networks,
                url,
            }
        };
        self.urls().into_iter().map(state).collect()
    }

    /// The lists on which payments depend.
    fn lists(&self) -> impl Iterator<Item = &Vec<String>> {
        let default = self.chains.is_empty().then_some(&self.default);
        self.chains.values().chain(default)
    }
}

fn supported<'a>(urls: &'a [String], known: &'a AllKnown) -> impl Iterator<Item = &'a Supported> {
    urls.iter().filter_map(|url| known.get(url)?.supported.as_deref())
}

fn lists(supported: &Supported, network: &Network) -> bool {
    supported.kinds.iter().any(|kind| {
        kind.scheme == "exact"
            && match kind.x402_version {
                1 => Some(kind.network.as_str()) == v1_name(network),
                _ => kind.network == network.as_str(),
            }
    })
}

#[cfg(test)]
#[path = "in_use_tests.rs"]
mod tests;
