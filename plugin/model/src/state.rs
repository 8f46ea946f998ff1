//! A state of the world.

use farebox_core::payment::End;

use crate::cast::{Body, Payment, Tick};
use crate::ledger::Entry;
use crate::property::Breach;

/// Requests a run may have.
pub(crate) const REQUESTS: usize = 4;
/// Reconciliations a run may have, one for each companion.
pub(crate) const ASKERS: usize = 2;

/// The state of the world at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) tick: Tick,
    pub(crate) ledger: [Option<Entry>; 2],
    /// The payment that used each nonce on the chain.
    pub(crate) moved: [Option<Payment>; 2],
    /// The true history of each payment.
    pub(crate) truth: [Truth; 4],
    /// Requests, then reconciliations.
    pub(crate) requests: [Request; REQUESTS + ASKERS],
    /// How many reconciliations were begun.
    pub(crate) asks: u8,
    /// Number of further crashes, lost messages and lost acknowledgements.
    pub(crate) mishaps: u8,
    /// Number of further resolutions by an operator.
    pub(crate) resolutions: u8,
    /// The first law that was broken.
    pub(crate) breach: Option<Breach>,
}

/// The true history of a payment, independent of what the companions know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Truth {
    /// Calls under way that may still move its money.
    pub(crate) out: u8,
    /// The facilitator said "valid", and that was true.
    pub(crate) vouched: bool,
    /// The facilitator said falsely that the first call did nothing, or an operator said falsely that it was
    /// refused. Farebox cannot detect that.
    pub(crate) denied: bool,
    /// "Settled" was recorded.
    pub(crate) proven: bool,
    /// The retention is over.
    pub(crate) forgotten: bool,
    /// Its owed answer was fetched once.
    pub(crate) redeemed: bool,
    /// The report of a whole answer arrived.
    pub(crate) answered: bool,
}

/// A request with a payment: the step of its proxy, and the task of its companion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) payment: Payment,
    pub(crate) terms: u8,
    /// The proxy of the request; for a reconciliation, the number of its holder.
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
    /// Ended, abandoned or dead.
    Done,
}

/// The work of a companion for a request. A crash of the companion ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    None,
    /// To write: the claim.
    Claim,
    /// The facilitator was asked whether the payment is good.
    Verify,
    /// To write: verified.
    NoteVerified,
    /// To write: freed, because it was not verified. Then the reply.
    NoteRefused {
        says: Word,
    },
    /// To write: the settlement begins.
    Begin,
    /// The settle call is under way.
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

/// The outcome of a call, in small form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Came {
    /// Money moved.
    Settled,
    /// A code that says that no money moved.
    Refused,
    /// No answer, garbage, pending, or "nonce used".
    Unknown,
    /// No byte was sent.
    NotSent,
}

/// The kinds of a relay's reply that the model distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// Continue: the payment is reserved and valid.
    Valid,
    /// Serve: the payment is charged.
    Serve,
    /// 402 with terms.
    Priced,
    /// 409 or 503.
    Unpriced,
}

// === impl Request ===

impl Request {
    /// A request that has not begun.
    pub(crate) const IDLE: Self = Self::made(Step::Idle);
    /// A request that has ended.
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

    /// Clears data that has no further effect, so that equivalent worlds are equal.
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
