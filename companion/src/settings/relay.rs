//! The relay and its ledger.

use std::net::SocketAddr;

use super::{Facilitators, Flags, SettingsError, check_name, file, parse_listen};

/// The `relay:` section, checked. Used only where the relay settles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// Where proxies reach it. Only proxies may: whoever reaches it can have payments settled.
    pub listen: SocketAddr,
    /// URL of the ledger's database.
    pub ledger: String,
    /// Names this companion's counters in the ledger.
    pub companion: String,
    /// Whom it calls.
    pub facilitators: Facilitators,
}

const DEFAULT_LISTEN: &str = "127.0.0.1:9404";
const DEFAULT_LEDGER: &str = "sqlite:farebox.db";
const DEFAULT_COMPANION: &str = "farebox";

// === impl RelaySettings ===

impl RelaySettings {
    pub(super) fn resolve(
        file: file::Relay,
        flags: &Flags,
        facilitators: Facilitators,
    ) -> Result<Self, SettingsError> {
        let listen = flags.relay_listen.clone().or(file.listen);
        let companion = file.companion.unwrap_or_else(|| DEFAULT_COMPANION.to_owned());
        check_name("relay.companion:", &companion)?;
        Ok(Self {
            listen: parse_listen("relay.listen", listen.as_deref().unwrap_or(DEFAULT_LISTEN))?,
            ledger: flags.ledger.clone().or(file.ledger).unwrap_or_else(|| DEFAULT_LEDGER.to_owned()),
            companion,
            facilitators,
        })
    }
}
