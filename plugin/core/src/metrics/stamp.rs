//! The counts of one request. Labels are closed sets, so no text of a client or facilitator becomes a label.

use crate::protocol::Operation;
use crate::rules::{ChargeIndex, OfferIndex, RuleSet, TupleIndex};

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each variant is its label value")]
        pub enum $name { $($variant),+ }
        impl $name {
            /// Every value, in exposition order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();
            /// Position in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
            /// The label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
            /// The value with this text.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

closed_set! {
    /// `reason` of `payment_failure_reasons_total`: a closed set.
    FailureReason {
        InvalidPaymentHeader => "invalid_payment_header",
        NoMatchingRequirement => "no_matching_requirement",
        PaymentInvalid => "payment_invalid",
        FacilitatorUnreachable => "facilitator_unreachable",
        FacilitatorError => "facilitator_error",
        FacilitatorOverloaded => "facilitator_overloaded",
        CompanionUnreachable => "companion_unreachable",
        ClientDisconnected => "client_disconnected",
        SettlementFailed => "settlement_failed",
        SettlementRejected => "settlement_rejected",
        PaymentReplayed => "payment_replayed",
        InsecureTransport => "insecure_transport",
        ReplayGuardUnavailable => "replay_guard_unavailable",
        ClockWrong => "clock_wrong",
        InternalError => "internal_error",
        Other => "other",
    }
}
closed_set! {
    /// `reason` of `verified_uncharged_total`.
    UnchargedReason { Redirect => "redirect", Redeemed => "redeemed", DryRun => "dry_run", Other => "other" }
}
closed_set! {
    /// `state` of `replay_rejections_total`.
    ReplayState { InFlight => "in_flight", Settled => "settled", OtherRoute => "other_route" }
}
closed_set! {
    /// `result` of `settlements_resolved_late_total`.
    LateResult { Settled => "settled", Refused => "refused", Expired => "expired" }
}
closed_set! {
    /// `reason` of `blocked_requests_total`.
    BlockedReason {
        AmbiguousPath => "ambiguous_path",
        AmbiguousBody => "ambiguous_body",
        ProtectedPrefix => "protected_prefix",
        Unmatched => "unmatched",
        RouteSkipped => "route_skipped",
        AuthUnsupported => "auth_unsupported",
        UpgradeRefused => "upgrade_refused",
        ConfigNotLoaded => "config_not_loaded",
        FacilitatorNotReady => "facilitator_not_ready",
        InternalError => "internal_error",
        Other => "other",
    }
}
closed_set! {
    /// `outcome` of `facilitator_request_duration_seconds`.
    CallOutcome {
        Success => "success",
        Refused => "refused",
        HttpError => "http_error",
        BadReply => "bad_reply",
        Timeout => "timeout",
        Unreachable => "unreachable",
    }
}

/// A counter that a proxy keeps for each tuple. Sums of other counters are not kept, so that a sum and its parts
/// can never disagree, and a request changes few counters: `payment_failed_total` is the sum over its reasons, and
/// `requests_total` the sum of requests with a payment and without. The unresolved gauge is the difference of two
/// counters, so that every counter is cumulative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant without a comment is its public family's name")]
pub enum TupleCounter {
    /// Requests with a payment, with any outcome.
    PaymentPresented,
    /// Requests without a payment.
    PaymentRequired,
    PaymentVerified,
    PaymentFailed(FailureReason),
    UpstreamFailedAfterVerify,
    VerifiedUncharged(UnchargedReason),
    UpstreamFailedAfterCharge,
    UnresolvedOpened,
    UnresolvedClosed,
    ResolvedLate(LateResult),
    ReplayRejected(ReplayState),
}

impl TupleCounter {
    const PLAIN: [Self; 7] = [
        Self::PaymentPresented,
        Self::PaymentRequired,
        Self::PaymentVerified,
        Self::UpstreamFailedAfterVerify,
        Self::UpstreamFailedAfterCharge,
        Self::UnresolvedOpened,
        Self::UnresolvedClosed,
    ];
    const REASONS: usize = Self::PLAIN.len();
    const UNCHARGED: usize = Self::REASONS + FailureReason::COUNT;
    const LATE: usize = Self::UNCHARGED + UnchargedReason::COUNT;
    const REPLAYED: usize = Self::LATE + LateResult::COUNT;
    /// Number of counters of a tuple: the length of an array indexed by [`TupleCounter::index`].
    pub const COUNT: usize = Self::REPLAYED + ReplayState::COUNT;

    /// Whether the counter belongs to the money families.
    pub const fn is_money(self) -> bool {
        matches!(self, Self::UnresolvedOpened | Self::UnresolvedClosed | Self::ResolvedLate(_))
    }
    /// Every counter with every reason, in the order of [`TupleCounter::index`]. A load creates all of them for
    /// each live tuple.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN
            .into_iter()
            .chain(FailureReason::ALL.iter().map(|r| Self::PaymentFailed(*r)))
            .chain(UnchargedReason::ALL.iter().map(|r| Self::VerifiedUncharged(*r)))
            .chain(LateResult::ALL.iter().map(|r| Self::ResolvedLate(*r)))
            .chain(ReplayState::ALL.iter().map(|s| Self::ReplayRejected(*s)))
    }
    /// Dense position below [`TupleCounter::COUNT`], so that a shell finds a counter by
    /// `tuple * COUNT + index` without hashing. Not stable across versions; never store it.
    pub const fn index(self) -> usize {
        match self {
            Self::PaymentPresented => 0,
            Self::PaymentRequired => 1,
            Self::PaymentVerified => 2,
            Self::UpstreamFailedAfterVerify => 3,
            Self::UpstreamFailedAfterCharge => 4,
            Self::UnresolvedOpened => 5,
            Self::UnresolvedClosed => 6,
            Self::PaymentFailed(reason) => Self::REASONS + reason.index(),
            Self::VerifiedUncharged(reason) => Self::UNCHARGED + reason.index(),
            Self::ResolvedLate(result) => Self::LATE + result.index(),
            Self::ReplayRejected(state) => Self::REPLAYED + state.index(),
        }
    }
}

/// One thing to count. Counting never fails a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stamp {
    /// Add one to a counter of a tuple.
    Tuple(TupleIndex, TupleCounter),
    /// One charge: the amount is part of the series (see [`RuleSet::charges`]).
    Charged(ChargeIndex),
    /// Set `last_payment_success_seconds` of a tuple to this Unix time.
    LastSuccess(TupleIndex, u64),
    /// Add one to `blocked_requests_total` of an offer; `None` where no route is known.
    Blocked(Option<OfferIndex>, BlockedReason),
    /// One facilitator call took this many milliseconds.
    Call(Operation, CallOutcome, u64),
}

// === impl Stamp ===

impl Stamp {
    /// Whether the stamp belongs to the money families, which the ledger counts (in direct mode the filter).
    pub const fn is_money(&self) -> bool {
        match self {
            Self::Charged(_) | Self::LastSuccess(..) => true,
            Self::Tuple(_, counter) => counter.is_money(),
            Self::Blocked(..) | Self::Call(..) => false,
        }
    }
    /// Whether a shell with these rules counts the stamp. With a relay, money is counted only by the relay's
    /// ledger.
    pub fn is_counted_under(&self, rules: &RuleSet) -> bool {
        !(self.is_money() && rules.has_relay())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_every_counter_is_its_place_in_the_list() {
        let all: Vec<_> = TupleCounter::all().collect();
        assert_eq!(all.len(), TupleCounter::COUNT);
        assert_eq!(TupleCounter::COUNT, 33);
        for (place, counter) in all.into_iter().enumerate() {
            assert_eq!(counter.index(), place, "{counter:?}");
        }
    }

    #[test]
    fn label_values_are_the_closed_sets_of_the_contract() {
        let reasons: Vec<_> = FailureReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "invalid_payment_header",
                "no_matching_requirement",
                "payment_invalid",
                "facilitator_unreachable",
                "facilitator_error",
                "facilitator_overloaded",
                "companion_unreachable",
                "client_disconnected",
                "settlement_failed",
                "settlement_rejected",
                "payment_replayed",
                "insecure_transport",
                "replay_guard_unavailable",
                "clock_wrong",
                "internal_error",
                "other",
            ]
        );
        for (place, reason) in FailureReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            assert_eq!(FailureReason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(FailureReason::parse("free text of a facilitator"), None);
        assert_eq!(BlockedReason::COUNT, 11);
    }
}
