//! Who made a response and who ended a stream, from Envoy's own words for it.
//!
//! Envoy sets `response.code_details` before a response head reaches the filters: `via_upstream` for an
//! upstream's response, another word for one the proxy or a neighbouring filter made. Seen on Envoy 1.40:
//! `no_healthy_upstream`, `cluster_not_found`, `upstream_reset_before_response_started{…}`,
//! `response_timeout`, `route_not_found`, `direct_response`; none at all for a reply of a wasm filter.

use farebox_core::exchange::ResponseOrigin;
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

/// Who made the response whose head is being handled.
pub(crate) fn of_response() -> Result<ResponseOrigin, Status> {
    Ok(classify(&code_details()?))
}

/// Whether the upstream broke off a body after its head. Readable when the stream ends. A timeout of the
/// proxy and a client that went away are not that: the client can bring about both, and what is broken is
/// served again.
pub(crate) fn upstream_broke_off() -> Result<bool, Status> {
    Ok(code_details()?.starts_with(b"upstream_reset_after_response_started"))
}

fn code_details() -> Result<Vec<u8>, Status> {
    Ok(hostcalls::get_property(vec!["response", "code_details"])?.unwrap_or_default())
}

/// A response nobody failed to make, such as a configured `direct_response` or a hit of a cache listed
/// after this filter, counts as the upstream's: it is the service the client paid for.
fn classify(code_details: &[u8]) -> ResponseOrigin {
    const UNAVAILABLE: [&[u8]; 5] = [
        b"upstream_reset_before_response_started",
        b"no_healthy_upstream",
        b"cluster_not_found",
        b"maintenance_mode",
        b"route_not_found",
    ];
    const TIMEOUT: [&[u8]; 7] = [
        b"response_timeout",
        b"upstream_per_try",
        b"upstream_max_stream_duration_reached",
        b"request_overall_timeout",
        b"stream_idle_timeout",
        b"max_duration_timeout",
        b"duration_timeout",
    ];
    let starts_with_any = |words: &[&[u8]]| words.iter().any(|word| code_details.starts_with(word));
    if starts_with_any(&UNAVAILABLE) {
        ResponseOrigin::ProxyUnavailable
    } else if starts_with_any(&TIMEOUT) {
        ResponseOrigin::ProxyTimeout
    } else {
        ResponseOrigin::Upstream
    }
}
