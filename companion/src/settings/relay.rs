//! Settings of the port for proxies, and of the ledger.

use std::path::PathBuf;
use std::time::Duration;

use super::{Facilitators, Flags, Listen, SettingsError, TlsSettings, check_name, file, ledger_url};

/// The `relay:` section, checked. With `settlement: direct` proxies only report there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// The address for proxies.
    pub listen: Listen,
    /// Without it the channel is plain text.
    pub tls: Option<TlsSettings>,
    /// A file with the secrets of proxies; without it proxies need no secret.
    pub secret: Option<PathBuf>,
    /// URL of the ledger's database.
    pub ledger: String,
    /// The name of this companion in the ledger.
    pub companion: String,
    /// How long the ledger keeps charged payments, and payments of unknown outcome.
    pub retention: Duration,
    /// The facilitators that it calls.
    pub facilitators: Facilitators,
}

const DEFAULT_LISTEN: &str = "127.0.0.1:9404";
pub(super) const DEFAULT_LEDGER: &str = "sqlite:farebox.db";
const DEFAULT_COMPANION: &str = "farebox";
/// A quarter.
const DEFAULT_RETENTION: Duration = Duration::from_secs(90 * 86_400);
/// Longer than the longest window of an authorization, because a used payment is refused by its record until its
/// window has closed.
const MIN_RETENTION: Duration = Duration::from_secs(2 * 86_400);

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
        let retention = file.retention.map_or(DEFAULT_RETENTION, |span| span.0);
        if retention < MIN_RETENTION {
            return Err(SettingsError(
                "relay.retention: must be 2d at least, longer than payments are signed for".to_owned(),
            ));
        }
        let listen = Listen::parse("relay.listen", listen.as_deref().unwrap_or(DEFAULT_LISTEN))?;
        let tls = TlsSettings::resolve("relay.tls", file.tls)?;
        if !listen.is_private() && file.secret.is_none() && !TlsSettings::proves_clients(tls.as_ref()) {
            return Err(SettingsError(format!(
                "relay.listen: {listen} can be reached by strangers, who could have payments settled and counts falsified: listen on \
                 127.0.0.1 or on unix:/run/farebox/relay.sock, set relay.secret to a file with the words the proxies \
                 show, or set relay.tls with certificate, key and clientCa"
            )));
        }
        Ok(Self {
            listen,
            tls,
            secret: file.secret,
            ledger: ledger_url(flags.ledger.as_deref().or(file.ledger.as_deref()).unwrap_or(DEFAULT_LEDGER))?,
            companion,
            retention,
            facilitators,
        })
    }
}
