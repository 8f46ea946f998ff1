//! Origin, development facilitator, companion and proxy as one running whole, on free ports and in a
//! temporary folder. The demo, `up`, the benchmark and the end-to-end tests all run this.
//!
//! A stack stops with its owner: when it is dropped, and when a signal ends the process.

pub mod bootstrap;
mod envoy;
mod fleet;
mod folder;
mod grpc;
mod guard;
mod options;
mod port;
mod postgres;
mod process;
mod programs;
mod reach;
mod readers;
mod reference;
mod relay;
mod scrape;
mod traefik;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::origin::Origin;
use crate::{http, paths, tools};

pub use envoy::envoy_stats;
use fleet::Sibling;
pub use folder::Folder;
pub use grpc::{GrpcDiscovery, ProxyCertificate};
pub use options::{Facilitator, Options, Pricing, Program, Shell};
pub use port::Port;
pub use postgres::{Durability, Postgres};
pub use process::Process;
pub use programs::{Part, facilitator_error};
pub use readers::{Place, Reader, Readers};
pub use reference::{Implementation, Reference};
pub use relay::{install_relay_secret, install_relay_socket, install_relay_tls};
pub use scrape::{Scrape, Series};

/// What makes the guests.
const GUESTS: &str = "cargo xtask build --guests";
/// The longest a request of the stack's own client may take; settlements may take 60 s.
const REQUEST: Duration = Duration::from_secs(90);

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    // The programs are stopped in this order, so that none calls a stopped one.
    siblings: Vec<Sibling>,
    proxy: Option<Process>,
    companion: Option<Process>,
    facilitator: Option<Process>,
    origin: Option<Origin>,
    options: Options,
    addresses: Addresses,
    programs: Programs,
    folder: Folder,
    client: reqwest::Client,
    _ports: Vec<Port>,
}

#[derive(Debug)]
struct Addresses {
    proxy: SocketAddr,
    /// Traefik's own API.
    api: SocketAddr,
    companion: SocketAddr,
    relay: SocketAddr,
    gateway: SocketAddr,
    facilitator: SocketAddr,
}

#[derive(Debug)]
struct Programs {
    farebox: PathBuf,
    /// The filter, or the folder with the plugin.
    guest: PathBuf,
    proxy: PathBuf,
}

// === impl Stack ===

impl Stack {
    /// Starts everything and waits until paid requests can be answered. Needs the built artefacts.
    pub async fn start(options: Options) -> Result<Self> {
        Self::prepare(options)?.start_all().await
    }

    /// Everything but the programs: for tests about how they start.
    pub fn prepare(options: Options) -> Result<Self> {
        guard::install();
        let farebox = match options.program {
            Program::Dev => built(paths::dev_farebox()?, "cargo build --bin farebox")?,
            Program::Released => built(paths::farebox()?, "cargo xtask build")?,
        };
        let programs = match options.shell {
            Shell::Envoy => {
                Programs { farebox, guest: built(paths::envoy_filter()?, GUESTS)?, proxy: tools::envoy()? }
            }
            Shell::Traefik => {
                let guest = paths::traefik_plugin()?;
                built(paths::traefik_module(&guest), GUESTS)?;
                Programs { farebox, guest, proxy: tools::traefik()? }
            }
            Shell::Gateway => Programs { proxy: farebox.clone(), guest: PathBuf::new(), farebox },
        };
        let mut ports = Vec::new();
        let mut address = |wanted: Option<SocketAddr>| match wanted {
            Some(address) => Ok::<_, anyhow::Error>(address),
            None => {
                ports.push(Port::take()?);
                Ok(ports[ports.len() - 1].address())
            }
        };
        let proxy = address(options.listen)?;
        let addresses = Addresses {
            proxy,
            api: address(None)?,
            companion: address(options.companion)?,
            relay: address(None)?,
            gateway: if options.shell == Shell::Gateway { proxy } else { address(None)? },
            facilitator: address(None)?,
        };
        let siblings = (1..=options.siblings)
            .map(|number| Ok(Sibling::new(number, address(None)?)))
            .collect::<Result<_>>()?;
        let origin = match &options.upstream {
            Some(_) => None,
            None => Some(Origin::start(SocketAddr::from(([127, 0, 0, 1], 0)))?),
        };
        let client = http::client_builder().timeout(REQUEST).build()?;
        let stack = Self {
            siblings,
            proxy: None,
            companion: None,
            facilitator: None,
            origin,
            options,
            addresses,
            programs,
            folder: Folder::create()?,
            client,
            _ports: ports,
        };
        std::fs::create_dir(stack.folder().join("discovery"))?;
        std::fs::write(stack.folder().join("farebox.yaml"), stack.settings().to_string())?;
        if let Pricing::Text(text) = &stack.options.pricing {
            std::fs::write(stack.pricing(), text)?;
        }
        Ok(stack)
    }

    /// The shell that decides about requests.
    pub const fn shell(&self) -> Shell {
        self.options.shell
    }
}

/// A configuration that operators copy, by its path in the workspace.
pub fn shipped(file: &str) -> Result<Value> {
    let text = std::fs::read_to_string(paths::workspace().join(file)).context(file.to_owned())?;
    serde_saphyr::from_str(&text).context(file.to_owned())
}

fn built(artefact: PathBuf, command: &str) -> Result<PathBuf> {
    if !artefact.is_file() {
        bail!("{} is not there: run `{command}` first", artefact.display());
    }
    Ok(artefact)
}
