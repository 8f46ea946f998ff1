//! The state of the rules at the proxies.

use super::discovery::Discovery;
use super::{Proxies, TraefikState};

/// The state of all proxies.
#[derive(Debug, Default)]
pub struct PublishState {
    /// Why the last push could not be written; `None` after a successful write.
    pub publish_error: Option<String>,
    /// Every proxy that reports.
    pub proxies: Proxies,
    /// Answers of proxies that get their rules over gRPC.
    pub discovery: Discovery,
    /// The state of the rules in Traefik; `None` without a Traefik.
    pub traefik: Option<TraefikState>,
}

// === impl PublishState ===

impl PublishState {
    /// A fault in how the proxies keep payments, if there is one.
    pub fn settlement_error(&self, settles_direct: bool, now: u64) -> Option<String> {
        let processes = self.proxies.processes(now);
        (settles_direct && processes.len() > 1).then(|| {
            let names: Vec<&str> = processes.iter().map(|(proxy, _)| *proxy).collect();
            format!(
                "settlement: direct is for one Envoy process, and {} report here: {}. One payment is served once by \
                 each of them; use settlement: relay",
                names.len(),
                names.join(", ")
            )
        })
    }
}
