//! Whether the gateway is where Traefik is told to look for it. Traefik itself says nothing of a service it does not reach
//! but to the clients it answers 502.

use std::time::Duration;

use farebox_pricing::HttpUrl;
use tokio::net::TcpStream;
use tracing::{info, warn};

use crate::gateway::GatewayState;
use crate::handle::Handle;
use crate::publish::PublishState;

/// How often it is tried, and for how long.
const EVERY: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(3);

/// Tries for ever. The companion may see another network than Traefik does, so a failure is told as what it is.
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
