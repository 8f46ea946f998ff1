//! How requests ended for their payments, told to a relay until it says that it knows.
//!
//! A relay that is away while an answer ends would go on to owe that answer, and would serve it once more after the
//! lease. So an end is kept until the relay has it on disk. Of an end that is lost, the lease of its payment decides.

use std::cell::RefCell;

use farebox_core::Now;
use farebox_core::payment::Ending;

use crate::callout::{Caller, Captured};
use crate::outbox::{Kind, Outbox};

thread_local! {
    static ENDS: RefCell<Outbox> = const {
        RefCell::new(Outbox::new(Kind {
            place: "farebox.ends",
            most: 4_096,
            at_once: 64,
            most_left: 1 << 20,
            dropped: "the oldest ends of requests are dropped, and their payments stay held until their leases end",
        }))
    };
}

/// Keeps an end, to be told in its turn or left to others.
pub(crate) fn keep(ending: &Ending) {
    ENDS.with_borrow_mut(|ends| ends.keep(line_of(ending)));
}

/// An end as the relay reads it.
pub(crate) fn line_of(ending: &Ending) -> Vec<u8> {
    let mut line = Vec::new();
    ending.write(&mut line);
    line
}

/// Tells an end, now or in its turn.
pub(crate) fn tell(caller: &Caller<'_>, ending: &Ending) {
    ENDS.with_borrow_mut(|ends| {
        // Behind others it waits for a tick.
        let is_first = ends.is_empty();
        ends.keep(line_of(ending));
        if is_first {
            send(ends, caller);
        }
    });
}

/// A reply came. Whether it was one to ends.
pub(crate) fn answered(caller: Option<&Caller<'_>>, token: u32, reply: Option<&Captured>) -> bool {
    ENDS.with_borrow_mut(|ends| {
        let answered = ends.answered(token, reply);
        if let (Some(true), Some(caller)) = (answered, caller) {
            send(ends, caller);
        }
        answered.is_some()
    })
}

/// A filter goes; the VM with it, if it was the last one there.
pub(crate) fn forget(root: u32, is_last: bool) {
    ENDS.with_borrow_mut(|ends| {
        ends.forget(root);
        if is_last {
            ends.leave();
        }
    });
}

/// Tells again what was not acknowledged, and what others left.
pub(crate) fn tick(caller: &Caller<'_>, now: Now) {
    ENDS.with_borrow_mut(|ends| {
        ends.tick(now);
        ends.take_left();
        send(ends, caller);
    });
}

fn send(ends: &mut Outbox, caller: &Caller<'_>) {
    ends.send(caller.root, |lines| caller.over(lines));
}
