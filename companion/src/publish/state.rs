//! What became of the rules at the proxies.

use super::discovery::Discovery;
use super::{Proxies, TraefikState};

/// What is known of the proxies.
#[derive(Debug, Default)]
pub struct PublishState {
    /// Why the last push could not be written; `None` once it was.
    pub publish_error: Option<String>,
    /// Every proxy that reports.
    pub proxies: Proxies,
    /// What proxies said that get their rules over gRPC.
    pub discovery: Discovery,
    /// What became of the rules in Traefik; `None` if it is not among the proxies.
    pub traefik: Option<TraefikState>,
}

// === impl PublishState ===

impl PublishState {
    /// What is wrong with how payments are kept; `None` if nothing is.
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
