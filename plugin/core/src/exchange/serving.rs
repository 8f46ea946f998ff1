//! From the upstream to the client: settle at the response head, release, delivery (rows 23 to 34).

use super::{ResponseHead, Turn};
use crate::Now;
use crate::metrics::Stamp;
use crate::replay::{KeyChange, ReplayKey};

/// A forwarded request that costs nothing. Its response needs no attention.
#[derive(Debug)]
pub struct Passing {
    _private: (),
}

/// A paid request at the upstream, verified or already settled.
#[derive(Debug)]
pub struct Upstream {
    _private: (),
}

impl Upstream {
    /// The response head arrived.
    pub fn response(self, head: &ResponseHead<'_>, now: Now) -> Turn {
        let _ = (head, now);
        todo!()
    }
    /// The client went away before a response head.
    pub fn abandoned(self, now: Now) -> Abandoned {
        let _ = now;
        todo!()
    }
}

/// A settled response being streamed to the client.
#[derive(Debug)]
pub struct Delivering {
    _private: (),
}

impl Delivering {
    /// The stream is over. `broken` says that the upstream cut the body short; a client that went away
    /// is not broken, or it could have itself served again and again.
    pub fn ended(self, broken: bool, now: Now) -> Abandoned {
        let _ = (broken, now);
        todo!()
    }
}

/// Effects of an end nobody is left to answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Abandoned {
    /// What to count.
    pub stamps: Vec<Stamp>,
    /// Changes to reservations.
    pub keys: Vec<(ReplayKey, KeyChange)>,
}
