//! What each proxy says about the last push. Only its own counters count: Envoy echoes the version of a
//! configuration it refused.

use tracing::{error, info};

use super::condition::Condition;
use crate::collect::Reading;
use crate::state::unix_seconds;

/// A proxy, as far as it has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyState {
    /// `proxy_instance`.
    pub name: String,
    /// Where it is read.
    pub stats: String,
    /// Unix seconds of the last reading.
    pub last_report: Option<u64>,
    /// Why the last reading failed.
    pub last_error: Option<String>,
    /// A reading was tried.
    is_tried: bool,
    /// The generation it said it enforces.
    pub confirmed: Option<u64>,
    /// The generation last pushed to it.
    pub pushed: Option<u64>,
    /// What became of the push.
    pub push: PushState,
    /// Configurations its Envoy has refused since it started.
    rejected: u64,
    /// `rejected` when the push was made, and again when it was confirmed.
    rejected_before: u64,
    /// Unix seconds of the last push, or when it joined after that.
    pushed_at: Option<u64>,
    condition: Condition,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushState {
    /// Nothing was pushed yet.
    Idle,
    /// Not answered yet.
    Pending,
    /// Enforced.
    Confirmed,
    /// Refused; the proxy enforces the last good.
    Refused,
}

/// Seconds without a report after which a proxy no longer counts as connected, and after which its series go.
const CONNECTED_SECONDS: u64 = 60;
/// Seconds after which a proxy that took no rules yet will not take them by itself.
const FIRST_RULES_SECONDS: u64 = 30;
pub(super) const FORGOTTEN_SECONDS: u64 = 600;

// === impl ProxyState ===

impl ProxyState {
    /// A proxy that has not reported.
    pub fn new(name: String, stats: String) -> Self {
        Self {
            name,
            stats,
            last_report: None,
            last_error: None,
            is_tried: false,
            confirmed: None,
            pushed: None,
            push: PushState::Idle,
            rejected: 0,
            rejected_before: 0,
            pushed_at: None,
            condition: Condition::default(),
        }
    }

    /// A proxy that was found after this generation was pushed.
    #[must_use]
    pub fn joining(mut self, pushed: Option<u64>) -> Self {
        if pushed.is_some() {
            self.pushed = pushed;
            self.pushed_at = Some(unix_seconds());
            self.push = PushState::Pending;
        }
        self
    }

    /// A push is about to be written.
    pub(super) fn pushing(&mut self, generation: u64) {
        if self.pushed != Some(generation) {
            self.pushed = Some(generation);
            self.pushed_at = Some(unix_seconds());
            self.push = PushState::Pending;
            self.rejected_before = self.rejected;
        }
    }

    /// The proxy was read.
    pub fn reported(&mut self, reading: &Reading) {
        if self.last_error.take().is_some() {
            info!(proxy = self.name, "proxy is readable again");
        }
        let now = unix_seconds();
        self.last_report = Some(now);
        self.condition.read(&self.name, reading, now);
        self.is_tried = true;
        self.confirmed = reading.generation;
        let refusals = self.refusals();
        self.rejected = reading.rejected;
        // An Envoy that restarted counts refusals from zero.
        self.rejected_before = self.rejected_before.min(reading.rejected);
        let push = match self.pushed {
            None => PushState::Idle,
            pushed if pushed == reading.generation => PushState::Confirmed,
            _ if self.rejected > self.rejected_before => PushState::Refused,
            _ => PushState::Pending,
        };
        if push == PushState::Confirmed && self.push != push {
            self.rejected_before = self.rejected;
        } else if push == PushState::Confirmed && self.refusals() > refusals {
            error!(
                proxy = self.name,
                enforced = self.confirmed,
                "proxy refused a configuration that is not ours; see who else writes the published file"
            );
        }
        if push != self.push {
            match push {
                PushState::Confirmed => info!(proxy = self.name, generation = self.pushed, "rules enforced"),
                PushState::Refused => error!(
                    proxy = self.name,
                    pushed = self.pushed,
                    enforced = self.confirmed,
                    "proxy refused the rules and keeps the last good; its own log has the reason"
                ),
                PushState::Idle | PushState::Pending => {}
            }
        }
        self.push = push;
    }

    /// The proxy could not be read.
    pub fn unreadable(&mut self, error: String) {
        if self.last_error.is_none() {
            tracing::warn!(proxy = self.name, "proxy cannot be read: {error}");
        }
        self.last_error = Some(error);
        self.is_tried = true;
    }

    /// Whether the last reading succeeded; `None` before the first one and ten minutes after the last report. One that
    /// never reported is not forgotten: its address may be wrong.
    pub fn is_up(&self, now: u64) -> Option<bool> {
        match self.last_report {
            Some(_) => self.is_known(now).then_some(self.last_error.is_none()),
            None => self.is_tried.then_some(false),
        }
    }

    /// Configurations refused since the last push: the push itself, or, once that is confirmed, what somebody
    /// else offered to the proxy.
    pub const fn refusals(&self) -> u64 {
        self.rejected.saturating_sub(self.rejected_before)
    }

    /// As if the push, and what was read, were of some time ago.
    #[cfg(test)]
    pub(crate) fn long_ago(&mut self) {
        self.pushed_at = self.pushed_at.map(|at| at - FIRST_RULES_SECONDS - 1);
        self.condition.long_ago();
    }

    /// Its clock less the companion's, seconds, as little as can be; `None` if nothing tells.
    pub const fn clock(&self) -> Option<i64> {
        self.condition.clock()
    }

    /// Whether it reaches the companion's relay; `None` if nothing tells.
    pub fn reaches_relay(&self, now: u64) -> Option<bool> {
        self.condition.reaches_relay(now)
    }

    /// Why it sells nothing, as far as it can be read. Completes a sentence whose subject is the proxy.
    pub fn trouble(&self, now: u64) -> Option<String> {
        if !self.is_connected(now) {
            return None;
        }
        match (self.confirmed, self.push) {
            (None, PushState::Refused) => {
                Some("refused its first rules and serves nothing; its own log has the reason".to_owned())
            }
            (None, PushState::Pending)
                if self.pushed_at.is_some_and(|at| now.saturating_sub(at) > FIRST_RULES_SECONDS) =>
            {
                Some(
                    "has taken no rules: does its config_discovery read the file that the companion writes, and is the                      filter in the chain of its listener?"
                        .to_owned(),
                )
            }
            _ => self.condition.relay_trouble(now),
        }
    }

    /// Whether nothing more is to be learned about the last push by asking often.
    pub(super) fn has_answered(&self) -> bool {
        matches!(self.push, PushState::Idle | PushState::Confirmed | PushState::Refused)
    }

    /// Reported within the last minute.
    pub fn is_connected(&self, now: u64) -> bool {
        self.silence(now).is_some_and(|seconds| seconds <= CONNECTED_SECONDS)
    }

    /// Reported within the last ten minutes.
    pub fn is_known(&self, now: u64) -> bool {
        self.silence(now).is_some_and(|seconds| seconds <= FORGOTTEN_SECONDS)
    }

    fn silence(&self, now: u64) -> Option<u64> {
        self.last_report.map(|at| now.saturating_sub(at))
    }
}

// === impl PushState ===

impl PushState {
    /// As `/status` shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Refused => "refused",
        }
    }
}
