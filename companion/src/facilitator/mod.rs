//! The facilitator: what it supports, how it is called, and a development one for demos and tests.

mod call;
mod client;
mod credential;
pub mod dev;
mod jwt;
mod supported;

pub use call::{CallError, PaymentCall};
pub use client::{CallFailed, FacilitatorClient, Replied};
pub use credential::{CredentialError, Credentials};
pub use dev::{Args, run};
pub use supported::{Supported, SupportedError, SupportedKind, fetch};
