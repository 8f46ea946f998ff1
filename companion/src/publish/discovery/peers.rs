//! Where the proxies of the discovery channel are: their statistics can be read there.

use std::net::{IpAddr, SocketAddr};

use crate::settings::Proxy;

/// The addresses streams came from, in the order in which they were first seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Peers(Vec<Peer>);

/// One proxy at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    /// The id in its bootstrap.
    node: String,
    at: IpAddr,
    /// Its name as a source. It stays, or the same process would be counted under two names.
    name: String,
    streams: usize,
}

/// Addresses that are remembered; of more, the oldest without a stream are forgotten.
const MAX_PEERS: usize = 1000;

// === impl Peers ===

impl Peers {
    /// A stream began. Two proxies of one id, which is a mistake in a bootstrap, are told apart by address.
    pub(super) fn opened(&mut self, node: &str, at: IpAddr) {
        if let Some(peer) = self.find(node, at) {
            peer.streams += 1;
            return;
        }
        self.0.retain(|peer| peer.streams > 0 || peer.name != node);
        if self.0.len() >= MAX_PEERS
            && let Some(oldest) = self.0.iter().position(|peer| peer.streams == 0)
        {
            self.0.remove(oldest);
        }
        let is_taken = self.0.iter().any(|peer| peer.name == node);
        let name = if is_taken { format!("{node}@{at}") } else { node.to_owned() };
        self.0.push(Peer { node: node.to_owned(), at, name, streams: 1 });
    }

    /// A stream ended.
    pub(super) fn closed(&mut self, node: &str, at: IpAddr) {
        if let Some(peer) = self.find(node, at) {
            peer.streams = peer.streams.saturating_sub(1);
        }
    }

    /// The proxies that have a stream, with their statistics at this port.
    pub(super) fn at_port(&self, port: u16) -> Vec<Proxy> {
        let connected = self.0.iter().filter(|peer| peer.streams > 0);
        let proxy = |peer: &Peer| Proxy {
            name: peer.name.clone(),
            stats: format!("http://{}", SocketAddr::new(peer.at, port)),
        };
        connected.map(proxy).collect()
    }

    fn find(&mut self, node: &str, at: IpAddr) -> Option<&mut Peer> {
        self.0.iter_mut().find(|peer| peer.node == node && peer.at == at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(peers: &Peers) -> Vec<(String, String)> {
        peers.at_port(9901).into_iter().map(|proxy| (proxy.name, proxy.stats)).collect()
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_proxy_is_a_source_at_its_address_while_it_has_a_stream() {
        let mut peers = Peers::default();
        peers.opened("envoy-a", at("10.0.0.1"));
        peers.opened("envoy-a", at("10.0.0.1"));
        peers.opened("envoy-b", at("fd00::2"));
        let a = ("envoy-a".to_owned(), "http://10.0.0.1:9901".to_owned());
        let b = ("envoy-b".to_owned(), "http://[fd00::2]:9901".to_owned());
        assert_eq!(names(&peers), [a.clone(), b.clone()]);
        peers.closed("envoy-a", at("10.0.0.1"));
        assert_eq!(names(&peers), [a, b.clone()]);
        peers.closed("envoy-a", at("10.0.0.1"));
        assert_eq!(names(&peers), [b]);
    }

    #[test]
    fn a_proxy_that_moved_keeps_its_name_and_two_of_one_id_do_not_share_it() {
        let mut peers = Peers::default();
        peers.opened("envoy", at("10.0.0.1"));
        peers.opened("envoy", at("10.0.0.2"));
        let two = [("envoy", "http://10.0.0.1:9901"), ("envoy@10.0.0.2", "http://10.0.0.2:9901")];
        assert_eq!(names(&peers), two.map(|(name, stats)| (name.to_owned(), stats.to_owned())));
        peers.closed("envoy", at("10.0.0.1"));
        peers.closed("envoy", at("10.0.0.2"));
        peers.opened("envoy", at("10.0.0.2"));
        assert_eq!(names(&peers)[0].0, "envoy@10.0.0.2", "a name is kept over a reconnection");
        peers.opened("envoy", at("10.0.0.3"));
        assert_eq!(names(&peers)[1], ("envoy".to_owned(), "http://10.0.0.3:9901".to_owned()));
    }

    #[test]
    fn no_more_addresses_are_remembered_than_there_are_places() {
        let mut peers = Peers::default();
        for number in 0..2 * MAX_PEERS {
            let name = format!("envoy-{number}");
            peers.opened(&name, at("10.0.0.1"));
            peers.closed(&name, at("10.0.0.1"));
        }
        assert_eq!(peers.0.len(), MAX_PEERS);
    }
}
