//! Addresses to listen on, and whether other machines can reach them.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use super::SettingsError;

/// The address of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system, written `unix:/run/farebox/relay.sock`.
    Unix(PathBuf),
}

const UNIX: &str = "unix:";

// === impl Listen ===

impl Listen {
    /// Reads the value of a setting.
    pub(super) fn parse(key: &str, text: &str) -> Result<Self, SettingsError> {
        let Some(path) = text.strip_prefix(UNIX) else { return parse_address(key, text).map(Self::Tcp) };
        let path = PathBuf::from(path);
        if !path.is_absolute() {
            return Err(SettingsError(format!(
                "{key}: `{text}` is not a whole path, such as unix:/run/farebox/relay.sock"
            )));
        }
        Ok(Self::Unix(path))
    }

    /// Whether only processes of this machine can reach it.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// `:8080` listens on all IPv4 interfaces.
pub(super) fn parse_address(key: &str, text: &str) -> Result<SocketAddr, SettingsError> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
        SettingsError(format!("{key}: `{text}` is not an address such as 127.0.0.1:9402, or :9402 or [::]:9402 for all interfaces"))
    })
}
