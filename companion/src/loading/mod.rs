//! The one way by which rules come in force: in the ledger, at the gateway, in the counts, and at the proxies.

mod in_use;
mod loader;
mod waiting;

pub use loader::{Loader, Source};
pub use waiting::open_ledger;

#[cfg(test)]
mod loader_tests;
#[cfg(test)]
mod sharing_tests;
