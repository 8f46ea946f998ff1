//! A state of the world.

use farebox_core::payment::End;

use crate::cast::{Body, Payment, Tick};
use crate::ledger::Entry;
use crate::property::Breach;

/// Requests a run may have.
pub(crate) const REQUESTS: usize = 4;
/// Reconciliations a run may have, one for each companion.
pub(crate) const ASKERS: usize = 2;

/// Everything that matters of the world at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) tick: Tick,
    pub(crate) ledger: [Option<Entry>; 2],
    /// What each nonce was used for, on the chain.
    pub(crate) moved: [Option<Payment>; 2],
    /// What really happened to each payment.
    pub(crate) truth: [Truth; 4],
    /// Requests, then reconciliations.
    pub(crate) requests: [Request; REQUESTS + ASKERS],
    /// How many reconciliations were begun.
    pub(crate) asks: u8,
    /// What may still go wrong by itself: crashes, lost messages and acknowledgements.
    pub(crate) mishaps: u8,
    /// What an operator may still say.
    pub(crate) resolutions: u8,
    /// The first law that was broken.
    pub(crate) breach: Option<Breach>,
}

/// What happened to a payment, whether or not anybody here knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Truth {
    /// Calls that are out and may move its money yet.
    pub(crate) out: u8,
    /// The facilitator said truthfully that it is good.
    pub(crate) vouched: bool,
    /// The facilitator said of the first call that it did nothing, or an operator that it is refused, which was
    /// not true. There is no way to know.
    pub(crate) denied: bool,
    /// "Settled" was written down.
    pub(crate) proven: bool,
    /// The retention is over.
    pub(crate) forgotten: bool,
    /// Its owed answer was promised once more.
    pub(crate) redeemed: bool,
    /// The report that it was answered whole came in.
    pub(crate) answered: bool,
}

/// A request with a payment: what the proxy does, and what the companion does for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) payment: Payment,
    pub(crate) terms: u8,
    /// The proxy it came to; of a reconciliation, the number under which it holds.
    pub(crate) proxy: u8,
    pub(crate) companion: u8,
    pub(crate) step: Step,
    pub(crate) task: Task,
}

/// Where a request is in its proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Not begun.
    Idle,
    /// Waits for the relay to reserve and verify.
    Verifying,
    /// Its upstream works.
    Upstream,
    /// Waits for the relay to settle.
    Settling,
    /// The answer goes out.
    Answering,
    /// The answer, or its absence, is to be reported.
    Reporting(End),
    /// Over, gone or dead.
    Done,
}

/// What a companion does for a request. A crash of the companion ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    None,
    /// To write: the claim.
    Claim,
    /// The facilitator was asked whether the payment is good.
    Verify,
    /// To write: verified.
    NoteVerified,
    /// To write: freed, as it was not. Then the reply.
    NoteRefused {
        says: Word,
    },
    /// To write: the settlement begins.
    Begin,
    /// The settle call is out.
    Call {
        epoch: u8,
        body: Body,
    },
    /// To write: how it ended.
    NoteEnd {
        epoch: u8,
        body: Body,
        came: Came,
    },
    /// The reply is on its way to the proxy.
    Reply(Word),
    /// To write: no reply arrived.
    NoteUnsent,
}

/// What came of a call, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Came {
    /// Money moved.
    Settled,
    /// A code that says that it did not.
    Refused,
    /// No answer, garbage, pending, or "nonce used".
    Unknown,
    /// Not a byte was sent.
    NotSent,
}

/// What a relay tells a proxy, as far as it makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// Go on: the payment is reserved and good.
    Valid,
    /// Answer: it is charged.
    Serve,
    /// 402 with terms.
    Priced,
    /// 409 or 503.
    Unpriced,
}

// === impl Request ===

impl Request {
    /// One that is not begun.
    pub(crate) const IDLE: Self = Self::made(Step::Idle);
    /// One of which nothing is left.
    pub(crate) const DONE: Self = Self::made(Step::Done);

    const fn made(step: Step) -> Self {
        Self { payment: Payment::Good, terms: 0, proxy: 0, companion: 0, step, task: Task::None }
    }

    /// Whether its proxy waits for a reply.
    pub(crate) const fn waits(&self) -> bool {
        matches!(self.step, Step::Verifying | Step::Settling)
    }
}

// === impl World ===

impl World {
    /// Whether a call of this payment may move its money from now on.
    pub(crate) fn may_move(&self, payment: Payment) -> bool {
        self.truth_of(payment).out > 0 && self.moved[payment.key()].is_none() && self.tick < payment.ends()
    }

    pub(crate) const fn truth_of(&self, payment: Payment) -> &Truth {
        &self.truth[payment as usize]
    }

    pub(crate) const fn truth_mut(&mut self, payment: Payment) -> &mut Truth {
        &mut self.truth[payment as usize]
    }

    /// Forgets what makes no difference any more, so that equal worlds are equal.
    pub(crate) fn tidy(&mut self) {
        for request in &mut self.requests {
            if (request.step, request.task) == (Step::Done, Task::None) {
                *request = Request::DONE;
            }
        }
        for payment in Payment::ALL {
            if self.moved[payment.key()].is_some() || self.tick >= payment.ends() {
                self.truth_mut(payment).out = 0;
            }
        }
    }
}
