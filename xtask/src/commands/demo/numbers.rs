//! The numbers of `/metrics` that the story is about, per offer.

use anyhow::Result;
use farebox_core::metrics::Family;
use farebox_testkit::stack::{Scrape, Stack};

/// The columns shown, with the family each one sums.
const COLUMNS: [(&str, Family); 7] = [
    ("requests", Family::RequestsTotal),
    ("402 sent", Family::PaymentRequiredTotal),
    ("verified", Family::PaymentVerifiedTotal),
    ("failed", Family::PaymentFailedTotal),
    ("upstream failed", Family::UpstreamFailedAfterVerifyTotal),
    ("charged", Family::ChargedRequestsTotal),
    ("amount", Family::SettledAmountAtomicTotal),
];

/// What `/metrics` says of one offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers([u128; COLUMNS.len()]);

// === impl Numbers ===

impl Numbers {
    /// What is expected: the columns in their order.
    pub(super) const fn new(columns: [u128; COLUMNS.len()]) -> Self {
        Self(columns)
    }

    /// Reads one offer from a page.
    pub(super) fn of(page: &Scrape, offer: &str) -> Result<Self> {
        let mut numbers = [0; COLUMNS.len()];
        for (number, (_, family)) in numbers.iter_mut().zip(COLUMNS) {
            *number = page.sum(family.name(), &[("offer_name", offer)])?;
        }
        Ok(Self(numbers))
    }

    /// Reads one offer from the companion until the numbers are the expected ones, for five seconds at most:
    /// a proxy counts a request when it is over, which is a moment after the client has its answer.
    pub(super) async fn settled(stack: &Stack, offer: &str, expected: Self) -> Result<Self> {
        let mut seen = Self::of(&stack.metrics().await?, offer)?;
        for _ in 0..50 {
            if seen == expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            seen = Self::of(&stack.metrics().await?, offer)?;
        }
        Ok(seen)
    }
}

impl std::fmt::Display for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, ((name, _), number)) in COLUMNS.iter().zip(self.0).enumerate() {
            write!(f, "{}{name} {number}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Prints a table of some offers.
pub(super) fn print(title: &str, page: &Scrape, offers: &[&str]) -> Result<()> {
    let header: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    println!("{title:<24}{}", header.iter().map(|name| format!("{name:>16}")).collect::<String>());
    for offer in offers {
        let numbers = Numbers::of(page, offer)?;
        println!(
            "  {offer:<22}{}",
            numbers.0.iter().map(|number| format!("{number:>16}")).collect::<String>()
        );
    }
    Ok(())
}
