//! How requests ended for their payments, told to a relay until it says that it knows.
//!
//! One call tells all that ended while the one before was under way.
//!
//! A relay that is away while an answer ends would go on to owe that answer, and would serve it once more after the
//! lease. So an end is kept until the relay has it on disk, or says that it can never take it. A filter that goes leaves
//! what it keeps in shared data, since the VM may go with it, and any other filter tells it. Only what a VM keeps that
//! crashes is lost: then the lease of the payment decides.

use std::cell::RefCell;
use std::collections::VecDeque;

use farebox_core::Now;
use farebox_core::payment::Ending;
use proxy_wasm::hostcalls;
use proxy_wasm::types::LogLevel;

use crate::callout::{Caller, Captured, OVER_TIMEOUT_MS};
use crate::shared_data;

/// Ends a VM keeps.
const MAX_KEPT: usize = 4_096;
/// Ends a call tells.
const MAX_AT_ONCE: usize = 64;
/// Where filters that go leave ends, as the lines of a call.
const LEFT: &str = "farebox.ends";
/// Bytes that are left.
const MAX_LEFT: usize = 1 << 20;
/// Ends without a reply are told again after this time: the reply to a call of a filter that was replaced never comes.
const GIVEN_UP_MS: u64 = 2 * OVER_TIMEOUT_MS as u64;

thread_local! {
    static ENDS: RefCell<Ends> = const { RefCell::new(Ends::new()) };
}

struct Ends {
    /// A line each.
    waiting: VecDeque<Vec<u8>>,
    under_way: Option<UnderWay>,
    /// Whether an end was dropped since all of them had been told.
    is_full: bool,
}

struct UnderWay {
    /// The filter that made the call.
    root: u32,
    token: u32,
    told: Vec<Vec<u8>>,
    /// When a tick saw it first.
    seen_ms: Option<u64>,
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
    let line = line_of(ending);
    ENDS.with_borrow_mut(|ends| {
        // Behind others it waits for a tick.
        let is_first = ends.waiting.is_empty();
        ends.keep(line);
        if is_first {
            ends.send(caller);
        }
    });
}

/// A reply came. Whether it was one to ends.
pub(crate) fn answered(caller: Option<&Caller<'_>>, token: u32, reply: Option<&Captured>) -> bool {
    ENDS.with_borrow_mut(|ends| {
        if ends.under_way.as_ref().is_none_or(|call| call.token != token) {
            return false;
        }
        let is_taken = matches!(reply, Some(Captured::Reply { status: 204 | 400, .. }));
        if is_taken {
            ends.under_way = None;
            if let Some(caller) = caller {
                ends.send(caller);
            }
        } else {
            ends.take_back();
        }
        true
    })
}

/// A filter goes, and with it the reply to its call, and maybe the VM.
pub(crate) fn forget(root: u32) {
    ENDS.with_borrow_mut(|ends| {
        if ends.under_way.as_ref().is_some_and(|call| call.root == root) {
            ends.take_back();
        }
        ends.leave();
    });
}

/// Tells again what was not acknowledged, and what others left.
pub(crate) fn tick(caller: &Caller<'_>, now: Now) {
    ENDS.with_borrow_mut(|ends| {
        if let Some(call) = &mut ends.under_way {
            let seen_ms = *call.seen_ms.get_or_insert(now.unix_ms);
            if now.unix_ms.abs_diff(seen_ms) >= GIVEN_UP_MS {
                ends.take_back();
            }
        }
        ends.take_left();
        ends.send(caller);
    });
}

// === impl Ends ===

impl Ends {
    const fn new() -> Self {
        Self { waiting: VecDeque::new(), under_way: None, is_full: false }
    }

    fn keep(&mut self, line: Vec<u8>) {
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
        self.waiting.push_back(line);
    }

    /// What was told has to be told again.
    fn take_back(&mut self) {
        for line in self.under_way.take().into_iter().flat_map(|call| call.told) {
            self.keep(line);
        }
    }

    fn leave(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let lines = self.waiting.make_contiguous().concat();
        let is_left = shared_data::change(LEFT, |before| {
            let is_room = before.len() + lines.len() <= MAX_LEFT;
            (is_room.then(|| [before, &lines].concat()), is_room)
        });
        if is_left == Ok(true) {
            self.waiting.clear();
        }
    }

    fn take_left(&mut self) {
        let left = shared_data::change(LEFT, |left| ((!left.is_empty()).then(Vec::new), left.to_vec()));
        for line in left.unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            self.keep(line.to_vec());
        }
    }

    fn send(&mut self, caller: &Caller<'_>) {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return;
        }
        let told: Vec<Vec<u8>> = self.waiting.drain(..self.waiting.len().min(MAX_AT_ONCE)).collect();
        match caller.over(&told.concat()) {
            Ok(token) => {
                self.under_way = Some(UnderWay { root: caller.root, token, told, seen_ms: None });
                self.is_full &= !self.waiting.is_empty();
            }
            Err(_) => told.into_iter().for_each(|line| self.keep(line)),
        }
    }
}
