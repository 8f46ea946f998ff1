//! What each proxy says about the last push, and of itself. Only its own reports count: Envoy echoes the version of a
//! configuration it refused.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::metrics::Standing;
use farebox_core::protocol::CLOCK_TOLERANCE_SECONDS;
use tracing::{error, info, warn};

use crate::settings::MAX_NAME;

/// The proxies that report, by the id in their bootstrap.
#[derive(Debug, Default)]
pub struct Proxies {
    known: BTreeMap<String, ProxyState>,
    /// The generation pushed last, and when, Unix seconds.
    pushed: Option<(u64, u64)>,
    /// When a call was refused because it did not show the relay's secret, Unix seconds.
    refused_at: Option<u64>,
}

/// A proxy, as far as it has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyState {
    /// `proxy_instance`.
    pub name: String,
    /// Its VMs, one for each thread, by their names.
    vms: BTreeMap<String, Vm>,
    /// The generation pushed last, and since when the proxy is behind, or when it joined after that, Unix seconds.
    pushed: Option<(u64, u64)>,
    /// Since when it reports without a silence, Unix seconds.
    since: u64,
    /// Why it refused the last configuration that came to it; empty if it did not.
    pub refusal: String,
    /// Its clock less the companion's, seconds; a report may be on its way for some of them.
    clock: i64,
    /// What the log says of it already.
    logged: Logged,
}

/// A VM of a proxy's filter, which reports for its thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vm {
    /// Names the process.
    pub process: String,
    /// Generation of the rules it enforces, 0 for none.
    pub generation: u64,
    /// Content hash of these.
    pub hash: String,
    /// Unix seconds of its last report.
    pub heard_at: u64,
    /// Reports it could not send yet.
    pub waiting: u64,
    /// Reports it had no room to keep.
    pub lost: u64,
    /// Payments got no answer from the relay, says its last report.
    unheard: bool,
}

/// What is wrong with a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Silent,
    RefusedFirst,
    NoRules,
    Unheard,
    /// It sells, by rules that are not the published ones.
    Stale,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Logged {
    push: PushState,
    wrong_clock: bool,
    trouble: Option<Trouble>,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PushState {
    /// Nothing was pushed yet.
    #[default]
    Idle,
    /// Not answered yet.
    Pending,
    /// Enforced by every VM.
    Confirmed,
    /// Refused; the proxy enforces the last good.
    Refused,
}

/// Seconds without a report after which a proxy is silent: several signs of life are missing.
const SILENT_SECONDS: u64 = 10;
/// After which a VM beside others is gone.
const GONE_SECONDS: u64 = 5;
/// After which it no longer counts as connected, and after which it is forgotten.
const CONNECTED_SECONDS: u64 = 60;
pub(super) const FORGOTTEN_SECONDS: u64 = 600;
/// Seconds after which a proxy that took no rules yet will not take them by itself.
const FIRST_RULES_SECONDS: u64 = 30;
/// After which one that has rules should have taken those published since.
const STALE_SECONDS: u64 = 15;
/// How long a refused call may be why proxies are not heard, seconds.
const REFUSED_SECONDS: u64 = 60;
/// Proxies with a name of their own; those beyond share [`OTHER`].
pub(super) const MAX_PROXIES: usize = 500;
pub(super) const OTHER: &str = "other";
/// A proxy without an id.
pub(super) const UNNAMED: &str = "unnamed";
/// VMs of one proxy that are remembered.
const MAX_VMS: usize = 1_024;

// === impl Proxies ===

impl Proxies {
    /// A proxy reported; `unheard` of its payments got no answer from the companion. Returns how many reports it has lost
    /// since the last one.
    pub fn heard(&mut self, id: &str, standing: &Standing, unheard: u64, now_ms: u64) -> u64 {
        let now = now_ms / 1_000;
        let mut name = printable(id);
        if !self.known.contains_key(&name) && self.known.len() >= MAX_PROXIES {
            name = OTHER.to_owned();
        }
        let pushed = self.pushed.map(|(generation, _)| (generation, now));
        let proxy = self.known.entry(name).or_insert_with_key(|name| {
            info!(proxy = name, "a proxy reports");
            ProxyState::new(name.clone(), pushed)
        });
        proxy.heard(standing, unheard, now_ms)
    }

    /// A push is about to be made.
    pub fn pushing(&mut self, generation: u64, now: u64) {
        if self.pushed.is_none_or(|(known, _)| known != generation) {
            // Where none has ever reported, a new push is no reason to wait anew.
            let since = self.pushed.filter(|_| self.known.is_empty()).map_or(now, |(_, at)| at.min(now));
            self.pushed = Some((generation, since));
            self.known.values_mut().for_each(|proxy| proxy.pushing(generation, now));
        }
    }

    /// Names proxies that fell silent, and forgets those that have been for long. What they counted stays.
    pub fn watch(&mut self, now: u64) {
        self.known.retain(|name, proxy| {
            let is_known = proxy.is_known(now);
            if is_known {
                proxy.log(now);
            } else {
                info!(proxy = name, "the proxy is gone; what it counted stays");
            }
            is_known
        });
    }

    /// Whether rules were ever pushed to proxies that report.
    pub const fn are_pushed_to(&self) -> bool {
        self.pushed.is_some()
    }

    /// Those that are not forgotten, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &ProxyState> {
        self.known.values()
    }

    /// Whether none is there, though rules were published a while ago, or whoever comes is refused at the door.
    pub fn none_reports(&self, now: u64) -> bool {
        let is_late = |(_, at)| now.saturating_sub(at) > FIRST_RULES_SECONDS || self.were_refused(now);
        self.known.is_empty() && self.pushed.is_some_and(is_late)
    }

    /// A call was refused because it did not show the relay's secret.
    pub const fn refused(&mut self, now: u64) {
        self.refused_at = Some(now);
    }

    /// Whether that happened just now.
    pub fn were_refused(&self, now: u64) -> bool {
        self.refused_at.is_some_and(|at| now.saturating_sub(at) <= REFUSED_SECONDS)
    }

    /// The processes that report now, each as its proxy's name and its own.
    pub fn processes(&self, now: u64) -> BTreeSet<(&str, &str)> {
        let mut living = BTreeSet::new();
        for (name, proxy) in &self.known {
            let vms = proxy.vms.values().filter(|vm| !vm.is_gone(now));
            living.extend(vms.map(|vm| (name.as_str(), vm.process.as_str())));
        }
        living
    }
}

// === impl Vm ===

impl Vm {
    const fn is_gone(&self, now: u64) -> bool {
        now.saturating_sub(self.heard_at) > GONE_SECONDS
    }
}

// === impl ProxyState ===

impl ProxyState {
    fn new(name: String, pushed: Option<(u64, u64)>) -> Self {
        Self {
            name,
            vms: BTreeMap::new(),
            pushed,
            refusal: String::new(),
            clock: 0,
            since: 0,
            logged: Logged::default(),
        }
    }

    fn heard(&mut self, standing: &Standing, unheard: u64, now_ms: u64) -> u64 {
        let now = now_ms / 1_000;
        // VMs come and go with threads and processes: one that is silent beside others is gone.
        self.vms.retain(|name, vm| *name == standing.vm || !vm.is_gone(now));
        if !self.vms.contains_key(&standing.vm) && self.vms.len() >= MAX_VMS {
            return 0;
        }
        if !self.is_up(now) {
            self.since = now;
        }
        // What failed while nothing was heard of the proxy is history: that it reports shows that the way is open again.
        let unheard = unheard > 0 && now.saturating_sub(self.since) > SILENT_SECONDS;
        let vm = self.vms.entry(standing.vm.clone()).or_default();
        let lost = standing.lost.saturating_sub(vm.lost);
        *vm = Vm {
            process: standing.process.clone(),
            generation: standing.generation,
            hash: standing.hash.clone(),
            heard_at: now,
            waiting: standing.waiting,
            lost: standing.lost,
            unheard,
        };
        self.refusal.clone_from(&standing.refusal);
        let [theirs, ours] = [standing.unix_ms, now_ms].map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        self.clock = theirs.saturating_sub(ours) / 1_000;
        self.log(now);
        lost
    }

    /// One that has not taken the push before is behind since then.
    fn pushing(&mut self, generation: u64, now: u64) {
        let behind = self.pushed.filter(|_| self.push() != PushState::Confirmed);
        self.pushed = Some((generation, behind.map_or(now, |(_, at)| at.min(now))));
    }

    /// Its VMs by name.
    pub fn vms(&self) -> impl Iterator<Item = (&str, &Vm)> {
        self.vms.iter().map(|(name, vm)| (name.as_str(), vm))
    }

    /// Unix seconds of its last report.
    pub fn last_report(&self) -> u64 {
        self.vms.values().map(|vm| vm.heard_at).max().unwrap_or(0)
    }

    /// The generation every VM of it enforces at least; `None` if one has no rules.
    pub fn confirmed(&self) -> Option<u64> {
        self.vms.values().map(|vm| vm.generation).min().filter(|generation| *generation > 0)
    }

    /// The generation pushed last.
    pub fn pushed(&self) -> Option<u64> {
        self.pushed.map(|(generation, _)| generation)
    }

    /// What became of the push.
    pub fn push(&self) -> PushState {
        match self.pushed() {
            None => PushState::Idle,
            pushed if pushed == self.confirmed() => PushState::Confirmed,
            _ if !self.refusal.is_empty() => PushState::Refused,
            _ => PushState::Pending,
        }
    }

    /// Its clock less the companion's, whole seconds.
    pub const fn clock(&self) -> i64 {
        self.clock
    }

    /// Whether its payments reach the companion's relay; `None` if it is silent.
    pub fn reaches_relay(&self, now: u64) -> Option<bool> {
        self.is_up(now).then(|| !self.is_unheard())
    }

    /// Whether it reported just now.
    pub fn is_up(&self, now: u64) -> bool {
        self.silence(now) <= SILENT_SECONDS
    }

    /// Reported within the last minute.
    pub fn is_connected(&self, now: u64) -> bool {
        self.silence(now) <= CONNECTED_SECONDS
    }

    /// What is wrong with it. Completes a sentence whose subject is the proxy.
    pub fn trouble(&self, now: u64) -> Option<String> {
        self.finds(now).map(|trouble| self.describe(trouble, now))
    }

    /// The same, if it sells nothing because of that.
    pub fn sells_nothing(&self, now: u64) -> Option<String> {
        let trouble = self.finds(now).filter(|trouble| *trouble != Trouble::Stale)?;
        Some(self.describe(trouble, now))
    }

    fn finds(&self, now: u64) -> Option<Trouble> {
        if !self.is_up(now) {
            return Some(Trouble::Silent);
        }
        let (pushed, at) = self.pushed.unwrap_or_default();
        let behind = now.saturating_sub(at);
        match (self.confirmed(), self.push()) {
            (None, PushState::Refused) => Some(Trouble::RefusedFirst),
            (None, PushState::Pending) if behind > FIRST_RULES_SECONDS => Some(Trouble::NoRules),
            _ if self.is_unheard() => Some(Trouble::Unheard),
            (Some(enforced), PushState::Pending) if enforced < pushed && behind > STALE_SECONDS => {
                Some(Trouble::Stale)
            }
            _ => None,
        }
    }

    fn describe(&self, trouble: Trouble, now: u64) -> String {
        match trouble {
            Trouble::Silent => format!(
                "has not been heard for {} s: see whether it runs, and whether its cluster `farebox` leads to relay.listen \
                 and shows the words of relay.secret",
                self.silence(now)
            ),
            Trouble::RefusedFirst => format!(
                "refused its first rules and serves nothing: {}; its own log has the whole reason",
                self.refusal
            ),
            Trouble::NoRules => "has taken no rules: does its config_discovery read the file that the companion writes, or \
                                 ask envoy.discovery.listen, and does envoy.wasm name the plugin where Envoy sees it?"
                .to_owned(),
            Trouble::Unheard => "got no answer from the companion's relay about payments, though its reports arrive: see \
                                 whether the companion's machine and its ledger keep up"
                .to_owned(),
            Trouble::Stale => format!(
                "enforces generation {} and has not taken generation {}, published {} s ago: look into Envoy's log of that \
                 time, and whether envoy.wasm names the plugin where Envoy sees it",
                self.confirmed().unwrap_or(0),
                self.pushed().unwrap_or(0),
                now.saturating_sub(self.pushed.unwrap_or_default().1)
            ),
        }
    }

    fn is_known(&self, now: u64) -> bool {
        self.silence(now) <= FORGOTTEN_SECONDS
    }

    fn is_unheard(&self) -> bool {
        self.vms.values().any(|vm| vm.unheard)
    }

    fn silence(&self, now: u64) -> u64 {
        now.saturating_sub(self.last_report())
    }

    /// Says what is new of it.
    fn log(&mut self, now: u64) {
        let (proxy, push) = (self.name.as_str(), self.push());
        if push != self.logged.push {
            match push {
                PushState::Confirmed => info!(proxy, generation = self.pushed(), "rules enforced"),
                // Without rules before, that is its trouble.
                PushState::Refused if self.confirmed().is_some() => error!(
                    proxy,
                    pushed = self.pushed(),
                    enforced = self.confirmed(),
                    "the proxy refused the rules and keeps the last good: {}",
                    self.refusal
                ),
                PushState::Idle | PushState::Pending | PushState::Refused => {}
            }
        }
        let wrong_clock = self.clock.unsigned_abs() > CLOCK_TOLERANCE_SECONDS;
        match (self.logged.wrong_clock, wrong_clock) {
            (false, true) => warn!(
                proxy,
                seconds = self.clock,
                "the clocks of the proxy and of the companion differ: payments are taken for too old or too new; let both \
                 follow one time server"
            ),
            (true, false) => info!(proxy, "the clocks of the proxy and of the companion agree again"),
            _ => {}
        }
        let trouble = self.finds(now);
        match trouble {
            _ if trouble == self.logged.trouble => {}
            Some(trouble) => warn!(proxy, "the proxy {}", self.describe(trouble, now)),
            None => info!(proxy, "the trouble of the proxy is over"),
        }
        self.logged = Logged { push, wrong_clock, trouble };
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

/// A name for logs, labels and people, of what a proxy says its id is.
pub(super) fn printable(id: &str) -> String {
    let name: String =
        id.chars().take(MAX_NAME).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    if name.is_empty() { UNNAMED.to_owned() } else { name }
}

#[cfg(test)]
#[path = "proxies_tests.rs"]
mod tests;
