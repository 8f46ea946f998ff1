//! The facilitator: what it supports, and how it is called.

mod client;
mod credential;
mod jwt;
mod supported;

pub use client::{CallFailed, FacilitatorClient, Replied};
pub use credential::{CredentialError, Credentials};
pub use supported::{Supported, SupportedError, SupportedKind, fetch};
