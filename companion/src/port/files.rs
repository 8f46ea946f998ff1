//! The descriptors of the process. Each port gets a fixed share, so that no port takes those of
//! another.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// How many files and connections the process may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors(usize);

/// The share of a port. The rest is for the ledger, files, facilitators, upstreams and proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Metrics and status: few readers.
    Metrics,
    /// The relay: the connections of the proxies.
    Relay,
    /// Discovery: one connection of each proxy.
    Discovery,
    /// The gateway: clients. Each request may need a connection to an upstream, too.
    Gateway,
}

/// Largest limit that is requested. More is never needed, and a larger table costs memory in the
/// kernel.
const ENOUGH: u64 = 65_536;
/// The limit that is assumed if none can be read; every system grants it.
const USUAL: usize = 1_024;

// === impl Descriptors ===

impl Descriptors {
    /// Raises the limit of this process as far as the system permits.
    pub fn raise() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = maximum.unwrap_or(ENOUGH).min(ENOUGH);
        let is_low = current.is_some_and(|current| current < wanted);
        if is_low && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
            warn!("the limit of open files cannot be raised to {wanted}: {error}");
        }
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH).min(ENOUGH);
        Self(usize::try_from(limit).unwrap_or(USUAL))
    }

    /// Returns the number of connections of a port.
    pub fn of(self, share: Share) -> usize {
        let (sixteenths, most) = match share {
            Share::Metrics => (1, 256),
            Share::Relay => (2, 2_048),
            Share::Discovery => (2, 1_024),
            Share::Gateway => (4, 8_192),
        };
        (self.0 * sixteenths / 16).clamp(8, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_together_leave_room_for_everything_else() {
        for limit in [256, 1_024, 4_096, 65_536, 1_048_576] {
            let all = Descriptors(limit);
            let shares =
                [Share::Metrics, Share::Relay, Share::Discovery, Share::Gateway].map(|of| all.of(of));
            // A request at the gateway holds two.
            assert!(
                shares.iter().sum::<usize>() + all.of(Share::Gateway) <= limit * 13 / 16,
                "{limit}: {shares:?}"
            );
        }
        assert_eq!(Descriptors(1_024).of(Share::Gateway), 256);
    }

    #[test]
    fn the_limit_of_the_process_is_as_high_as_it_may_be() {
        let Descriptors(limit) = Descriptors::raise();
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        assert_eq!(limit as u64, maximum.unwrap_or(ENOUGH).min(ENOUGH));
    }
}
