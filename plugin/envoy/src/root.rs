//! Taking pushed rules.
//!
//! Envoy runs this in a throw-away VM first, then in its main thread and in every worker, so nothing here
//! counts, calls or reserves.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use farebox_core::Now;
use farebox_core::exchange::{Note, Orphan};
use farebox_core::metrics::Stamp;
use farebox_core::payment::{BUCKETS, Effect, End, Ending, Event, Expired, Limits, Outcome, expired_stamps};
use farebox_core::rules::RuleSet;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel, Status};

use crate::callout::{self, Caller, Captured};
use crate::filter_name::Callback;
use crate::identity::Identity;
use crate::meters::Meters;
use crate::stream::Handle;
use crate::waiting::{self, Waiter};
use crate::{clock, ends, payments};

/// How long may wait what nothing but time brings about: a count left by a VM, an end that was not acknowledged, a sign
/// that a request goes on.
const TICK: Duration = Duration::from_secs(1);
/// With 4096 buckets every VM goes round in about ten minutes.
const SWEEP_BUCKETS: u32 = 7;

/// One configuration of the filter.
pub(crate) struct Root {
    deployment: Rc<Deployment>,
    /// Name of this VM and of its likes in other threads: the version of the filter and the VM configuration.
    /// Envoy replaces the VMs when one of them changes.
    vm: Vec<u8>,
    sweep_from: u32,
}

/// Rules in force. A stream finishes on what it started with.
pub(crate) struct Deployment {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) limits: Limits,
    /// `None` before the filter was configured.
    meters: Option<Meters>,
    /// `None` before the filter was configured.
    pub(crate) identity: Option<Identity>,
    /// Context of the filter.
    pub(crate) root: u32,
}

// === impl Deployment ===

impl Deployment {
    fn new(root: u32, rules: RuleSet, meters: Option<Meters>) -> Self {
        let limits = Limits::of(&rules);
        Self { rules: Arc::new(rules), limits, meters, identity: None, root }
    }

    /// Compiles a push and defines its metrics; nothing is in force yet.
    fn load(root: u32, vm: Vec<u8>, configuration: &[u8]) -> Result<Self, String> {
        let rules = if configuration.is_empty() {
            RuleSet::closed()
        } else {
            RuleSet::from_json(configuration).map_err(|error| error.to_string())?
        };
        let meters =
            Meters::define(&rules, vm).map_err(|status| format!("cannot define metrics: {status:?}"))?;
        let identity = Identity::take().map_err(|status| format!("cannot name this proxy: {status:?}"))?;
        Ok(Self { identity: Some(identity), ..Self::new(root, rules, Some(meters)) })
    }

    /// Counts a request's stamps.
    pub(crate) fn count(&self, stamps: &[Stamp]) {
        if let Some(meters) = &self.meters {
            stamps
                .iter()
                .filter(|stamp| self.rules.counts(stamp))
                .for_each(|stamp| meters.count(stamp, &self.rules));
        }
    }

    /// Counts what became of payments beside their requests. Tuples that are gone have no series.
    pub(crate) fn count_expired(&self, expired: &[Expired]) {
        if !expired.is_empty() {
            self.count(&expired_stamps(expired, &self.rules));
        }
    }

    /// For calls on behalf of a context; `None` if these rules name no facilitator.
    pub(crate) fn caller(&self, context: u32) -> Option<Caller<'_>> {
        let (facilitator, identity) = (self.rules.facilitator.as_ref()?, self.identity.as_ref()?);
        Some(Caller { facilitator, identity, root: self.root, context })
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
            } else if self.record(note)?.is_none() && matches!(note.event, Event::Verified(_)) {
                return Err(Status::CasMismatch);
            }
        }
        Ok(())
    }

    /// Takes a note down in shared data. Gives what followed; `None` if it cannot be taken down.
    fn record(&self, note: &Note) -> Result<Option<Vec<Expired>>, Status> {
        let now = clock::now()?;
        let (answer, effects) = payments::step(note.key.digest(), note.tuple, &note.event, &self.limits, now);
        self.count_expired(&effects);
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
        self.count(&late.stamps);
        for note in &late.notes {
            let effects = self.record(note)?.unwrap_or_default();
            if effects.iter().any(|effect| effect.effect == Effect::Charged) {
                self.count(&late.charged);
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

    /// See [`Meters::take_over`].
    fn take_over(&self) -> Result<(), Status> {
        self.meters.as_ref().map_or(Ok(()), |meters| meters.take_over(&self.rules))
    }

    /// The last act of taking rules.
    fn confirm(&self) -> Result<(), Status> {
        let Some(meters) = &self.meters else { return Ok(()) };
        meters.succeed(&self.rules)?;
        // The closed set is nobody's push: it must not hide the generation of one.
        if self.rules.is_loaded() { meters.confirm(self.rules.generation) } else { Ok(()) }
    }
}

// === impl Root ===

impl Root {
    pub(crate) fn new(context: u32) -> Self {
        let deployment = Rc::new(Deployment::new(context, RuleSet::closed(), None));
        Self { deployment, vm: Vec::new(), sweep_from: 0 }
    }

    fn configure(&mut self, size: usize) -> Result<(), String> {
        let configuration = read(BufferType::PluginConfiguration, size)
            .map_err(|status| format!("cannot read the configuration: {status:?}"))?;
        let deployment = Deployment::load(self.deployment.root, self.vm.clone(), &configuration)?;
        if deployment.rules.is_loaded() {
            // VMs start at different buckets, so that together they come round sooner.
            self.sweep_from = clock::now().map_or(0, |now| (now.unix_ms % u64::from(BUCKETS)) as u32);
            hostcalls::set_tick_period(TICK).map_err(|status| format!("cannot tick: {status:?}"))?;
        }
        deployment.confirm().map_err(|status| format!("cannot confirm the generation: {status:?}"))?;
        self.deployment = Rc::new(deployment);
        Ok(())
    }

    /// For calls to the relay, if the rules name one.
    fn relay(&self) -> Option<Caller<'_>> {
        self.deployment.caller(self.deployment.root).filter(|caller| caller.facilitator.relay)
    }

    fn sweep(&mut self, now: Now) -> Result<(), Status> {
        let limits = &self.deployment.limits;
        let expired = payments::sweep(self.sweep_from, SWEEP_BUCKETS, limits, now)?;
        self.deployment.count_expired(&expired);
        self.sweep_from = (self.sweep_from + SWEEP_BUCKETS) % BUCKETS;
        Ok(())
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, body_size: usize, _trailers: usize) {
        let _callback = Callback::begin(self.deployment.root);
        let reply = callout::capture(num_headers, body_size);
        if ends::answered(self.relay().as_ref(), token, reply.as_ref().ok()) {
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
        waiting::forget(self.deployment.root);
        ends::forget(self.deployment.root);
    }
}

impl RootContext for Root {
    fn on_vm_start(&mut self, vm_configuration_size: usize) -> bool {
        // Where it cannot be read, no two VMs differ and each begins the counters it needs.
        let configuration = read(BufferType::VmConfiguration, vm_configuration_size).unwrap_or_default();
        self.vm = [env!("CARGO_PKG_VERSION").as_bytes(), b"/", &configuration].concat();
        true
    }

    fn on_configure(&mut self, plugin_configuration_size: usize) -> bool {
        match self.configure(plugin_configuration_size) {
            Ok(()) => true,
            Err(reason) => {
                let message = format!("farebox: rules refused, the last good ones stay in force: {reason}");
                let _ = hostcalls::log(LogLevel::Error, &message);
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let _callback = Callback::begin(self.deployment.root);
        // What cannot be done now is done on the next round, or by the next write.
        if let Ok(now) = clock::now() {
            let _ = self.sweep(now);
            for stream in waiting::due(now) {
                let _ = stream.goes_on();
            }
            if let Some(relay) = self.relay() {
                ends::tick(&relay, now);
            }
        }
        let _ = self.deployment.take_over();
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Handle::new(context_id, Rc::clone(&self.deployment))))
    }
}

/// A configuration. Envoy has no buffer of nothing.
fn read(buffer: BufferType, size: usize) -> Result<Vec<u8>, Status> {
    if size == 0 { Ok(Vec::new()) } else { Ok(hostcalls::get_buffer(buffer, 0, size)?.unwrap_or_default()) }
}
