//! One wasm VM: calls into the guest, the actions it deferred, and what a trap does.

use super::artefact::engine;
use super::guest::{After, ContextData, Guest, Origin, SharedHost};
use super::memory::INJECTED;
use super::{imports, wasi};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use wasmtime::{Instance, Linker, Module, Store, Val};

const CONTINUE: u32 = 0;
pub(crate) const PAUSE: u32 = 1;

/// One VM. A worker has one; a crash replaces it.
pub(crate) struct Vm {
    wasm: RefCell<(Store<Guest>, Instance)>,
    failed: Cell<bool>,
    last_context: Cell<u32>,
    /// Live streams of each root context, and whether a newer configuration replaced the root.
    roots: RefCell<BTreeMap<u32, Root>>,
}

#[derive(Debug, Default)]
struct Root {
    streams: u32,
    retired: bool,
}

/// The result of a guest call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    /// The value, 0 for a call without one.
    Returned(u32),
    /// The guest has no such export.
    Absent,
    /// The VM is dead.
    Dead,
}

// === impl Called ===

impl Called {
    pub(crate) const fn continues(self) -> bool {
        matches!(self, Self::Returned(CONTINUE) | Self::Absent)
    }
}

// === impl Vm: life ===

impl Vm {
    /// Instantiates and initialises a guest; a trap leaves a dead VM.
    pub(crate) fn start(module: &Module, host: &SharedHost) -> Rc<Self> {
        let mut linker = Linker::new(engine());
        imports::link(&mut linker).expect("no import is defined twice");
        wasi::link(&mut linker).expect("no import is defined twice");
        // The SDK imports everything the ABI has, used or not.
        linker.define_unknown_imports_as_traps(module).expect("every import can be a trap");
        let mut store = Store::new(engine(), Guest::new(host.clone()));
        let instance = linker
            .instantiate(&mut store, module)
            .unwrap_or_else(|error| panic!("the guest does not start: {error:#}"));
        let vm = Rc::new(Self {
            wasm: RefCell::new((store, instance)),
            failed: Cell::new(false),
            last_context: Cell::new(0),
            roots: RefCell::new(BTreeMap::new()),
        });
        vm.call(0, "_initialize", &[]);
        vm.guest(|guest| guest.restricted = false);
        vm
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.failed.get()
    }

    pub(crate) fn kill(&self) {
        self.failed.set(true);
    }

    pub(crate) fn guest<T>(&self, with: impl FnOnce(&mut Guest) -> T) -> T {
        with(self.wasm.borrow_mut().0.data_mut())
    }

    pub(crate) fn violate(&self, what: impl Into<String>) {
        self.guest(|guest| guest.violate(what));
    }

    pub(crate) fn new_context(&self) -> u32 {
        self.last_context.set(self.last_context.get() + 1);
        self.last_context.get()
    }

    /// Creates a root context with a configuration. `None` if the guest refuses it.
    pub(crate) fn configure(&self, configuration: &Rc<Vec<u8>>) -> Option<u32> {
        let root = self.new_context();
        let data = ContextData::Root { configuration: configuration.clone() };
        self.guest(|guest| guest.contexts.insert(root, data));
        let size = |bytes: usize| u32::try_from(bytes).expect("a configuration is below 4 GiB");
        self.call(root, "proxy_on_context_create", &[root, 0]);
        let started = self.call(root, "proxy_on_vm_start", &[root, 0]);
        let configured = self.call(root, "proxy_on_configure", &[root, size(configuration.len())]);
        if ![started, configured].iter().all(|c| matches!(c, Called::Returned(1) | Called::Absent)) {
            return None;
        }
        self.roots.borrow_mut().insert(root, Root::default());
        Some(root)
    }

    /// A newer configuration took over: the root goes when its last stream has ended.
    pub(crate) fn retire(&self, root: u32) {
        if let Some(entry) = self.roots.borrow_mut().get_mut(&root) {
            entry.retired = true;
        }
        self.sweep_roots();
    }

    /// Number of root contexts alive.
    pub(crate) fn live_roots(&self) -> usize {
        self.roots.borrow().len()
    }

    pub(crate) fn stream_begins(&self, root: u32) {
        if let Some(entry) = self.roots.borrow_mut().get_mut(&root) {
            entry.streams += 1;
        }
    }

    pub(crate) fn stream_ended(&self, root: u32) {
        if let Some(entry) = self.roots.borrow_mut().get_mut(&root) {
            entry.streams -= 1;
        }
        self.sweep_roots();
    }

    fn sweep_roots(&self) {
        let gone: Vec<u32> = self
            .roots
            .borrow()
            .iter()
            .filter(|(_, r)| r.retired && r.streams == 0)
            .map(|(id, _)| *id)
            .collect();
        for root in gone {
            self.roots.borrow_mut().remove(&root);
            self.call(root, "proxy_on_done", &[root]);
            self.call(root, "proxy_on_delete", &[root]);
            self.guest(|guest| {
                guest.contexts.remove(&root);
                guest.calls.retain(|_, call| call.context != root);
                guest.root_calls.retain(|(_, call)| call.context != root);
            });
        }
    }

    /// Runs `on_tick` of every root if the guest asked for ticks.
    pub(crate) fn tick(&self) {
        if self.guest(|guest| guest.tick.is_some()) {
            let roots: Vec<u32> = self.roots.borrow().keys().copied().collect();
            for root in roots {
                self.call(root, "proxy_on_tick", &[root]);
                self.run_deferred();
            }
        }
    }
}

// === impl Vm: calls ===

impl Vm {
    /// Calls an export in a context. A trap kills the VM.
    pub(crate) fn call(&self, context: u32, export: &str, args: &[u32]) -> Called {
        if self.failed.get() {
            return Called::Dead;
        }
        let mut wasm = self.wasm.borrow_mut();
        let (store, instance) = &mut *wasm;
        let Some(function) = instance.get_func(&mut *store, export) else { return Called::Absent };
        store.data_mut().current = context;
        store.data_mut().effective = 0;
        let is_stream = matches!(store.data().contexts.get(&context), Some(ContextData::Stream { .. }));
        store.data_mut().about = if is_stream { context } else { 0 };
        let args: Vec<Val> = args.iter().map(|a| Val::I32(a.cast_signed())).collect();
        let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
        match function.call(&mut *store, &args, &mut results) {
            Ok(()) => {
                Called::Returned(results.first().and_then(Val::i32).unwrap_or_default().cast_unsigned())
            }
            Err(error) => {
                self.failed.set(true);
                let mut host = store.data().host.borrow_mut();
                let panic = host.log.iter().rev().find(|l| l.level == 5).map(|l| l.text.clone());
                let cause = format!("{error:#}");
                let panic = if cause.contains(INJECTED) { None } else { panic };
                host.traps.push(format!("{export}: {cause} {}", panic.unwrap_or_default()));
                Called::Dead
            }
        }
    }

    /// Carries out what the guest deferred, in order.
    pub(crate) fn run_deferred(&self) {
        while let Some(action) = self.guest(|guest| guest.after.pop_front()) {
            match action {
                After::ContinueRequest(stream) => self.continue_request(&stream),
                After::ContinueResponse(stream) => self.continue_response(&stream),
                // Envoy has no response code details for the reply of a wasm filter.
                After::Reply(stream, reply) => self.local_reply(&stream, reply, Origin::Guest, ""),
            }
        }
    }
}
