//! The expected metrics, counted by the script that makes the requests. Names and closed sets are written
//! out here, so that a mistake in the product's own tables is found.

use std::collections::BTreeMap;

use farebox_testkit::stack::Scrape;

pub(crate) const PREFIX: &str = "obol_x402_verifier_";

const REASONS: [&str; 16] = [
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
];
const UNCHARGED: [&str; 4] = ["redirect", "redeemed", "dry_run", "other"];
const LATE: [&str; 3] = ["settled", "refused", "expired"];
const REPLAY: [&str; 3] = ["in_flight", "settled", "other_route"];
const BLOCKED: [&str; 11] = [
    "ambiguous_path",
    "ambiguous_body",
    "protected_prefix",
    "unmatched",
    "route_skipped",
    "auth_unsupported",
    "upgrade_refused",
    "config_not_loaded",
    "facilitator_not_ready",
    "internal_error",
    "other",
];
const OUTCOMES: [&str; 6] = ["success", "refused", "http_error", "bad_reply", "timeout", "unreachable"];

/// Labels of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tuple {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) chain: &'static str,
    pub(crate) symbol: &'static str,
}

/// One series: its name without the prefix, and its labels.
pub(crate) type Key = (String, BTreeMap<String, String>);

/// The counts so far. Each method counts one event.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    values: BTreeMap<Key, u128>,
    /// When each tuple was last charged, Unix seconds.
    pub(crate) charged_at: BTreeMap<Tuple, u64>,
}

// === impl Tuple ===

impl Tuple {
    pub(crate) const fn new(name: &'static str, chain: &'static str, symbol: &'static str) -> Self {
        Self { namespace: "shop", name, chain, symbol }
    }

    pub(crate) fn labels(&self) -> [(&'static str, &'static str); 4] {
        [
            ("offer_namespace", self.namespace),
            ("offer_name", self.name),
            ("chain", self.chain),
            ("asset_symbol", self.symbol),
        ]
    }
}

// === impl Tally ===

impl Tally {
    /// Zeros of every tuple, of blocked requests without an offer, and of every kind of facilitator call.
    /// The series of an offer's blocked requests appears with the first one.
    pub(crate) fn new(tuples: &[Tuple]) -> Self {
        let mut tally = Self::default();
        tuples.iter().for_each(|tuple| tally.appear(*tuple));
        BLOCKED.iter().for_each(|reason| tally.block("", "", reason, 0));
        for operation in ["verify", "settle"] {
            OUTCOMES.iter().for_each(|outcome| tally.add_calls(operation, outcome, 0));
        }
        tally
    }

    /// Adds a tuple with zeros.
    pub(crate) fn appear(&mut self, tuple: Tuple) {
        for family in [
            "requests_total",
            "payment_required_total",
            "payment_verified_total",
            "payment_failed_total",
            "charged_requests_total",
            "upstream_failed_after_verify_total",
            "settled_amount_atomic_total",
            "upstream_failed_after_charge_total",
            "settlements_unresolved",
        ] {
            self.tuple(family, tuple, &[], 0);
        }
        for (family, label, values) in [
            ("payment_failure_reasons_total", "reason", &REASONS[..]),
            ("verified_uncharged_total", "reason", &UNCHARGED),
            ("settlements_resolved_late_total", "result", &LATE),
            ("replay_rejections_total", "state", &REPLAY),
        ] {
            values.iter().for_each(|value| self.tuple(family, tuple, &[(label, value)], 0));
        }
    }

    // --- requests: each method is one whole request ---

    /// No payment.
    pub(crate) fn challenged(&mut self, primary: Tuple) {
        self.request(primary);
        self.tuple("payment_required_total", primary, &[], 1);
    }

    /// A payment that was refused, by Farebox or by the facilitator.
    pub(crate) fn refused(&mut self, primary: Tuple, tuple: Tuple, reason: &str) {
        self.request(primary);
        self.tuple("payment_failed_total", tuple, &[], 1);
        self.tuple("payment_failure_reasons_total", tuple, &[("reason", reason)], 1);
    }

    /// A payment that was in use or used.
    pub(crate) fn replayed(&mut self, primary: Tuple, tuple: Tuple, state: &str) {
        self.refused(primary, tuple, "payment_replayed");
        self.tuple("replay_rejections_total", tuple, &[("state", state)], 1);
    }

    /// A payment whose request is under way. Its end is another method's.
    pub(crate) fn presented(&mut self, primary: Tuple) {
        self.request(primary);
    }

    /// Paid, charged, served.
    pub(crate) fn sold(&mut self, primary: Tuple, tuple: Tuple, amount: u128, at: u64) {
        self.request(primary);
        self.sold_presented(tuple, amount, at);
    }

    /// The same of a request that was counted as presented.
    pub(crate) fn sold_presented(&mut self, tuple: Tuple, amount: u128, at: u64) {
        self.tuple("payment_verified_total", tuple, &[], 1);
        self.tuple("charged_requests_total", tuple, &[], 1);
        self.tuple("settled_amount_atomic_total", tuple, &[], amount);
        self.charged_at.insert(tuple, at);
    }

    /// Served without a charge.
    pub(crate) fn uncharged(&mut self, primary: Tuple, tuple: Tuple, reason: &str) {
        self.request(primary);
        self.tuple("payment_verified_total", tuple, &[], 1);
        self.tuple("verified_uncharged_total", tuple, &[("reason", reason)], 1);
    }

    /// Verified, and the upstream failed.
    pub(crate) fn upstream_failed(&mut self, primary: Tuple, tuple: Tuple) {
        self.request(primary);
        self.tuple("upstream_failed_after_verify_total", tuple, &[], 1);
    }

    /// Refused before the payment stage.
    pub(crate) fn blocked(&mut self, offer: (&str, &str), reason: &str) {
        self.block(offer.0, offer.1, reason, 1);
    }

    // --- what comes beside a request ---

    /// The upstream of a charged request failed.
    pub(crate) fn failed_after_charge(&mut self, tuple: Tuple) {
        self.tuple("upstream_failed_after_charge_total", tuple, &[], 1);
    }

    /// A settlement became open.
    pub(crate) fn opened(&mut self, tuple: Tuple) {
        self.tuple("settlements_unresolved", tuple, &[], 1);
    }

    /// An open settlement was resolved.
    pub(crate) fn closed(&mut self, tuple: Tuple) {
        *self.values.get_mut(&key("settlements_unresolved", &tuple.labels())).expect("it was opened") -= 1;
    }

    /// An open settlement was resolved as settled while no request waited: a charge whose answer is owed.
    pub(crate) fn settled_late(&mut self, tuple: Tuple, amount: u128, at: u64) {
        self.closed(tuple);
        self.tuple("settlements_resolved_late_total", tuple, &[("result", "settled")], 1);
        self.tuple("charged_requests_total", tuple, &[], 1);
        self.tuple("settled_amount_atomic_total", tuple, &[], amount);
        self.charged_at.insert(tuple, at);
    }

    /// Number of settlements that were resolved while no request waited.
    pub(crate) fn late(&self, tuple: Tuple) -> u128 {
        let labels = [&tuple.labels()[..], &[("result", "settled")]].concat();
        self.values[&key("settlements_resolved_late_total", &labels)]
    }

    /// A facilitator call.
    pub(crate) fn call(&mut self, operation: &str, outcome: &str) {
        self.add_calls(operation, outcome, 1);
    }

    /// A gauge or counter that is not about requests.
    pub(crate) fn fixed(&mut self, family: &str, labels: &[(&str, &str)], value: u128) {
        self.values.insert(key(family, labels), value);
    }

    /// Takes the real value of a series, after a difference was reported, so that the test can continue.
    pub(crate) fn take(&mut self, key: Key, value: Option<u128>) {
        match value {
            Some(value) => drop(self.values.insert(key, value)),
            None => drop(self.values.remove(&key)),
        }
    }

    /// Removes an offer, by namespace and name.
    pub(crate) fn forget(&mut self, (namespace, name): (&str, &str)) {
        let is_its = |labels: &BTreeMap<String, String>| {
            labels.get("offer_namespace").is_some_and(|has| has == namespace)
                && labels.get("offer_name").is_some_and(|has| has == name)
        };
        self.values.retain(|(_, labels), _| !is_its(labels));
        self.charged_at.retain(|tuple, _| (tuple.namespace, tuple.name) != (namespace, name));
    }

    // --- sums ---

    /// Every series that is known exactly.
    pub(crate) const fn values(&self) -> &BTreeMap<Key, u128> {
        &self.values
    }

    /// Value of a series of a tuple.
    pub(crate) fn of(&self, family: &str, tuple: Tuple) -> u128 {
        self.values[&key(family, &tuple.labels())]
    }

    /// Sum of a family.
    pub(crate) fn sum(&self, family: &str) -> u128 {
        self.values.iter().filter(|((name, _), _)| name == family).map(|(_, value)| value).sum()
    }

    /// Calls of one operation, with any outcome.
    pub(crate) fn calls(&self, operation: &str) -> u128 {
        let counts = self.values.iter().filter(|((name, labels), _)| {
            name == "facilitator_request_duration_seconds_count" && labels["operation"] == operation
        });
        counts.map(|(_, value)| value).sum()
    }

    fn request(&mut self, primary: Tuple) {
        self.tuple("requests_total", primary, &[], 1);
    }

    fn tuple(&mut self, family: &str, tuple: Tuple, extra: &[(&str, &str)], by: u128) {
        *self.values.entry(key(family, &[&tuple.labels(), extra].concat())).or_default() += by;
    }

    fn block(&mut self, namespace: &str, name: &str, reason: &str, by: u128) {
        let labels = [("offer_namespace", namespace), ("offer_name", name), ("reason", reason)];
        *self.values.entry(key("blocked_requests_total", &labels)).or_default() += by;
    }

    fn add_calls(&mut self, operation: &str, outcome: &str, by: u128) {
        let labels = [("operation", operation), ("outcome", outcome)];
        *self.values.entry(key("facilitator_request_duration_seconds_count", &labels)).or_default() += by;
    }
}

fn key(family: &str, labels: &[(&str, &str)]) -> Key {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (family.to_owned(), labels.collect())
}

/// The series of a page by name and labels. A repeated series is an error.
pub(crate) fn series(page: &Scrape) -> BTreeMap<Key, String> {
    let mut found = BTreeMap::new();
    for series in page.series() {
        let name = series.name.strip_prefix(PREFIX).expect("every family has the prefix").to_owned();
        let twice = found.insert((name, series.labels.clone()), series.value.clone());
        assert_eq!(twice, None, "a series is there twice: {series:?}");
    }
    found
}
