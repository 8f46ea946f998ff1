//! One Traefik with one router that uses the middleware: the pool of instances, and what they share.

use std::cell::RefCell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasmtime::{Linker, Memory, Module, Store, TypedFunc};

use super::exchange::{Passed, Reply, Request, Sent};
use super::{handler, wasi};
use crate::envoy::artefact::{compiled, engine, target_dir};

/// Time of day at which every simulated process starts, Unix seconds.
pub const START: u64 = 1_790_000_000;

/// Where the plugin is, in the layout of the plugin catalogue.
const PLUGIN: &str = "farebox/traefik-plugin/src/github.com/farebox/farebox/plugin.wasm";

/// A fault of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Traefik mounts no folder for the plugin.
    NotMounted,
    /// It is not writable.
    ReadOnly,
    /// The disk is full.
    Full,
    /// The disk is full after so many bytes of a line.
    Cut(usize),
    /// There is a folder with its name.
    NotAFile,
}

/// A line of Traefik's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// -1 debug, 0 info, 1 warning, 2 error.
    pub level: i32,
    /// Text.
    pub text: String,
}

/// The state that all instances share.
#[derive(Debug)]
pub(crate) struct Host {
    pub(super) wall_ns: u64,
    pub(super) log: Vec<LogLine>,
    pub(super) spool: Vec<u8>,
    pub(super) fault: Option<Fault>,
    /// Unused instances.
    pub(super) pool: Vec<Rc<Instance>>,
}

pub(super) type Shared = Rc<RefCell<Host>>;

/// The phase, which decides which calls are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Main,
    Request,
    Response,
}

/// The state of one instance.
pub(crate) struct Guest {
    pub(super) shared: Shared,
    pub(super) config: Rc<Vec<u8>>,
    pub(super) phase: Phase,
    pub(super) request: Option<Request>,
    pub(super) reply: Reply,
    pub(super) spool_open: bool,
    pub(super) monotonic_ns: u64,
    pub(super) random: u64,
    /// Host calls so far, and the one at which a test wants a trap.
    pub(super) calls: u64,
    pub(super) crash_at: Option<u64>,
}

/// One instance.
pub(crate) struct Instance {
    store: RefCell<Store<Guest>>,
    handle_request: TypedFunc<(), u64>,
    handle_response: TypedFunc<(u32, u32), ()>,
    memory: Memory,
}

/// A Traefik.
pub struct Traefik {
    shared: Shared,
    module: &'static Module,
    config: Rc<Vec<u8>>,
    made: RefCell<usize>,
}

/// The real plugin: `FAREBOX_TRAEFIK_WASM`, else that in the target directory.
fn plugin() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = plugin_path();
        let bytes = fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}. Build the plugin with `cargo xtask build --guests`, or name it in FAREBOX_TRAEFIK_WASM.",
                path.display()
            )
        });
        compiled(&bytes).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()))
    })
}

fn plugin_path() -> PathBuf {
    env::var_os("FAREBOX_TRAEFIK_WASM").map_or_else(|| target_dir().join(Path::new(PLUGIN)), PathBuf::from)
}

// === impl Traefik ===

impl Traefik {
    /// Starts with the middleware's configuration in a provider's form: `{config: '<json>'}`.
    pub fn new(config: &Value) -> Self {
        let config = if config.is_null() { json!({}) } else { json!({"config": config.to_string()}) };
        Self::with_raw(config.to_string().as_bytes())
    }

    /// Starts with any bytes as configuration. Traefik makes an instance at once, and drops the router if
    /// that fails.
    pub fn with_raw(config: &[u8]) -> Self {
        Self::with_fault(config, None)
    }

    /// Starts with a faulty spool.
    pub fn with_fault(config: &[u8], fault: Option<Fault>) -> Self {
        let host = Host {
            wall_ns: START * 1_000_000_000,
            log: Vec::new(),
            spool: Vec::new(),
            fault,
            pool: Vec::new(),
        };
        let traefik = Self {
            shared: Rc::new(RefCell::new(host)),
            module: plugin(),
            config: Rc::new(config.to_vec()),
            made: RefCell::new(0),
        };
        let first = traefik.make();
        traefik.shared.borrow_mut().pool.push(first);
        traefik
    }

    /// Sends a request through the middleware.
    pub fn send(&self, request: Request) -> Sent {
        self.send_crashing(request, None)
    }

    /// Sends a request whose instance traps at its n-th host call from now, if it makes so many.
    pub fn send_crashing(&self, request: Request, at: Option<u64>) -> Sent {
        let pooled = self.shared.borrow_mut().pool.pop();
        let instance = pooled.unwrap_or_else(|| self.make());
        let result = instance.request(request, at);
        let back = |instance| self.shared.borrow_mut().pool.push(instance);
        match result {
            Err(trap) => {
                back(instance);
                Sent::Trapped(trap)
            }
            Ok((0, _, reply)) => {
                back(instance);
                assert!(reply.status > 0, "the guest ended a request without an answer");
                Sent::Replied(reply)
            }
            Ok((next, request, reply)) => {
                assert_eq!(reply, Reply::default(), "the guest answered what it passed on");
                let context = i32::from_ne_bytes(((next >> 32) as u32).to_ne_bytes());
                let shared = self.shared.clone();
                Sent::Passed(Passed { request, context, instance: Some(instance), shared })
            }
        }
    }

    fn make(&self) -> Rc<Instance> {
        *self.made.borrow_mut() += 1;
        Rc::new(Instance::start(self.module, &self.shared, &self.config))
    }

    /// How long `main` takes in a new instance, which joins the pool.
    pub fn time_start(&self) -> Duration {
        let began = Instant::now();
        let instance = self.make();
        let took = began.elapsed();
        self.shared.borrow_mut().pool.push(instance);
        took
    }

    /// The memory of the largest unused instance, bytes.
    pub fn memory_in_use(&self) -> usize {
        let host = self.shared.borrow();
        let sizes = host.pool.iter().map(|instance| instance.memory.data_size(&*instance.store.borrow()));
        sizes.max().unwrap_or_default()
    }

    /// Instances made so far.
    pub fn made(&self) -> usize {
        *self.made.borrow()
    }

    /// From now on it is this time of day, Unix milliseconds.
    pub fn set_clock(&self, unix_ms: u64) {
        self.shared.borrow_mut().wall_ns = unix_ms * 1_000_000;
    }

    /// From now on the spool has this fault, or none.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.borrow_mut().fault = fault;
    }

    /// The spool's text.
    pub fn spool(&self) -> String {
        String::from_utf8(self.shared.borrow().spool.clone()).expect("the spool is text")
    }

    /// What the guests logged.
    pub fn log(&self) -> Vec<LogLine> {
        self.shared.borrow().log.clone()
    }

    /// What the plugin imports, `module.name`.
    pub fn imports() -> Vec<String> {
        plugin().imports().map(|import| format!("{}.{}", import.module(), import.name())).collect()
    }
}

// === impl Instance ===

impl Instance {
    /// Instantiates the guest and runs its `main`.
    fn start(module: &Module, shared: &Shared, config: &Rc<Vec<u8>>) -> Self {
        let mut linker = Linker::new(engine());
        handler::link(&mut linker).expect("no import is defined twice");
        wasi::link(&mut linker).expect("no import is defined twice");
        let guest = Guest {
            shared: shared.clone(),
            config: config.clone(),
            phase: Phase::Main,
            request: None,
            reply: Reply::default(),
            spool_open: false,
            monotonic_ns: 0,
            random: 42,
            calls: 0,
            crash_at: None,
        };
        let mut store = Store::new(engine(), guest);
        let instance = linker
            .instantiate(&mut store, module)
            .unwrap_or_else(|error| panic!("the plugin asks for what Traefik does not offer it: {error:#}"));
        instance
            .get_typed_func::<(), ()>(&mut store, "_start")
            .and_then(|start| start.call(&mut store, ()))
            .unwrap_or_else(|error| panic!("`main` trapped, and Traefik drops the router: {error:#}"));
        let handle_request = instance.get_typed_func(&mut store, "handle_request").expect("the export");
        let handle_response = instance.get_typed_func(&mut store, "handle_response").expect("the export");
        let memory = instance.get_memory(&mut store, "memory").expect("the export");
        Self { store: RefCell::new(store), handle_request, handle_response, memory }
    }

    fn request(&self, request: Request, crash_at: Option<u64>) -> Result<(u64, Request, Reply), String> {
        let mut store = self.store.borrow_mut();
        let guest = store.data_mut();
        guest.phase = Phase::Request;
        guest.request = Some(request);
        guest.reply = Reply::default();
        guest.crash_at = crash_at.map(|at| guest.calls + at);
        let result = self.handle_request.call(&mut *store, ());
        let guest = store.data_mut();
        guest.phase = Phase::Response;
        guest.crash_at = None;
        let reply = std::mem::take(&mut guest.reply);
        let request = guest.request.take().expect("it was put there");
        result.map(|next| (next, request, reply)).map_err(|error| format!("{error:#}"))
    }

    pub(super) fn respond(&self, context: i32) {
        let mut store = self.store.borrow_mut();
        let context = u32::from_ne_bytes(context.to_ne_bytes());
        let result = self.handle_response.call(&mut *store, (context, 0));
        result.unwrap_or_else(|error| panic!("a trap on the way back serves the body unpaid: {error:#}"));
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}
