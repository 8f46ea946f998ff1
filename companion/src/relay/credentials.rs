//! Whether the credentials of the facilitators can be used, looked at all the time: the answer changes with the
//! clock and with files, and nobody need be paying for it to matter.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use super::Relay;
use crate::clock::unix_seconds;

const EVERY: Duration = Duration::from_secs(1);

/// Looks for ever, and notes for readiness and log what it finds.
pub async fn watch_credentials(relay: Relay) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        relay.check_credentials(unix_seconds()).await;
    }
}

// === impl Relay ===

impl Relay {
    pub(super) async fn check_credentials(&self, now: u64) {
        let credentials = self.client.credentials();
        for url in credentials.addresses() {
            let unusable = credentials.check(url, now).await.err().map(|error| error.to_string());
            let mut state = self.state.facilitators.lock();
            let known = state.credentials.entry(url.to_owned()).or_default();
            if known.unusable != unusable {
                match &unusable {
                    Some(cause) => error!("{url} cannot be called: {cause}"),
                    None => info!("the credential of {url} can be used again"),
                }
                known.unusable = unusable;
            }
        }
    }
}
