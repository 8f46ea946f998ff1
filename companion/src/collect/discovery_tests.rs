use std::collections::BTreeSet;
use std::net::SocketAddr;

use farebox_core::metrics::TupleCounter;
use futures_util::future::FutureExt;

use super::*;
use crate::aggregate::{Aggregate, Keys};
use crate::testing::{FakeEnvoy, tuple};

/// What the only name stands for; `None` while the resolver is away.
type Addresses = Arc<Mutex<Option<Vec<SocketAddr>>>>;

fn address(envoy: &FakeEnvoy) -> SocketAddr {
    envoy.url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn requests() -> HostSeries {
    HostSeries::Tuple(tuple("ns", "a", 0), TupleCounter::PaymentPresented)
}

/// A collector of the proxies behind one name, and of those listed.
fn collector(listed: &[Proxy]) -> (Collector, Shared, Addresses) {
    let addresses: Addresses = Arc::new(Mutex::new(Some(Vec::new())));
    let mut aggregate = Aggregate::default();
    aggregate.apply(1, Keys { tuples: [tuple("ns", "a", 0)].into(), offers: [].into() });
    let states = listed.iter().map(|proxy| ProxyState::new(proxy.name.clone(), proxy.stats.clone()));
    let state = Shared::new(State::new("pricing.yaml".into(), states.collect(), aggregate));
    let name = DnsName { host: "envoys".into(), port: 9901, path_prefix: String::new() };
    let mut collector = Collector::new(listed.to_vec(), state.clone()).unwrap().discovering(vec![name]);
    let known = addresses.clone();
    collector.resolver = Resolver::new(move |host, port| {
        assert_eq!((host.as_str(), port), ("envoys", 9901));
        let found = known.lock().unwrap().clone();
        async move { found.ok_or_else(|| std::io::Error::other("the resolver is away")) }.boxed()
    });
    (collector, state, addresses)
}

async fn round(collector: &Collector) {
    collector.discover().await;
    collector.collect().await;
}

fn total(state: &Shared) -> u128 {
    state.counted().totals().tuples[&tuple("ns", "a", 0)].get(TupleCounter::PaymentPresented)
}

fn read(collector: &Collector) -> BTreeSet<String> {
    collector.targets().iter().map(|target| target.proxy.name.clone()).collect()
}

#[tokio::test]
async fn every_address_of_a_name_is_read_and_named_by_it() {
    let envoys = [FakeEnvoy::start().await, FakeEnvoy::start().await, FakeEnvoy::start().await];
    let (collector, state, addresses) = collector(&[]);
    *addresses.lock().unwrap() = Some(envoys[..2].iter().map(address).collect());
    envoys.iter().for_each(|envoy| envoy.count(&requests(), 5));
    round(&collector).await;
    assert_eq!(total(&state), 10);
    *addresses.lock().unwrap() = Some(envoys.iter().map(address).collect());
    round(&collector).await;
    assert_eq!(total(&state), 15);
    let names: BTreeSet<_> = envoys.iter().map(|envoy| address(envoy).to_string()).collect();
    assert_eq!(read(&collector), names);
    assert_eq!(state.lock().proxies.iter().map(|known| known.name.clone()).collect::<BTreeSet<_>>(), names);
}

#[tokio::test]
async fn one_that_left_its_name_is_read_as_long_as_it_answers_and_its_values_stay() {
    let (stays, leaves) = (FakeEnvoy::start().await, FakeEnvoy::start().await);
    let (collector, state, addresses) = collector(&[]);
    *addresses.lock().unwrap() = Some(vec![address(&stays), address(&leaves)]);
    stays.count(&requests(), 5);
    leaves.count(&requests(), 5);
    round(&collector).await;
    *addresses.lock().unwrap() = Some(vec![address(&stays)]);
    leaves.count(&requests(), 7);
    round(&collector).await;
    assert_eq!((total(&state), read(&collector).len()), (12, 2));
    leaves.set(|answers| answers.is_gone = true);
    round(&collector).await;
    assert_eq!((total(&state), read(&collector).len()), (12, 1));
    let gone = address(&leaves).to_string();
    let known = state.lock().proxies.iter().find(|known| known.name == gone).cloned().unwrap();
    assert_eq!((known.push, known.is_up(crate::state::unix_seconds())), (PushState::Idle, Some(false)));
    // The same process again: nothing is counted twice.
    leaves.set(|answers| answers.is_gone = false);
    leaves.count(&requests(), 9);
    *addresses.lock().unwrap() = Some(vec![address(&stays), address(&leaves)]);
    round(&collector).await;
    assert_eq!((total(&state), read(&collector).len()), (14, 2));
    assert_eq!(state.lock().proxies.len(), 2);
}

#[tokio::test]
async fn a_resolver_that_is_away_takes_no_proxy_with_it() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state, addresses) = collector(&[]);
    *addresses.lock().unwrap() = Some(vec![address(&envoy)]);
    envoy.count(&requests(), 5);
    round(&collector).await;
    *addresses.lock().unwrap() = None;
    envoy.count(&requests(), 6);
    round(&collector).await;
    assert_eq!(total(&state), 6);
    // Neither is one given up that just missed a reading meanwhile.
    envoy.set(|answers| answers.is_gone = true);
    round(&collector).await;
    assert_eq!(read(&collector).len(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_listed_and_behind_a_name_is_counted_once() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state, addresses) =
        collector(&[Proxy { name: "envoy-0".into(), stats: envoy.url.clone() }]);
    *addresses.lock().unwrap() = Some(vec![address(&envoy)]);
    envoy.count(&requests(), 5);
    round(&collector).await;
    assert_eq!(total(&state), 5);
    assert_eq!(read(&collector), BTreeSet::from(["envoy-0".to_owned()]));
}

#[tokio::test]
async fn a_proxy_that_has_a_stream_for_rules_is_read_under_its_own_name_until_it_is_gone() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state, _) = collector(&[]);
    let at = address(&envoy);
    let collector = collector.announced_at(Some(at.port()));
    envoy.count(&requests(), 5);
    round(&collector).await;
    assert_eq!((total(&state), read(&collector).len()), (0, 0));
    state.lock().discovery.connected("envoy-7", at.ip(), 100);
    round(&collector).await;
    assert_eq!((total(&state), read(&collector)), (5, BTreeSet::from(["envoy-7".to_owned()])));
    // Its stream broke off; it still counts, and is read until it stops answering.
    state.lock().discovery.disconnected("envoy-7", at.ip(), 110);
    envoy.count(&requests(), 6);
    round(&collector).await;
    assert_eq!(total(&state), 6);
    envoy.set(|answers| answers.is_gone = true);
    round(&collector).await;
    assert_eq!((total(&state), read(&collector).len()), (6, 0));
}

#[tokio::test]
async fn a_proxy_that_is_listed_and_has_a_stream_for_rules_is_counted_once() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state, _) = collector(&[Proxy { name: "envoy-0".into(), stats: envoy.url.clone() }]);
    let at = address(&envoy);
    let collector = collector.announced_at(Some(at.port()));
    state.lock().discovery.connected("envoy-7", at.ip(), 100);
    envoy.count(&requests(), 5);
    round(&collector).await;
    assert_eq!((total(&state), read(&collector)), (5, BTreeSet::from(["envoy-0".to_owned()])));
}

#[tokio::test]
async fn a_proxy_that_joins_answers_for_the_last_push() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state, addresses) = collector(&[]);
    let other = ProxyState::new("listed".into(), String::new()).joining(Some(7));
    state.lock().proxies.push(other);
    *addresses.lock().unwrap() = Some(vec![address(&envoy)]);
    envoy.set(|answers| answers.generation = Some(7));
    round(&collector).await;
    let state = state.lock();
    let found = state.proxies.iter().find(|known| known.name == address(&envoy).to_string()).unwrap();
    assert_eq!(found.push, crate::publish::PushState::Confirmed);
}
