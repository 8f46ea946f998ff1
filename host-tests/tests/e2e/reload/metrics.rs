//! Reading the companion's metrics, and checks of what every reader relies on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use farebox_testkit::stack::{Scrape, Series};
use tokio::task::JoinHandle;

/// Prefix of every public family.
pub(crate) const PREFIX: &str = "obol_x402_verifier_";
/// How often the metrics are read while something happens to them.
const POLL: Duration = Duration::from_millis(100);
/// Fewer readings than one in this time prove little.
const SELDOM: Duration = Duration::from_secs(2);

/// A counter of an offer, over all its tuples and further labels.
pub(crate) fn of_offer(page: &Scrape, family: &str, offer: &str) -> u128 {
    page.sum(&format!("{PREFIX}{family}"), &[("offer_name", offer)]).unwrap()
}

/// A family with these labels, summed.
pub(crate) fn sum(page: &Scrape, family: &str, labels: &[(&str, &str)]) -> u128 {
    page.sum(&format!("{PREFIX}{family}"), labels).unwrap()
}

/// Whether there is such a series.
pub(crate) fn exists(page: &Scrape, family: &str, labels: &[(&str, &str)]) -> bool {
    page.matching(&format!("{PREFIX}{family}"), labels).next().is_some()
}

/// Names of the families that have a series of the offer.
pub(crate) fn families_of(page: &Scrape, offer: &str) -> Vec<String> {
    let of_offer = |series: &&Series| series.labels.get("offer_name").is_some_and(|name| name == offer);
    page.series().iter().filter(of_offer).map(|series| series.name.clone()).collect()
}

/// Reads the metrics all the time, and fails if a counter of a kept offer goes backwards or is missing.
pub(crate) struct Watcher {
    started: Instant,
    stop: Arc<AtomicBool>,
    readings: Arc<AtomicU32>,
    task: JoinHandle<Result<()>>,
}

/// What was seen of each series of the kept offers.
struct Seen {
    offers: Vec<String>,
    values: BTreeMap<(String, BTreeMap<String, String>), u128>,
}

// === impl Watcher ===

impl Watcher {
    /// Watches the companion at this URL. Failed readings are ignored, because a companion may be unreachable.
    pub(crate) fn start(companion: String, offers: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Seen { offers: offers.iter().map(ToString::to_string).collect(), values: BTreeMap::new() };
        let readings = Arc::new(AtomicU32::new(0));
        let task = tokio::spawn(watch(format!("{companion}/metrics"), seen, stop.clone(), readings.clone()));
        Self { started: Instant::now(), stop, readings, task }
    }

    /// Waits for two more readings: the second of them began after this was called.
    pub(crate) async fn looks_again(&self) {
        let before = self.readings.load(Ordering::Relaxed);
        while self.readings.load(Ordering::Relaxed) < before + 2 && !self.task.is_finished() {
            tokio::time::sleep(POLL / 4).await;
        }
    }

    /// Ends the watch. Fails if there were too few readings, because a busy machine reads slowly.
    pub(crate) async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap().unwrap();
        let (readings, watched) = (self.readings.load(Ordering::Relaxed), self.started.elapsed());
        assert!(readings > 5 && watched / readings < SELDOM, "{readings} readings in {watched:?}");
    }
}

async fn watch(url: String, mut seen: Seen, stop: Arc<AtomicBool>, readings: Arc<AtomicU32>) -> Result<()> {
    let client = farebox_testkit::http::client_builder().timeout(Duration::from_secs(5)).build()?;
    while !stop.load(Ordering::Relaxed) {
        if let Ok(response) = client.get(&url).send().await
            && let Ok(text) = response.text().await
        {
            let number = readings.load(Ordering::Relaxed);
            let compared = seen.compare(&Scrape::parse(&text)?);
            readings.fetch_add(compared.with_context(|| format!("reading {number}"))?, Ordering::Relaxed);
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

// === impl Seen ===

impl Seen {
    /// 1 if the page has rules behind it. Before its first load a companion shows no offers.
    fn compare(&mut self, page: &Scrape) -> Result<u32> {
        if !exists(page, "config_generation", &[]) {
            return Ok(0);
        }
        let rises = |name: &str| name.ends_with("_total") || name.ends_with("last_payment_success_seconds");
        let mut now = BTreeMap::new();
        for series in page.series().iter().filter(|series| rises(&series.name)) {
            if series.labels.get("offer_name").is_some_and(|name| self.offers.contains(name)) {
                now.insert((series.name.clone(), series.labels.clone()), series.integer()?);
            }
        }
        for (key, before) in &self.values {
            let value = now.get(key).with_context(|| format!("{key:?} is gone, it was {before}"))?;
            ensure!(value >= before, "{key:?} went back from {before} to {value}");
        }
        self.values = now;
        Ok(1)
    }
}
