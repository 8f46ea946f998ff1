//! The facilitator: what it supports, and how it is called.

mod client;
mod credential;
mod jwt;
mod states;
mod supported;

pub use client::{CallFailed, FacilitatorClient, Replied};
pub use credential::Credentials;
#[cfg(test)]
pub use states::CredentialState;
pub use states::{BadReply, FacilitatorState, FacilitatorStates, FailedCall};
#[cfg(test)]
pub use supported::SupportedKind;
pub use supported::{Supported, fetch};
