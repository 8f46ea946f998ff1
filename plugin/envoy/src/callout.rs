//! Calls to the facilitator.
//!
//! Envoy answers a call that failed with a page of its own, status and body included, so a status alone
//! says nothing. A reply that really came from the facilitator carries `x-envoy-upstream-service-time`,
//! which Envoy's router puts on every upstream response and on none of its own pages. A reply that broke
//! off after its head has no headers at all, and reading any then kills the VM.

use std::time::Duration;

use farebox_core::exchange::{Answer, Call};
use farebox_core::protocol::{Operation, RELAY_HOLDER};
use farebox_core::rules::Facilitator;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, Status};

/// Most bytes of a reply the core gets to see. A longer one is cut there, hence unreadable, hence bad.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// A reply, captured.
pub(crate) enum Captured {
    /// From the facilitator.
    Reply { status: u16, body: Vec<u8> },
    /// Envoy stopped waiting.
    TimedOut,
    /// Envoy could not connect, or what came was not HTTP.
    Unreachable,
    /// The reply broke off.
    Cut,
}

/// Sends a call; the token comes back with its reply. An error means that nothing was sent and that no
/// reply will come: the cluster is unknown or has no host.
pub(crate) fn dispatch(facilitator: &Facilitator, holder: &str, call: &Call) -> Result<u32, Status> {
    let endpoint = match call.operation {
        Operation::Verify => "/verify",
        Operation::Settle => "/settle",
    };
    let path = [facilitator.path_prefix.as_str(), endpoint].concat();
    let mut headers = vec![
        (":method", "POST"),
        (":path", path.as_str()),
        (":authority", facilitator.authority.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ];
    if facilitator.relay {
        headers.push((RELAY_HOLDER, holder));
        headers.extend(call.headers.iter().map(|(name, value)| (*name, value.as_str())));
    }
    let timeout = Duration::from_millis(u64::from(call.timeout_ms));
    hostcalls::dispatch_http_call(&facilitator.cluster, headers, Some(&call.body), Vec::new(), timeout)
}

/// Reads the reply being delivered.
pub(crate) fn capture(num_headers: usize, body_size: usize) -> Result<Captured, Status> {
    if num_headers == 0 {
        return Ok(Captured::Cut);
    }
    let header = |name| hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, name);
    let Some(status) = header(":status")?.as_deref().and_then(parse_status) else {
        return Ok(Captured::Unreachable);
    };
    if header("x-envoy-upstream-service-time")?.is_none() {
        return Ok(if status == 504 { Captured::TimedOut } else { Captured::Unreachable });
    }
    let body = if body_size == 0 {
        Vec::new()
    } else {
        hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size.min(MAX_REPLY_BYTES))?
            .unwrap_or_default()
    };
    Ok(Captured::Reply { status, body })
}

// === impl Captured ===

impl Captured {
    pub(crate) fn as_answer(&self) -> Answer<'_> {
        match self {
            Self::Reply { status, body } => Answer::Reply { status: *status, body },
            Self::TimedOut => Answer::TimedOut,
            Self::Unreachable => Answer::Unreachable,
            Self::Cut => Answer::Cut,
        }
    }
}

/// A three-digit status.
pub(crate) fn parse_status(text: &[u8]) -> Option<u16> {
    match core::str::from_utf8(text).ok()?.parse() {
        Ok(status @ 100..=999) => Some(status),
        _ => None,
    }
}
