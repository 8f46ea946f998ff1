//! The pricing rules: where they come from, and the one function that puts them in force.

mod in_use;
mod loader;
mod offered;
mod readiness;
mod watch;

pub use loader::{Loader, Source};
pub use offered::Offered;
pub use readiness::{AllKnown, Known, Readiness};
pub use watch::{Candidate, Watch, watch};

#[cfg(test)]
mod loader_tests;
#[cfg(test)]
mod sharing_tests;
#[cfg(test)]
mod watch_tests;
