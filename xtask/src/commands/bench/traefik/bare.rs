//! Traefik as it is shipped but for the plugin: what the others are compared with.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use farebox_testkit::stack::{Folder, Port, Process, shipped};
use farebox_testkit::{http, tools};
use serde_json::json;

use crate::commands::bench::workload;

const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(25);
/// The entry point that leads to the gateway.
const PAID: &str = "paid";

/// A running Traefik without the plugin.
pub(super) struct Bare {
    process: Process,
    /// Where it leads to the upstream.
    pub(super) free: SocketAddr,
    /// Where it leads to the gateway.
    pub(super) paid: SocketAddr,
    _folder: Folder,
    _ports: [Port; 2],
}

// === impl Bare ===

impl Bare {
    /// Starts one and waits until it leads where it should.
    pub(super) async fn start(upstream: &str, gateway: &str, paid_path: &str) -> Result<Self> {
        let folder = Folder::create()?;
        let ports = [Port::take()?, Port::take()?];
        let [free, paid] = [ports[0].address(), ports[1].address()];
        let mut settings = shipped("traefik/traefik.yaml")?;
        let web = settings["entryPoints"]["web"].clone();
        settings["entryPoints"] = json!({ "web": web, PAID: web });
        settings["entryPoints"]["web"]["address"] = free.to_string().into();
        settings["entryPoints"][PAID]["address"] = paid.to_string().into();
        let routes = folder.path().join("routes.yaml");
        settings["providers"] = json!({ "file": { "filename": routes } });
        let members = settings.as_object_mut().context("traefik/traefik.yaml is not a map")?;
        for member in ["experimental", "api"] {
            members.remove(member);
        }
        let router =
            |entry: &str| json!({ "entryPoints": [entry], "rule": "PathPrefix(`/`)", "service": entry });
        let service = |url: &str| json!({ "loadBalancer": { "servers": [{ "url": url }] } });
        let dynamic = json!({ "http": {
            "routers": { "web": router("web"), PAID: router(PAID) },
            "services": { "web": service(upstream), PAID: service(gateway) },
        }});
        std::fs::write(&routes, dynamic.to_string())?;
        let config = folder.path().join("traefik.yaml");
        std::fs::write(&config, settings.to_string())?;
        let mut command = Command::new(tools::traefik()?);
        command.arg(format!("--configFile={}", config.display())).current_dir(folder.path());
        let process = Process::spawn("traefik without the plugin", command, &folder.path().join("log"))?;
        let bare = Self { process, free, paid, _folder: folder, _ports: ports };
        bare.until_answers(free, workload::FREE_PATH, 200).await?;
        bare.until_answers(paid, paid_path, 402).await?;
        Ok(bare)
    }

    pub(super) const fn process(&self) -> &Process {
        &self.process
    }

    async fn until_answers(&self, address: SocketAddr, path: &str, status: u16) -> Result<()> {
        let client = http::client_builder().timeout(Duration::from_secs(10)).build()?;
        let deadline = Instant::now() + READY;
        let answers = async || {
            let response = client.get(format!("http://{address}{path}")).send().await;
            response.is_ok_and(|response| response.status().as_u16() == status)
        };
        while !answers().await {
            if self.process.ended().is_some() || Instant::now() >= deadline {
                bail!("{} is not ready:\n{}", self.process.name(), self.process.tail(30));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}
