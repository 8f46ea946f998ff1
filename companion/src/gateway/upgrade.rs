//! Upgraded connections: bytes in both directions after an upstream has switched protocols.
//!
//! Only WebSocket is possible, because other protocols, such as HTTP/2, could carry further requests
//! past the rules.

use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Method, Request, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tracing::debug;

use super::headers::has_token;

const WEBSOCKET: &str = "websocket";

/// Whether a request asks only for a WebSocket.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && is_websocket(request.headers())
}

/// Whether a head says that its connection becomes a WebSocket.
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let only = headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    only && headers.get_all(UPGRADE).iter().count() == 1 && has_token(headers, &CONNECTION, "upgrade")
}

/// Restores the headers that request an upgrade.
pub(super) fn restore(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Copies until one side ends.
pub(super) async fn tunnel(client: OnUpgrade, upstream: OnUpgrade) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => {
            debug!("an upgrade broke off: {error}");
            return;
        }
    };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    if let Err(error) = copy_bidirectional(&mut client, &mut upstream).await {
        debug!("an upgraded connection broke: {error}");
    }
}
