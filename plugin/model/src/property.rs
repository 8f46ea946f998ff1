//! What must hold.

use farebox_core::payment::{Answer, Event, Outcome};
use stateright::Property;

use crate::cast::Payment;
use crate::ledger::{Entry, Life, RETENTION_TICKS, transaction};
use crate::model::Model;
use crate::state::World;

macro_rules! breaches {
    ($($(#[doc = $line:literal])+ $name:ident,)+) => {
        /// A broken law, found at the step that breaks it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Breach {
            $($(#[doc = $line])+ $name,)+
        }

        /// The properties: one for each law, and some others.
        pub(crate) fn properties() -> Vec<Property<Model>> {
            let mut properties = vec![
                Property::always("What was proven settled stays on record as charged.", |_, world: &World| {
                    proof_is_kept(world)
                }),
                Property::always("Every payment ends.", |model: &Model, world: &World| every_payment_ends(model, world)),
            ];
            properties.extend([
                Property::sometimes("A payment is answered whole.", |_: &Model, world: &World| {
                    world.truth_of(Payment::Good).answered
                }),
                Property::sometimes("An owed answer is fetched.", |_: &Model, world: &World| {
                    world.truth_of(Payment::Good).redeemed
                }),
                Property::sometimes("A settlement is open.", |_: &Model, world: &World| {
                    world.ledger.iter().flatten().any(|entry| entry.life == Life::Unknown)
                }),
                Property::sometimes("A third call is made.", |_: &Model, world: &World| {
                    world.ledger.iter().flatten().any(|entry| entry.epoch == 3)
                }),
                Property::sometimes("A payment is dropped after the retention.", |_: &Model, world: &World| {
                    world.truth.iter().any(|truth| truth.forgotten)
                }),
                Property::sometimes("The payment that comes second is the one that is charged.", |_: &Model, world: &World| {
                    world.truth_of(Payment::Other).answered || world.truth_of(Payment::Second).answered
                }),
            ]);
            properties.extend([$(
                Property::always(concat!($($line),+), |_: &Model, world: &World| {
                    world.breach != Some(Breach::$name)
                }),
            )+]);
            properties
        }
    };
}

breaches! {
    /// A request goes on to the upstream only with its own payment, reserved and verified.
    Unreserved,
    /// An answer goes out only for money that moved, for its own payment and terms, on record, and held for it.
    Unpaid,
    /// A payment is redeemed once at most.
    RedeemedTwice,
    /// After a whole answer is recorded, the payment gets no further answer.
    AnsweredTwice,
    /// Money moves once at most for one purchase.
    ChargedTwice,
    /// "Charged" is counted once, for money that moved.
    Miscounted,
    /// The gauge of open settlements is right.
    GaugeWrong,
    /// A payment at risk, open or owed is never priced again.
    Priced,
    /// Another payment never changes a record that is held, open or charged.
    Touched,
    /// A request changes only what it holds or may take.
    Unheld,
    /// One call of a number is under way at a time.
    CalledTwice,
    /// No call is begun while the one before may be waited for.
    CalledTooEarly,
    /// Every call is the recorded one, byte for byte.
    OtherCall,
    /// No payment is settled that was not verified.
    Unvouched,
    /// A payment that failed the checks of a new payment is never taken as new.
    TakenUnchecked,
    /// A charge for which no request waits can be fetched at once.
    HeldForNobody,
}

fn proof_is_kept(world: &World) -> bool {
    Payment::ALL.into_iter().all(|payment| {
        let truth = world.truth_of(payment);
        let kept =
            world.ledger[payment.key()].is_some_and(|entry| entry.payment == payment && entry.is_charged());
        !truth.proven || truth.forgotten || kept
    })
}

/// Checks the end of a world: if every call gets a true answer from now on, and no further request comes, then
/// money that moved is charged at the next question, and every other payment is dropped after the retention.
fn every_payment_ends(model: &Model, world: &World) -> bool {
    (0..world.ledger.len()).all(|key| {
        world.ledger[key].is_none_or(|entry| match entry.life {
            Life::Settling { .. } | Life::Unknown => open_one_ends(model, world, key, &entry),
            Life::Reserved { .. } | Life::Owed | Life::UnderWay { .. } | Life::Delivered => {
                let far = world.tick.max(entry.payment.ends()) + RETENTION_TICKS + 1;
                let event = Event::Sweep { retention: retention_seconds() };
                model.step_of(Some(entry.record()), event, far).record.is_none()
            }
        })
    })
}

fn open_one_ends(model: &Model, world: &World, key: usize, entry: &Entry) -> bool {
    let later = world.tick + 1;
    let asker = crate::ledger::holder(u8::MAX);
    let asked = model.step_of(Some(entry.record()), Event::Ask(asker), later);
    let Answer::Call { epoch, .. } = asked.answer else { return false };
    let moved = world.moved[key] == Some(entry.payment);
    let outcome = if moved {
        Outcome::Settled { transaction: transaction(entry.payment) }
    } else {
        Outcome::Unknown { transaction: None, reason: String::new() }
    };
    let ended = Event::Ended { epoch, holder: asker, outcome, claim: None };
    let ended = model.step_of(asked.record, ended, later);
    if moved {
        return ended.record.is_some_and(|record| record.is_charged());
    }
    let event = Event::Sweep { retention: retention_seconds() };
    model.step_of(ended.record, event, later + RETENTION_TICKS + 1).record.is_none()
}

/// The retention, seconds.
pub(crate) const fn retention_seconds() -> u64 {
    RETENTION_TICKS as u64 * crate::ledger::TICK_MS / 1000
}
