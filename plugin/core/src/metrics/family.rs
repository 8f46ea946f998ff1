//! The public families: names, types, help and labels. They are an interface: they are the same as
//! in the verifier that Farebox replaces, so that its dashboards, recording rules and alerts still
//! work.

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

/// Every family.
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
    ProxyUp,
    ProxyConfigGeneration,
    ProxiesConnected,
    ProxyPushesAcknowledgedTotal,
    ProxyPushesRefusedTotal,
    ReportsDroppedTotal,
    Ready,
    FacilitatorUp,
    LedgerUp,
    ProxyReachesCompanion,
    ProxyClockDifferenceSeconds,
    GatewayReachable,
    BuildInfo,
}

impl Family {
    /// Every family, in exposition order.
    pub const ALL: [Self; 37] = [
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
        Self::ProxyUp,
        Self::ProxyConfigGeneration,
        Self::ProxiesConnected,
        Self::ProxyPushesAcknowledgedTotal,
        Self::ProxyPushesRefusedTotal,
        Self::ReportsDroppedTotal,
        Self::Ready,
        Self::FacilitatorUp,
        Self::LedgerUp,
        Self::ProxyReachesCompanion,
        Self::ProxyClockDifferenceSeconds,
        Self::GatewayReachable,
        Self::BuildInfo,
    ];
    /// Full name with [`PREFIX`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestsTotal => "obol_x402_verifier_requests_total",
            Self::PaymentRequiredTotal => "obol_x402_verifier_payment_required_total",
            Self::PaymentVerifiedTotal => "obol_x402_verifier_payment_verified_total",
            Self::PaymentFailedTotal => "obol_x402_verifier_payment_failed_total",
            Self::ChargedRequestsTotal => "obol_x402_verifier_charged_requests_total",
            Self::LastPaymentSuccessSeconds => "obol_x402_verifier_last_payment_success_seconds",
            Self::PaymentFailureReasonsTotal => "obol_x402_verifier_payment_failure_reasons_total",
            Self::UpstreamFailedAfterVerifyTotal => "obol_x402_verifier_upstream_failed_after_verify_total",
            Self::SettledAmountAtomicTotal => "obol_x402_verifier_settled_amount_atomic_total",
            Self::VerifiedUnchargedTotal => "obol_x402_verifier_verified_uncharged_total",
            Self::UpstreamFailedAfterChargeTotal => "obol_x402_verifier_upstream_failed_after_charge_total",
            Self::SettlementsUnresolved => "obol_x402_verifier_settlements_unresolved",
            Self::SettlementsResolvedLateTotal => "obol_x402_verifier_settlements_resolved_late_total",
            Self::ReplayRejectionsTotal => "obol_x402_verifier_replay_rejections_total",
            Self::FacilitatorRequestDurationSeconds => {
                "obol_x402_verifier_facilitator_request_duration_seconds"
            }
            Self::BlockedRequestsTotal => "obol_x402_verifier_blocked_requests_total",
            Self::OffersLoaded => "obol_x402_verifier_offers_loaded",
            Self::RoutesLoaded => "obol_x402_verifier_routes_loaded",
            Self::SkippedOffers => "obol_x402_verifier_skipped_offers",
            Self::ConfigGeneration => "obol_x402_verifier_config_generation",
            Self::ConfigLastReloadSuccessful => "obol_x402_verifier_config_last_reload_successful",
            Self::ConfigLastReloadSuccessTimestampSeconds => {
                "obol_x402_verifier_config_last_reload_success_timestamp_seconds"
            }
            Self::ConfigReloadsTotal => "obol_x402_verifier_config_reloads_total",
            Self::ProxyLastReportTimestampSeconds => "obol_x402_verifier_proxy_last_report_timestamp_seconds",
            Self::ProxyUp => "obol_x402_verifier_proxy_up",
            Self::ProxyConfigGeneration => "obol_x402_verifier_proxy_config_generation",
            Self::ProxiesConnected => "obol_x402_verifier_proxies_connected",
            Self::ProxyPushesAcknowledgedTotal => "obol_x402_verifier_proxy_pushes_acknowledged_total",
            Self::ProxyPushesRefusedTotal => "obol_x402_verifier_proxy_pushes_refused_total",
            Self::ReportsDroppedTotal => "obol_x402_verifier_reports_dropped_total",
            Self::Ready => "obol_x402_verifier_ready",
            Self::FacilitatorUp => "obol_x402_verifier_facilitator_up",
            Self::LedgerUp => "obol_x402_verifier_ledger_up",
            Self::ProxyReachesCompanion => "obol_x402_verifier_proxy_reaches_companion",
            Self::ProxyClockDifferenceSeconds => "obol_x402_verifier_proxy_clock_difference_seconds",
            Self::GatewayReachable => "obol_x402_verifier_gateway_reachable",
            Self::BuildInfo => "obol_x402_verifier_build_info",
        }
    }
    /// Exact help text.
    pub const fn help(self) -> &'static str {
        match self {
            Self::RequestsTotal => "Requests evaluated by the x402 verifier for matched paid routes.",
            Self::PaymentRequiredTotal => "Requests rejected with 402 because payment was required.",
            Self::PaymentVerifiedTotal => "Requests approved after successful x402 payment verification.",
            Self::PaymentFailedTotal => {
                "Requests rejected after a provided x402 payment failed verification."
            }
            Self::ChargedRequestsTotal => "Requests that incurred a paid x402 charge.",
            Self::LastPaymentSuccessSeconds => {
                "Unix timestamp (seconds) of the most recent successful paid x402 charge for a route."
            }
            Self::PaymentFailureReasonsTotal => {
                "Payment-flow failures split by machine-readable reason (payment_invalid, \
                 facilitator_unreachable, facilitator_error, settlement_failed, ...)."
            }
            Self::UpstreamFailedAfterVerifyTotal => {
                "Paid requests whose x402 payment verified but whose upstream returned an error (not settled)."
            }
            Self::SettledAmountAtomicTotal => "Settled x402 payments in the smallest unit of the asset.",
            Self::VerifiedUnchargedTotal => "Verified x402 requests served without a charge.",
            Self::UpstreamFailedAfterChargeTotal => "Charged x402 requests whose upstream then failed.",
            Self::SettlementsUnresolved => "x402 settlements whose outcome is not yet known.",
            Self::SettlementsResolvedLateTotal => {
                "x402 settlements whose outcome was learned after the response."
            }
            Self::ReplayRejectionsTotal => {
                "Payments rejected because their authorization was already in use."
            }
            Self::FacilitatorRequestDurationSeconds => "Duration of facilitator calls.",
            Self::BlockedRequestsTotal => "Requests refused before the payment stage.",
            Self::OffersLoaded => "Offers in the active configuration.",
            Self::RoutesLoaded => "Routes in the active configuration.",
            Self::SkippedOffers => "Routes or payment options left out of the active configuration.",
            Self::ConfigGeneration => "Generation of the active configuration.",
            Self::ConfigLastReloadSuccessful => "Whether the last configuration load succeeded.",
            Self::ConfigLastReloadSuccessTimestampSeconds => {
                "Unix timestamp of the last successful configuration load."
            }
            Self::ConfigReloadsTotal => "Configuration load attempts.",
            Self::ProxyLastReportTimestampSeconds => "Unix timestamp of the last report of a proxy instance.",
            Self::ProxyUp => "Whether a proxy instance reported within the last 10 seconds.",
            Self::ProxyConfigGeneration => "Configuration generation a proxy instance enforces; 0 for none.",
            Self::ProxiesConnected => "Proxy instances that reported within the last 60 seconds.",
            Self::ProxyPushesAcknowledgedTotal => {
                "Configurations pushed over gRPC that a proxy instance acknowledged."
            }
            Self::ProxyPushesRefusedTotal => "Configurations pushed over gRPC that a proxy instance refused.",
            Self::ReportsDroppedTotal => "Metric values refused by the companion.",
            Self::Ready => "Whether the companion is ready: what /readyz says.",
            Self::FacilitatorUp => "Whether a facilitator answered when it was last asked what it supports.",
            Self::LedgerUp => "Whether the ledger can be used.",
            Self::ProxyReachesCompanion => "Whether a proxy instance reaches the relay of the companion.",
            Self::ProxyClockDifferenceSeconds => {
                "Seconds the clock of a proxy instance is ahead of the companion's."
            }
            Self::GatewayReachable => "Whether the companion reaches the gateway where Traefik looks for it.",
            Self::BuildInfo => "The version of the companion; always 1.",
        }
    }
    /// Type.
    pub const fn kind(self) -> Kind {
        match self {
            Self::LastPaymentSuccessSeconds
            | Self::SettlementsUnresolved
            | Self::OffersLoaded
            | Self::RoutesLoaded
            | Self::SkippedOffers
            | Self::ConfigGeneration
            | Self::ConfigLastReloadSuccessful
            | Self::ConfigLastReloadSuccessTimestampSeconds
            | Self::ProxyLastReportTimestampSeconds
            | Self::ProxyUp
            | Self::ProxyConfigGeneration
            | Self::ProxiesConnected
            | Self::Ready
            | Self::FacilitatorUp
            | Self::LedgerUp
            | Self::ProxyReachesCompanion
            | Self::ProxyClockDifferenceSeconds
            | Self::GatewayReachable
            | Self::BuildInfo => Kind::Gauge,
            Self::FacilitatorRequestDurationSeconds => Kind::Histogram,
            _ => Kind::Counter,
        }
    }
    /// Whether its series carry the four tuple labels (a "T family").
    pub const fn is_tuple(self) -> bool {
        matches!(
            self,
            Self::RequestsTotal
                | Self::PaymentRequiredTotal
                | Self::PaymentVerifiedTotal
                | Self::PaymentFailedTotal
                | Self::ChargedRequestsTotal
                | Self::LastPaymentSuccessSeconds
                | Self::PaymentFailureReasonsTotal
                | Self::UpstreamFailedAfterVerifyTotal
                | Self::SettledAmountAtomicTotal
                | Self::VerifiedUnchargedTotal
                | Self::UpstreamFailedAfterChargeTotal
                | Self::SettlementsUnresolved
                | Self::SettlementsResolvedLateTotal
                | Self::ReplayRejectionsTotal
        )
    }
    /// Whether its series carry only the offer labels (an "O family").
    pub const fn is_offer(self) -> bool {
        matches!(self, Self::BlockedRequestsTotal | Self::SkippedOffers)
    }
    /// Names of the labels beyond tuple or offer, in exposition order.
    pub const fn extra_labels(self) -> &'static [&'static str] {
        match self {
            Self::PaymentFailureReasonsTotal
            | Self::VerifiedUnchargedTotal
            | Self::BlockedRequestsTotal
            | Self::ReportsDroppedTotal => &["reason"],
            Self::SettlementsResolvedLateTotal => &["result"],
            Self::ReplayRejectionsTotal => &["state"],
            Self::FacilitatorRequestDurationSeconds => &["operation", "outcome"],
            Self::RoutesLoaded => &["gate"],
            Self::SkippedOffers => &["scope", "reason"],
            Self::ConfigLastReloadSuccessful | Self::ConfigLastReloadSuccessTimestampSeconds => &["source"],
            Self::ConfigReloadsTotal => &["source", "result"],
            Self::ProxyLastReportTimestampSeconds
            | Self::ProxyUp
            | Self::ProxyConfigGeneration
            | Self::ProxyPushesAcknowledgedTotal
            | Self::ProxyPushesRefusedTotal
            | Self::ProxyReachesCompanion
            | Self::ProxyClockDifferenceSeconds => &["proxy", "proxy_instance"],
            Self::FacilitatorUp => &["facilitator"],
            Self::BuildInfo => &["version"],
            Self::ProxiesConnected => &["proxy"],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_help_and_types_of_the_original_eight_are_byte_for_byte() {
        let expected = [
            ("requests_total", "Requests evaluated by the x402 verifier for matched paid routes."),
            ("payment_required_total", "Requests rejected with 402 because payment was required."),
            ("payment_verified_total", "Requests approved after successful x402 payment verification."),
            ("payment_failed_total", "Requests rejected after a provided x402 payment failed verification."),
            ("charged_requests_total", "Requests that incurred a paid x402 charge."),
            (
                "last_payment_success_seconds",
                "Unix timestamp (seconds) of the most recent successful paid x402 charge for a route.",
            ),
            (
                "payment_failure_reasons_total",
                "Payment-flow failures split by machine-readable reason (payment_invalid, facilitator_unreachable, facilitator_error, settlement_failed, ...).",
            ),
            (
                "upstream_failed_after_verify_total",
                "Paid requests whose x402 payment verified but whose upstream returned an error (not settled).",
            ),
        ];
        for (family, (name, help)) in Family::ALL.into_iter().zip(expected) {
            assert_eq!(family.name(), format!("{PREFIX}{name}"));
            assert_eq!(family.help(), help);
            assert!(family.is_tuple());
            let gauge = name == "last_payment_success_seconds";
            assert_eq!(family.kind(), if gauge { Kind::Gauge } else { Kind::Counter });
            let reasons = name == "payment_failure_reasons_total";
            assert_eq!(family.extra_labels(), if reasons { &["reason"][..] } else { &[] });
        }
    }

    #[test]
    fn every_name_is_distinct_prefixed_and_suffixed_by_its_type() {
        let mut names = std::collections::BTreeSet::new();
        for family in Family::ALL {
            assert!(names.insert(family.name()));
            assert!(family.name().starts_with(PREFIX), "{}", family.name());
            assert_eq!(
                family.name().ends_with("_total"),
                family.kind() == Kind::Counter,
                "{}",
                family.name()
            );
            assert!(family.help().ends_with('.'), "{}", family.name());
            assert!(!(family.is_tuple() && family.is_offer()));
            for label in family.extra_labels() {
                assert!(!["route", "instance", "job", "pod"].contains(label));
            }
        }
        assert_eq!(names.len(), 37);
        assert_eq!(Family::ALL.into_iter().filter(|f| f.is_tuple()).count(), 14);
        assert_eq!(Family::ALL.into_iter().filter(|f| f.is_offer()).count(), 2);
    }
}
