//! One Envoy process: workers, configuration pushes, and what is shared between VMs.

use super::abi::Headers;
use super::artefact::{engine, filter};
use super::companion::Companion;
use super::guest::{Interrupt, Phase, SharedHost, StreamData};
use super::host::{Host, LogLine};
use super::request::Request;
use super::stream::Stream;
use super::vm::Vm;
use farebox_core::metrics::{MetricSeries, Received, Standing};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use wasmtime::Module;

/// Time at which every simulated process starts, Unix seconds.
const START: u64 = 1_790_000_000;

/// A process with its workers and the VM of the main thread.
pub struct Envoy {
    host: SharedHost,
    module: Module,
    configuration: RefCell<Option<Rc<Vec<u8>>>>,
    main: RefCell<Seat>,
    workers: Vec<RefCell<Seat>>,
    companion: RefCell<Companion>,
}

/// A thread's VM and the root context new streams get.
struct Seat {
    vm: Rc<Vm>,
    root: Option<u32>,
}

/// The result of a configuration push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Push {
    /// Every worker serves it.
    Taken,
    /// The guest refused it; the last good configuration still serves.
    Refused,
}

// === impl Push ===

impl Push {
    /// Panics unless the push was taken.
    pub fn expect_taken(self) {
        assert_eq!(self, Self::Taken, "the filter refused the configuration");
    }

    /// Panics unless the push was refused.
    pub fn expect_refused(self) {
        assert_eq!(self, Self::Refused, "the filter took the configuration");
    }
}

// === impl Envoy: life ===

impl Envoy {
    /// A process running the real filter, without configuration, that knows the clusters `facilitator` and `farebox`.
    pub fn new(workers: usize) -> Self {
        Self::with_module(filter().clone(), workers)
    }

    /// A process running another guest, in WebAssembly text or binary.
    pub fn with_guest(guest: &str, workers: usize) -> Self {
        let module = Module::new(engine(), guest).unwrap_or_else(|error| panic!("the guest: {error:#}"));
        Self::with_module(module, workers)
    }

    fn with_module(module: Module, workers: usize) -> Self {
        let host = Rc::new(RefCell::new(Host::new(START)));
        host.borrow_mut().clusters.extend(["facilitator", "farebox"].map(str::to_owned));
        let seat = || RefCell::new(Seat { vm: Vm::start(&module, &host), root: None });
        let (main, workers) = (seat(), (0..workers).map(|_| seat()).collect());
        let (configuration, companion) = (RefCell::new(None), RefCell::default());
        let envoy = Self { host, module, configuration, main, workers, companion };
        envoy.check();
        envoy
    }

    /// Pushes a plugin configuration: first to a canary VM, then as a new root context to every thread.
    pub fn configure(&self, configuration: impl AsRef<[u8]>) -> Push {
        let configuration = Rc::new(configuration.as_ref().to_vec());
        let canary = self.start_vm();
        if canary.configure(&configuration).is_none() {
            self.check();
            return Push::Refused;
        }
        for seat in [&self.main].into_iter().chain(&self.workers) {
            let mut seat = seat.borrow_mut();
            if seat.vm.is_dead() {
                seat.vm = self.start_vm();
                seat.root = None;
            }
            let root = seat.vm.configure(&configuration);
            assert!(root.is_some(), "a worker refused what the canary took");
            if let Some(old) = std::mem::replace(&mut seat.root, root) {
                seat.vm.retire(old);
            }
        }
        *self.configuration.borrow_mut() = Some(configuration);
        self.check();
        Push::Taken
    }

    /// Pushes a plugin configuration together with a changed VM configuration: every thread gets a fresh VM, and
    /// the old ones live until their last stream has ended.
    pub fn replace_vms(&self, configuration: impl AsRef<[u8]>) -> Push {
        let configuration = Rc::new(configuration.as_ref().to_vec());
        if self.start_vm().configure(&configuration).is_none() {
            self.check();
            return Push::Refused;
        }
        for seat in [&self.main].into_iter().chain(&self.workers) {
            let vm = self.start_vm();
            let root = vm.configure(&configuration);
            assert!(root.is_some(), "a worker refused what the canary took");
            let old = seat.replace(Seat { vm, root });
            if let Some(root) = old.root.filter(|_| !old.vm.is_dead()) {
                old.vm.retire(root);
            }
        }
        *self.configuration.borrow_mut() = Some(configuration);
        self.check();
        Push::Taken
    }

    /// Replaces the VMs while a worker's guest is at its n-th host call from now (0 is the next one). Returns a
    /// function that says whether that has happened; until then no request can be sent.
    pub fn replace_vms_at_host_call(
        &self,
        worker: usize,
        n: u32,
        configuration: impl AsRef<[u8]>,
    ) -> Rc<Cell<bool>> {
        let configuration = Rc::new(configuration.as_ref().to_vec());
        let at_work = self.workers[worker].borrow().vm.clone();
        let (mut vms, mut old) = (vec![self.start_vm()], Vec::new());
        for seat in [&self.main].into_iter().chain(&self.workers) {
            let vm = self.start_vm();
            old.push(seat.replace(Seat { vm: vm.clone(), root: None }));
            vms.push(vm);
        }
        let happened = Rc::new(Cell::new(false));
        let replace = {
            let happened = happened.clone();
            move || {
                assert!(vms.iter().all(|vm| vm.configure(&configuration).is_some()), "the push was refused");
                for Seat { vm, root } in &old {
                    root.iter().for_each(|root| vm.retire(*root));
                }
                happened.set(true);
            }
        };
        at_work.guest(|guest| guest.interrupt = Some((n, Interrupt::Others(Box::new(replace)))));
        happened
    }

    fn start_vm(&self) -> Rc<Vm> {
        Vm::start(&self.module, &self.host)
    }

    /// Sends a request through a worker. A dead VM is replaced first.
    pub fn send(&self, worker: usize, request: Request) -> Stream<'_> {
        let (stream, root) = self.prepare(worker, request);
        stream.vm.request(root, &stream.data, true);
        self.check();
        stream
    }

    /// Sends a request through a worker at the worst moment: right before another worker's next write of
    /// shared data, after that worker has read it. Until then the stream is idle.
    pub fn send_before_next_write(&self, worker: usize, request: Request) -> Stream<'_> {
        let (stream, root) = self.prepare(worker, request);
        let (vm, data) = (stream.vm.clone(), stream.data.clone());
        self.host.borrow_mut().rival = Some(Box::new(move || vm.request(root, &data, true)));
        stream
    }

    /// Sends a request through a worker while another worker's guest is at its n-th host call from now (0 is the
    /// next one). Until then the stream is idle.
    pub fn send_at_host_call(&self, other: usize, n: u32, worker: usize, request: Request) -> Stream<'_> {
        assert_ne!(other, worker, "a thread does one thing at a time");
        let (stream, root) = self.prepare(worker, request);
        let (vm, data) = (stream.vm.clone(), stream.data.clone());
        let send = Interrupt::Others(Box::new(move || vm.request(root, &data, true)));
        self.workers[other].borrow().vm.guest(|guest| guest.interrupt = Some((n, send)));
        stream
    }

    fn prepare(&self, worker: usize, request: Request) -> (Stream<'_>, u32) {
        let mut seat = self.workers[worker].borrow_mut();
        if seat.vm.is_dead() {
            let configuration = self.configuration.borrow().clone().expect("a configuration was pushed");
            // Calls that were made before a crash still arrive.
            let sent = seat.vm.root_calls("/report").into_iter();
            let reports = sent.filter_map(|(_, call)| Received::read(&call.body));
            reports.for_each(|report| self.companion.borrow_mut().take(report));
            seat.vm = self.start_vm();
            seat.root = Some(seat.vm.configure(&configuration).expect("the configuration was taken before"));
        }
        let root = seat.root.expect("a configuration was pushed");
        let data = StreamData::new(request.headers, request.peer, request.tls);
        let stream = Stream { envoy: self, vm: seat.vm.clone(), data: Rc::new(RefCell::new(data)) };
        (stream, root)
    }

    /// Fires the timers of every thread whose guest asked for ticks.
    pub fn tick(&self) {
        self.vms().iter().for_each(|vm| vm.tick());
        self.check();
    }

    fn vms(&self) -> Vec<Rc<Vm>> {
        [&self.main].into_iter().chain(&self.workers).map(|seat| seat.borrow().vm.clone()).collect()
    }

    /// Panics if a guest has violated a rule. Every event of a test ends here.
    pub(crate) fn check(&self) {
        let host = self.host.borrow();
        assert!(host.violations.is_empty(), "the guest broke the host's rules: {:#?}", host.violations);
        assert!(host.traps_allowed || host.traps.is_empty(), "the guest trapped: {:#?}", host.traps);
    }
}

// === impl Envoy: faults and time ===

impl Envoy {
    /// Kills a worker's VM between two callbacks.
    pub fn crash(&self, worker: usize) {
        self.workers[worker].borrow().vm.kill();
    }

    /// Makes a worker's guest trap at its n-th host call from now (0 is the next one).
    pub fn crash_at_host_call(&self, worker: usize, n: u32) {
        self.host.borrow_mut().traps_allowed = true;
        self.workers[worker].borrow().vm.guest(|guest| guest.interrupt = Some((n, Interrupt::Crash)));
    }

    /// Takes back a crash that did not happen. Returns whether it had not.
    pub fn defuse(&self, worker: usize) -> bool {
        let seat = self.workers[worker].borrow();
        !seat.vm.is_dead() && seat.vm.guest(|guest| guest.interrupt.take()).is_some()
    }

    /// Allows traps from now on.
    pub fn allow_traps(&self) {
        self.host.borrow_mut().traps_allowed = true;
    }

    /// Traps so far, with the guest's panic message.
    pub fn traps(&self) -> Vec<String> {
        self.host.borrow().traps.clone()
    }

    /// The next `n` compare-and-swaps lose against a writer in another worker.
    pub fn lose_races(&self, n: u32) {
        self.host.borrow_mut().shared.lost_races = n;
    }

    /// From now on a header map ends after so many bytes of its wire form; `None` for whole ones.
    pub fn cut_header_maps(&self, bytes: Option<usize>) {
        self.host.borrow_mut().cut_header_maps = bytes;
    }

    /// Overwrites every shared-data entry with these bytes.
    pub fn corrupt_shared_data(&self, value: &[u8]) {
        self.host.borrow_mut().shared.corrupt(value);
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.host.borrow_mut().clock.advance(by);
    }

    /// The wall clock is set, as by a time server; the monotonic clock is not.
    pub fn set_wall_clock(&self, unix_seconds: u64) {
        self.host.borrow_mut().clock.wall = unix_seconds * 1_000_000_000;
    }

    /// Wall clock, Unix seconds.
    pub fn now(&self) -> u64 {
        self.host.borrow().clock.wall / 1_000_000_000
    }

    /// Monotonic clock, nanoseconds.
    pub(crate) fn monotonic(&self) -> u64 {
        self.host.borrow().clock.monotonic
    }

    /// Knows this cluster from now on.
    pub fn add_cluster(&self, name: &str) {
        self.host.borrow_mut().clusters.insert(name.to_owned());
    }

    /// Forgets every cluster.
    pub fn remove_clusters(&self) {
        self.host.borrow_mut().clusters.clear();
    }
}

// === impl Envoy: observations ===

impl Envoy {
    /// The companion's counts after every VM has reported.
    pub fn counted(&self) -> BTreeMap<MetricSeries, u64> {
        loop {
            self.tick();
            if self.reports(|_, _| (true, Some(204))) == 0 {
                return self.companion.borrow().counters.clone();
            }
        }
    }

    /// The state of each VM in its last report that arrived, by its name.
    pub fn standings(&self) -> BTreeMap<String, Standing> {
        self.companion.borrow().standings.clone()
    }

    /// Delivers and answers every report under way as `fate` says. `fate` gets the number and the report, and returns
    /// whether the companion gets it, and the status of the answer, or `None` for Envoy's own page. Returns the number
    /// of reports with counts.
    pub fn reports(&self, mut fate: impl FnMut(usize, &Received) -> (bool, Option<u16>)) -> usize {
        let mut number = 0;
        for vm in self.vms() {
            for (token, call) in vm.root_calls("/report") {
                let report = Received::read(&call.body).expect("a report can be read");
                let (arrives, status) = fate(number, &report);
                number += usize::from(report.counted.is_some());
                if arrives {
                    self.companion.borrow_mut().take(report);
                }
                vm.answer_root_call(token, &call, status);
            }
        }
        self.check();
        number
    }

    /// What the guests logged.
    pub fn log(&self) -> Vec<LogLine> {
        self.host.borrow().log.clone()
    }

    /// The calls of `/over` since the last check, with headers and bodies. Each is answered now.
    pub fn overs(&self) -> Vec<(Headers, Vec<u8>)> {
        self.overs_answered(Some(204))
    }

    /// The same, with this status for each answer, or with Envoy's own page for an unreachable relay.
    pub fn overs_answered(&self, status: Option<u16>) -> Vec<(Headers, Vec<u8>)> {
        let mut told = Vec::new();
        for vm in self.vms() {
            for (token, call) in vm.root_calls("/over") {
                vm.answer_root_call(token, &call, status);
                told.push((call.headers, call.body));
            }
        }
        self.check();
        told
    }

    /// Every shared-data key that begins so, with its value.
    pub fn shared_data(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        self.host.borrow().shared.all(prefix)
    }

    /// Number of shared-data keys that begin so, none of which can ever be deleted.
    pub fn shared_keys(&self, prefix: &str) -> usize {
        self.host.borrow().shared.count(prefix)
    }

    /// Root contexts alive in a worker: one, and one more for each configuration a stream still runs on.
    pub fn live_roots(&self, worker: usize) -> usize {
        self.workers[worker].borrow().vm.live_roots()
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }
}

/// Phases in which a stream waits.
pub(crate) const fn is_waiting(phase: Phase) -> bool {
    matches!(phase, Phase::RequestHeld | Phase::ResponseHeld)
}
