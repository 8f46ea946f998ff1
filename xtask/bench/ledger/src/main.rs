//! Times the ledger on a database: `farebox-bench-ledger URL WRITERS MILLISECONDS`.
//!
//! Each writer reserves one payment after the other for this time, all for the same offer, and then settles one
//! after the other: the permission, and the record with its counters. The answer is one JSON object on standard
//! output: how many of each a second.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use farebox::ledger::{Begun, Claim, Ledger, Outcome, PaymentKey, Reservation};
use farebox_core::rules::Tuple;
use serde_json::json;
use tokio::task::JoinSet;

const NOW: u64 = 1_800_000_000_000;
const LEASE: Duration = Duration::from_secs(600);
/// As long as the call of a real payment.
const CALL_BYTES: usize = 1_500;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, writers, millis] = &arguments[..] else {
        anyhow::bail!("usage: farebox-bench-ledger URL WRITERS MILLISECONDS")
    };
    let (writers, turn) = (writers.parse()?, Duration::from_millis(millis.parse()?));
    let ledger = Ledger::open(url, "bench").await?;
    // The first statements of a connection are planned, and a file grows.
    in_turn(&ledger, 0, writers, turn / 10, reserve).await?;
    let reservations = in_turn(&ledger, 1, writers, turn, reserve).await?;
    let settlements = in_turn(&ledger, 2, writers, turn, settle).await?;
    println!("{}", json!({ "reservations": reservations, "settlements": settlements }));
    ledger.close().await;
    Ok(())
}

/// How many a second all writers together do.
async fn in_turn<F>(
    ledger: &Ledger,
    turn: u32,
    writers: usize,
    length: Duration,
    act: impl Fn(Ledger, Claim) -> F + Send + Sync + Copy + 'static,
) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let mut done = 0_u32;
            while started.elapsed() < length {
                act(ledger.clone(), claim(turn, writer, done)).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut all = 0;
    while let Some(done) = tasks.join_next().await {
        all += done.context("a writer ended")??;
    }
    Ok(f64::from(all) / started.elapsed().as_secs_f64())
}

async fn reserve(ledger: Ledger, claim: Claim) -> Result<()> {
    let reserved = ledger.reserve(&claim, NOW, LEASE).await?;
    ensure!(reserved == Reservation::Fresh, "{reserved:?}");
    Ok(())
}

async fn settle(ledger: Ledger, claim: Claim) -> Result<()> {
    let begun = ledger.begin_settlement(&claim, &"x".repeat(CALL_BYTES), NOW, LEASE).await?;
    ensure!(begun == Begun::Call { again: false }, "{begun:?}");
    let outcome = Outcome::Settled { transaction: format!("0x{:064x}", 1) };
    Ok(ledger.finish(&claim.key, &outcome, true, NOW, NOW).await?)
}

/// Payments are told apart by their nonces, and those of several runs on one database by their payers.
fn claim(turn: u32, writer: usize, number: u32) -> Claim {
    Claim {
        key: PaymentKey {
            network: "eip155:84532".to_owned(),
            contract: format!("0x{:040x}", 1),
            payer: format!("0x{:020x}{writer:020x}", std::process::id()),
            nonce: format!("0x{turn:032x}{number:032x}"),
        },
        holder: "bench".to_owned(),
        attempt: String::new(),
        tuple: Tuple {
            offer_namespace: "bench".to_owned(),
            offer_name: "bench".to_owned(),
            chain: "eip155:84532".to_owned(),
            asset_symbol: "USDC".to_owned(),
            born: 0,
        },
        generation: 1,
        asset: format!("0x{:040x}", 1),
        amount: "1000".to_owned(),
        pay_to: format!("0x{:040x}", 2),
        ends: NOW / 1000 + 300,
    }
}
