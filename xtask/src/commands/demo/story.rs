//! The story itself: each step asks, looks and tells.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use farebox_testkit::client::{Bought, Client, Dialect, PaymentHeader, Purchase};
use farebox_testkit::origin::Origin;
use farebox_testkit::stack::Stack;
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::Value;

use super::numbers::{self, Numbers};
use super::report::Report;

const OFFERS: [&str; 3] = ["joke", "reports", "stream"];
/// A removed offer has to be gone this fast.
const GONE: Duration = Duration::from_secs(2);

/// What a step needs.
struct Scene<'a> {
    stack: &'a Stack,
    client: &'a Client,
}

pub(super) async fn play(stack: &Stack, client: &Client, pricing: &str) -> Result<ExitCode> {
    let scene = Scene { stack, client };
    let mut report = Report::default();
    numbers::print("metrics before", &stack.metrics().await?, &OFFERS)?;

    report.tell(
        "unpaid",
        "402, 1000 atomic units on eip155:84532, origin asked 0 times",
        scene.unpaid().await,
    );
    report.tell("free route", "200", scene.free().await);
    let bought = scene.buy("/joke", Dialect::V2).await;
    let payment = bought.as_ref().ok().and_then(|bought| bought.payment.clone());
    report.tell(
        "paid by @x402/fetch",
        "200, receipt of a transaction, origin asked 1 times",
        bought.and_then(|bought| scene.served(&bought, "/joke")),
    );
    report.tell(
        "the same payment again",
        "402, no receipt, origin asked 1 times",
        scene.repeat(payment.as_ref()).await,
    );
    report.tell("forged signature", "402, no receipt, origin asked 1 times", scene.forged().await);
    report.tell("underpaid", "402, no receipt, origin asked 1 times", scene.underpaid().await);
    report.tell(
        "a version 2 payment in X-PAYMENT",
        "200, receipt of a transaction, origin asked 2 times",
        scene.buy("/joke", Dialect::V2_IN_X_PAYMENT).await.and_then(|bought| scene.served(&bought, "/joke")),
    );
    report.tell("upstream fails", "500, no receipt", scene.upstream_fails().await);
    report.tell(
        "slow upstream",
        "200, receipt of a transaction, origin asked 1 times",
        scene
            .buy("/reports/slow", Dialect::V2)
            .await
            .and_then(|bought| scene.served(&bought, "/reports/slow")),
    );
    report.tell("stream", "200, receipt of a transaction, 5 events one by one", scene.streams().await);

    // A purchase is two requests, the one that gets the challenge and the one that pays. So is a forgery.
    for (offer, expected) in [
        ("joke", Numbers::new([10, 5, 2, 3, 0, 2, 2000])),
        ("reports", Numbers::new([4, 2, 1, 0, 1, 1, 20_000])),
        ("stream", Numbers::new([2, 1, 1, 0, 0, 1, 5000])),
    ] {
        let seen = Numbers::settled(stack, offer, expected).await.map(|seen| seen.to_string());
        report.tell(&format!("metrics of {offer}"), &expected.to_string(), seen);
    }
    numbers::print("metrics after", &stack.metrics().await?, &OFFERS)?;
    report.tell("farebox ledger list", "settled: 27000 atomic USDC, payments: 4", scene.ledger());

    report.tell(
        "offer removed from the file",
        "404, its series gone, both within 2 s; reports still 402",
        scene.removed(pricing).await,
    );
    numbers::print("metrics at the end", &stack.metrics().await?, &OFFERS)?;
    if !report.holds() {
        println!("{}", stack.tails());
    }
    Ok(report.end())
}

// === impl Scene ===

impl Scene<'_> {
    async fn unpaid(&self) -> Result<String> {
        let response = self.stack.get("/joke").send().await?;
        let status = response.status().as_u16();
        let header = response.headers().get("payment-required").context("no PAYMENT-REQUIRED header")?;
        let challenge: Value =
            serde_json::from_slice(&farebox_core::protocol::decode_base64(header.as_bytes())?)?;
        let offer = &challenge["accepts"][0];
        let (amount, network) = (text(&offer["amount"]), text(&offer["network"]));
        Ok(format!("{status}, {amount} atomic units on {network}, {}", self.asked("/joke")))
    }

    async fn free(&self) -> Result<String> {
        Ok(self.stack.get("/free/sample").send().await?.status().as_u16().to_string())
    }

    async fn buy(&self, path: &str, dialect: Dialect) -> Result<Bought> {
        let url = format!("{}{path}", self.stack.proxy_url());
        self.client.buy(&Purchase::of(url).speaking(dialect)).await
    }

    fn served(&self, bought: &Bought, path: &str) -> Result<String> {
        Ok(format!("{}, {}, {}", bought.status, receipt(&bought.receipt), self.asked(path)))
    }

    async fn repeat(&self, payment: Option<&PaymentHeader>) -> Result<String> {
        let payment = payment.context("there was no payment to repeat")?;
        self.send(&payment.value).await
    }

    /// A payment in the name of the payer, signed by somebody else.
    async fn forged(&self) -> Result<String> {
        let offer = self.stack.challenge("/joke").await?["accepts"][0].take();
        let mut payment = Wallet::numbered(1).pay_v2(&offer, Window::fresh(300))?;
        payment["payload"]["authorization"]["from"] = Wallet::development().address().to_string().into();
        self.send(&header_value(&payment)).await
    }

    /// A good signature over one unit less than the price.
    async fn underpaid(&self) -> Result<String> {
        let offer = self.stack.challenge("/joke").await?["accepts"][0].take();
        let mut cheaper = offer.clone();
        cheaper["amount"] = "999".into();
        let mut payment = Wallet::development().pay_v2(&cheaper, Window::fresh(300))?;
        payment["accepted"] = offer;
        self.send(&header_value(&payment)).await
    }

    /// Asks for the joke with a payment that is not to be accepted.
    async fn send(&self, payment: &str) -> Result<String> {
        let response = self.stack.get("/joke").header("PAYMENT-SIGNATURE", payment).send().await?;
        let status = response.status().as_u16();
        let receipt = decoded(response.headers().get("payment-response"))?;
        Ok(format!("{status}, {}, {}", self::receipt(&receipt), self.asked("/joke")))
    }

    async fn upstream_fails(&self) -> Result<String> {
        let bought = self.buy("/reports/fail", Dialect::V2).await?;
        Ok(format!("{}, {}", bought.status, receipt(&bought.receipt)))
    }

    async fn streams(&self) -> Result<String> {
        let bought = self.buy("/stream/events/5", Dialect::V2).await?;
        let events = bought.body.matches("data:").count();
        let first = bought.chunks.first().map_or(0, |chunk| chunk.ms);
        let last = bought.chunks.last().map_or(0, |chunk| chunk.ms);
        // The origin sends them 300 ms apart; a proxy that collects them delivers all at once.
        let how = if bought.chunks.len() == 5 && last - first >= 900 { "one by one" } else { "at once" };
        Ok(format!("{}, {}, {events} events {how}", bought.status, receipt(&bought.receipt)))
    }

    /// The sum at the end of the ledger, without the asset's address.
    fn ledger(&self) -> Result<String> {
        let list = self.stack.ledger_says(&["list"])?;
        let sum = list.lines().last().context("the ledger is empty")?;
        let (money, asset) = sum.split_once(" (").with_context(|| format!("`{sum}` is no sum"))?;
        Ok(format!("{money}{}", asset.split_once(')').map_or("", |(_, payments)| payments)))
    }

    /// Takes the joke out of the pricing file and watches the path and the series go.
    async fn removed(&self, pricing: &str) -> Result<String> {
        let without: String = pricing.split_inclusive('\n').filter(|line| !line.contains("/joke")).collect();
        self.stack.rewrite_pricing(&without)?;
        let changed = Instant::now();
        let (mut status, mut series) = (0, 0);
        while changed.elapsed() < GONE {
            status = self.stack.get("/joke").send().await?.status().as_u16();
            let page = self.stack.metrics().await?;
            series = page
                .series()
                .iter()
                .filter(|series| series.labels.get("offer_name").is_some_and(|name| name == "joke"))
                .count();
            if status == 404 && series == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let series = if series == 0 { "its series gone".to_owned() } else { format!("{series} series left") };
        let others = self.stack.get("/reports/today").send().await?.status().as_u16();
        Ok(format!("{status}, {series}, both within 2 s; reports still {others}"))
    }

    fn asked(&self, path: &str) -> String {
        let times = self.stack.origin().map_or(0, |origin: &Origin| origin.hits().of(path));
        format!("origin asked {times} times")
    }
}

fn receipt(receipt: &Value) -> &'static str {
    let transaction = receipt["transaction"].as_str().is_some_and(|hash| !hash.is_empty());
    match receipt["success"].as_bool() {
        Some(true) if transaction => "receipt of a transaction",
        Some(true) => "receipt without a transaction",
        Some(false) => "receipt of a refusal",
        None => "no receipt",
    }
}

fn decoded(header: Option<&reqwest::header::HeaderValue>) -> Result<Value> {
    let Some(header) = header else { return Ok(Value::Null) };
    let json = farebox_core::protocol::decode_base64(header.as_bytes())?;
    serde_json::from_slice(&json).context("the receipt is not JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("nothing")
}
