//! Proxies behind a DNS name: one source per address.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};

use crate::settings::{DnsName, Proxy};

/// Finds the addresses of a name.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Lookup>);

type Lookup = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// What a name stood for when it was last asked.
#[derive(Debug)]
pub(super) enum Answer {
    /// These addresses.
    Proxies(Vec<Proxy>),
    /// Nobody knows. A name without addresses gives this too.
    Failed(String),
}

/// How long a name may take to resolve.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

// === impl Resolver ===

impl Resolver {
    /// The system's.
    pub(super) fn system() -> Self {
        Self::new(|host, port| {
            async move { tokio::net::lookup_host((host.as_str(), port)).await.map(Iterator::collect) }.boxed()
        })
    }

    pub(super) fn new(
        lookup: impl Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(lookup))
    }

    /// Asks for every name at once.
    pub(super) async fn resolve(&self, names: &[DnsName]) -> Vec<Answer> {
        join_all(names.iter().map(|name| self.resolve_one(name)).collect::<Vec<_>>()).await
    }

    async fn resolve_one(&self, name: &DnsName) -> Answer {
        match tokio::time::timeout(LOOKUP_LIMIT, (self.0)(name.host.clone(), name.port)).await {
            Err(_) => Answer::Failed(format!("no answer within {LOOKUP_LIMIT:?}")),
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Ok(Ok(addresses)) if addresses.is_empty() => Answer::Failed("no address".to_owned()),
            Ok(Ok(addresses)) => Answer::Proxies(proxies(name, &addresses)),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// One proxy per address, of one family only: a host with two addresses would be counted twice.
fn proxies(name: &DnsName, addresses: &[SocketAddr]) -> Vec<Proxy> {
    let is_v4 = addresses.iter().any(SocketAddr::is_ipv4);
    let addresses: BTreeSet<_> = addresses.iter().filter(|address| address.is_ipv4() == is_v4).collect();
    let proxy = |address: &SocketAddr| Proxy {
        name: address.to_string(),
        stats: format!("http://{address}{}", name.path_prefix),
    };
    addresses.into_iter().map(proxy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> DnsName {
        DnsName { host: "envoys".into(), port: 9901, path_prefix: "/admin".into() }
    }

    #[test]
    fn every_address_is_a_proxy_and_one_named_twice_is_one() {
        let addresses = ["10.0.0.2:9901", "10.0.0.1:9901", "10.0.0.2:9901"].map(|text| text.parse().unwrap());
        let expected = ["10.0.0.1:9901", "10.0.0.2:9901"]
            .map(|at| Proxy { name: at.into(), stats: format!("http://{at}/admin") });
        assert_eq!(proxies(&name(), &addresses), expected);
    }

    #[test]
    fn a_host_with_addresses_of_both_families_is_counted_once() {
        let addresses = ["[fd00::1]:9901", "10.0.0.1:9901"].map(|text| text.parse().unwrap());
        let names = |addresses: &[SocketAddr]| -> Vec<String> {
            proxies(&name(), addresses).into_iter().map(|proxy| proxy.name).collect()
        };
        assert_eq!(names(&addresses), ["10.0.0.1:9901"]);
        assert_eq!(names(&addresses[..1]), ["[fd00::1]:9901"]);
    }
}
