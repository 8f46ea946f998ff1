//! Waiting for a ledger that cannot be opened yet. The companion tries again and again. Meanwhile the gateway answers
//! with terms and serves free routes, payments are answered 503, and `/readyz` says why. Other proxies keep their rules.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Loader, LoadingParts, Source};
use crate::facilitator::FacilitatorClient;
use crate::gateway::Deployments;
use crate::ledger::{Ledger, LedgerError, LedgerOptions};
use crate::publish::{Publication, Published};
use crate::rules::{self, Readiness};
use crate::settings::{RelaySettings, Settings, Settlement};

/// Pause between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// Opens the ledger, and tries until it works. Returns an error only if waiting does not help.
pub async fn open_ledger(
    settings: &Arc<Settings>,
    relay: &RelaySettings,
    client: &FacilitatorClient,
    gateway: Option<Arc<Deployments>>,
    state: &LoadingParts,
) -> Result<Ledger, LedgerError> {
    let mut selling = JoinSet::new();
    let ledger = loop {
        let options = LedgerOptions {
            retention: relay.retention,
            ..LedgerOptions::settling(settings.facilitator.settle_timeout)
        };
        let error = match open(relay, options, settings.facilitator.settlement).await {
            Ok(ledger) => break ledger,
            Err(
                error @ (LedgerError::Open { .. } | LedgerError::Unreachable { .. } | LedgerError::Failed(_)),
            ) => error,
            Err(error) => return Err(error),
        };
        state.ledger.lock().fails(&error, "; no payment is taken until it can");
        if let (Some(gateway), true) = (&gateway, selling.is_empty()) {
            let readiness = Readiness::start(client.clone());
            let (publications, _) = watch::channel::<Option<Publication>>(None);
            // What was sold before is in the ledger: all may have been.
            let before = Published { protected: vec!["/".to_owned()], ..Published::default() };
            let loader = Loader::new(settings.clone(), state.clone(), readiness, publications, Some(before))
                .with_gateway(Some(gateway.clone()));
            selling.spawn(follow(loader, rules::watch(settings.pricing.clone())));
        }
        tokio::time::sleep(AGAIN).await;
    };
    selling.shutdown().await;
    // Generations and totals come from the ledger. The provisional rules are withdrawn first, so that the companion is
    // not ready in between.
    state.rules.lock().withdraw();
    state.ledger.lock().is_open();
    Ok(ledger)
}

async fn open(
    relay: &RelaySettings,
    options: LedgerOptions,
    settlement: Settlement,
) -> Result<Ledger, LedgerError> {
    let ledger = Ledger::open(&relay.ledger, &relay.companion, options).await?;
    let opened = async {
        ledger.takes_writes().await?;
        ledger.is_settled_by(settlement).await
    };
    if let Err(error) = opened.await {
        ledger.close().await;
        return Err(error);
    }
    Ok(ledger)
}

async fn follow(mut loader: Loader, mut file: rules::Watch) {
    loop {
        tokio::select! {
            candidate = file.next() => loader.reload(Source::File, candidate).await,
            () = tokio::time::sleep(AGAIN) => loader.follow(file.written_since()).await,
        }
    }
}
