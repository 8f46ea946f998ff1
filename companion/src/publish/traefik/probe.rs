//! Checking that the gateway is at the address that Traefik gets for it. If Traefik does not reach a service, it only
//! answers clients 502 and does not report that.

use std::time::Duration;

use farebox_pricing::HttpUrl;
use tokio::net::TcpStream;
use tracing::{info, warn};

use crate::gateway::GatewayState;
use crate::handle::Handle;
use crate::publish::PublishState;

/// Interval of the tries, and the time limit of each.
const EVERY: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(3);

/// Tries again and again. Never returns. The companion may be in another network than Traefik, so a message says only that
/// the companion itself does not reach the gateway.
pub(super) async fn keep_looking(
    url: &HttpUrl,
    gateway: &Handle<Option<GatewayState>>,
    state: &Handle<PublishState>,
) {
    loop {
        note(gateway, state, connect(url).await.err());
        tokio::time::sleep(EVERY).await;
    }
}

async fn connect(gateway: &HttpUrl) -> Result<(), String> {
    let host = gateway.host.trim_start_matches('[').trim_end_matches(']');
    let error = match tokio::time::timeout(LIMIT, TcpStream::connect((host, gateway.effective_port()))).await
    {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {LIMIT:?}"),
    };
    Err(format!(
        "traefik.gateway: the companion does not reach {gateway} itself ({error}), and no request has come to the gateway; \
         name its address as Traefik reaches it, and listen there (gateway.listen)"
    ))
}

fn note(gateway: &Handle<Option<GatewayState>>, state: &Handle<PublishState>, error: Option<String>) {
    let was_reached = gateway.lock().as_ref().is_some_and(|gateway| gateway.deployments.was_reached());
    let mut state = state.lock();
    let known = state.traefik.get_or_insert_default();
    let error = error.filter(|_| !was_reached);
    match (&known.gateway_error, &error) {
        (None, Some(error)) => warn!("{error}"),
        (Some(_), None) => info!("the gateway is reached where Traefik looks for it"),
        _ => {}
    }
    (known.gateway_error, known.gateway_tried) = (error, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_named_with_what_to_do() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = HttpUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        assert_eq!(connect(&url).await, Ok(()));
        drop(listener);
        let error = connect(&url).await.unwrap_err();
        assert!(
            error.starts_with("traefik.gateway: the companion does not reach http://127.0.0.1:"),
            "{error}"
        );
        assert!(error.contains("refused") && error.ends_with("(gateway.listen)"), "{error}");
        let nowhere = HttpUrl::parse("http://gateway.invalid:9405").unwrap();
        assert!(connect(&nowhere).await.is_err());
    }
}
