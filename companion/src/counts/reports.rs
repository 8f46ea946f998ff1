//! `POST /report`: what filters count, and which rules they enforce.
//!
//! 204 once a report is counted and on disk, or was before; 400 if it cannot be read, 503 if it cannot be counted now:
//! the filter tells both again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use farebox_core::metrics::{Counted, FailureReason, MetricSeries, Received, TupleCounter};
use farebox_core::protocol::RELAY_PROXY;
use tracing::warn;

use super::{CountsParts, DropReason};
use crate::clock::unix_millis;
use crate::ledger::Ledger;

/// Where reports are counted.
#[derive(Debug, Clone)]
struct Reports {
    ledger: Ledger,
    state: CountsParts,
    /// Whether the last report could not be read, which is logged once.
    is_unread: Arc<AtomicBool>,
}

/// What came of the counts of a report.
struct Outcome {
    status: StatusCode,
    /// Payments of it to which the companion gave no answer.
    unheard: u64,
}

/// Largest report.
const MAX_BODY: usize = 1 << 20;

/// The endpoint.
pub fn router(ledger: Ledger, state: CountsParts) -> Router {
    Router::new().route("/report", post(report)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(Reports {
        ledger,
        state,
        is_unread: Arc::default(),
    })
}

async fn report(
    State(reports): State<Reports>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> StatusCode {
    let Some(Received { standing, counted }) = body.ok().and_then(|body| Received::read(&body)) else {
        if !reports.is_unread.swap(true, Ordering::Relaxed) {
            warn!(
                "a report cannot be read, and its filter keeps what it counts: see that filter and companion are of one version"
            );
        }
        return StatusCode::BAD_REQUEST;
    };
    reports.is_unread.store(false, Ordering::Relaxed);
    let Outcome { status, unheard } = match counted {
        Some(counted) => reports.count(counted, standing.generation).await,
        None => Outcome { status: StatusCode::NO_CONTENT, unheard: 0 },
    };
    let proxy = headers.get(RELAY_PROXY).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let lost = reports.state.published.lock().proxies.heard(proxy, &standing, unheard, unix_millis());
    reports.state.counted.lock().drop_more([(DropReason::Lost, lost)]);
    status
}

// === impl Reports ===

impl Reports {
    /// Counts what is alive, and says how much is not.
    async fn count(&self, mut counted: Counted, generation: u64) -> Outcome {
        let later = Outcome { status: StatusCode::SERVICE_UNAVAILABLE, unheard: 0 };
        let ours = self.state.rules.lock().active.as_ref().map(|active| active.generation);
        let counts_money = self.state.ledger.lock().settles_direct;
        // Another companion published them: what they name is not known here yet.
        if ours.is_none_or(|ours| ours < generation) {
            return later;
        }
        let sifted = self.state.counted.lock().sift(&mut counted.changes, counts_money);
        let Some(mut dropped) = sifted else { return later };
        *dropped.entry(DropReason::Malformed).or_default() += counted.malformed;
        match self.ledger.apply(&counted).await {
            Ok(is_new) => {
                if is_new {
                    self.state.counted.lock().drop_more(dropped);
                }
                let unheard = if is_new { unheard(&counted.changes) } else { 0 };
                Outcome { status: StatusCode::NO_CONTENT, unheard }
            }
            Err(error) => {
                self.state.ledger.lock().fails(&error, "");
                later
            }
        }
    }
}

fn unheard(changes: &BTreeMap<MetricSeries, u64>) -> u64 {
    let counter = TupleCounter::PaymentFailed(FailureReason::CompanionUnreachable);
    let of_it =
        changes.iter().filter(|(series, _)| matches!(series, MetricSeries::Tuple(_, of) if *of == counter));
    of_it.map(|(_, by)| *by).fold(0, u64::saturating_add)
}
