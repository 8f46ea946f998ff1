//! The immutable table a proxy decides with: one per push, shared by every request that started under it.

use super::matcher::Matcher;
use super::{Facilitator, Gate, PublicPath};
use crate::protocol::Challenge;
use crate::terms::{PaymentOption, Settings, Tuple};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Hashing without a random seed: only what the rules say is ever a key, so no client can make a table slow.
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
    /// What it asks for.
    pub gate: Gate,
    /// Its offer labels.
    pub offer: OfferIndex,
    /// Ways to pay with the charge series of each, the primary first.
    pub options: Vec<(PaymentOption, ChargeIndex)>,
    /// How long a payment has to live on, seconds: as long as upstream and settlement may take.
    pub min_remaining_seconds: u64,
    /// Public host and prefix, if they differ from the proxy's view.
    pub public: Option<PublicPath>,
    /// The challenge of a paid route.
    pub(crate) challenge: Option<RouteChallenge>,
}

/// The challenge of a route. It is rendered when it is first asked for: of thousands of routes few are asked for between
/// two pushes, and requests wait while a push is compiled.
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

/// Challenges that were rendered: routes of equal terms have one in common.
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
    /// Distinct (tuple, amount): one charge counter each, because the amount rides in its name.
    pub charges: Vec<(TupleIndex, crate::evm::Amount)>,
    /// Routes in matching order.
    pub routes: Vec<Route>,
    /// See [`Self::leaving_signatures`].
    pub(crate) leaves_signatures: bool,
    /// See [`Self::keeping_no_challenges`].
    pub(super) keeps_challenges: bool,
    pub(super) challenges: Challenges,
    /// `None` until a push was taken: everything is answered 503 `config_not_loaded`.
    pub(super) matcher: Option<Matcher>,
}

impl RuleSet {
    /// The set of a filter that has no rules yet: it refuses everything.
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
    /// The same rules under the numbers of this push of them: see [`super::PushedRules::numbered`].
    #[must_use]
    pub fn numbered_as(self, pushed: &super::PushedRules) -> Self {
        Self { generation: pushed.generation, tuples: pushed.tuples.clone(), ..self }
    }
    /// The same rules for a shell that has them once for each request under way: it renders a challenge for each answer.
    #[must_use]
    pub fn keeping_no_challenges(self) -> Self {
        Self { keeps_challenges: false, ..self }
    }
    /// The same rules for a shell that only screens: no signature is checked here, since whoever comes next
    /// checks every payment again.
    #[must_use]
    pub fn leaving_signatures(self) -> Self {
        Self { leaves_signatures: true, ..self }
    }
    /// Whether the facilitator is a relay with a ledger.
    pub fn has_relay(&self) -> bool {
        self.facilitator.as_ref().is_some_and(|facilitator| facilitator.relay)
    }
    /// Whether a push was taken.
    pub fn is_loaded(&self) -> bool {
        self.matcher.is_some()
    }
}
