//! From a checked payment to the upstream: reservation, verify, settle-first (rows 15 to 22).

use super::{Abandoned, Call, Turn};
use crate::Now;
use crate::replay::{Reservation, Reserve};

/// Waits for a reservation.
#[derive(Debug)]
pub struct Reserving {
    _private: (),
}

impl Reserving {
    /// What to reserve.
    pub fn request(&self) -> Reserve {
        todo!()
    }
    /// The answer of the replay table.
    pub fn reserved(self, reservation: Reservation, now: Now) -> Turn {
        let _ = (reservation, now);
        todo!()
    }
}

/// What came of a facilitator call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A whole reply.
    Reply {
        /// HTTP status.
        status: u16,
        /// Body.
        body: &'a [u8],
    },
    /// No reply in time.
    TimedOut,
    /// No connection, or none that carried a reply.
    Unreachable,
    /// The reply broke off.
    Cut,
}

/// Waits for the facilitator: to verify, to settle first, or to settle after the upstream answered.
#[derive(Debug)]
pub struct Calling {
    _private: (),
}

impl Calling {
    /// The call to make.
    pub fn call(&self) -> &Call {
        todo!()
    }
    /// The facilitator answered, or did not.
    pub fn answered(self, answer: Answer<'_>, now: Now) -> Turn {
        let _ = (answer, now);
        todo!()
    }
    /// The client went away and no answer can reach this state any more.
    pub fn abandoned(self, now: Now) -> Abandoned {
        let _ = now;
        todo!()
    }
}
