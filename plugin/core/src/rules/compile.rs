//! Compiling a push to a [`RuleSet`].

use super::matcher::{Matcher, RouteIndex};
use super::ruleset::{ChargeIndex, OfferIndex, Route, RouteChallenge, RuleSet, TupleIndex, Unseeded};
use super::{FORMAT, Gate, PushedRoute, PushedRules};
use crate::evm::Amount;
use crate::protocol::MIN_REMAINING_SECONDS;
use crate::terms::{PaymentOption, Tuple, is_label};
use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// Why a push is refused. The text names the member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);

impl RuleSet {
    /// Reads and compiles the JSON of a push. Refuses unknown members, another format, dangling indexes,
    /// unusable patterns and paid routes without options or facilitator.
    pub fn from_json(json: &[u8]) -> Result<Self, CompileError> {
        let text = core::str::from_utf8(json).map_err(|error| unreadable(error.to_string()))?;
        Self::compile(PushedRules::from_json(text).map_err(unreadable)?)
    }

    /// Compiles a push.
    pub fn compile(mut pushed: PushedRules) -> Result<Self, CompileError> {
        let (tuples, routes) = (mem::take(&mut pushed.tuples), mem::take(&mut pushed.routes));
        let protected = mem::take(&mut pushed.protected);
        let mut compiler = Compiler::begin(pushed)?;
        compiler.rules.tuples.reserve_exact(tuples.len());
        compiler.rules.routes.reserve_exact(routes.len());
        tuples.into_iter().try_for_each(|tuple| compiler.tuple(tuple))?;
        routes.into_iter().try_for_each(|route| compiler.route(route))?;
        protected.iter().try_for_each(|place| compiler.protect(place))?;
        compiler.finish()
    }
}

/// Takes the entries of a push one by one: first tuples, then routes, then the protected set.
#[derive(Debug)]
pub(super) struct Compiler {
    /// The rules so far.
    pub(super) rules: RuleSet,
    matcher: Matcher,
    /// Number of members of the protected set so far.
    pub(super) protected: usize,
    offers: Distinct<(String, String)>,
    charges: Distinct<(TupleIndex, Amount)>,
}

// === impl Compiler ===

impl Compiler {
    /// Begins with all members of a push but the lists.
    pub(super) fn begin(pushed: PushedRules) -> Result<Self, CompileError> {
        let PushedRules { format, generation, hash, settings, facilitator, .. } = pushed;
        if format != FORMAT {
            return Err(CompileError(format!("format is {format}, this filter reads {FORMAT}")));
        }
        if generation == 0 {
            return Err(CompileError("generation is 0, which stands for no rules at all".into()));
        }
        Ok(Self {
            rules: RuleSet { generation, hash: hash.into(), settings, facilitator, ..RuleSet::closed() },
            matcher: Matcher::default(),
            protected: 0,
            offers: Distinct::default(),
            charges: Distinct::default(),
        })
    }

    /// Takes the next tuple.
    pub(super) fn tuple(&mut self, tuple: Tuple) -> Result<(), CompileError> {
        let labels = [&tuple.offer_namespace, &tuple.offer_name, &tuple.chain, &tuple.asset_symbol];
        if labels.iter().any(|label| !is_label(label)) {
            let position = self.rules.tuples.len();
            return Err(CompileError(format!("tuples[{position}] cannot be metric labels")));
        }
        self.rules.tuples.push(tuple);
        Ok(())
    }

    /// Takes the next route.
    pub(super) fn route(&mut self, route: PushedRoute) -> Result<(), CompileError> {
        let position = self.rules.routes.len();
        let route = self
            .compiled(position, route)
            .map_err(|CompileError(why)| CompileError(format!("routes[{position}]: {why}")))?;
        self.rules.routes.push(route);
        Ok(())
    }

    /// Takes the next member of the protected set.
    pub(super) fn protect(&mut self, place: &str) -> Result<(), CompileError> {
        let position = self.protected;
        self.protected += 1;
        self.matcher.protect(place).map_err(|error| CompileError(format!("protected[{position}]: {error}")))
    }

    /// Ends the compilation after the last entry.
    pub(super) fn finish(mut self) -> Result<RuleSet, CompileError> {
        self.matcher.fold(&self.rules.routes).map_err(|error| CompileError(error.to_string()))?;
        Ok(RuleSet {
            offers: self.offers.into_items(),
            charges: self.charges.into_items(),
            matcher: Some(self.matcher),
            ..self.rules
        })
    }

    fn compiled(&mut self, position: usize, route: PushedRoute) -> Result<Route, CompileError> {
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
        if paid && self.rules.facilitator.is_none() {
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
        if option.tuple >= self.rules.tuples.len() {
            return Err(CompileError(format!("tuple {} does not exist", option.tuple)));
        }
        if option.amount.is_zero() {
            return Err(CompileError("an amount is zero".into()));
        }
        let charge = self.charges.index((TupleIndex(small(option.tuple)?), option.amount))?;
        Ok((option, ChargeIndex(charge)))
    }
}

/// The error of a push that cannot be read.
pub(super) fn unreadable(why: String) -> CompileError {
    CompileError(format!("the rules are not readable: {why}"))
}

fn small(position: usize) -> Result<u32, CompileError> {
    u32::try_from(position).map_err(|_| CompileError("there are too many entries".into()))
}

/// A list without duplicates, with an index from item to position.
#[derive(Debug)]
struct Distinct<T> {
    items: Vec<T>,
    places: HashMap<T, u32, Unseeded>,
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
