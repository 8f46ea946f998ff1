//! The public families: names, types, help and labels, byte for byte as the contract has them.

/// Prefix of every public family.
pub const PREFIX: &str = "obol_x402_verifier_";

/// Upper bounds of the facilitator duration histogram, seconds.
pub const DURATION_BUCKETS: [&str; 13] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60"];

/// Type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Monotonic.
    Counter,
    /// May go down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// Every family of contract sections 1.2 and 1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is its family's name; `help` is the documentation")]
pub enum Family {
    RequestsTotal,
    PaymentRequiredTotal,
    PaymentVerifiedTotal,
    PaymentFailedTotal,
    ChargedRequestsTotal,
    LastPaymentSuccessSeconds,
    PaymentFailureReasonsTotal,
    UpstreamFailedAfterVerifyTotal,
    SettledAmountAtomicTotal,
    VerifiedUnchargedTotal,
    UpstreamFailedAfterChargeTotal,
    SettlementsUnresolved,
    SettlementsResolvedLateTotal,
    ReplayRejectionsTotal,
    FacilitatorRequestDurationSeconds,
    BlockedRequestsTotal,
    OffersLoaded,
    RoutesLoaded,
    SkippedOffers,
    ConfigGeneration,
    ConfigLastReloadSuccessful,
    ConfigLastReloadSuccessTimestampSeconds,
    ConfigReloadsTotal,
    ProxyLastReportTimestampSeconds,
    ProxyConfigGeneration,
    ProxiesConnected,
    ReportsDroppedTotal,
}

impl Family {
    /// Every family, in exposition order.
    pub const ALL: [Self; 27] = [
        Self::RequestsTotal,
        Self::PaymentRequiredTotal,
        Self::PaymentVerifiedTotal,
        Self::PaymentFailedTotal,
        Self::ChargedRequestsTotal,
        Self::LastPaymentSuccessSeconds,
        Self::PaymentFailureReasonsTotal,
        Self::UpstreamFailedAfterVerifyTotal,
        Self::SettledAmountAtomicTotal,
        Self::VerifiedUnchargedTotal,
        Self::UpstreamFailedAfterChargeTotal,
        Self::SettlementsUnresolved,
        Self::SettlementsResolvedLateTotal,
        Self::ReplayRejectionsTotal,
        Self::FacilitatorRequestDurationSeconds,
        Self::BlockedRequestsTotal,
        Self::OffersLoaded,
        Self::RoutesLoaded,
        Self::SkippedOffers,
        Self::ConfigGeneration,
        Self::ConfigLastReloadSuccessful,
        Self::ConfigLastReloadSuccessTimestampSeconds,
        Self::ConfigReloadsTotal,
        Self::ProxyLastReportTimestampSeconds,
        Self::ProxyConfigGeneration,
        Self::ProxiesConnected,
        Self::ReportsDroppedTotal,
    ];
    /// Full name with [`PREFIX`].
    pub const fn name(self) -> &'static str {
        todo!()
    }
    /// Exact help text.
    pub const fn help(self) -> &'static str {
        todo!()
    }
    /// Type.
    pub const fn kind(self) -> Kind {
        todo!()
    }
    /// Whether its series carry the four tuple labels (a "T family").
    pub const fn is_tuple(self) -> bool {
        todo!()
    }
    /// Whether its series carry only the offer labels (an "O family").
    pub const fn is_offer(self) -> bool {
        todo!()
    }
    /// Names of the labels beyond tuple or offer, in exposition order.
    pub const fn extra_labels(self) -> &'static [&'static str] {
        todo!()
    }
}
