//! Calls to the facilitator and to the companion.
//!
//! Every call is made in the name of the filter, not of a stream: Envoy drops the call of a stream that is gone, and
//! then there is no reply to be heard. See [`crate::filter_name`].
//!
//! Envoy answers a call that failed with a page of its own, status and body included, so a status alone
//! says nothing. A reply that really came from the facilitator carries `x-envoy-upstream-service-time`,
//! which Envoy's router puts on every upstream response and on none of its own pages. A reply that broke
//! off after its head has no headers at all, and reading any then kills the VM.

use std::time::Duration;

use farebox_core::exchange::Call;
use farebox_core::protocol::{COMPANION_CLUSTER, CallEnd, Operation, RELAY_PROXY};
use farebox_core::rules::RuleSet;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, Status};

use crate::filter_name;
use crate::identity::Identity;

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

/// Who calls whom.
pub(crate) struct Caller<'a> {
    /// Of whom is called.
    pub(crate) cluster: &'a str,
    authority: &'a str,
    path_prefix: &'a str,
    /// It is the companion, which is told who calls.
    is_companion: bool,
    pub(crate) identity: &'a Identity,
    /// Of the rules in force.
    pub(crate) generation: u64,
    /// Of the rules in force.
    pub(crate) hash: &'a str,
    /// Context of the filter.
    pub(crate) root: u32,
    /// Context for which the call is made, which is the effective one again after it.
    pub(crate) context: u32,
}

/// Of calls no stream waits for: a connection must not be held for ever.
pub(crate) const CALL_TIMEOUT_MS: u32 = 5_000;

// === impl Caller ===

impl<'a> Caller<'a> {
    /// Calls whoever settles; `None` if the rules name nobody.
    pub(crate) fn to_facilitator(
        rules: &'a RuleSet,
        identity: &'a Identity,
        root: u32,
        context: u32,
    ) -> Option<Self> {
        let facilitator = rules.facilitator.as_ref()?;
        Some(Self {
            cluster: &facilitator.cluster,
            authority: &facilitator.authority,
            path_prefix: &facilitator.path_prefix,
            is_companion: facilitator.relay,
            identity,
            generation: rules.generation,
            hash: &rules.hash,
            root,
            context,
        })
    }

    /// Calls the companion: where it relays, or in its own cluster.
    pub(crate) fn to_companion(rules: &'a RuleSet, identity: &'a Identity, root: u32, context: u32) -> Self {
        let relay = Self::to_facilitator(rules, identity, root, context).filter(|it| it.is_companion);
        relay.unwrap_or(Self {
            cluster: COMPANION_CLUSTER,
            authority: COMPANION_CLUSTER,
            path_prefix: "",
            is_companion: true,
            identity,
            generation: rules.generation,
            hash: &rules.hash,
            root,
            context,
        })
    }

    /// Sends a call; the token comes back with its reply. An error means that nothing was sent and that no
    /// reply will come: the cluster is unknown or has no host.
    pub(crate) fn dispatch(&self, call: &Call) -> Result<u32, Status> {
        let endpoint = match call.operation {
            Operation::Verify => "/verify",
            Operation::Settle => "/settle",
        };
        self.send(endpoint, &call.body, &call.headers, call.timeout_ms)
    }

    /// Tells a relay how requests ended for their payments, or that they go on.
    pub(crate) fn over(&self, lines: &[u8]) -> Result<u32, Status> {
        self.send("/over", lines, &[], CALL_TIMEOUT_MS)
    }

    /// Reports to the companion.
    pub(crate) fn report(&self, report: &[u8]) -> Result<u32, Status> {
        self.send("/report", report, &[], CALL_TIMEOUT_MS)
    }

    fn send(
        &self,
        endpoint: &str,
        body: &[u8],
        more: &[(&'static str, String)],
        timeout_ms: u32,
    ) -> Result<u32, Status> {
        let path = [self.path_prefix, endpoint].concat();
        let mut headers = vec![
            (":method", "POST"),
            (":path", path.as_str()),
            (":authority", self.authority),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        if self.is_companion {
            headers.push((RELAY_PROXY, &self.identity.proxy));
            headers.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
        }
        let timeout = Duration::from_millis(u64::from(timeout_ms));
        filter_name::take(self.root, self.context, || {
            hostcalls::dispatch_http_call(self.cluster, headers, Some(body), Vec::new(), timeout)
        })
    }
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
    pub(crate) fn as_end(&self) -> CallEnd<'_> {
        match self {
            Self::Reply { status, body } => CallEnd::Reply { status: *status, body },
            Self::TimedOut => CallEnd::TimedOut,
            Self::Unreachable => CallEnd::Unreachable,
            Self::Cut => CallEnd::Cut,
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
