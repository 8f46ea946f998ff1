//! The decisions at the request head: path, route, gate, challenge, local checks.

use std::sync::Arc;

use super::attempt::{Attempt, Refusal};
use super::cors::{grant_reply, preflight};
use super::paying::claim;
use super::refusal::{Cause, Counted};
use super::reply::{Asker, Terms, Told, payment_required, refuse};
use super::seen::{PaymentLine, Seen};
use super::strip::{Strip, to_upstream};
use super::url::{is_private, resource_url};
use super::ways::{Fit, Ways, tuple_of};
use super::{Next, Passing, RequestHead, Turn};
use crate::Now;
use crate::metrics::{FailureReason, Stamp, TupleCounter};
use crate::payment::{Fingerprint, Holder, PaymentKey, Terms as Bought};
use crate::protocol::{
    CallBody, CheckPolicy, Payment, PaymentError, SignatureTrust, Version, authenticate, judge, route_text,
};
use crate::rules::{
    CanonicalPath, Gate, Lookup, OfferIndex, Route, RouteIndex, RuleSet, TupleIndex, canonicalize,
};
use crate::terms::{Flow, PaymentOption, Unmatched};

/// The time and the id of a request with a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When the request arrived.
    pub now: Now,
    /// A unique id of the request that a stranger cannot guess.
    pub holder: Holder,
}

/// Starts an exchange. Any bytes give exactly one turn.
///
/// The exchange keeps these rules: its later steps, and the indexes in its stamps, refer to them. `arrival` is called at
/// most once, and only for a request with a payment, because in a proxy this call costs as much as the whole refusal of
/// a request without one. An error of `arrival` is the only error.
pub fn begin<E>(
    rules: &Arc<RuleSet>,
    head: &RequestHead<'_>,
    arrival: impl FnOnce() -> Result<Arrival, E>,
) -> Result<Turn, E> {
    let seen = Seen::scan(head);
    let asker = Asker::of(&seen, &rules.settings);
    Ok(granted(decide(rules, head, &seen, asker, arrival)?, rules, asker))
}

/// Lets a page of an allowed origin read Farebox's own answer.
fn granted(mut turn: Turn, rules: &RuleSet, asker: Asker) -> Turn {
    if let Next::Reply(reply) = &mut turn.next {
        grant_reply(reply, &rules.settings, asker);
    }
    turn
}

fn decide<E>(
    rules: &Arc<RuleSet>,
    head: &RequestHead<'_>,
    seen: &Seen<'_>,
    asker: Asker,
    arrival: impl FnOnce() -> Result<Arrival, E>,
) -> Result<Turn, E> {
    if !rules.is_loaded() {
        return Ok(block(Cause::ConfigNotLoaded, None, asker));
    }
    let path = match canonicalize(seen.path) {
        Ok(path) => path,
        Err(why) => return Ok(block_saying(Cause::AmbiguousPath, None, asker, &Told::message(why.0))),
    };
    if seen.is_upgrade_with_body() {
        return Ok(block(Cause::AmbiguousBody, None, asker));
    }
    let index = match rules.lookup(&path) {
        Lookup::Route(index) => index,
        Lookup::Protected => return Ok(block(Cause::ProtectedPrefix, None, asker)),
        Lookup::Ambiguous => {
            let told = Told::message(
                "the path has other terms for an upstream that ignores letter case, ;parameters, or dots and spaces at the end of a segment",
            );
            return Ok(block_saying(Cause::AmbiguousPath, None, asker, &told));
        }
        Lookup::Unmatched => {
            return Ok(match rules.settings.unmatched {
                Unmatched::Deny => block(Cause::Unmatched, None, asker),
                Unmatched::Pass => forward(head, seen, Strip::Identity, path.rewritten.as_deref()),
            });
        }
    };
    let Some(route) = rules.routes.get(index.0 as usize) else {
        return Ok(block(Cause::BlockedInternal, None, asker));
    };
    Ok(match route.gate {
        Gate::Free => forward(head, seen, Strip::Payments, path.rewritten.as_deref()),
        Gate::Blocked => block(Cause::RouteMisconfigured, Some(route.offer), asker),
        Gate::Auth => block(Cause::AuthUnsupported, Some(route.offer), asker),
        Gate::Paid if seen.is_preflight() => {
            let next = Next::Reply(preflight(seen, &rules.settings, asker));
            Turn { stamps: Vec::new(), notes: Vec::new(), next }
        }
        Gate::Paid => return priced(rules, index, route, &path, seen, head, arrival),
    })
}

/// Refuses a request without an upstream before the buyer pays. For a shell that itself sends requests to upstreams.
/// `route` is the route that matched, if there is one.
pub fn unroutable(rules: &RuleSet, head: &RequestHead<'_>, route: Option<RouteIndex>) -> Turn {
    let offer = route.and_then(|index| rules.routes.get(index.0 as usize)).map(|route| route.offer);
    let asker = Asker::of(&Seen::scan(head), &rules.settings);
    granted(block(Cause::UpstreamMissing, offer, asker), rules, asker)
}

/// Refuses a request with a body that the upstream may leave unread and take for the next request. `None` for other
/// requests. For a shell whose host shares upstream connections between requests and cannot send the body in chunks.
pub fn ambiguous_body(rules: &RuleSet, head: &RequestHead<'_>) -> Option<Turn> {
    let seen = Seen::scan(head);
    let asker = Asker::of(&seen, &rules.settings);
    seen.may_stay_unread().then(|| granted(block(Cause::AmbiguousBody, None, asker), rules, asker))
}

/// Handles a request to a priced route, before the payment stage.
fn priced<E>(
    rules: &Arc<RuleSet>,
    index: RouteIndex,
    route: &Route,
    path: &CanonicalPath<'_>,
    seen: &Seen<'_>,
    head: &RequestHead<'_>,
    arrival: impl FnOnce() -> Result<Arrival, E>,
) -> Result<Turn, E> {
    let asker = Asker::of(seen, &rules.settings);
    let upgrade = seen.wants_upgrade();
    if upgrade && !route.options.iter().any(|(option, _)| option.flow == Flow::Upfront) {
        return Ok(block(Cause::UpgradeUnsupported, Some(route.offer), asker));
    }
    let url = resource_url(seen, head.transport, path, route.public.as_ref(), &rules.settings);
    let primary = route.options.first().and_then(|(primary, _)| tuple_of(primary));
    let (Some(primary), Some(terms)) = (primary, Terms::of(rules, route, &url)) else {
        return Ok(block(Cause::BlockedInternal, Some(route.offer), asker));
    };
    let stage = Stage { rules, index, route, path, seen, asker, head, upgrade, primary };
    let (line, in_signature) = seen.payment();
    let value = match line {
        PaymentLine::Absent => return Ok(stage.challenge(terms)),
        // A HEAD request has no answer to sell, and the payment may be charged already, so there is no challenge.
        _ if seen.is_head() => {
            let told =
                Told::message("a HEAD request buys nothing; send the payment with the request it is for");
            return Ok(stage.refuse(primary, terms, Cause::InvalidPaymentHeader, &told));
        }
        // Terms need no facilitator; a payment does.
        _ if !rules.facilitator.as_ref().is_some_and(|facilitator| facilitator.ready) => {
            return Ok(block(Cause::FacilitatorNotReady, Some(route.offer), asker));
        }
        _ if !stage.is_secure() => {
            return Ok(stage.refuse(primary, terms, Cause::InsecureTransport, &Told::default()));
        }
        PaymentLine::Repeated => {
            let told = Told::message("the header is repeated");
            return Ok(stage.refuse(primary, terms, Cause::InvalidPaymentHeader, &told));
        }
        PaymentLine::One(value) => value,
    };
    let Arrival { now, holder } = arrival()?;
    Ok(match stage.attempt(value, in_signature, &url, now, holder) {
        Ok(attempt) => {
            let mut turn = claim(Box::new(attempt), now);
            turn.stamps.insert(0, stage.presented());
            turn
        }
        Err(refusal) => stage.refuse(refusal.tuple, terms, refusal.cause, &refusal.told),
    })
}

/// The payment stage of one request: the request now counts as evaluated, with any outcome.
struct Stage<'a> {
    rules: &'a Arc<RuleSet>,
    index: RouteIndex,
    route: &'a Route,
    path: &'a CanonicalPath<'a>,
    seen: &'a Seen<'a>,
    asker: Asker,
    head: &'a RequestHead<'a>,
    upgrade: bool,
    primary: TupleIndex,
}

// === impl Stage ===

impl Stage<'_> {
    fn presented(&self) -> Stamp {
        Stamp::Tuple(self.primary, TupleCounter::PaymentPresented)
    }
    fn challenge(&self, terms: Terms<'_>) -> Turn {
        Turn {
            stamps: vec![Stamp::Tuple(self.primary, TupleCounter::PaymentRequired)],
            notes: Vec::new(),
            next: Next::Reply(payment_required(terms, self.asker)),
        }
    }
    fn refuse(&self, tuple: TupleIndex, terms: Terms<'_>, cause: Cause, told: &Told) -> Turn {
        let reason = match cause.row().counted {
            Counted::Failed(reason) => reason,
            Counted::Blocked(_) | Counted::UpstreamFailed => FailureReason::InternalError,
        };
        Turn {
            stamps: vec![self.presented(), Stamp::Tuple(tuple, TupleCounter::PaymentFailed(reason))],
            notes: Vec::new(),
            next: Next::Reply(refuse(cause, told, Some(terms), self.asker)),
        }
    }
    /// Whether the payment arrived over TLS or from a private address, or the rules do not require that.
    fn is_secure(&self) -> bool {
        let settings = &self.rules.settings;
        !settings.require_secure_transport
            || self.head.transport.tls
            || (settings.trust_forwarded && self.seen.forwarded_https())
            || self.head.transport.peer.is_some_and(is_private)
    }
    /// Decodes the payment, matches an option, checks, and recovers the signer. An authentic payment that fails the
    /// checks of a new payment is claimed, too, because its state decides if the payment is known.
    fn attempt(
        &self,
        value: &[u8],
        in_signature: bool,
        url: &str,
        now: Now,
        holder: Holder,
    ) -> Result<Attempt, Box<Refusal>> {
        let settings = &self.rules.settings;
        let payment = Payment::decode(value, in_signature, settings.max_payment_bytes).map_err(|error| {
            Refusal::new(self.primary, Cause::InvalidPaymentHeader, decode_refusal(&error))
        })?;
        let internal = || Refusal::new(self.primary, Cause::Internal, Told::default());
        let leave_signature = self.rules.leaves_signatures;
        let min_remaining_seconds = self.route.min_remaining_seconds;
        let policy =
            CheckPolicy { leave_signature, min_remaining_seconds, ..CheckPolicy::from_settings(settings) };
        let ways =
            Ways { rules: self.rules, route: self.route, primary: self.primary, upgrade: self.upgrade };
        let (authentic, refusal) = match ways.find(&payment) {
            Some(fit) => {
                match self.judge(&payment, &fit, &policy, now) {
                    Ok(()) => match authenticate(&payment, &fit.option, &policy) {
                        Ok(signed) => (Some((fit, signed)), None),
                        Err(refused) => {
                            // Version 1 names no token, so the payment may be in another token that the route took
                            // before.
                            let unnamed = payment.version == Version::V1;
                            let signed = unnamed.then(|| ways.as_signed(&payment, &policy)).flatten();
                            let told = Told::code(refused.code);
                            (signed, Some(Refusal::new(fit.tuple, Cause::PaymentInvalid, told)))
                        }
                    },
                    Err(refusal) => (ways.as_signed(&payment, &policy), Some(refusal)),
                }
            }
            None => {
                let unmatched = Refusal::new(self.primary, Cause::NoMatchingRequirement, Told::default());
                (ways.as_signed(&payment, &policy), Some(unmatched))
            }
        };
        let Some((Fit { option, charge, tuple, can_settle }, signed)) = authentic else {
            return Err(refusal.unwrap_or_else(internal));
        };
        let ends = payment.valid_before().ok_or_else(internal)?.to_u64().unwrap_or(u64::MAX);
        Ok(Attempt {
            rules: Arc::clone(self.rules),
            route: self.index,
            tuple,
            charge,
            asker: self.asker,
            url: url.to_owned(),
            version: payment.version,
            key: PaymentKey::of(&payment, &option).ok_or_else(internal)?,
            fingerprint: Fingerprint::new(&signed.digest, &signed.forward_signature),
            bought: self.bought(&payment, &option).ok_or_else(internal)?,
            holder,
            call: CallBody::new(&payment, &signed, &option, url, settings.minimal_payload).0.into(),
            ends,
            proven: signed.trust == SignatureTrust::Recovered,
            edits: to_upstream(self.head, self.seen, Strip::Priced, self.path.rewritten.as_deref()),
            can_settle,
            refusal,
            option,
        })
    }
    /// The checks of a new payment.
    fn judge(
        &self,
        payment: &Payment,
        Fit { option, tuple, .. }: &Fit,
        policy: &CheckPolicy,
        now: Now,
    ) -> Result<(), Box<Refusal>> {
        let now_seconds = now.unix_seconds();
        judge(payment, option, policy, now_seconds).map_err(|refused| {
            let cause = if refused.is_by_clock() { Cause::PaymentUntimely } else { Cause::PaymentInvalid };
            Refusal::new(*tuple, cause, Told::code(refused.code))
        })?;
        let ends = payment.valid_before().and_then(|ends| ends.to_u64()).unwrap_or(u64::MAX);
        let seconds = self.rules.settings.replay_horizon_seconds;
        let relayed = self.rules.facilitator.as_ref().is_some_and(|facilitator| facilitator.relay);
        // A proxy that settles by itself forgets a payment after that.
        if (option.flow == Flow::Upfront || !relayed) && ends > now_seconds.saturating_add(seconds) {
            let message = format!("the authorization must end within {seconds} seconds from now");
            return Err(Refusal::new(*tuple, Cause::PaymentInvalid, Told::message(message)));
        }
        Ok(())
    }
    /// The terms of the purchase, with the signed amount, asset and recipient.
    fn bought(&self, payment: &Payment, option: &PaymentOption) -> Option<Bought> {
        let (namespace, name) = self.rules.offers.get(self.route.offer.0 as usize)?;
        let offer = [namespace, "/", name].concat();
        Bought::signed(payment, option, offer, route_text(&self.route.pattern))
    }
}

fn forward(head: &RequestHead<'_>, seen: &Seen<'_>, strip: Strip, path: Option<&str>) -> Turn {
    let edits = to_upstream(head, seen, strip, path);
    Turn { stamps: Vec::new(), notes: Vec::new(), next: Next::Forward(edits, Passing::new()) }
}

fn block(cause: Cause, offer: Option<OfferIndex>, asker: Asker) -> Turn {
    block_saying(cause, offer, asker, &Told::default())
}

fn block_saying(cause: Cause, offer: Option<OfferIndex>, asker: Asker, told: &Told) -> Turn {
    let stamps = match cause.row().counted {
        Counted::Blocked(reason) => vec![Stamp::Blocked(offer, reason)],
        Counted::Failed(_) | Counted::UpstreamFailed => Vec::new(),
    };
    Turn { stamps, notes: Vec::new(), next: Next::Reply(refuse(cause, told, None, asker)) }
}

fn decode_refusal(error: &PaymentError) -> Told {
    Told { code: Some(error.code().to_owned()), message: Some(error.to_string()), ..Told::default() }
}
