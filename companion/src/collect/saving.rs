//! Saving the totals after each round of readings that changed something, before anybody sees them.
//!
//! Where they cannot be saved, they are shown all the same: nobody is helped by numbers that stand still. The
//! companion is not ready then, says why, and writes all that is due as soon as it can. Only if it ended before
//! that, and a proxy as well, would totals be lower in its next run than they were seen.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::aggregate::RowKey;
use crate::ledger::TotalsOf;
use crate::state::Shared;

/// Saves the totals of a state.
#[derive(Debug)]
pub(super) struct Saver {
    totals: TotalsOf,
    /// Rows that are not saved yet; locked while they are being written.
    due: Mutex<BTreeMap<RowKey, Option<String>>>,
}

/// How long a reader of `/metrics` waits for its values to be saved. Later it sees those before.
const ON_DEMAND_LIMIT: Duration = Duration::from_millis(500);

// === impl Saver ===

impl Saver {
    pub(super) fn new(totals: TotalsOf) -> Self {
        Self { totals, due: Mutex::default() }
    }

    /// Saves what changed, and shows it. Loses nothing if it is dropped half-way: what is due stays so, and to
    /// write a row twice does no harm.
    pub(super) async fn save(&self, state: &Shared) {
        let mut due = self.due.lock().await;
        let taken = state.counted().take_changes();
        let taken = taken.map(|mut taken| {
            due.extend(std::mem::take(&mut taken.changes));
            taken
        });
        if !due.is_empty() {
            let saved = self.totals.save(due.iter()).await;
            if saved.is_ok() {
                due.clear();
            }
            note(state, saved.err().map(|error| format!("the totals cannot be saved: {error}")));
        }
        if let Some(taken) = taken {
            state.counted().show(taken);
        }
    }

    /// For a reader who will not wait long.
    pub(super) async fn save_on_demand(&self, state: &Shared) {
        let _ = tokio::time::timeout(ON_DEMAND_LIMIT, self.save(state)).await;
    }
}

/// Logs what is new of an error.
fn note(state: &Shared, error: Option<String>) {
    let mut state = state.lock();
    if state.totals_error == error {
        return;
    }
    match &error {
        Some(error) => warn!("{error}"),
        None => info!("the totals are saved again"),
    }
    state.totals_error = error;
}
