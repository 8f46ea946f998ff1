//! The state of the development facilitator.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use farebox_core::evm::Amount;
use serde::Serialize;
use serde_json::Value;

use crate::ledger::{Balance, Ledger, SettledPayment};
use crate::mode::{Endpoint, Mode};

/// Calls kept for `/dev/record`; older ones are forgotten.
const MAX_CALLS: usize = 20_000;

/// The development facilitator. Clones share everything.
#[derive(Debug, Clone)]
pub struct Facilitator(Arc<Mutex<State>>);

/// The state behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    failures: HashMap<Endpoint, Failure>,
    calls: VecDeque<Call>,
    total: u64,
    /// Transactions of payments answered as pending once.
    pub(crate) pending: HashSet<String>,
}

#[derive(Debug)]
struct Failure {
    mode: Mode,
    /// Calls left; `None` for all of them.
    left: Option<u64>,
    /// How all later calls fail.
    then: Mode,
}

/// One call of the facilitator API.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Call {
    pub(crate) operation: Endpoint,
    /// Unix milliseconds.
    pub(crate) at: u64,
    /// The mode of failure, `none` for an honest answer.
    pub(crate) mode: String,
    /// The outcome: `valid`, `settled 0x…`, `invalid: <code>` or similar.
    pub(crate) outcome: String,
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub(crate) body: String,
    /// The body as JSON, `null` if it is not JSON.
    pub(crate) json: Value,
}

/// The answer of `/dev/record`.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    /// Number of calls since the start or the last reset, also of those no longer listed.
    total: u64,
    calls: Vec<Call>,
    balances: Vec<Balance>,
    settled: Vec<SettledPayment>,
}

// === impl Facilitator ===

impl Facilitator {
    /// Makes a facilitator where every payer owns `balance` of every asset. `failures` stay until they are
    /// changed.
    pub fn new(balance: Amount, failures: impl IntoIterator<Item = (Endpoint, Mode)>) -> Self {
        let failure = |mode| Failure { mode, left: None, then: Mode::Honest };
        let failures = failures.into_iter().map(|(endpoint, mode)| (endpoint, failure(mode)));
        Self(Arc::new(Mutex::new(State {
            ledger: Ledger::new(balance),
            failures: failures.collect(),
            calls: VecDeque::new(),
            total: 0,
            pending: HashSet::new(),
        })))
    }

    /// Runs `work` on the state. `work` must not wait, and must leave the state consistent.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl State ===

impl State {
    /// The mode of the next call of the endpoint. Counts the call.
    pub(crate) fn next_mode(&mut self, endpoint: Endpoint) -> Mode {
        let Some(failure) = self.failures.get_mut(&endpoint) else { return Mode::Honest };
        match &mut failure.left {
            Some(0) => failure.then.clone(),
            Some(left) => {
                *left -= 1;
                failure.mode.clone()
            }
            None => failure.mode.clone(),
        }
    }

    /// Sets how the next `left` calls of the endpoint fail, and how later calls fail.
    pub(crate) fn fail(&mut self, endpoint: Endpoint, mode: Mode, left: Option<u64>, then: Mode) {
        self.failures.insert(endpoint, Failure { mode, left, then });
    }

    pub(crate) fn note(&mut self, operation: Endpoint, mode: &Mode, outcome: String, body: &[u8]) {
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.total += 1;
        self.calls.push_back(Call {
            operation,
            at: unix_ms(),
            mode: mode.to_string(),
            outcome,
            body: String::from_utf8_lossy(body).into_owned(),
            json: serde_json::from_slice(body).unwrap_or(Value::Null),
        });
    }

    pub(crate) fn record(&self) -> Record {
        Record {
            total: self.total,
            calls: self.calls.iter().cloned().collect(),
            balances: self.ledger.balances(),
            settled: self.ledger.settled(),
        }
    }

    pub(crate) fn reset(&mut self) {
        self.ledger.reset();
        self.failures.clear();
        self.calls.clear();
        self.pending.clear();
        self.total = 0;
    }
}

/// Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
