//! The facilitator: what it supports, and a development one for demos and tests.

pub mod dev;
mod supported;

pub use dev::{Args, run};
pub use supported::{Supported, SupportedError, SupportedKind, fetch};
