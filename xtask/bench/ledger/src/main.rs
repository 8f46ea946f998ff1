//! Times the ledger on a database: `farebox-bench-ledger URL IN_FLIGHT MILLISECONDS`.
//!
//! So many buyers at once pay one payment after the other for this time: reserve, verified, settling, settled,
//! delivered, each on disk before the next. All pay for the same offer. The answer is one JSON object on standard
//! output: how many whole payments a second.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use farebox::ledger::{Ledger, LedgerOptions, PaymentKey, Sale};
use farebox_core::evm::{Address, Amount, B256, Network};
use farebox_core::payment::{Answer, Claim, End, Event, Fingerprint, Holder, Outcome, Terms};
use farebox_core::terms::{Flow, Tuple};
use serde_json::json;
use tokio::task::JoinSet;

/// As long as the call of a real payment.
const CALL_BYTES: usize = 1_500;
const FACILITATOR: &str = "https://facilitator.example.com";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, in_flight, millis] = &arguments[..] else {
        anyhow::bail!("usage: farebox-bench-ledger URL IN_FLIGHT MILLISECONDS")
    };
    let (in_flight, turn) = (in_flight.parse()?, Duration::from_millis(millis.parse()?));
    let ledger = Ledger::open(url, "bench", LedgerOptions::default()).await?;
    // The first statements of a connection are planned, and a file grows.
    pay(&ledger, 0, in_flight, turn / 4).await?;
    let payments = pay(&ledger, 1, in_flight, turn).await?;
    println!("{}", json!({ "payments": payments }));
    ledger.close().await;
    Ok(())
}

/// How many payments a second all buyers together make.
async fn pay(ledger: &Ledger, turn: u32, in_flight: u32, length: Duration) -> Result<f64> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for buyer in 0..in_flight {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let mut done = 0_u32;
            while started.elapsed() < length {
                buy(&ledger, turn, buyer, done).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut all = 0;
    while let Some(done) = tasks.join_next().await {
        all += done.context("a buyer ended")??;
    }
    Ok(f64::from(all) / started.elapsed().as_secs_f64())
}

async fn buy(ledger: &Ledger, turn: u32, buyer: u32, number: u32) -> Result<()> {
    let (key, claim, sale) = payment(turn, buyer, number);
    let holder = claim.holder;
    let reserved = ledger.step(&key, Event::Claim(claim), Some(&sale), None).await?;
    ensure!(reserved.answer == Answer::Reserved, "{reserved:?}");
    let verified = ledger.step(&key, Event::Verified(holder), None, Some(FACILITATOR)).await?;
    ensure!(verified.answer == Answer::Noted, "{verified:?}");
    let begun = ledger.step(&key, Event::Begin(holder), None, Some(FACILITATOR)).await?;
    let Answer::Call { epoch, .. } = begun.answer else { anyhow::bail!("{begun:?}") };
    let outcome = Outcome::Settled { transaction: format!("0x{:064x}", 1) };
    let ended = Event::Ended { epoch, holder, outcome, claim: None };
    let settled = ledger.step(&key, ended, None, None).await?;
    ensure!(matches!(settled.answer, Answer::Settled { .. }), "{settled:?}");
    let over = ledger.step(&key, Event::Over(holder, End::Whole), None, None).await?;
    ensure!(over.answer == Answer::Noted, "{over:?}");
    Ok(())
}

/// Nonces and addresses are as scattered as those of real payments, and differ from run to run.
fn payment(turn: u32, buyer: u32, number: u32) -> (PaymentKey, Claim, Sale) {
    let mut seed = Vec::new();
    for part in [std::process::id(), turn, buyer, number] {
        seed.extend_from_slice(&part.to_be_bytes());
    }
    let nonce = farebox_core::evm::keccak256(&seed);
    let mut payer = [0; 20];
    payer.copy_from_slice(nonce.get(..20).unwrap_or_default());
    let mut holder = [0; 16];
    holder.copy_from_slice(nonce.get(16..).unwrap_or_default());
    let key = PaymentKey {
        network: Network::from_caip2("eip155:84532").unwrap_or_else(|| unreachable!("a chain")),
        contract: Address([1; 20]),
        payer: Address(payer),
        nonce: B256(nonce),
    };
    let claim = Claim {
        fingerprint: Fingerprint(nonce),
        terms: Terms {
            offer: "bench/bench".to_owned(),
            route: "/v1/chat/*".to_owned(),
            asset: Address([1; 20]),
            amount: Amount::from_u64(1_000),
            pay_to: Address([2; 20]),
            flow: Flow::Authorization,
        },
        holder: Holder(holder),
        call: Arc::from(vec![b'x'; CALL_BYTES]),
        ends: 4_000_000_000,
        proven: true,
        only_known: false,
        can_settle: true,
        twin: None,
    };
    let tuple = Tuple {
        offer_namespace: "bench".to_owned(),
        offer_name: "bench".to_owned(),
        chain: "eip155:84532".to_owned(),
        asset_symbol: "USDC".to_owned(),
        born: 0,
    };
    let sale = Sale { tuple, generation: 1, proxy: "bench/1".to_owned(), identifier: None };
    (key, claim, sale)
}
