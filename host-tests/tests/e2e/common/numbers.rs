//! The numbers of the companion's `/metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use farebox_core::metrics::Family;
use farebox_testkit::stack::{Scrape, Stack};

/// How often a number is read until it arrives. A proxy counts some things at the end of a stream, a
/// moment after the client has its answer.
const ROUNDS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(50);

/// The numbers of one offer. Maps hold only values above zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each member is named after its family")]
pub(crate) struct Tally {
    pub(crate) requests: u128,
    pub(crate) required: u128,
    pub(crate) verified: u128,
    pub(crate) charged: u128,
    pub(crate) amount: u128,
    pub(crate) upstream_failed: u128,
    pub(crate) failed_after_charge: u128,
    pub(crate) unresolved: u128,
    /// By `reason`.
    pub(crate) failed: BTreeMap<String, u128>,
    /// By `reason`.
    pub(crate) uncharged: BTreeMap<String, u128>,
    /// By `state`.
    pub(crate) replayed: BTreeMap<String, u128>,
}

/// Facilitator calls by `operation outcome`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Calls(BTreeMap<String, u128>);

// === impl Tally ===

impl Tally {
    /// Reads an offer.
    pub(crate) fn of(page: &Scrape, offer: &str) -> Self {
        let labels = [("offer_name", offer)];
        let sum = |family: Family| page.sum(family.name(), &labels).expect("integers");
        let by = |family: Family, label: &str| by_label(page, family, &labels, label);
        let tally = Self {
            requests: sum(Family::RequestsTotal),
            required: sum(Family::PaymentRequiredTotal),
            verified: sum(Family::PaymentVerifiedTotal),
            charged: sum(Family::ChargedRequestsTotal),
            amount: sum(Family::SettledAmountAtomicTotal),
            upstream_failed: sum(Family::UpstreamFailedAfterVerifyTotal),
            failed_after_charge: sum(Family::UpstreamFailedAfterChargeTotal),
            unresolved: sum(Family::SettlementsUnresolved),
            failed: by(Family::PaymentFailureReasonsTotal, "reason"),
            uncharged: by(Family::VerifiedUnchargedTotal, "reason"),
            replayed: by(Family::ReplayRejectionsTotal, "state"),
        };
        let failed = sum(Family::PaymentFailedTotal);
        assert_eq!(failed, tally.failed.values().sum::<u128>(), "failures are the sum of their reasons");
        tally
    }

    /// Asserts that an offer's numbers become these, and that every request is accounted for.
    pub(crate) async fn assert(self, stack: &Stack, offer: &str) {
        self.assert_or(None, stack, offer).await;
    }

    /// Asserts that an offer's numbers become these, or the other ones if these are possible, too.
    pub(crate) async fn assert_or(self, other: Option<Self>, stack: &Stack, offer: &str) {
        let mut seen = Self::default();
        for _ in 0..ROUNDS {
            seen = Self::of(&stack.metrics().await.expect("the companion answers"), offer);
            if seen == self || Some(&seen) == other.as_ref() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if Some(&seen) != other.as_ref() {
            assert_eq!(seen, self, "the numbers of {offer}");
        }
        let ended = seen.required + seen.failed.values().sum::<u128>() + seen.verified + seen.upstream_failed;
        assert_eq!(seen.requests, ended, "every request of {offer} came to one end");
    }

    /// With one failure for a reason.
    #[must_use]
    pub(crate) fn failed(mut self, reason: &str) -> Self {
        *self.failed.entry(reason.to_owned()).or_default() += 1;
        self
    }

    /// With one service that was not charged.
    #[must_use]
    pub(crate) fn uncharged(mut self, reason: &str) -> Self {
        *self.uncharged.entry(reason.to_owned()).or_default() += 1;
        self
    }

    /// With one rejected replay.
    #[must_use]
    pub(crate) fn replayed(mut self, state: &str) -> Self {
        *self.replayed.entry(state.to_owned()).or_default() += 1;
        self
    }
}

// === impl Calls ===

impl Calls {
    /// All calls so far.
    pub(crate) async fn now(stack: &Stack) -> Self {
        Self::of(&stack.counted().await.expect("the companion answers"))
    }

    fn of(page: &Scrape) -> Self {
        let name = format!("{}_count", Family::FacilitatorRequestDurationSeconds.name());
        let counts = page.matching(&name, &[]).map(|series| {
            let kind = format!("{} {}", series.labels["operation"], series.labels["outcome"]);
            (kind, series.integer().expect("an integer"))
        });
        Self(counts.filter(|(_, count)| *count > 0).collect())
    }

    /// Asserts that since then exactly these calls were made, e.g. `["verify success", "settle timeout"]`.
    pub(crate) async fn assert_since(self, stack: &Stack, expected: &[&str]) {
        let mut total = self;
        for kind in expected {
            *total.0.entry((*kind).to_owned()).or_default() += 1;
        }
        let mut seen = Self::default();
        for _ in 0..ROUNDS {
            seen = Self::of(&stack.metrics().await.expect("the companion answers"));
            if seen == total {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        assert_eq!(seen, total, "facilitator calls, of which the last are {expected:?}");
    }
}

fn by_label(page: &Scrape, family: Family, labels: &[(&str, &str)], label: &str) -> BTreeMap<String, u128> {
    let mut counts = BTreeMap::new();
    for series in page.matching(family.name(), labels) {
        let count = series.integer().expect("an integer");
        if count > 0 {
            *counts.entry(series.labels[label].clone()).or_default() += count;
        }
    }
    counts
}
