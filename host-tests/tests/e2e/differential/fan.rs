//! One upstream in front of three: each request is sent on, byte for byte, to each reader of paths, and the answer says
//! how each of them read it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use farebox_testkit::stack::{Reader, Readers};
use serde_json::Value;

use crate::common::{Upstream, exchange, text};

/// How the readers read a request.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The line that arrived.
    pub(super) line: String,
    /// The 200 answer of each reader; `None` for another status.
    pub(super) taken_for: Vec<(Reader, Option<String>)>,
}

/// The upstream, with all its requests.
pub(super) struct Fan {
    pub(super) upstream: Upstream,
    readings: Arc<Mutex<Vec<Reading>>>,
}

// === impl Reading ===

impl Reading {
    /// Of a request with this line and these bytes.
    pub(super) fn of(line: String, head: &[u8], readers: &[(Reader, SocketAddr)]) -> Self {
        let ask = |address| {
            let answer = exchange(address, head);
            (answer.status == 200).then(|| text(&answer.body))
        };
        let taken_for = readers.iter().map(|(reader, address)| (*reader, ask(*address))).collect();
        Self { line, taken_for }
    }

    /// The highest price of the places that readers served, atomic units.
    pub(super) fn price(&self) -> u64 {
        let prices = self.taken_for.iter().filter_map(|(_, what)| what.as_ref()?.parse().ok());
        prices.max().unwrap_or(0)
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` was taken for {:?}", self.line, self.taken_for)
    }
}

// === impl Fan ===

impl Fan {
    pub(super) fn before(readers: &Readers) -> Self {
        let addresses = readers.addresses();
        let readings = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&readings);
        let upstream = Upstream::start(move |arrived| {
            let reading = Reading::of(arrived.line, &arrived.head, &addresses);
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
            Value::Null.to_string()
        });
        Self { upstream, readings }
    }

    /// The readings since the last call.
    pub(super) fn take(&self) -> Vec<Reading> {
        std::mem::take(&mut *self.readings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
