//! The addresses of the parts of a stack, and their answers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Facilitator, Pricing, Scrape, Stack};
use crate::origin::Origin;

/// How long a count of a proxy may take to arrive.
const REPORTED: Duration = Duration::from_millis(1_300);

// === impl Stack ===

impl Stack {
    // --- addresses and files ---

    /// Where clients connect: `http://127.0.0.1:PORT`.
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.addresses.proxy)
    }

    /// Where clients connect, for tests that write their own bytes.
    pub const fn proxy_address(&self) -> SocketAddr {
        self.addresses.proxy
    }

    /// The companion: `/metrics`, `/healthz`, `/readyz`, `/status`.
    pub fn companion_url(&self) -> String {
        format!("http://{}", self.addresses.companion)
    }

    /// The companion's relay, which only the proxy should call.
    pub fn relay_url(&self) -> String {
        format!("http://{}", self.addresses.relay)
    }

    /// The facilitator in use.
    pub fn facilitator_url(&self) -> String {
        match &self.options.facilitator {
            Facilitator::Development(_) => format!("http://{}", self.addresses.facilitator),
            Facilitator::At(url) => url.trim_end_matches('/').to_owned(),
        }
    }

    /// The upstream in use.
    pub fn upstream_url(&self) -> String {
        let own = || self.origin.as_ref().map_or_else(String::new, Origin::url);
        self.options.upstream.clone().unwrap_or_else(own)
    }

    /// The demo origin, where the stack started it.
    pub const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// The temporary folder with logs and configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The pricing file in use.
    pub fn pricing(&self) -> PathBuf {
        match &self.options.pricing {
            Pricing::Text(_) => self.folder().join("pricing.yaml"),
            Pricing::File(path) => path.clone(),
        }
    }

    /// Replaces the stack's own pricing file, by rename as editors do.
    pub fn rewrite_pricing(&self, text: &str) -> Result<()> {
        if let Pricing::File(path) = &self.options.pricing {
            bail!("{} is not this stack's to change", path.display());
        }
        let next = self.folder().join(".pricing.next");
        std::fs::write(&next, text)?;
        Ok(std::fs::rename(next, self.pricing())?)
    }

    pub(super) fn discovery(&self) -> PathBuf {
        self.folder().join("discovery/filter.yaml")
    }

    // --- answers ---

    /// The client of the stack: no redirects, no proxies.
    pub const fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// A request through the proxy.
    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.proxy_url()))
    }

    /// The challenge of a path: the decoded `PAYMENT-REQUIRED` header of its 402.
    pub async fn challenge(&self, path: &str) -> Result<Value> {
        let response = self.get(path).send().await?;
        let header = response.headers().get("payment-required");
        let header = header.with_context(|| format!("{path}: {} without a challenge", response.status()))?;
        let json = farebox_core::protocol::decode_base64(header.as_bytes())?;
        serde_json::from_slice(&json).with_context(|| format!("{path}: the challenge is not JSON"))
    }

    /// The companion's metrics.
    pub async fn metrics(&self) -> Result<Scrape> {
        let response = self.client.get(format!("{}/metrics", self.companion_url())).send().await?;
        Scrape::parse(&response.error_for_status()?.text().await?)
    }

    /// The companion's metrics, once the proxies have reported what they have counted by now.
    pub async fn counted(&self) -> Result<Scrape> {
        tokio::time::sleep(REPORTED).await;
        self.metrics().await
    }

    /// The companion's `/status`.
    pub async fn status(&self) -> Result<Value> {
        let response = self.client.get(format!("{}/status", self.companion_url())).send().await?;
        Ok(serde_json::from_slice(&response.error_for_status()?.bytes().await?)?)
    }

    /// Every payment in the ledger, as `farebox ledger export` writes it.
    pub fn ledger(&self) -> Result<Vec<Value>> {
        let lines = self.ledger_says(&["export", "--format", "jsonl"])?;
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The output of `farebox ledger`.
    pub fn ledger_says(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.programs.farebox);
        let output = command.arg("ledger").args(arguments).current_dir(self.folder()).output()?;
        if !output.status.success() {
            bail!("farebox ledger fails: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(super) async fn is_ok(&self, url: &str) -> bool {
        self.client.get(url).send().await.is_ok_and(|response| response.status().is_success())
    }
}
