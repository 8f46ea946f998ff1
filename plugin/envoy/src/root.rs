//! Taking pushed rules.
//!
//! Envoy runs this in a throw-away VM first, then in its main thread and in every worker, so nothing here
//! counts, calls or reserves. Why rules are refused is left in shared data, as the VM that refuses them goes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use farebox_core::Now;
use farebox_core::exchange::{Note, Orphan};
use farebox_core::metrics::Stamp;
use farebox_core::payment::{BUCKETS, Effect, End, Ending, Event, Expired, Limits, Outcome, expired_stamps};
use farebox_core::rules::{GradualCompile, Progress, RuleSet};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel, Status};

use crate::callout::{self, Caller, Captured};
use crate::filter_name::Callback;
use crate::identity::Identity;
use crate::reports::{self, Tally};
use crate::stream::Handle;
use crate::waiting::{self, Waiter};
use crate::{clock, ends, payments};

/// How long may wait what nothing but time brings about: a report, an end that was not acknowledged, a sign that a
/// request goes on.
const TICK: Duration = Duration::from_secs(1);
/// With 4096 buckets every VM goes round in about ten minutes.
const SWEEP_BUCKETS: u32 = 7;

/// A push longer than this is compiled a few lines at a time, bytes. A shorter one takes a millisecond or two.
const MOST_AT_ONCE: usize = 64 * 1024;
/// So many bytes at a time, which take as long, and then the requests that came meanwhile.
const AT_A_TIME: usize = 48 * 1024;
/// How soon the next lines follow: the least Envoy knows.
const NEXT_LINES: Duration = Duration::from_millis(1);

/// One configuration of the filter.
pub(crate) struct Root {
    deployment: Rc<Deployment>,
    /// Its rules, as far as they are compiled. Those before them stay in force so long.
    coming: Option<Box<GradualCompile>>,
    sweep_from: u32,
}

thread_local! {
    /// Configurations in this VM, the newest last.
    static ROOTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// The newest rules of this VM.
    static NEWEST: RefCell<Option<Rc<Deployment>>> = const { RefCell::new(None) };
}

/// Rules in force. A stream finishes on what it started with.
pub(crate) struct Deployment {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) limits: Limits,
    /// `None` before the filter was configured.
    tally: Option<Rc<Tally>>,
    /// `None` before the filter was configured.
    pub(crate) identity: Option<Identity>,
    /// Context of the filter.
    pub(crate) root: u32,
}

// === impl Deployment ===

impl Deployment {
    fn new(root: u32, rules: RuleSet) -> Self {
        let limits = Limits::of(&rules);
        Self { rules: Arc::new(rules), limits, tally: None, identity: None, root }
    }

    /// Puts rules in force.
    fn begin(root: u32, rules: RuleSet) -> Result<Rc<Self>, String> {
        let deployment = Self::new(root, rules);
        let tally = Tally::begin(&deployment.rules);
        let deployment = Rc::new(Self { identity: Some(identity()?), tally: Some(tally), ..deployment });
        NEWEST.with_borrow_mut(|newest| {
            if newest.as_ref().is_none_or(|newest| newest.rules.generation <= deployment.rules.generation) {
                *newest = Some(Rc::clone(&deployment));
            }
        });
        Ok(deployment)
    }

    /// The same rules for another configuration.
    fn under(&self, root: u32) -> Result<Rc<Self>, String> {
        let Self { rules, limits, tally, .. } = self;
        let (rules, tally) = (Arc::clone(rules), tally.clone());
        Ok(Rc::new(Self { rules, limits: *limits, tally, identity: Some(identity()?), root }))
    }

    /// Counts stamps, on behalf of a context. Money that nobody else counts is reported at once.
    pub(crate) fn count(&self, context: u32, stamps: &[Stamp]) {
        let is_money = self.tally.as_ref().is_some_and(|tally| tally.count(stamps));
        if is_money && let Some(companion) = self.companion(context) {
            reports::hurry(&companion, clock::latest());
        }
    }

    /// Counts what became of payments beside their requests. Tuples that are gone have no series.
    pub(crate) fn count_expired(&self, context: u32, expired: &[Expired]) {
        if !expired.is_empty() {
            self.count(context, &expired_stamps(expired, &self.rules));
        }
    }

    /// For calls on behalf of a context to whoever settles; `None` if these rules name nobody.
    pub(crate) fn caller(&self, context: u32) -> Option<Caller<'_>> {
        Caller::to_facilitator(&self.rules, self.identity.as_ref()?, self.root, context)
    }

    /// For calls to the companion.
    fn companion(&self, context: u32) -> Option<Caller<'_>> {
        Some(Caller::to_companion(&self.rules, self.identity.as_ref()?, self.root, context))
    }

    /// Tells whoever keeps the payments. An end that cannot be told leaves a record as it was, which is never less
    /// careful: a hold lasts until its lease ends. But what is not on record as verified could not be settled once
    /// the upstream has worked for it.
    pub(crate) fn tell(&self, context: u32, notes: &[Note]) -> Result<(), Status> {
        for note in notes {
            if self.rules.has_relay() {
                match (note.ending(), self.caller(context)) {
                    // The next sign says the same.
                    (Some(ending @ Ending { end: End::NotYet, .. }), Some(caller)) => {
                        let _ = caller.over(&ends::line_of(&ending));
                    }
                    (Some(ending), Some(caller)) => ends::tell(&caller, &ending),
                    _ => {}
                }
            } else if self.record(context, note)?.is_none() && matches!(note.event, Event::Verified(_)) {
                return Err(Status::CasMismatch);
            }
        }
        Ok(())
    }

    /// Takes a note down in shared data. Gives what followed; `None` if it cannot be taken down.
    fn record(&self, context: u32, note: &Note) -> Result<Option<Vec<Expired>>, Status> {
        let now = clock::now()?;
        let (answer, effects) = payments::step(note.key.digest(), note.tuple, &note.event, &self.limits, now);
        self.count_expired(context, &effects);
        if answer.is_none() {
            let _ = hostcalls::log(LogLevel::Error, "farebox: cannot record what became of a payment");
        }
        Ok(answer.map(|_| effects))
    }

    /// A settle call is over whose stream was over before.
    fn settled_late(&self, orphan: Orphan, reply: Result<Captured, Status>) -> Result<(), Status> {
        // Whatever the facilitator said, it was asked.
        let reply = reply.unwrap_or(Captured::Cut);
        let late = orphan.answered(reply.as_end(), clock::now()?);
        self.count(self.root, &late.stamps);
        for note in &late.notes {
            let effects = self.record(self.root, note)?.unwrap_or_default();
            if effects.iter().any(|effect| effect.effect == Effect::Charged) {
                self.count(self.root, &late.charged);
            }
            if let Event::Ended { outcome, .. } = &note.event {
                let (became, why) = match outcome {
                    Outcome::Settled { transaction } => {
                        ("settled, and its answer is owed", transaction.as_str())
                    }
                    Outcome::Refused { reason, .. } => ("refused", reason.as_str()),
                    Outcome::Malformed { words } => ("refused", words.as_str()),
                    Outcome::NotSent => ("not settled", "the call was not sent"),
                    Outcome::Unknown { reason, .. } => ("open", reason.as_str()),
                };
                let (nonce, payer) = (note.key.nonce, note.key.payer.checksummed());
                let message = format!(
                    "farebox: the payment of nonce {nonce} of {payer}, whose client left, is {became}: {why:?}; the \
                     same payment may be sent again"
                );
                let _ = hostcalls::log(LogLevel::Warn, &message);
            }
        }
        Ok(())
    }
}

// === impl Root ===

impl Root {
    pub(crate) fn new(context: u32) -> Self {
        ROOTS.with_borrow_mut(|roots| roots.push(context));
        let deployment = Rc::new(Deployment::new(context, RuleSet::closed()));
        Self { deployment, coming: None, sweep_from: 0 }
    }

    fn configure(&mut self, size: usize) -> Result<(), String> {
        let configuration =
            read(size).map_err(|status| format!("cannot read the configuration: {status:?}"))?;
        let root = self.deployment.root;
        let newest = NEWEST.with_borrow(Clone::clone).filter(|newest| newest.rules.is_loaded());
        let newest = newest.filter(|_| configuration.len() > MOST_AT_ONCE);
        // In a new VM, as in the one that only tries a push, the answer is due at once.
        let gradual = newest.and_then(|newest| Some((newest, GradualCompile::begin(&configuration)?)));
        match gradual {
            Some((newest, coming)) => {
                self.coming = Some(coming.map_err(|error| error.to_string())?);
                self.deployment = newest.under(root)?;
            }
            None => self.deployment = Deployment::begin(root, compile(&configuration)?)?,
        }
        // VMs start at different buckets, so that together they come round sooner.
        self.sweep_from = clock::now().map_or(0, |now| (now.unix_ms % u64::from(BUCKETS)) as u32);
        let tick = if self.coming.is_some() { NEXT_LINES } else { TICK };
        hostcalls::set_tick_period(tick).map_err(|status| format!("cannot tick: {status:?}"))
    }

    /// Compiles the next lines of the rules that are coming. Whether some were.
    fn advance(&mut self) -> bool {
        let Some(coming) = self.coming.take() else { return false };
        let root = self.deployment.root;
        let over = match coming.advance(AT_A_TIME).map_err(|error| error.to_string()) {
            Ok(Progress::More(coming)) => {
                self.coming = Some(coming);
                return true;
            }
            Ok(Progress::Done(rules)) => Deployment::begin(root, *rules),
            Err(error) => Err(error),
        };
        match over {
            Ok(deployment) => self.deployment = deployment,
            Err(reason) => refuse(&reason),
        }
        let _ = hostcalls::set_tick_period(TICK);
        true
    }

    /// For calls to the relay, if the rules name one.
    fn relay(&self) -> Option<Caller<'_>> {
        self.deployment.caller(self.deployment.root).filter(|_| self.deployment.rules.has_relay())
    }

    /// For reports: the newest configuration makes them.
    fn reporter(&self) -> Option<Caller<'_>> {
        let root = self.deployment.root;
        let is_newest = ROOTS.with_borrow(|roots| roots.last() == Some(&root));
        self.deployment.companion(root).filter(|_| is_newest)
    }

    fn sweep(&mut self, now: Now) -> Result<(), Status> {
        let limits = &self.deployment.limits;
        let expired = payments::sweep(self.sweep_from, SWEEP_BUCKETS, limits, now)?;
        self.deployment.count_expired(self.deployment.root, &expired);
        self.sweep_from = (self.sweep_from + SWEEP_BUCKETS) % BUCKETS;
        Ok(())
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, body_size: usize, _trailers: usize) {
        let _callback = Callback::begin(self.deployment.root);
        let reply = callout::capture(num_headers, body_size);
        let told = reply.as_ref().ok();
        if ends::answered(self.relay().as_ref(), token, told)
            || reports::answered(self.reporter().as_ref(), token, told, clock::latest())
        {
            return;
        }
        match waiting::take(token) {
            Some(Waiter::Stream(stream)) => stream.answered(token, reply),
            Some(Waiter::Orphan(orphan, deployment)) => {
                if let Err(status) = deployment.settled_late(*orphan, reply) {
                    let message = format!("farebox: cannot record a settlement: {status:?}");
                    let _ = hostcalls::log(LogLevel::Error, &message);
                }
            }
            Some(Waiter::Left(notes, deployment)) => {
                let _ = deployment.tell(deployment.root, &notes);
            }
            // Its stream is over, or it was a sign that one goes on.
            None => {}
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let root = self.deployment.root;
        let is_last = ROOTS.with_borrow_mut(|roots| {
            roots.retain(|known| *known != root);
            roots.is_empty()
        });
        waiting::forget(root);
        ends::forget(root, is_last);
        reports::forget(root, self.deployment.identity.as_ref().map(|identity| &*identity.vm), is_last);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, plugin_configuration_size: usize) -> bool {
        match self.configure(plugin_configuration_size) {
            Ok(()) => {
                reports::refused("");
                true
            }
            Err(reason) => {
                refuse(&reason);
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let _callback = Callback::begin(self.deployment.root);
        if self.advance() {
            return;
        }
        // What cannot be done now is done on the next round, or by the next write.
        if let Ok(now) = clock::now() {
            let _ = self.sweep(now);
            for stream in waiting::due(now) {
                let _ = stream.goes_on();
            }
            if let Some(relay) = self.relay() {
                ends::tick(&relay, now);
            }
            if let Some(companion) = self.reporter() {
                reports::tick(&companion, now);
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Handle::new(context_id, Rc::clone(&self.deployment))))
    }
}

fn compile(configuration: &[u8]) -> Result<RuleSet, String> {
    if configuration.is_empty() {
        return Ok(RuleSet::closed());
    }
    RuleSet::from_json(configuration).map_err(|error| error.to_string())
}

fn identity() -> Result<Identity, String> {
    Identity::take().map_err(|status| format!("cannot name this proxy: {status:?}"))
}

/// Says that the rules cannot be used.
fn refuse(reason: &str) {
    reports::refused(reason);
    let message = format!("farebox: rules refused, the last good ones stay in force: {reason}");
    let _ = hostcalls::log(LogLevel::Error, &message);
}

/// The configuration. Envoy has no buffer of nothing.
fn read(size: usize) -> Result<Vec<u8>, Status> {
    let buffer = BufferType::PluginConfiguration;
    if size == 0 { Ok(Vec::new()) } else { Ok(hostcalls::get_buffer(buffer, 0, size)?.unwrap_or_default()) }
}
