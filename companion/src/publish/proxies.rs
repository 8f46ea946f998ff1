//! The state of each proxy, and its answer to the last push. Only its own reports count, because Envoy also echoes the
//! version of a refused configuration.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::metrics::Standing;
use farebox_core::protocol::CLOCK_TOLERANCE_SECONDS;
use tracing::{error, info, warn};

use crate::settings::MAX_NAME;

/// The proxies that report, by the id in their bootstrap.
#[derive(Debug, Default)]
pub struct Proxies {
    known: BTreeMap<String, ProxyState>,
    /// The generation pushed last, and its time, Unix seconds.
    pushed: Option<(u64, u64)>,
    /// When a call was refused because it did not have the relay's secret, Unix seconds.
    refused_at: Option<u64>,
}

/// The state of a proxy, from its reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyState {
    /// `proxy_instance`.
    pub name: String,
    /// Its VMs, one for each thread, by their names.
    vms: BTreeMap<String, Vm>,
    /// The generation pushed last, and the time since which the proxy is behind (or has joined), Unix seconds.
    pushed: Option<(u64, u64)>,
    /// Start of its reports without a gap, Unix seconds.
    since: u64,
    /// Why it refused its last configuration; else empty.
    pub refusal: String,
    /// Its clock minus the companion's, seconds. The travel time of a report is part of it.
    clock: i64,
    /// What the log already says about it.
    logged: Logged,
}

/// A VM of a proxy's filter, which reports for its thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vm {
    /// Name of the process.
    pub process: String,
    /// Generation of its rules, 0 for none.
    pub generation: u64,
    /// Content hash of its rules.
    pub hash: String,
    /// Unix seconds of its last report.
    pub heard_at: u64,
    /// Number of reports that wait to be sent.
    pub waiting: u64,
    /// Number of reports lost because there was no room to keep them.
    pub lost: u64,
    /// Its last report says that payments got no answer from the relay.
    unheard: bool,
}

/// What is wrong with a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Silent,
    RefusedFirst,
    NoRules,
    Unheard,
    /// The proxy sells by rules that are not the published ones.
    Stale,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Logged {
    push: PushState,
    wrong_clock: bool,
    trouble: Option<Trouble>,
}

/// The state of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PushState {
    /// Nothing was pushed yet.
    #[default]
    Idle,
    /// Not answered yet.
    Pending,
    /// Enforced by every VM.
    Confirmed,
    /// Refused; the proxy enforces the last good rules.
    Refused,
}

/// Seconds without a report after which a proxy is silent: several reports are missing.
const SILENT_SECONDS: u64 = 10;
/// Seconds without a report after which a VM beside others is forgotten.
const GONE_SECONDS: u64 = 5;
/// Seconds without a report after which a proxy is not connected any more, and after which it is forgotten.
const CONNECTED_SECONDS: u64 = 60;
pub(super) const FORGOTTEN_SECONDS: u64 = 600;
/// Seconds after which a proxy without rules probably needs the operator.
const FIRST_RULES_SECONDS: u64 = 30;
/// Seconds after which a proxy should have taken a push.
const STALE_SECONDS: u64 = 15;
/// How long a refused call can explain that no proxy reports, seconds.
const REFUSED_SECONDS: u64 = 60;
/// Most proxies with their own name; further ones share [`OTHER`].
pub(super) const MAX_PROXIES: usize = 500;
pub(super) const OTHER: &str = "other";
/// The name of a proxy without an id.
pub(super) const UNNAMED: &str = "unnamed";
/// Most VMs of one proxy that are kept.
const MAX_VMS: usize = 1_024;

// === impl Proxies ===

impl Proxies {
    /// Takes a report of a proxy; `unheard` of its payments got no answer from the companion. Returns how many reports it
    /// has lost since the last one.
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

    /// Notes that a push begins.
    pub fn pushing(&mut self, generation: u64, now: u64) {
        if self.pushed.is_none_or(|(known, _)| known != generation) {
            // If no proxy has ever reported, a new push does not restart the wait.
            let since = self.pushed.filter(|_| self.known.is_empty()).map_or(now, |(_, at)| at.min(now));
            self.pushed = Some((generation, since));
            self.known.values_mut().for_each(|proxy| proxy.pushing(generation, now));
        }
    }

    /// Logs proxies that became silent, and forgets proxies after a long silence. Their counts stay.
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

    /// The known proxies, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &ProxyState> {
        self.known.values()
    }

    /// Whether no proxy reports although rules were published some time ago, or because callers are refused for a wrong
    /// secret.
    pub fn none_reports(&self, now: u64) -> bool {
        let is_late = |(_, at)| now.saturating_sub(at) > FIRST_RULES_SECONDS || self.were_refused(now);
        self.known.is_empty() && self.pushed.is_some_and(is_late)
    }

    /// Notes a call that was refused because it did not have the relay's secret.
    pub const fn refused(&mut self, now: u64) {
        self.refused_at = Some(now);
    }

    /// Whether a call was refused within the last minute.
    pub fn were_refused(&self, now: u64) -> bool {
        self.refused_at.is_some_and(|at| now.saturating_sub(at) <= REFUSED_SECONDS)
    }

    /// The processes that report now, each as name of the proxy and name of the process.
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
        // VMs come and go with threads and processes, so a VM that is silent while others report is forgotten.
        self.vms.retain(|name, vm| *name == standing.vm || !vm.is_gone(now));
        if !self.vms.contains_key(&standing.vm) && self.vms.len() >= MAX_VMS {
            return 0;
        }
        if !self.is_up(now) {
            self.since = now;
        }
        // Failures from before a silence do not matter any more: a new report shows that the proxy reaches the companion
        // again.
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

    /// Notes a new push. A proxy that has not taken the push before stays behind since that push.
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

    /// The lowest generation of its VMs; `None` if a VM has no rules.
    pub fn confirmed(&self) -> Option<u64> {
        self.vms.values().map(|vm| vm.generation).min().filter(|generation| *generation > 0)
    }

    /// The generation pushed last.
    pub fn pushed(&self) -> Option<u64> {
        self.pushed.map(|(generation, _)| generation)
    }

    /// The state of the last push.
    pub fn push(&self) -> PushState {
        match self.pushed() {
            None => PushState::Idle,
            pushed if pushed == self.confirmed() => PushState::Confirmed,
            _ if !self.refusal.is_empty() => PushState::Refused,
            _ => PushState::Pending,
        }
    }

    /// Its clock minus the companion's, whole seconds.
    pub const fn clock(&self) -> i64 {
        self.clock
    }

    /// Whether its payments reach the companion's relay; `None` if it is silent.
    pub fn reaches_relay(&self, now: u64) -> Option<bool> {
        self.is_up(now).then(|| !self.is_unheard())
    }

    /// Whether it has reported within the last 10 seconds.
    pub fn is_up(&self, now: u64) -> bool {
        self.silence(now) <= SILENT_SECONDS
    }

    /// Whether it has reported within the last minute.
    pub fn is_connected(&self, now: u64) -> bool {
        self.silence(now) <= CONNECTED_SECONDS
    }

    /// What is wrong with the proxy. Completes a sentence whose subject is the proxy.
    pub fn trouble(&self, now: u64) -> Option<String> {
        self.finds(now).map(|trouble| self.describe(trouble, now))
    }

    /// What is wrong with the proxy, if it sells nothing because of that.
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
                 and, where relay.secret is set, shows its words",
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

    /// Logs changes of its state.
    fn log(&mut self, now: u64) {
        let (proxy, push) = (self.name.as_str(), self.push());
        if push != self.logged.push {
            match push {
                PushState::Confirmed => info!(proxy, generation = self.pushed(), "rules enforced"),
                // A refusal without earlier rules is logged as its trouble.
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

/// Makes a printable name of a proxy's id, for logs and labels.
pub(super) fn printable(id: &str) -> String {
    let name: String =
        id.chars().take(MAX_NAME).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    if name.is_empty() { UNNAMED.to_owned() } else { name }
}

#[cfg(test)]
#[path = "proxies_tests.rs"]
mod tests;
