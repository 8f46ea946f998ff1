//! The facilitator: what it supports, and how it is called.

mod client;
mod credential;
mod jwt;
mod states;
mod supported;

pub use client::{CallFailed, FacilitatorClient, Replied};
pub use credential::{CredentialError, Credentials};
pub use states::{BadReply, CredentialState, FacilitatorState, FacilitatorStates, FailedCall};
pub use supported::{Supported, SupportedError, SupportedKind, fetch};
