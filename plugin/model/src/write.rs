//! What a companion records, and what it answers then: the order in which a relay uses the machine.
//!
//! The order is: claim, verification, "verified"; begin, call, end; over. An answer is sent, and a call is made, only
//! after it is on disk. If the proxy of a call no longer waits, the end of its request is recorded before the end of
//! the call.

use std::sync::Arc;

use farebox_core::payment::{Answer, Claim, Effect, End, Event, Outcome, Step as Stepped, Trust, Twin};

use crate::cast::{Body, Payment};
use crate::fault::Fault;
use crate::ledger::{Entry, Life, holder, terms, transaction};
use crate::model::Model;
use crate::property::Breach;
use crate::state::{Came, REQUESTS, Request, Task, Word, World};

impl Model {
    /// One transaction of the companion for this request.
    pub(crate) fn commit(&self, world: &mut World, number: usize, acknowledged: bool, notices: bool) {
        let request = world.requests[number];
        let forgets = self.fault == Some(Fault::LapsedTwinForgotten);
        let key = request.payment.key();
        let before = world.ledger[key];
        let by = holder_of(&request, number);
        // The transaction decides the answer. The answer is sent when the commit is known.
        match request.task {
            Task::Claim => {
                let claim = claim_of(world, &request, number, forgets);
                let step = self.write(world, key, Event::Claim(claim));
                if acknowledged {
                    self.claimed(world, number, step.answer, before);
                }
            }
            Task::NoteVerified => {
                let step = self.write(world, key, Event::Verified(by));
                if acknowledged {
                    let held = step.answer == Answer::Noted;
                    let goes_on = held || self.fault == Some(Fault::ForwardedUnheld);
                    self.say(world, number, if goes_on { Word::Valid } else { Word::Unpriced });
                }
            }
            Task::NoteRefused { says } => {
                let step = self.write(world, key, Event::Over(by, End::Unsent));
                if acknowledged {
                    let held = step.answer == Answer::Noted || self.fault == Some(Fault::RefusedUnheld);
                    self.say(world, number, if held { says } else { Word::Unpriced });
                }
            }
            Task::Begin => {
                let step = self.write(world, key, Event::Begin(by));
                match step.answer {
                    _ if !acknowledged => {}
                    Answer::Call { epoch, call, .. } => self.call(world, number, epoch, &call, before),
                    Answer::Settled { .. } => self.say(world, number, Word::Serve),
                    _ => self.say(world, number, Word::Unpriced),
                }
            }
            Task::NoteEnd { epoch, body, came } => {
                let answer = self.note_end(world, number, (epoch, body, came), notices);
                if acknowledged {
                    self.ended(world, number, came, &answer, notices);
                }
            }
            Task::NoteUnsent => {
                self.write(world, key, Event::Over(by, End::Unsent));
                if acknowledged {
                    world.requests[number].task = Task::None;
                }
            }
            Task::None | Task::Verify | Task::Call { .. } | Task::Reply(_) => {}
        }
    }

    fn claimed(&self, world: &mut World, number: usize, answer: Answer, before: Option<Entry>) {
        match answer {
            Answer::Reserved => world.requests[number].task = Task::Verify,
            Answer::Call { epoch, call, .. } => self.call(world, number, epoch, &call, before),
            Answer::Redeem { .. } => self.say(world, number, Word::Serve),
            Answer::Used | Answer::New => self.say(world, number, Word::Priced),
            _ => self.say(world, number, Word::Unpriced),
        }
    }

    /// Makes a settle call, which from now on may move money.
    pub(crate) fn call(
        &self,
        world: &mut World,
        number: usize,
        epoch: u32,
        call: &Arc<[u8]>,
        before: Option<Entry>,
    ) {
        let epoch = u8::try_from(epoch).expect("few calls fit into a run");
        let Some(body) = Body::read(call) else {
            world.breach = Some(Breach::OtherCall);
            return;
        };
        let payment = world.requests[number].payment;
        let is_same = |task| matches!(task, Task::Call { epoch: other, body } if (body.payment, other) == (payment, epoch));
        let recorded = world.ledger[payment.key()].and_then(|entry| entry.body);
        let breach = if recorded != Some(body) || body.payment != payment {
            Some(Breach::OtherCall)
        } else if !world.truth_of(payment).vouched {
            Some(Breach::Unvouched)
        } else if !world.truth_of(payment).denied
            && world.requests.iter().any(|request| is_same(request.task))
        {
            Some(Breach::CalledTwice)
        } else if before
            .is_some_and(|entry| matches!(entry.life, Life::Settling { until, .. } if world.tick < until))
        {
            Some(Breach::CalledTooEarly)
        } else {
            None
        };
        world.breach = world.breach.or(breach);
        world.requests[number].task = Task::Call { epoch, body };
        if !(self.fault == Some(Fault::CalledBeforeCommit) && number < REQUESTS) {
            world.truth_mut(payment).out += 1;
        }
    }

    /// Records the end of a call.
    fn note_end(
        &self,
        world: &mut World,
        number: usize,
        (epoch, body, came): (u8, Body, Came),
        notices: bool,
    ) -> Answer {
        let request = world.requests[number];
        let payment = request.payment;
        let key = payment.key();
        let by = holder_of(&request, number);
        let forgets = self.fault == Some(Fault::LapsedTwinForgotten);
        let is_request = number < REQUESTS;
        let nobody_waits = is_request && !request.waits() && notices;
        if nobody_waits {
            self.write(world, key, Event::Over(by, End::Unsent));
        }
        let before = world.ledger[key];
        let event = Event::Ended {
            epoch: u32::from(epoch),
            holder: by,
            outcome: outcome(came, payment),
            claim: Some(Box::new(claim_of(world, &request, number, forgets))),
        };
        let step = self.write(world, key, event);
        let after = world.ledger[key];
        match came {
            Came::Settled => {
                world.truth_mut(body.payment).proven = true;
                let held =
                    |entry: Entry, life: fn(Life) -> Option<u8>| life(entry.life) == Some(number as u8);
                let was_own = before.is_some_and(|entry| {
                    held(entry, |life| match life {
                        Life::Settling { holder, .. } => Some(holder),
                        _ => None,
                    })
                });
                let is_own = after.is_some_and(|entry| {
                    held(entry, |life| match life {
                        Life::UnderWay { holder, .. } => Some(holder),
                        _ => None,
                    })
                });
                if nobody_waits && was_own && is_own {
                    world.breach = Some(Breach::HeldForNobody);
                }
            }
            // The facilitator says so, and no record contradicts it, so Farebox has to believe it.
            Came::Refused if before.is_some() && after.is_none() && epoch == 1 => {
                let denied = world.moved[key] == Some(payment);
                world.truth_mut(payment).denied |= denied;
            }
            Came::Refused | Came::Unknown | Came::NotSent => {}
        }
        step.answer
    }

    /// Answers with the end of a call, once it is on disk.
    fn ended(&self, world: &mut World, number: usize, came: Came, answer: &Answer, notices: bool) {
        let request = &mut world.requests[number];
        if number >= REQUESTS || (!request.waits() && notices) {
            request.task = Task::None;
            return;
        }
        let anyone = self.fault == Some(Fault::SettledToldToAnyone) && came == Came::Settled;
        let word = match (answer, came) {
            _ if anyone => Word::Serve,
            (Answer::Settled { .. }, _) => Word::Serve,
            (Answer::Used, _) | (Answer::Noted, Came::Refused) => Word::Priced,
            _ => Word::Unpriced,
        };
        self.say(world, number, word);
    }

    /// Sets the reply to the proxy.
    fn say(&self, world: &mut World, number: usize, word: Word) {
        match word {
            Word::Valid => check_reserved(world, number),
            Word::Serve => self.check_served(world, number),
            Word::Priced => self.check_priced(world, world.requests[number].payment),
            Word::Unpriced => {}
        }
        world.requests[number].task = Task::Reply(word);
    }

    /// Checks the laws before a request is answered as paid.
    pub(crate) fn check_served(&self, world: &mut World, number: usize) {
        let request = &world.requests[number];
        let payment = request.payment;
        let holds = world.ledger[payment.key()].is_some_and(|entry| {
            let held = matches!(entry.life, Life::UnderWay { holder, .. } if usize::from(holder) == number);
            held && (entry.payment, entry.terms) == (payment, request.terms)
        });
        if !holds || world.moved[payment.key()] != Some(payment) {
            world.breach = Some(Breach::Unpaid);
        } else if world.truth_of(payment).answered && !world.truth_of(payment).redeemed {
            world.breach = Some(Breach::AnsweredTwice);
        }
    }

    /// Checks the laws before a client is asked to pay again.
    pub(crate) fn check_priced(&self, world: &mut World, payment: Payment) {
        let truth = world.truth_of(payment);
        let moved = world.moved[payment.key()] == Some(payment);
        let owed = moved && !truth.answered && !truth.redeemed;
        let on_record = world.ledger[payment.key()].is_some_and(|entry| {
            entry.payment == payment && matches!(entry.life, Life::Settling { .. } | Life::Unknown)
        });
        let excused = truth.denied || truth.forgotten;
        if on_record || (!excused && (owed || world.may_move(payment))) {
            world.breach = Some(Breach::Priced);
        }
    }

    /// Makes one step of the machine in the ledger.
    pub(crate) fn write(&self, world: &mut World, key: usize, event: Event) -> Stepped {
        let before = world.ledger[key];
        let step = self.step_of(before.map(|entry| entry.record()), event.clone(), world.tick);
        let after = step.record.as_ref().map(Entry::read);
        world.breach = world
            .breach
            .or_else(|| miscounted(world, key, before, after, &step))
            .or_else(|| trespassed(world.tick, before, after, &event));
        if step.effects.contains(&Effect::Redeemed)
            && let Some(entry) = after
        {
            let truth = world.truth_mut(entry.payment);
            let breach = if truth.redeemed {
                Some(Breach::RedeemedTwice)
            } else {
                truth.answered.then_some(Breach::AnsweredTwice)
            };
            truth.redeemed = true;
            world.breach = world.breach.or(breach);
        }
        // If no byte went out, the answer was not fetched.
        if matches!((&event, &step.answer), (Event::Over(_, End::Unsent), Answer::Noted))
            && let Some(entry) = before.filter(|entry| entry.redeemed)
        {
            world.truth_mut(entry.payment).redeemed = false;
        }
        world.ledger[key] = after;
        step
    }
}

/// Checks the laws before a request goes to its upstream.
fn check_reserved(world: &mut World, number: usize) {
    let request = &world.requests[number];
    let holds = world.ledger[request.payment.key()].is_some_and(|entry| {
        entry.payment == request.payment
            && matches!(entry.life, Life::Reserved { holder, verified: true, .. } if usize::from(holder) == number)
    });
    if !holds || !world.truth_of(request.payment).vouched {
        world.breach = Some(Breach::Unreserved);
    }
}

fn miscounted(
    world: &World,
    key: usize,
    before: Option<Entry>,
    after: Option<Entry>,
    step: &Stepped,
) -> Option<Breach> {
    let count = |effect: &Effect| step.effects.iter().filter(|other| *other == effect).count() as i8;
    let open = |entry: Option<Entry>| i8::from(entry.is_some_and(|entry| entry.is_open()));
    if count(&Effect::Opened) - count(&Effect::Closed) != open(after) - open(before) {
        return Some(Breach::GaugeWrong);
    }
    let charged = |entry: Option<Entry>| entry.is_some_and(|entry| entry.is_charged());
    let counted = count(&Effect::Charged);
    let moved = after.is_some_and(|entry| world.moved[key] == Some(entry.payment));
    let becomes = !charged(before) && charged(after);
    (counted != i8::from(becomes) || (becomes && !moved)).then_some(Breach::Miscounted)
}

/// The breach if an event changed a record that it had no right to change.
fn trespassed(tick: u8, before: Option<Entry>, after: Option<Entry>, event: &Event) -> Option<Breach> {
    if before == after {
        return None;
    }
    let Some(entry) = before else {
        let unchecked = matches!(event, Event::Claim(claim) if claim.only_known);
        return unchecked.then_some(Breach::TakenUnchecked);
    };
    let held_by = match entry.life {
        Life::Reserved { holder, .. } | Life::Settling { holder, .. } | Life::UnderWay { holder, .. } => {
            Some(holder)
        }
        Life::Unknown | Life::Owed | Life::Delivered => None,
    };
    let runs = match entry.life {
        Life::Reserved { until, .. } | Life::Settling { until, .. } | Life::UnderWay { until, .. } => {
            tick < until
        }
        Life::Unknown | Life::Owed | Life::Delivered => false,
    };
    let held = |by| held_by.map(holder) == Some(by);
    match event {
        Event::Claim(claim) => {
            let is_junk = matches!(entry.life, Life::Reserved { verified: false, .. })
                && entry.payment.trust() == Trust::Claimed
                && claim.proven;
            let is_free = (!runs && matches!(entry.life, Life::Reserved { .. })) || is_junk;
            let is_same = entry.payment.fingerprint() == claim.fingerprint;
            if !is_same && !is_free {
                return Some(Breach::Touched);
            }
            if is_free && claim.only_known {
                return Some(Breach::TakenUnchecked);
            }
            let may_go_on = !runs && terms(entry.terms) == claim.terms;
            (!is_free && !may_go_on).then_some(Breach::Unheld)
        }
        // An answer can be whole although another request holds the payment by now.
        Event::Over(by, End::Whole) if entry.before == Some(by.0[0]) => None,
        Event::Verified(by) | Event::Begin(by) | Event::Over(by, _) => (!held(*by)).then_some(Breach::Unheld),
        Event::Ended { outcome: Outcome::Settled { .. }, claim, .. } => {
            let other = claim.as_ref().is_some_and(|claim| claim.fingerprint != entry.payment.fingerprint());
            let wrong = after.is_none_or(|after| other && after.payment == entry.payment);
            wrong.then_some(Breach::Touched)
        }
        Event::Ended { epoch, holder: by, .. } => {
            let own = held(*by) && u32::from(entry.epoch) == *epoch;
            (!own || !matches!(entry.life, Life::Settling { .. })).then_some(Breach::Unheld)
        }
        Event::Ask(_) | Event::Resolve(_) | Event::Sweep { .. } => None,
    }
}

fn claim_of(world: &World, request: &Request, number: usize, forgets: bool) -> Claim {
    let payment = request.payment;
    let written_by = match request.task {
        // The body of a reconciliation is the recorded one.
        Task::NoteEnd { body, .. } if number >= REQUESTS => body.written_by,
        _ => number as u8,
    };
    // Any record of the other payment is a twin, also that of a request that ended long ago, because the payment can
    // continue until the sweep.
    let twin = match payment {
        Payment::Good => world.ledger[Payment::Second.key()],
        Payment::Second => world.ledger[Payment::Good.key()].filter(|entry| entry.payment == Payment::Good),
        Payment::Other | Payment::Junk => None,
    };
    let has_lapsed =
        |entry: &Entry| matches!(entry.life, Life::Reserved { until, .. } if world.tick >= until);
    Claim {
        fingerprint: payment.fingerprint(),
        terms: terms(request.terms),
        holder: holder_of(request, number),
        call: Body { payment, written_by }.bytes(),
        ends: payment.ends_seconds(),
        proven: payment.trust() == Trust::Proven,
        only_known: world.tick >= payment.ends() || number >= REQUESTS,
        can_settle: true,
        twin: twin
            .filter(|entry| !(forgets && has_lapsed(entry)))
            .map(|entry| Twin { transaction: entry.transaction.map(transaction) }),
    }
}

fn holder_of(request: &Request, number: usize) -> farebox_core::payment::Holder {
    holder(if number < REQUESTS { number as u8 } else { request.proxy })
}

fn outcome(came: Came, payment: Payment) -> Outcome {
    match came {
        Came::Settled => Outcome::Settled { transaction: transaction(payment) },
        Came::Refused => Outcome::Refused { reason: "insufficient_funds".to_owned(), detail: None },
        Came::Unknown => Outcome::Unknown { transaction: None, reason: "timeout".to_owned() },
        Came::NotSent => Outcome::NotSent,
    }
}
