//! Settings of the gateway, the companion's own proxy.

use std::net::SocketAddr;
use std::time::Duration;

use farebox_pricing::HttpUrl;

use super::{SettingsError, Settlement, file, parse_address};

/// The `gateway:` section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// The address for clients, or for a proxy in front.
    pub listen: SocketAddr,
    /// Upstream of routes whose `upstreamURL` is not set.
    pub upstream: Option<HttpUrl>,
    /// Whether requests to upstreams use HTTP/2.
    pub http2: bool,
    /// Whether upstreams get the client's `Host`, or their own.
    pub preserve_host: bool,
    /// Deadline of a connection to an upstream.
    pub connect_timeout: Duration,
    /// Deadline of a response head, from the last byte of the request.
    pub response_timeout: Duration,
    /// Longest silence within a body.
    pub idle_timeout: Duration,
    /// How long requests under way may take after a signal to stop.
    pub grace: Duration,
    /// Whether Traefiks are in front of it, which may enforce old rules for a while.
    pub is_behind: bool,
}

const DEFAULT_LISTEN: &str = "127.0.0.1:9405";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Long enough for a model that needs time before its first token.
const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const DEFAULT_GRACE: Duration = Duration::from_secs(20);
/// Longest value of any of these settings.
const MAX: Duration = Duration::from_secs(3_600);

// === impl GatewaySettings ===

impl GatewaySettings {
    /// Joins the section with `--gateway [ADDR]`. `None` if neither is set. `is_behind` says that Traefiks are in
    /// front of it.
    pub(super) fn resolve(
        file: Option<file::Gateway>,
        flag: Option<Option<String>>,
        settlement: Settlement,
        is_behind: bool,
    ) -> Result<Option<Self>, SettingsError> {
        if file.is_none() && flag.is_none() {
            return Ok(None);
        }
        if settlement != Settlement::Relay {
            return Err(SettingsError(
                "gateway: needs `facilitator.settlement: relay` (or --settlement relay), because it settles \
                 through the companion's ledger"
                    .into(),
            ));
        }
        let file = file.unwrap_or_default();
        if file.spool.is_some() {
            return Err(SettingsError(
                "gateway.spool: the gateway counts in the ledger now; remove this setting, and the file"
                    .into(),
            ));
        }
        let listen = flag.flatten().or(file.listen);
        let upstream = file.upstream.map(|url| HttpUrl::parse(&url)).transpose();
        let span = |key: &str, set: Option<file::Span>, default: Duration| {
            let value = set.map_or(default, |span| span.0);
            if value.is_zero() || value > MAX {
                return Err(SettingsError(format!("gateway.{key}: must be above 0 and at most 60m")));
            }
            Ok(value)
        };
        Ok(Some(Self {
            listen: parse_address("gateway.listen", listen.as_deref().unwrap_or(DEFAULT_LISTEN))?,
            upstream: upstream.map_err(|error| SettingsError(format!("gateway.upstream: {error}")))?,
            http2: file.upstream_protocol == file::UpstreamProtocol::Http2,
            preserve_host: file.preserve_host.unwrap_or(true),
            connect_timeout: span("connectTimeout", file.connect_timeout, DEFAULT_CONNECT_TIMEOUT)?,
            response_timeout: span("responseTimeout", file.response_timeout, DEFAULT_RESPONSE_TIMEOUT)?,
            idle_timeout: span("idleTimeout", file.idle_timeout, DEFAULT_IDLE_TIMEOUT)?,
            grace: span("grace", file.grace, DEFAULT_GRACE)?,
            is_behind,
        }))
    }
}
