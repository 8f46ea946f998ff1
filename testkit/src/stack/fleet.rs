//! Further Envoys beside the stack's own: same rules, same companion, same upstream. Each is named
//! `envoy-NUMBER`, and the stack's own is number 0.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::{Part, Process, Stack};

/// One more Envoy.
#[derive(Debug)]
pub(super) struct Sibling {
    name: String,
    proxy: SocketAddr,
    process: Option<Process>,
}

// === impl Sibling ===

impl Sibling {
    pub(super) fn new(number: u32, proxy: SocketAddr) -> Self {
        Self { name: format!("envoy-{number}"), proxy, process: None }
    }

    pub(super) const fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }
}

// === impl Stack ===

impl Stack {
    /// Where clients connect to each proxy, by its number.
    pub fn proxy_urls(&self) -> Vec<String> {
        let siblings = self.siblings.iter().map(|sibling| format!("http://{}", sibling.proxy));
        std::iter::once(self.proxy_url()).chain(siblings).collect()
    }

    /// Starts a proxy, without waiting for it.
    pub fn start_proxy(&mut self, number: usize) -> Result<()> {
        let Some(index) = number.checked_sub(1) else { return self.start_part(Part::Proxy) };
        let sibling = self.siblings.get(index).with_context(|| format!("there is no proxy {number}"))?;
        let command = self.envoy_command(&sibling.name, sibling.proxy)?;
        let log = self.folder().join(format!("{}.log", sibling.name));
        let process = Process::spawn(&sibling.name, command, &log)?;
        self.siblings[index].process = Some(process);
        Ok(())
    }

    /// Ends a proxy as a crash would.
    pub fn kill_proxy(&mut self, number: usize) {
        match number.checked_sub(1) {
            None => self.kill_part(Part::Proxy),
            Some(index) => {
                let process = self.siblings.get_mut(index).and_then(|sibling| sibling.process.take());
                process.into_iter().for_each(|mut process| process.kill());
            }
        }
    }

    pub(super) fn start_siblings(&mut self) -> Result<()> {
        (1..=self.siblings.len()).try_for_each(|number| self.start_proxy(number))
    }
}
