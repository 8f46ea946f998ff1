//! Free ports that are reserved for one stack, because several stacks run side by side, in one
//! process and in many.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result, bail};

/// Below the kernel's range for ports of outgoing connections. Otherwise an outgoing connection
/// could take a port after it is chosen and before a server listens.
const RANGE: Range<u16> = 20_000..32_000;
const ATTEMPTS: u32 = 200;

/// A port of the loopback interface, kept from other stacks by a lock file until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

// === impl Port ===

impl Port {
    /// Takes a free one.
    pub fn take() -> Result<Self> {
        let user = rustix::process::getuid().as_raw();
        let folder = std::env::temp_dir().join(format!("farebox-ports-{user}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for _ in 0..ATTEMPTS {
            let mut random = [0; 2];
            getrandom::fill(&mut random).context("the system gives no randomness")?;
            let number = RANGE.start + u16::from_be_bytes(random) % (RANGE.end - RANGE.start);
            let lock = File::create(folder.join(number.to_string()))
                .with_context(|| format!("cannot write to {}", folder.display()))?;
            // Envoy shares ports with other sockets that permit sharing, so Envoy could bind a port
            // that another server has. This probe does not permit sharing.
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("found no free port between {} and {}", RANGE.start, RANGE.end)
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once() {
        let ports: Vec<Port> = (0..20).map(|_| Port::take().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(|port| port.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20);
        assert!(numbers.iter().all(|number| RANGE.contains(number)));
    }
}
