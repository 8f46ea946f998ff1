//! Whether the companion is ready, from the state of all its parts.

use std::collections::BTreeSet;

use super::facts::Facts;
use crate::clock::unix_seconds;

/// A chain on which no payment is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClosedChain {
    /// CAIP-2 id.
    pub(crate) network: String,
    /// The reason, with the state of each of its facilitators.
    pub(crate) cause: String,
    /// The offers on it, as `offer_namespace/offer_name`.
    pub(crate) offers: Vec<String>,
}

// === impl Facts ===

impl Facts<'_> {
    /// Why the companion is not ready; `None` if it is.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if self.is_stopping {
            return Some("the companion is stopping".to_owned());
        }
        if let Some(cause) = self.rules.not_loaded() {
            return Some(cause);
        }
        let traefik = self.published.traefik.as_ref().and_then(|traefik| traefik.publish_error.as_ref());
        if let Some(error) = self.published.publish_error.as_ref().or(traefik) {
            return Some(format!("configuration not published: {error}"));
        }
        let now = unix_seconds();
        // With `settlement: direct` proxies sell without the ledger.
        self.ledger
            .error
            .clone()
            .filter(|_| !self.ledger.settles_direct)
            .or_else(|| self.rules.all_left_out())
            .or_else(|| self.facilitators.unpayable())
            .or_else(|| self.facilitators.not_open_yet())
            .or_else(|| self.facilitators.all_dead(now))
            .or_else(|| self.nothing_enforced(now))
            .or_else(|| self.refused_by_traefik())
            .or_else(|| self.leads_nowhere())
            .or_else(|| self.gateway_unreachable())
    }

    /// Why the companion is not ready, if no other log line says it.
    pub(super) fn unlogged(&self, now: u64) -> Option<String> {
        self.rules
            .all_left_out()
            .or_else(|| self.facilitators.all_dead(now))
            .or_else(|| self.nothing_enforced(now).filter(|_| self.published.proxies.iter().next().is_none()))
            .or_else(|| self.leads_nowhere())
    }

    /// What is wrong with Traefik, if no other log line says it.
    pub(super) fn traefik_trouble(&self, now: u64) -> Option<String> {
        let traefik = self.published.traefik.as_ref()?;
        traefik.trouble(self.spools.started(), now)
    }

    /// The chains on which no payment is taken.
    pub(crate) fn closed(&self) -> Vec<ClosedChain> {
        let chain = |(network, cause): (String, String)| {
            let active = self.rules.active.as_ref();
            let keep_set = active.map(|active| active.snapshot.keep_set()).unwrap_or_default();
            let of_chain = keep_set.into_iter().filter(|tuple| tuple.chain == network);
            let offers: BTreeSet<_> =
                of_chain.map(|tuple| format!("{}/{}", tuple.offer_namespace, tuple.offer_name)).collect();
            ClosedChain { network, cause, offers: offers.into_iter().collect() }
        };
        self.facilitators.closed().into_iter().map(chain).collect()
    }

    /// Why no proxy sells, from their reports. `None` if the companion's own gateway sells.
    fn nothing_enforced(&self, now: u64) -> Option<String> {
        if self.gateway.is_some() {
            return None;
        }
        // Proxies on other machines may not reach the companion before it is ready.
        let are_there =
            self.published.discovery.address.is_none() || self.published.discovery.has_acknowledged(now);
        let known = || self.published.proxies.iter().filter(|proxy| are_there || proxy.is_up(now));
        let refused = if self.published.proxies.were_refused(now) {
            "; in the last minute the relay refused a call without the words of relay.secret: let the cluster `farebox` show \
             them, see relay-secret.yaml in envoy/README.md"
        } else {
            ""
        };
        if self.published.proxies.none_reports(now) && are_there {
            return Some(format!(
                "no proxy sells: none reports; see whether Envoy runs, envoy.wasm names the plugin where Envoy sees it, the \
                 filter is in the chain of its listener, and its cluster `farebox` leads to relay.listen{refused}"
            ));
        }
        let named = known().min_by_key(|proxy| !proxy.is_up(now))?;
        let trouble = named.sells_nothing(now)?;
        known()
            .all(|proxy| proxy.sells_nothing(now).is_some())
            .then(|| format!("no proxy sells: {} {trouble}{refused}", named.name))
    }

    /// Why Traefik has no routers for paid paths.
    fn refused_by_traefik(&self) -> Option<String> {
        let loaded = self.published.traefik.as_ref()?.api.as_ref()?.as_ref().ok()?;
        let error = loaded.error.as_ref().filter(|_| !self.published.proxies.are_pushed_to())?;
        Some(format!("Traefik refused the rules: {error}"))
    }

    /// Why the gateway answers every paid request 502. An Envoy has its own upstreams.
    fn leads_nowhere(&self) -> Option<String> {
        let gateway = self.gateway.as_ref().filter(|gateway| gateway.deployments.leads_nowhere())?;
        (!self.published.proxies.are_pushed_to()).then(|| {
            format!(
                "the gateway at {} sells nothing: no route has an upstream; set gateway.upstream, or upstreamURL of each \
                 route",
                gateway.address
            )
        })
    }

    /// Why Traefik does not reach the gateway. `None` once a request has come to the gateway.
    fn gateway_unreachable(&self) -> Option<String> {
        let was_reached = self.gateway.as_ref().is_some_and(|gateway| gateway.deployments.was_reached());
        self.published.traefik.as_ref()?.gateway_error.clone().filter(|_| !was_reached)
    }
}
