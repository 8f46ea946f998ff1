//! The developer commands of Farebox, and the parts of them that tests use too.
//!
//! * [`origin`]: the demo upstream, with every kind of answer a paid route can meet.
//! * [`payer`]: signs payments, and forges them.
//! * [`build`]: the release artefacts and what is asserted about them.
//! * [`tools`]: pinned programs that are not crates, in a per-user cache.
#![forbid(unsafe_code)]

pub mod build;
pub mod origin;
pub mod paths;
pub mod payer;
pub mod shell;
pub mod tools;
