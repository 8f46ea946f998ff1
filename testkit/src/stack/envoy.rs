//! Envoy as the proxy of a stack.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{REQUEST, Stack, bootstrap, shipped};
use crate::http;

/// Name of the proxy for the companion.
pub(super) const NAME: &str = "envoy-0";

// === impl Stack ===

impl Stack {
    /// The socket of Envoy's administration.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin_of(NAME)
    }

    fn admin_of(&self, proxy: &str) -> PathBuf {
        self.folder().join(format!("{proxy}.sock"))
    }

    /// Envoy's own statistics whose names match an expression.
    pub async fn envoy_stats(&self, names: &str) -> Result<BTreeMap<String, u64>> {
        envoy_stats(&self.admin_socket(), names).await
    }

    /// The generation that Envoy enforces, by its reports; `None` before the first.
    pub async fn enforced(&self) -> Result<Option<u64>> {
        let status = self.status().await?;
        let proxies = status["proxies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let own = proxies.iter().find(|proxy| proxy["name"] == NAME);
        Ok(own.and_then(|proxy| proxy["generation_confirmed"].as_u64()))
    }

    /// Waits until Envoy enforces a later generation than `after`, and returns it.
    pub async fn later_generation(&self, after: u64) -> Result<u64> {
        let is_later = async |stack: &Self| matches!(stack.enforced().await, Ok(Some(now)) if now > after);
        self.until("Envoy takes the new rules", is_later).await?;
        self.enforced().await?.context("the generation is gone again")
    }

    pub(super) fn envoy_command(&self, name: &str, proxy: SocketAddr) -> Result<Command> {
        let places = bootstrap::Places {
            proxy,
            admin: self.admin_of(name),
            discovery: self.discovery(),
            wasm: self.programs.guest.clone(),
            upstream: self.upstream_url(),
            relay: self.relay_url(),
            facilitator: self.facilitator_url(),
            authorities: bootstrap::system_authorities(),
        };
        let mut rendered =
            bootstrap::render(shipped("envoy/bootstrap.yaml")?, &places).context("envoy/bootstrap.yaml")?;
        *bootstrap::at(&mut rendered, "/node/id")? = name.into();
        (self.options.tweak)(&mut rendered);
        let path = self.folder().join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(&rendered)?)?;
        let mut command = Command::new(&self.programs.proxy);
        command.arg("-c").arg(path).arg("--use-dynamic-base-id");
        command.arg("--concurrency").arg(self.options.workers.to_string());
        // Envoy's long lists of its extensions are not needed.
        command.args(["--component-log-level", "main:warning"]);
        command.args(["--log-level", "info", "--log-format", "[%Y-%m-%d %T.%e][%l][%n] %v"]);
        Ok(command)
    }
}

/// Statistics of the Envoy whose administration is on a socket, by name, of those whose names match an expression.
pub async fn envoy_stats(admin: &Path, names: &str) -> Result<BTreeMap<String, u64>> {
    let client = http::client_builder().timeout(REQUEST).unix_socket(admin.to_owned()).build()?;
    let url = reqwest::Url::parse_with_params("http://envoy/stats", [("format", "json"), ("filter", names)])?;
    let response = client.get(url).send().await?;
    let page: Value = serde_json::from_slice(&response.error_for_status()?.bytes().await?)?;
    let stats = page["stats"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |stat: &Value| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?));
    Ok(stats.iter().filter_map(read).collect())
}
