//! The table of refusals: cause → who is at fault → status → body → metric reason.
//!
//! Deployed buyers read the start of `error`, so `Invalid payment header`, `Payment verification failed` and
//! `Payment settlement failed` are an interface. `retriable` says that a new attempt with a new authorization
//! is safe. It is never safe if money may have moved.

use crate::metrics::{BlockedReason, FailureReason};

/// Who has to correct the fault.
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
    /// `upstream_failed_after_verify_total`; after a settlement `upstream_failed_after_charge_total`.
    UpstreamFailed,
}

/// Whether a refusal asks for another payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `PAYMENT-REQUIRED` and a body with `accepts`: the buyer should sign again.
    Challenge,
    /// A JSON error without terms: the buyer must not sign because of it.
    Error,
}

/// Why a request is refused. One variant for each row of [`Cause::row`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table is the documentation")]
pub enum Cause {
    ConfigNotLoaded,
    FacilitatorNotReady,
    AmbiguousPath,
    AmbiguousBody,
    ProtectedPrefix,
    Unmatched,
    RouteMisconfigured,
    AuthUnsupported,
    UpgradeUnsupported,
    UpstreamMissing,
    BlockedInternal,
    InsecureTransport,
    InvalidPaymentHeader,
    NoMatchingRequirement,
    PaymentInvalid,
    PaymentUntimely,
    AllowanceRequired,
    PaymentInFlight,
    PaymentInUseElsewhere,
    NonceInUse,
    PaymentPaidForElse,
    PurchasePaid,
    PaymentUsed,
    ReplayGuardUnavailable,
    RelaySilent,
    NotTaken,
    ClockWrong,
    FacilitatorUnreachable,
    FacilitatorBusy,
    FacilitatorError,
    FacilitatorMalformed,
    UpstreamUnavailable,
    UpstreamTimeout,
    UnexpectedUpgrade,
    SettlementRejected,
    SettlementNotSent,
    SettlementMalformed,
    SettlementUnknown,
    Internal,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Who has to correct the fault.
    pub fault: Fault,
    /// HTTP status.
    pub status: u16,
    /// `reason` of the body.
    pub reason: &'static str,
    /// Start of the body's `error`.
    pub error: &'static str,
    /// The text after `error` and a colon, unless the event has a more precise one. May be empty.
    pub message: &'static str,
    /// The remedy for the buyer or operator. May be empty.
    pub hint: &'static str,
    /// `retriable` of the body.
    pub retriable: bool,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u8>,
    /// Whether terms are sent.
    pub form: Form,
    /// Where it is counted.
    pub counted: Counted,
}

const VERIFICATION: &str = "Payment verification failed";
const SETTLEMENT: &str = "Payment settlement failed";

impl Row {
    const fn blocked(fault: Fault, status: u16, reason: &'static str, counted: BlockedReason) -> Self {
        Self {
            fault,
            status,
            reason,
            error: "Request refused",
            message: "",
            hint: "",
            retriable: false,
            retry_after: None,
            form: Form::Error,
            counted: Counted::Blocked(counted),
        }
    }
    const fn failed(fault: Fault, status: u16, error: &'static str, counted: FailureReason) -> Self {
        Self {
            fault,
            status,
            reason: counted.as_str(),
            error,
            message: "",
            hint: "",
            retriable: false,
            retry_after: None,
            form: Form::Error,
            counted: Counted::Failed(counted),
        }
    }
    const fn upstream(status: u16, message: &'static str) -> Self {
        Self {
            fault: Fault::Upstream,
            status,
            reason: "upstream_unavailable",
            error: "Upstream failed",
            message,
            hint: "",
            retriable: true,
            retry_after: None,
            form: Form::Error,
            counted: Counted::UpstreamFailed,
        }
    }
    const fn says(self, message: &'static str) -> Self {
        Self { message, ..self }
    }
    const fn hints(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }
    const fn challenges(self) -> Self {
        Self { form: Form::Challenge, ..self }
    }
    const fn retry(self, seconds: u8) -> Self {
        Self { retriable: true, retry_after: Some(seconds), ..self }
    }
    /// `Retry-After` for the same payment again, although a new one is not safe.
    const fn resend(self, seconds: u8) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl Cause {
    /// The row of this cause.
    pub const fn row(self) -> Row {
        use BlockedReason as B;
        use FailureReason as F;
        use Fault::{Buyer, Facilitator, Operator, Us};
        match self {
            Self::ConfigNotLoaded => Row::blocked(Operator, 503, "config_not_loaded", B::ConfigNotLoaded)
                .says("no pricing rules are loaded yet")
                .retry(1),
            Self::FacilitatorNotReady => {
                Row::blocked(Facilitator, 503, "facilitator_not_ready", B::FacilitatorNotReady)
                    .says("the facilitator has not said yet which payments it supports")
                    .retry(1)
            }
            Self::AmbiguousPath => Row::blocked(Buyer, 400, "ambiguous_path", B::AmbiguousPath)
                .hints("send the path in plain form, without encoded separators or dot segments"),
            Self::AmbiguousBody => Row::blocked(Buyer, 400, "ambiguous_body", B::AmbiguousBody)
                .says("some upstreams take the body of this request for the next request")
                .hints("send it without a body, or by POST"),
            Self::ProtectedPrefix => Row::blocked(Buyer, 403, "protected_prefix", B::ProtectedPrefix)
                .says("no rule covers this path, and others below its prefix are paid"),
            Self::Unmatched => {
                Row::blocked(Buyer, 404, "unmatched", B::Unmatched).says("no rule covers this path")
            }
            Self::RouteMisconfigured => Row::blocked(Operator, 403, "route_misconfigured", B::RouteSkipped)
                .says("the rule of this path has an error, so its requests are refused"),
            Self::AuthUnsupported => Row::blocked(Operator, 403, "auth_gate_unsupported", B::AuthUnsupported)
                .says("sign-in is not supported yet"),
            Self::UpgradeUnsupported => Row::blocked(Operator, 501, "upgrade_unsupported", B::UpgradeRefused)
                .says("this path cannot be paid for over an upgraded connection"),
            Self::UpstreamMissing => Row::blocked(Operator, 502, "upstream_missing", B::Other)
                .says("no usable upstream is configured for this path"),
            Self::BlockedInternal => Row::blocked(Us, 500, "internal_error", B::InternalError),
            Self::InsecureTransport => Row::failed(Buyer, 400, "Payment refused", F::InsecureTransport)
                .says("a payment needs a secure transport")
                .hints("repeat the request over https with a new authorization"),
            Self::InvalidPaymentHeader => {
                Row::failed(Buyer, 400, "Invalid payment header", F::InvalidPaymentHeader)
            }
            Self::NoMatchingRequirement => Row::failed(Buyer, 402, VERIFICATION, F::NoMatchingRequirement)
                .says("no matching payment requirements")
                .hints("sign a payment for one of the entries of accepts")
                .challenges(),
            Self::PaymentInvalid => Row::failed(Buyer, 402, VERIFICATION, F::PaymentInvalid).challenges(),
            Self::PaymentUntimely => Row::failed(Buyer, 402, VERIFICATION, F::PaymentInvalid)
                .hints("sign an authorization that is valid for the maxTimeoutSeconds of the terms, and check your clock")
                .challenges(),
            Self::AllowanceRequired => Row::failed(Buyer, 412, VERIFICATION, F::PaymentInvalid)
                .hints("approve the Permit2 contract for this token, then pay again")
                .challenges(),
            Self::PaymentInFlight => Row::failed(Buyer, 409, VERIFICATION, F::PaymentReplayed)
                .says("this payment is in use by another request")
                .resend(1),
            Self::PaymentInUseElsewhere => Row::failed(Buyer, 409, VERIFICATION, F::PaymentReplayed).says(
                "this payment is in use by a request for other terms; nothing more is charged for it",
            ),
            Self::NonceInUse => Row::failed(Buyer, 409, VERIFICATION, F::PaymentReplayed)
                .says("another authorization of this nonce is in use; nothing was charged for this one"),
            Self::PaymentPaidForElse => Row::failed(Buyer, 409, VERIFICATION, F::PaymentReplayed)
                .says("this payment is charged, and buys only the answer that it was signed for")
                .hints("send this payment with the request it was signed for"),
            Self::PurchasePaid => Row::failed(Buyer, 409, VERIFICATION, F::PaymentReplayed)
                .says("another payment for this purchase is in use; nothing was charged for this one")
                .hints("send the first payment of this payment-identifier again; do not sign a new one"),
            Self::PaymentUsed => Row::failed(Buyer, 402, VERIFICATION, F::PaymentReplayed)
                .says("this payment was used already")
                .hints("sign a new authorization")
                .challenges(),
            Self::ReplayGuardUnavailable => Row::failed(Us, 503, VERIFICATION, F::ReplayGuardUnavailable)
                .says("the payment cannot be looked up or recorded now; nothing was charged for this request")
                .hints("send this request again with the same payment; do not sign a new one")
                .resend(1),
            Self::RelaySilent => Row::failed(Us, 503, VERIFICATION, F::CompanionUnreachable)
                .says("the companion of this proxy gave no answer about this payment")
                .hints("send this request again with the same payment; do not sign a new one")
                .resend(2),
            Self::NotTaken => Row::failed(Operator, 503, VERIFICATION, F::Other),
            Self::ClockWrong => Row::failed(Operator, 503, VERIFICATION, F::ClockWrong)
                .says("the clock of this proxy is wrong, so it cannot tell whether the payment is in time; nothing was charged")
                .retry(30),
            Self::FacilitatorUnreachable => {
                Row::failed(Facilitator, 503, VERIFICATION, F::FacilitatorUnreachable)
                    .says("the facilitator could not be reached; nothing was charged")
                    .retry(2)
            }
            Self::FacilitatorBusy => Row::failed(Facilitator, 503, VERIFICATION, F::FacilitatorOverloaded)
                .says("the facilitator is overloaded or restarting; nothing was charged")
                .retry(2),
            Self::FacilitatorError => Row::failed(Facilitator, 503, VERIFICATION, F::FacilitatorError)
                .says("the facilitator gave no usable answer; nothing was charged"),
            Self::FacilitatorMalformed => Row::failed(Operator, 503, VERIFICATION, F::FacilitatorError)
                .says("the facilitator calls our request malformed; nothing was charged"),
            Self::UpstreamUnavailable => Row::upstream(502, "it could not be reached"),
            Self::UpstreamTimeout => Row::upstream(504, "it did not answer in time"),
            Self::UnexpectedUpgrade => Row::upstream(502, "the upstream switched protocols without being asked"),
            Self::SettlementRejected => {
                Row::failed(Buyer, 402, SETTLEMENT, F::SettlementRejected).challenges()
            }
            Self::SettlementNotSent => Row::failed(Operator, 503, SETTLEMENT, F::SettlementFailed)
                .says("the settlement could not be begun; nothing was charged")
                .retry(2),
            Self::SettlementMalformed => Row::failed(Operator, 503, SETTLEMENT, F::SettlementFailed)
                .says("the facilitator calls our request malformed; nothing was charged"),
            Self::SettlementUnknown => Row::failed(Facilitator, 503, SETTLEMENT, F::SettlementFailed)
                .says("it is not known yet whether money moved")
                .hints("send this request again with the same payment; do not sign a new one")
                .resend(5),
            Self::Internal => Row::failed(Us, 500, "Internal error", F::InternalError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Cause; 39] = [
        Cause::ConfigNotLoaded,
        Cause::FacilitatorNotReady,
        Cause::AmbiguousPath,
        Cause::AmbiguousBody,
        Cause::ProtectedPrefix,
        Cause::Unmatched,
        Cause::RouteMisconfigured,
        Cause::AuthUnsupported,
        Cause::UpgradeUnsupported,
        Cause::UpstreamMissing,
        Cause::BlockedInternal,
        Cause::InsecureTransport,
        Cause::InvalidPaymentHeader,
        Cause::NoMatchingRequirement,
        Cause::PaymentInvalid,
        Cause::PaymentUntimely,
        Cause::AllowanceRequired,
        Cause::PaymentInFlight,
        Cause::PaymentInUseElsewhere,
        Cause::NonceInUse,
        Cause::PaymentPaidForElse,
        Cause::PurchasePaid,
        Cause::PaymentUsed,
        Cause::ReplayGuardUnavailable,
        Cause::RelaySilent,
        Cause::NotTaken,
        Cause::ClockWrong,
        Cause::FacilitatorUnreachable,
        Cause::FacilitatorBusy,
        Cause::FacilitatorError,
        Cause::FacilitatorMalformed,
        Cause::UpstreamUnavailable,
        Cause::UpstreamTimeout,
        Cause::UnexpectedUpgrade,
        Cause::SettlementRejected,
        Cause::SettlementNotSent,
        Cause::SettlementMalformed,
        Cause::SettlementUnknown,
        Cause::Internal,
    ];

    #[test]
    fn only_402_and_412_ask_for_another_payment() {
        for cause in ALL {
            let row = cause.row();
            let asks = matches!(row.status, 402 | 412);
            assert_eq!(row.form == Form::Challenge, asks, "{cause:?}");
        }
    }

    #[test]
    fn an_unknown_settlement_is_never_retriable_and_invites_the_same_payment_again() {
        let row = Cause::SettlementUnknown.row();
        assert!(!row.retriable);
        assert_eq!((row.status, row.retry_after, row.form), (503, Some(5), Form::Error));
        assert!(row.hint.contains("same payment"));
    }

    #[test]
    fn a_payment_that_could_not_be_looked_up_may_be_charged_so_no_other_is_safe() {
        for cause in [Cause::ReplayGuardUnavailable, Cause::RelaySilent] {
            let row = cause.row();
            assert_eq!((row.status, row.retriable, row.form), (503, false, Form::Error));
            assert!(row.retry_after.is_some() && row.hint.contains("same payment"), "{cause:?}");
        }
    }

    #[test]
    fn a_request_that_the_facilitator_cannot_read_is_the_operators_and_asks_the_buyer_for_nothing() {
        for cause in [Cause::FacilitatorMalformed, Cause::SettlementMalformed] {
            let row = cause.row();
            assert_eq!((row.fault, row.status, row.form), (Fault::Operator, 503, Form::Error));
            assert!(!row.retriable && row.message.contains("nothing was charged"), "{cause:?}");
        }
    }

    #[test]
    fn whose_fault_it_is_that_nothing_can_be_sold_is_told_apart() {
        use Fault::{Facilitator, Operator, Us};
        for (cause, fault, reason, word) in [
            (Cause::RelaySilent, Us, "companion_unreachable", "companion"),
            (Cause::ReplayGuardUnavailable, Us, "replay_guard_unavailable", "recorded"),
            (
                Cause::FacilitatorUnreachable,
                Facilitator,
                "facilitator_unreachable",
                "facilitator could not be reached",
            ),
            (Cause::FacilitatorBusy, Facilitator, "facilitator_overloaded", "facilitator is overloaded"),
            (Cause::FacilitatorError, Facilitator, "facilitator_error", "facilitator gave no usable answer"),
            (Cause::ClockWrong, Operator, "clock_wrong", "clock of this proxy"),
        ] {
            let row = cause.row();
            assert_eq!((row.fault, row.status, row.reason), (fault, 503, reason), "{cause:?}");
            assert!(row.message.contains(word), "{cause:?}: {}", row.message);
        }
    }

    #[test]
    fn errors_start_with_the_words_buyers_look_for() {
        for cause in ALL {
            let row = cause.row();
            let expected = match row.counted {
                Counted::Failed(FailureReason::InvalidPaymentHeader) => "Invalid payment header",
                Counted::Failed(FailureReason::SettlementFailed | FailureReason::SettlementRejected) => {
                    "Payment settlement failed"
                }
                Counted::Failed(FailureReason::InternalError) => "Internal error",
                Counted::Failed(FailureReason::InsecureTransport) => "Payment refused",
                Counted::Failed(_) => "Payment verification failed",
                Counted::Blocked(_) => "Request refused",
                Counted::UpstreamFailed => "Upstream failed",
            };
            assert_eq!(row.error, expected, "{cause:?}");
        }
    }

    #[test]
    fn what_may_be_retried_says_when() {
        for cause in ALL {
            let row = cause.row();
            if row.retriable && row.counted != Counted::UpstreamFailed {
                assert!(row.retry_after.is_some(), "{cause:?}");
            }
            let money = matches!(row.counted, Counted::Failed(_));
            assert!(!(row.fault == Fault::Buyer && money && row.retriable), "{cause:?}");
        }
    }
}
