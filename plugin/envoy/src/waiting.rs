//! Streams that wait, which the filter has to know: for the reply to a call, or, with a payment, for their upstream.
//!
//! A call to a relay may outlive its stream, too, and the end of that stream may overtake it: then the relay would hear of
//! a claim that nobody gives back. So the end is told again once the call has been answered.
//!
//! A settle call of a filter without a relay may outlive its stream. Its reply is waited for nevertheless, because
//! nobody else will write down that money moved. It is lost with the VM, and with the filter when rules are replaced
//! and its last stream ends before the reply: then the payment stays settling until its lease ends, and the next resend
//! makes the call again.

use std::cell::RefCell;
use std::rc::Rc;

use farebox_core::Now;
use farebox_core::exchange::{Note, Orphan};
use farebox_core::payment::GOES_ON_EVERY_MS;

use crate::ends;
use crate::root::Deployment;
use crate::stream::Stream;

/// Most streams that say at one tick that they go on.
const MAX_AT_A_TIME: usize = 64;

/// Who waits for a reply.
pub(crate) enum Waiter {
    Stream(Rc<Stream>),
    /// A settle call without a stream.
    Orphan(Box<Orphan>, Rc<Deployment>),
    /// A call to a relay whose stream is over, and what is to be told of that.
    Left(Vec<Note>, Rc<Deployment>),
}

struct Waiting {
    /// By token, in the order of the calls.
    replies: Vec<(u32, Waiter)>,
    /// By context.
    upstreams: Vec<Holding>,
    /// No stream has to say before this time that it goes on.
    next_ms: u64,
}

/// A stream that holds a payment while it waits for its upstream or delivers.
struct Holding {
    context: u32,
    stream: Rc<Stream>,
    /// When it has to say next that it goes on.
    next_ms: u64,
}

thread_local! {
    static WAITING: RefCell<Waiting> =
        const { RefCell::new(Waiting { replies: Vec::new(), upstreams: Vec::new(), next_ms: u64::MAX }) };
}

/// A call was made.
pub(crate) fn for_reply(token: u32, waiter: Waiter) {
    WAITING.with_borrow_mut(|waiting| {
        let place = waiting.replies.partition_point(|known| known.0 < token);
        waiting.replies.insert(place, (token, waiter));
    });
}

/// Who waited for the reply to a call, and waits no more.
pub(crate) fn take(token: u32) -> Option<Waiter> {
    WAITING.with_borrow_mut(|waiting| {
        let place = waiting.replies.binary_search_by_key(&token, |known| known.0).ok()?;
        Some(waiting.replies.remove(place).1)
    })
}

/// A filter is gone, and with it the replies to its calls.
pub(crate) fn forget(root: u32) {
    WAITING.with_borrow_mut(|waiting| {
        waiting.replies.retain(|(_, waiter)| match waiter {
            Waiter::Stream(stream) => stream.root() != root,
            Waiter::Orphan(_, deployment) => deployment.root != root,
            Waiter::Left(notes, deployment) => {
                let stays = deployment.root != root;
                if !stays {
                    notes.iter().filter_map(Note::ending).for_each(|ending| ends::keep(&ending));
                }
                stays
            }
        });
    });
}

/// A stream that holds a payment waits for its upstream.
pub(crate) fn for_upstream(context: u32, stream: &Rc<Stream>, now: Now) {
    WAITING.with_borrow_mut(|waiting| {
        if let Err(place) = waiting.upstreams.binary_search_by_key(&context, |known| known.context) {
            let next_ms = now.unix_ms.saturating_add(GOES_ON_EVERY_MS);
            waiting.upstreams.insert(place, Holding { context, stream: Rc::clone(stream), next_ms });
            waiting.next_ms = waiting.next_ms.min(next_ms);
        }
    });
}

/// A stream is over.
pub(crate) fn no_more(context: u32) {
    WAITING.with_borrow_mut(|waiting| {
        if let Ok(place) = waiting.upstreams.binary_search_by_key(&context, |known| known.context) {
            waiting.upstreams.remove(place);
        }
    });
}

/// Streams that have to say now that they go on.
pub(crate) fn due(now: Now) -> Vec<Rc<Stream>> {
    let now_ms = now.unix_ms;
    let next_ms = now_ms.saturating_add(GOES_ON_EVERY_MS);
    WAITING.with_borrow_mut(|waiting| {
        let mut due = Vec::new();
        // A time further away is of before the clock was set back.
        let is_due = |at: u64| at <= now_ms || at > next_ms;
        if waiting.upstreams.is_empty() || !is_due(waiting.next_ms) {
            return due;
        }
        waiting.next_ms = u64::MAX;
        for holding in &mut waiting.upstreams {
            if is_due(holding.next_ms) && due.len() < MAX_AT_A_TIME {
                due.push(Rc::clone(&holding.stream));
                holding.next_ms = next_ms;
            }
            waiting.next_ms = waiting.next_ms.min(holding.next_ms);
        }
        due
    })
}
