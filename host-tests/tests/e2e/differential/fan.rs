//! One upstream that is three: what arrives is sent on, byte for byte, to each reader of paths, and the answer says what
//! each took it for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use farebox_testkit::stack::{Reader, Readers};
use serde_json::Value;

use crate::common::{Upstream, exchange, text};

/// What the readers took a request for.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The line that arrived.
    pub(super) line: String,
    /// What each answered with 200; nothing where it answered something else.
    pub(super) taken_for: Vec<(Reader, Option<String>)>,
}

/// The upstream, and all that it was asked.
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

    /// The highest price of what it was taken for, atomic units.
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

    /// What was read since the last time.
    pub(super) fn take(&self) -> Vec<Reading> {
        std::mem::take(&mut *self.readings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
