//! The table of refusals: cause → who is at fault → status → body → metric reason.

use crate::metrics::{BlockedReason, FailureReason};

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client or its wallet.
    Buyer,
    /// The rules or the proxy's configuration.
    Operator,
    /// The facilitator.
    Facilitator,
    /// The upstream.
    Upstream,
    /// Farebox itself.
    Us,
}

/// Where a refusal is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// `blocked_requests_total`.
    Blocked(BlockedReason),
    /// `payment_failed_total` and its reason.
    Failed(FailureReason),
    /// `upstream_failed_after_verify_total`.
    UpstreamFailed,
}
