//! How requests ended for their payments, told to a relay until it says that it knows.
//!
//! A relay that is away while an answer ends would go on to owe that answer, and would serve it once more after the
//! lease. So an end is kept until the relay has it on disk, or says that it can never take it. What a VM keeps is lost
//! with the VM, when it crashes or is replaced: then the lease of the payment decides.

use std::cell::RefCell;
use std::collections::VecDeque;

use farebox_core::Now;
use farebox_core::exchange::Note;
use farebox_core::payment::{End, Event};
use proxy_wasm::hostcalls;
use proxy_wasm::types::LogLevel;

use crate::callout::{Caller, Captured, OVER_TIMEOUT_MS};

/// Ends a VM keeps.
const MAX_KEPT: usize = 4_096;
/// Ends that are under way at a time.
const MAX_UNDER_WAY: usize = 16;
/// An end without a reply is told again after this time: the reply to a call of a filter that was replaced never comes.
const GIVEN_UP_MS: u64 = 2 * OVER_TIMEOUT_MS as u64;

thread_local! {
    static ENDS: RefCell<Ends> = const { RefCell::new(Ends::new()) };
}

struct Ends {
    waiting: VecDeque<Note>,
    under_way: Vec<UnderWay>,
    /// Whether an end was dropped since all of them had been told.
    is_full: bool,
}

struct UnderWay {
    token: u32,
    note: Note,
    /// When a tick saw it first.
    seen_ms: Option<u64>,
}

/// Tells an end, now or in its turn.
pub(crate) fn tell(caller: &Caller<'_>, note: Note) {
    ENDS.with_borrow_mut(|ends| {
        let is_first = ends.waiting.is_empty();
        ends.keep(note);
        // Behind others it waits for their replies, or for a tick.
        if is_first {
            ends.send(caller);
        }
    });
}

/// A reply came. Whether it was one to an end.
pub(crate) fn answered(caller: Option<&Caller<'_>>, token: u32, reply: Option<&Captured>) -> bool {
    ENDS.with_borrow_mut(|ends| {
        let Some(place) = ends.under_way.iter().position(|told| told.token == token) else { return false };
        let told = ends.under_way.swap_remove(place);
        if matches!(reply, Some(Captured::Reply { status: 204 | 400, .. })) {
            if let Some(caller) = caller {
                ends.send(caller);
            }
        } else {
            ends.keep(told.note);
        }
        true
    })
}

/// Tells again what was not acknowledged.
pub(crate) fn tick(caller: &Caller<'_>, now: Now) {
    ENDS.with_borrow_mut(|ends| {
        let mut place = 0;
        while let Some(told) = ends.under_way.get_mut(place) {
            let seen_ms = *told.seen_ms.get_or_insert(now.unix_ms);
            if now.unix_ms.abs_diff(seen_ms) < GIVEN_UP_MS {
                place += 1;
            } else {
                let told = ends.under_way.swap_remove(place);
                ends.keep(told.note);
            }
        }
        ends.send(caller);
    });
}

// === impl Ends ===

impl Ends {
    const fn new() -> Self {
        Self { waiting: VecDeque::new(), under_way: Vec::new(), is_full: false }
    }

    fn keep(&mut self, note: Note) {
        if self.waiting.len() >= MAX_KEPT {
            self.waiting.pop_front();
            if !self.is_full {
                self.is_full = true;
                let message = "farebox: the relay takes no ends of requests, and the filter can keep no more: the \
                               oldest are dropped, and their payments stay held until their leases end; see that \
                               the companion runs";
                let _ = hostcalls::log(LogLevel::Error, message);
            }
        }
        self.waiting.push_back(note);
    }

    fn send(&mut self, caller: &Caller<'_>) {
        while self.under_way.len() < MAX_UNDER_WAY
            && let Some(note) = self.waiting.pop_front()
        {
            // Only ends are kept here.
            let Event::Over(_, end) = note.event else { continue };
            if end == End::NotYet {
                continue;
            }
            let Ok(token) = caller.over(&note, end) else {
                return self.waiting.push_front(note);
            };
            self.under_way.push(UnderWay { token, note, seen_ms: None });
        }
        self.is_full &= !self.waiting.is_empty();
    }
}
