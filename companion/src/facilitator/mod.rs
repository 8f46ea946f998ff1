//! The facilitator: what it supports, how it is called, and a development one for demos and tests.

mod call;
mod client;
pub mod dev;
mod supported;

pub use call::{CallError, PaymentCall};
pub use client::{CallFailed, FacilitatorClient, Replied};
pub use dev::{Args, run};
pub use supported::{Supported, SupportedError, SupportedKind, fetch};
