//! What each proxy says about the last push. Only its own counters count: Envoy echoes the version of a
//! configuration it refused.

use tracing::{error, info};

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
    /// Unix seconds of the first reading that was tried.
    first_tried: Option<u64>,
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
pub(super) const FORGOTTEN_SECONDS: u64 = 600;

// === impl ProxyState ===

impl ProxyState {
    /// A proxy that has not reported.
    pub const fn new(name: String, stats: String) -> Self {
        Self {
            name,
            stats,
            last_report: None,
            last_error: None,
            first_tried: None,
            confirmed: None,
            pushed: None,
            push: PushState::Idle,
            rejected: 0,
            rejected_before: 0,
        }
    }

    /// A proxy that was found after this generation was pushed.
    #[must_use]
    pub const fn joining(mut self, pushed: Option<u64>) -> Self {
        if pushed.is_some() {
            self.pushed = pushed;
            self.push = PushState::Pending;
        }
        self
    }

    /// A push is about to be written.
    pub(super) fn pushing(&mut self, generation: u64) {
        if self.pushed != Some(generation) {
            self.pushed = Some(generation);
            self.push = PushState::Pending;
            self.rejected_before = self.rejected;
        }
    }

    /// The proxy was read.
    pub fn reported(&mut self, reading: &Reading) {
        if self.last_error.take().is_some() {
            info!(proxy = self.name, "proxy is readable again");
        }
        self.last_report = Some(unix_seconds());
        self.first_tried = self.first_tried.or(self.last_report);
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
        self.first_tried = self.first_tried.or_else(|| Some(unix_seconds()));
    }

    /// Whether the last reading succeeded; `None` before the first one and after ten minutes of silence.
    pub fn is_up(&self, now: u64) -> Option<bool> {
        let heard = self.last_report.or(self.first_tried)?;
        (now.saturating_sub(heard) <= FORGOTTEN_SECONDS).then_some(self.last_error.is_none())
    }

    /// Configurations refused since the last push: the push itself, or, once that is confirmed, what somebody
    /// else offered to the proxy.
    pub const fn refusals(&self) -> u64 {
        self.rejected.saturating_sub(self.rejected_before)
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
