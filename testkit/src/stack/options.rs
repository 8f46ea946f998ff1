//! The options of a stack.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

/// The options of a stack; every member has a default for tests.
pub struct Options {
    /// The prices.
    pub pricing: Pricing,
    /// `farebox.yaml` as JSON; its addresses and paths are overridden by those of the stack.
    pub settings: Value,
    /// The shell that decides about requests.
    pub shell: Shell,
    /// The companion, and the development facilitator.
    pub program: Program,
    /// Who settles.
    pub facilitator: Facilitator,
    /// URL of an upstream; without one the demo origin is started.
    pub upstream: Option<String>,
    /// Worker threads of Envoy.
    pub workers: u32,
    /// Further Envoys of the same rules, on ports of their own: see [`super::Stack::proxy_urls`].
    pub siblings: u32,
    /// Where clients connect; a free port without it.
    pub listen: Option<SocketAddr>,
    /// Where the companion serves; a free port without it.
    pub companion: Option<SocketAddr>,
    /// `GOMEMLIMIT` of Traefik, bytes; the shipped README explains it.
    pub traefik_memory: Option<u64>,
    /// Last changes to the Envoy bootstrap.
    pub tweak: Box<dyn Fn(&mut Value) + Send + Sync>,
}

/// The shell that decides about requests. All have the same core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// The filter in Envoy.
    Envoy,
    /// The plugin in Traefik, and the companion's gateway behind it.
    Traefik,
    /// The companion's gateway alone.
    Gateway,
}

/// Which build of `farebox` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// That of the dev profile, which is compiled in a quarter of the time.
    Dev,
    /// As it is released: what is measured.
    Released,
}

/// Where the prices are.
#[derive(Debug, Clone)]
pub enum Pricing {
    /// In a file of the stack's own, which [`super::Stack::rewrite_pricing`] changes.
    Text(String),
    /// In an existing file, which is only read.
    File(PathBuf),
}

/// Who settles.
#[derive(Debug, Clone)]
pub enum Facilitator {
    /// The stack's own development facilitator, with these arguments beside its address.
    Development(Vec<String>),
    /// A running facilitator, by URL.
    At(String),
}

// === impl Options ===

impl Options {
    /// A stack with these prices, the demo origin, a development facilitator and two workers.
    pub fn priced(pricing: impl Into<String>) -> Self {
        Self {
            pricing: Pricing::Text(pricing.into()),
            settings: json!({}),
            shell: Shell::Envoy,
            program: Program::Dev,
            facilitator: Facilitator::Development(Vec::new()),
            upstream: None,
            workers: 2,
            siblings: 0,
            listen: None,
            companion: None,
            traefik_memory: None,
            tweak: Box::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("pricing", &self.pricing)
            .field("settings", &self.settings)
            .field("shell", &self.shell)
            .field("program", &self.program)
            .field("facilitator", &self.facilitator)
            .field("upstream", &self.upstream)
            .field("workers", &self.workers)
            .field("siblings", &self.siblings)
            .field("listen", &self.listen)
            .field("companion", &self.companion)
            .field("traefik_memory", &self.traefik_memory)
            .finish_non_exhaustive()
    }
}
