//! The pricing rules: the watched file, the rules in force, and what their facilitators support.

mod lease;
mod offered;
mod readiness;
mod state;
mod watch;

pub use offered::Offered;
#[cfg(test)]
pub use readiness::Known;
pub use readiness::{AllKnown, Readiness};
pub use state::{Active, Attempt, KeptClosed, NothingForSale, ReloadResult, RulesState, describe};
pub use watch::{Candidate, Watch, watch};

#[cfg(test)]
mod watch_tests;
