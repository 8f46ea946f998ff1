//! One stream's side of the protocol: what was asked for, sent and answered. Pure: requests in, verdicts and
//! the next thing to send out.

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::super::ecds::NAME;

/// What a proxy said about a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It took this version.
    Acknowledged(String),
    /// It refused this version, and why.
    Refused(String, String),
}

/// What one stream wants and has.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    wanted: bool,
    /// The version the proxy has or was sent last.
    offered: Option<String>,
    /// The version that is not offered again.
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
    /// The proxy refused this version on an earlier stream.
    pub(super) fn has_refused(&mut self, version: String) {
        self.refused = Some(version);
    }

    /// Takes a request, which names all that is wanted. One that answers an
    /// older response than the last is stale and says nothing.
    pub(super) fn hear(&mut self, request: &DiscoveryRequest) -> Option<Verdict> {
        let wanted = request.resource_names.iter().any(|name| name == NAME);
        let Some(last) = &self.last else {
            // Nothing was sent on this stream: a nonce is left over from another one, and the version is what
            // the proxy runs.
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
        // A request that changes names repeats the nonce with the version in use.
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

    /// The nonce under which this version is to be sent now; `None` if the proxy does not want it, has it or
    /// has refused it.
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
