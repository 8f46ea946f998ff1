//! One stream's side of the protocol, without I/O. Inputs are requests; outputs are verdicts and the next
//! response to send.

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::super::ecds::NAME;

/// A proxy's answer to a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The proxy took this version.
    Acknowledged(String),
    /// The proxy refused this version, with the reason.
    Refused(String, String),
}

/// The state of one stream.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    wanted: bool,
    /// The version the proxy has or was sent last.
    offered: Option<String>,
    /// The refused version, which is not sent again.
    refused: Option<String>,
    /// The last response.
    last: Option<Sent>,
    responses: u64,
}

#[derive(Debug)]
struct Sent {
    nonce: String,
    version: String,
    is_answered: bool,
}

// === impl Subscription ===

impl Subscription {
    /// Notes that the proxy refused this version on an earlier stream.
    pub(super) fn has_refused(&mut self, version: String) {
        self.refused = Some(version);
    }

    /// Takes a request, which names all wanted resources. A request that answers an older response than the
    /// last one is stale and is ignored.
    pub(super) fn hear(&mut self, request: &DiscoveryRequest) -> Option<Verdict> {
        let wanted = request.resource_names.iter().any(|name| name == NAME);
        let Some(last) = &self.last else {
            // Nothing was sent on this stream, so a nonce is from another stream, and the version is the one
            // that the proxy runs.
            self.wanted = wanted;
            self.offered = Some(request.version_info.clone()).filter(|version| !version.is_empty());
            return None;
        };
        if request.response_nonce != last.nonce {
            return None;
        }
        self.wanted = wanted;
        if !wanted {
            self.offered = None;
        }
        // A request that only changes names repeats the nonce with the version in use.
        let takes = request.version_info == last.version;
        let last = self.last.as_mut().filter(|last| !last.is_answered)?;
        let version = last.version.clone();
        if let Some(error) = &request.error_detail {
            last.is_answered = true;
            self.refused = Some(version.clone());
            return Some(Verdict::Refused(version, error.message.clone()));
        }
        takes.then(|| {
            last.is_answered = true;
            Verdict::Acknowledged(version)
        })
    }

    /// The nonce for sending this version now; `None` if the proxy does not want it, has it or has refused
    /// it.
    pub(super) fn due(&mut self, version: &str) -> Option<String> {
        let known = [&self.offered, &self.refused];
        if !self.wanted || known.into_iter().any(|known| known.as_deref() == Some(version)) {
            return None;
        }
        self.responses += 1;
        let nonce = format!("{version}-{}", self.responses);
        self.offered = Some(version.to_owned());
        self.last = Some(Sent { nonce: nonce.clone(), version: version.to_owned(), is_answered: false });
        Some(nonce)
    }
}
