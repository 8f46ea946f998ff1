//! Messages to the companion, each told until the companion says that it knows.
//!
//! One call at a time tells what waits, in the order in which it was kept. A VM that goes leaves what it keeps in shared
//! data, and any other VM tells it. Only what a VM keeps that crashes is lost.

use std::collections::VecDeque;

use farebox_core::Now;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{LogLevel, Status};

use crate::callout::{CALL_TIMEOUT_MS, Captured};
use crate::shared_data;

/// What waits, and what is under way.
pub(crate) struct Outbox {
    kind: Kind,
    /// The first ones may be under way.
    waiting: VecDeque<Vec<u8>>,
    under_way: Option<UnderWay>,
    /// Whether a message was dropped since all of them had been told.
    is_full: bool,
    /// Whether the companion could not read what it was told last.
    is_unread: bool,
    lost: u64,
}

/// What differs.
pub(crate) struct Kind {
    /// Where VMs that go leave messages, each behind its length.
    pub(crate) place: &'static str,
    /// Messages a VM keeps.
    pub(crate) most: usize,
    /// Messages a call tells.
    pub(crate) at_once: usize,
    /// Bytes that are left.
    pub(crate) most_left: usize,
    /// Completes the log line about dropped messages.
    pub(crate) dropped: &'static str,
}

struct UnderWay {
    /// The filter that made the call.
    root: u32,
    token: u32,
    /// How many messages it tells.
    told: usize,
    /// When a tick saw it first.
    seen_ms: Option<u64>,
}

/// A call without a reply is made again after this time: the reply to a call of a filter that was replaced never comes.
const GIVEN_UP_MS: u64 = 2 * CALL_TIMEOUT_MS as u64;
/// Bytes of a message's length.
const LENGTH: usize = 4;

// === impl Outbox ===

impl Outbox {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, waiting: VecDeque::new(), under_way: None, is_full: false, is_unread: false, lost: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many messages wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// How many messages were dropped.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    pub(crate) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub(crate) fn keep(&mut self, message: Vec<u8>) {
        let told = self.under_way.as_ref().map_or(0, |call| call.told);
        // What is under way stays: its reply speaks of it.
        if self.waiting.len() >= self.kind.most && self.waiting.remove(told).is_some() {
            self.lose(1);
        }
        self.waiting.push_back(message);
    }

    fn lose(&mut self, how_many: usize) {
        self.lost += how_many as u64;
        if !self.is_full {
            self.is_full = true;
            let dropped = self.kind.dropped;
            let message = format!(
                "farebox: the companion takes no calls, and the filter can keep no more: {dropped}; see that the \
                 companion runs"
            );
            let _ = hostcalls::log(LogLevel::Error, &message);
        }
    }

    /// Makes a call that tells what waits, unless one is under way. An error means that nothing was sent.
    pub(crate) fn send(&mut self, root: u32, call: impl FnOnce(&[u8]) -> Result<u32, Status>) {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return;
        }
        let told = self.waiting.len().min(self.kind.at_once);
        let body: Vec<u8> = self.waiting.iter().take(told).flatten().copied().collect();
        if let Ok(token) = call(&body) {
            self.under_way = Some(UnderWay { root, token, told, seen_ms: None });
        }
    }

    /// A reply came. `None` if it was none to a call of these messages, else whether they are taken.
    pub(crate) fn answered(&mut self, token: u32, reply: Option<&Captured>) -> Option<bool> {
        let call = self.under_way.take_if(|call| call.token == token)?;
        let is_unread = matches!(reply, Some(Captured::Reply { status: 400, .. }));
        if is_unread && !self.is_unread {
            let message = "farebox: the companion cannot read what the filter tells it, and is told again: see that both \
                           are of one version, and that the cluster farebox leads to the companion";
            let _ = hostcalls::log(LogLevel::Error, message);
        }
        self.is_unread = is_unread;
        let is_taken = matches!(reply, Some(Captured::Reply { status: 204, .. }));
        if is_taken {
            self.waiting.drain(..call.told.min(self.waiting.len()));
            self.is_full &= !self.waiting.is_empty();
        }
        Some(is_taken)
    }

    /// A filter goes, and with it the reply to its call.
    pub(crate) fn forget(&mut self, root: u32) {
        self.under_way.take_if(|call| call.root == root);
    }

    /// Gives up a call whose reply never came.
    pub(crate) fn tick(&mut self, now: Now) {
        self.under_way.take_if(|call| {
            let seen_ms = *call.seen_ms.get_or_insert(now.unix_ms);
            now.unix_ms.abs_diff(seen_ms) >= GIVEN_UP_MS
        });
    }

    /// Leaves everything to other VMs. What is under way is told again by them.
    pub(crate) fn leave(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut messages = Vec::new();
        for message in &self.waiting {
            let length = u32::try_from(message.len()).unwrap_or_default();
            messages.extend_from_slice(&length.to_le_bytes());
            messages.extend_from_slice(message);
        }
        let is_left = shared_data::change(self.kind.place, |before| {
            let is_room = before.len() + messages.len() <= self.kind.most_left;
            (is_room.then(|| [before, &messages].concat()), is_room)
        });
        if is_left != Ok(true) {
            self.lose(self.waiting.len());
        }
        self.waiting.clear();
        self.under_way = None;
    }

    /// Takes what other VMs left.
    pub(crate) fn take_left(&mut self) {
        let taken =
            shared_data::change(self.kind.place, |left| ((!left.is_empty()).then(Vec::new), left.to_vec()));
        let left = taken.unwrap_or_default();
        let mut rest = left.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<LENGTH>() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some((message, after)) = after.split_at_checked(length) else { return };
            self.keep(message.to_vec());
            rest = after;
        }
    }
}
