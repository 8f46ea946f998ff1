//! The immutable table of a proxy: one for each push, shared by every request that started under it.

use super::matcher::Matcher;
use super::{Facilitator, Gate, PublicPath};
use crate::protocol::Challenge;
use crate::terms::{PaymentOption, Settings, Tuple};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A hasher without a random seed. Only texts of the rules are keys, so no client can make a table slow.
pub(crate) type Unseeded = BuildHasherDefault<DefaultHasher>;

/// Position in [`RuleSet::tuples`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TupleIndex(pub u32);
/// Position in [`RuleSet::offers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfferIndex(pub u32);
/// Position in [`RuleSet::charges`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChargeIndex(pub u32);

/// A route, ready to be matched and challenged.
#[derive(Debug)]
pub struct Route {
    /// Normalised pattern.
    pub pattern: Box<str>,
    /// Whether the route wants a payment.
    pub gate: Gate,
    /// Its offer labels.
    pub offer: OfferIndex,
    /// Ways to pay with the charge series of each, the primary first.
    pub options: Vec<(PaymentOption, ChargeIndex)>,
    /// Least remaining window of a payment, seconds: the longest time of upstream and settlement.
    pub min_remaining_seconds: u64,
    /// Public host and prefix, if they differ from the proxy's view.
    pub public: Option<PublicPath>,
    /// The challenge of a paid route.
    pub(crate) challenge: Option<RouteChallenge>,
}

/// The challenge of a route. It is rendered at its first use, because requests wait while a push is compiled, and of
/// thousands of routes few are used between two pushes.
#[derive(Debug)]
pub(crate) struct RouteChallenge {
    description: Box<str>,
    rendered: OnceLock<Arc<Challenge>>,
}

// === impl RouteChallenge ===

impl RouteChallenge {
    pub(super) fn new(description: &str) -> Self {
        Self { description: description.into(), rendered: OnceLock::new() }
    }

    /// The challenge of its route.
    pub(crate) fn rendered(&self, route: &Route, rules: &RuleSet) -> Arc<Challenge> {
        let render = || {
            let options: Vec<_> = route.options.iter().map(|(option, _)| option).collect();
            Challenge::prepare(&options, &self.description, &rules.settings, rules.has_relay())
        };
        if rules.keeps_challenges {
            Arc::clone(self.rendered.get_or_init(|| rules.challenges.shared(render())))
        } else {
            Arc::new(render())
        }
    }
}

/// The rendered challenges; routes of equal terms share one.
#[derive(Debug, Default)]
pub(super) struct Challenges(Mutex<HashSet<Arc<Challenge>, Unseeded>>);

// === impl Challenges ===

impl Challenges {
    fn shared(&self, challenge: Challenge) -> Arc<Challenge> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(equal) = known.get(&challenge) {
            return Arc::clone(equal);
        }
        let challenge = Arc::new(challenge);
        known.insert(Arc::clone(&challenge));
        challenge
    }
}

/// Compiled rules.
#[derive(Debug)]
pub struct RuleSet {
    /// Generation of the push; 0 for the closed set.
    pub generation: u64,
    /// Content hash of the push.
    pub hash: Box<str>,
    /// Settings of the push.
    pub settings: Settings,
    /// Facilitator of the push.
    pub facilitator: Option<Facilitator>,
    /// Metric tuples.
    pub tuples: Vec<Tuple>,
    /// Distinct (offer_namespace, offer_name).
    pub offers: Vec<(String, String)>,
    /// Distinct (tuple, amount). Each has its own charge counter, because the amount is part of the counter's name.
    pub charges: Vec<(TupleIndex, crate::evm::Amount)>,
    /// Routes in matching order.
    pub routes: Vec<Route>,
    /// See [`Self::leaving_signatures`].
    pub(crate) leaves_signatures: bool,
    /// See [`Self::keeping_no_challenges`].
    pub(super) keeps_challenges: bool,
    pub(super) challenges: Challenges,
    /// `None` before the first push: then every request is answered 503 `config_not_loaded`.
    pub(super) matcher: Option<Matcher>,
}

impl RuleSet {
    /// The rules of a filter before its first push: they refuse every request.
    pub fn closed() -> Self {
        Self {
            generation: 0,
            hash: Box::from(""),
            settings: Settings::default(),
            facilitator: None,
            tuples: Vec::new(),
            offers: Vec::new(),
            charges: Vec::new(),
            routes: Vec::new(),
            leaves_signatures: false,
            keeps_challenges: true,
            challenges: Challenges::default(),
            matcher: None,
        }
    }
    /// The same rules with the generation and births of this push: see [`super::PushedRules::numbered`].
    #[must_use]
    pub fn numbered_as(self, pushed: &super::PushedRules) -> Self {
        Self { generation: pushed.generation, tuples: pushed.tuples.clone(), ..self }
    }
    /// The same rules for a shell that holds a copy for each request under way: it renders a challenge for each answer.
    #[must_use]
    pub fn keeping_no_challenges(self) -> Self {
        Self { keeps_challenges: false, ..self }
    }
    /// The same rules for a shell that only screens: it checks no signature, because the next hop checks every payment
    /// again.
    #[must_use]
    pub fn leaving_signatures(self) -> Self {
        Self { leaves_signatures: true, ..self }
    }
    /// Whether the facilitator is a relay with a ledger.
    pub fn has_relay(&self) -> bool {
        self.facilitator.as_ref().is_some_and(|facilitator| facilitator.relay)
    }
    /// Whether these are the rules of a push.
    pub fn is_loaded(&self) -> bool {
        self.matcher.is_some()
    }
}
