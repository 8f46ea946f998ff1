//! From a push to a [`RuleSet`].

use super::matcher::{Matcher, RouteIndex};
use super::ruleset::{ChargeIndex, OfferIndex, Route, RouteChallenge, RuleSet, TupleIndex};
use super::{FORMAT, Gate, PushedRoute, PushedRules};
use crate::evm::Amount;
use crate::protocol::MIN_REMAINING_SECONDS;
use crate::terms::{PaymentOption, is_label};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

/// Why a push cannot be used. The text names the member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);

impl RuleSet {
    /// Reads and compiles the JSON of a push. Refuses unknown members, another format, dangling indexes,
    /// unusable patterns and paid routes without options or facilitator.
    pub fn from_json(json: &[u8]) -> Result<Self, CompileError> {
        let unreadable = |reason: String| CompileError(format!("the rules are not readable: {reason}"));
        let text = core::str::from_utf8(json).map_err(|error| unreadable(error.to_string()))?;
        Self::compile(PushedRules::from_json(text).map_err(unreadable)?)
    }

    /// Compiles a push.
    pub fn compile(pushed: PushedRules) -> Result<Self, CompileError> {
        if pushed.format != FORMAT {
            return Err(CompileError(format!("format is {}, this filter reads {FORMAT}", pushed.format)));
        }
        if pushed.generation == 0 {
            return Err(CompileError("generation is 0, which stands for no rules at all".into()));
        }
        for (position, tuple) in pushed.tuples.iter().enumerate() {
            let labels = [&tuple.offer_namespace, &tuple.offer_name, &tuple.chain, &tuple.asset_symbol];
            if labels.iter().any(|label| !is_label(label)) {
                return Err(CompileError(format!("tuples[{position}] cannot be metric labels")));
            }
        }
        let mut compiler = Compiler::new(&pushed);
        let mut routes = Vec::with_capacity(pushed.routes.len());
        for (position, route) in pushed.routes.into_iter().enumerate() {
            let route = compiler
                .route(position, route)
                .map_err(|CompileError(why)| CompileError(format!("routes[{position}]: {why}")))?;
            routes.push(route);
        }
        compiler.matcher.fold(&routes).map_err(|error| CompileError(error.to_string()))?;
        for (position, place) in pushed.protected.iter().enumerate() {
            compiler
                .matcher
                .protect(place)
                .map_err(|error| CompileError(format!("protected[{position}]: {error}")))?;
        }
        Ok(Self {
            generation: pushed.generation,
            hash: pushed.hash.into(),
            settings: pushed.settings,
            facilitator: pushed.facilitator,
            tuples: pushed.tuples,
            offers: compiler.offers.into_items(),
            charges: compiler.charges.into_items(),
            routes,
            leaves_signatures: false,
            keeps_challenges: true,
            matcher: Some(compiler.matcher),
        })
    }
}

struct Compiler {
    tuples: usize,
    has_facilitator: bool,
    matcher: Matcher,
    offers: Distinct<(String, String)>,
    charges: Distinct<(TupleIndex, Amount)>,
}

type Fixed = BuildHasherDefault<DefaultHasher>;

// === impl Compiler ===

impl Compiler {
    fn new(pushed: &PushedRules) -> Self {
        Self {
            tuples: pushed.tuples.len(),
            has_facilitator: pushed.facilitator.is_some(),
            matcher: Matcher::default(),
            offers: Distinct::default(),
            charges: Distinct::default(),
        }
    }

    fn route(&mut self, position: usize, route: PushedRoute) -> Result<Route, CompileError> {
        let index = RouteIndex(small(position)?);
        self.matcher.add(index, &route.pattern).map_err(|error| CompileError(error.to_string()))?;
        if !is_label(&route.offer_namespace) || !is_label(&route.offer_name) {
            return Err(CompileError("the offer cannot be metric labels".into()));
        }
        let paid = route.gate == Gate::Paid;
        if paid == route.options.is_empty() {
            return Err(CompileError(match paid {
                true => "a paid route needs a way to pay".into(),
                false => "only a paid route has ways to pay".into(),
            }));
        }
        if paid && !self.has_facilitator {
            return Err(CompileError("a paid route needs a facilitator".into()));
        }
        let challenge = paid.then(|| RouteChallenge::new(&route.description));
        let offer = self.offers.index((route.offer_namespace, route.offer_name))?;
        let options =
            route.options.into_iter().map(|option| self.option(option)).collect::<Result<_, _>>()?;
        Ok(Route {
            pattern: route.pattern.into(),
            gate: route.gate,
            offer: OfferIndex(offer),
            options,
            min_remaining_seconds: route.min_remaining.unwrap_or(MIN_REMAINING_SECONDS),
            public: route.public,
            challenge,
        })
    }

    fn option(&mut self, option: PaymentOption) -> Result<(PaymentOption, ChargeIndex), CompileError> {
        if option.tuple >= self.tuples {
            return Err(CompileError(format!("tuple {} does not exist", option.tuple)));
        }
        if option.amount.is_zero() {
            return Err(CompileError("an amount is zero".into()));
        }
        let charge = self.charges.index((TupleIndex(small(option.tuple)?), option.amount))?;
        Ok((option, ChargeIndex(charge)))
    }
}

fn small(position: usize) -> Result<u32, CompileError> {
    u32::try_from(position).map_err(|_| CompileError("there are too many entries".into()))
}

/// A list without duplicates that knows where each item is.
struct Distinct<T> {
    items: Vec<T>,
    places: HashMap<T, u32, Fixed>,
}

// === impl Distinct ===

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { items: Vec::new(), places: HashMap::default() }
    }
}

impl<T: Clone + Eq + Hash> Distinct<T> {
    fn index(&mut self, item: T) -> Result<u32, CompileError> {
        if let Some(place) = self.places.get(&item) {
            return Ok(*place);
        }
        let place = small(self.items.len())?;
        self.items.push(item.clone());
        self.places.insert(item, place);
        Ok(place)
    }

    fn into_items(self) -> Vec<T> {
        self.items
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
