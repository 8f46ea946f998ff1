//! The rules in force, and the attempts to load others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farebox_core::rules::Gate;
use farebox_core::terms::Tuple;
use farebox_pricing::{Finding, Severity, Snapshot};

use super::Offered;

/// The state of the rules. Only the loader writes it.
#[derive(Debug)]
pub struct RulesState {
    /// Path of the pricing file, for messages.
    pub pricing: String,
    /// The rules in force; `None` until the first load succeeds.
    pub active: Option<Active>,
    /// Paths that the rules in force refuse for a while, although the pricing file does not name them.
    pub kept_closed: Option<KeptClosed>,
    /// Since when a program has been writing the pricing file, Unix seconds.
    pub written_since: Option<u64>,
    /// The current and earlier published terms.
    pub offered: Offered,
    /// The last load attempt.
    pub last_attempt: Option<Arc<Attempt>>,
    /// When attempts began to fail, Unix seconds; `None` if the last one succeeded.
    pub config_err_since: Option<u64>,
    /// When a load was last applied or found unchanged, Unix seconds.
    pub last_success_at: Option<u64>,
    /// Load attempts by result, in the order of [`ReloadResult::ALL`].
    pub reloads: [u64; 3],
}

/// The rules in force.
#[derive(Debug, Clone)]
pub struct Active {
    /// See [`farebox_core::rules::PushedRules::generation`].
    pub generation: u64,
    /// Content hash of the push.
    pub hash: String,
    /// The resolved rules.
    pub snapshot: Arc<Snapshot>,
    /// Unix seconds.
    pub applied_at: u64,
}

/// Why nothing is for sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NothingForSale {
    /// The pricing file sells nothing.
    Meant(String),
    /// Every paid route was left out because of a mistake.
    Mistaken(String),
}

/// Paths that stay closed for a while, because a file may be written in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptClosed {
    /// Prefixes and globs.
    pub places: Vec<String>,
    /// Unix seconds.
    pub until: u64,
}

/// One load attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The result.
    pub result: ReloadResult,
    /// Unix seconds.
    pub at: u64,
    /// Time from reading the file until the rules are in force and given to the publishers, including the wait for a
    /// new facilitator.
    pub took: Duration,
    /// Why it was rejected, if not because of a finding.
    pub error: Option<String>,
    /// The findings about the file.
    pub findings: Vec<Finding>,
}

/// `result` of `config_reloads_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// New rules are in force.
    Applied,
    /// The rules are the same as before.
    Unchanged,
    /// The last good rules stay.
    Rejected,
}

// === impl RulesState ===

impl RulesState {
    /// The state before the first load.
    pub fn new(pricing: String) -> Self {
        Self {
            pricing,
            active: None,
            kept_closed: None,
            written_since: None,
            offered: Offered::default(),
            last_attempt: None,
            config_err_since: None,
            last_success_at: None,
            reloads: [0; 3],
        }
    }

    /// Puts rules in force. `series` have the births.
    pub fn publish(&mut self, rules: Active, series: &[Tuple]) {
        self.offered.publish(&rules.snapshot, series, Instant::now());
        self.active = Some(rules);
    }

    /// Takes the rules out of force; their terms stay offered.
    pub fn withdraw(&mut self) {
        self.active = None;
    }

    /// Notes a load attempt.
    pub fn attempted(&mut self, attempt: Attempt) {
        self.reloads[attempt.result as usize] += 1;
        if attempt.result == ReloadResult::Rejected {
            self.config_err_since.get_or_insert(attempt.at);
        } else {
            self.config_err_since = None;
            self.last_success_at = Some(attempt.at);
        }
        self.last_attempt = Some(Arc::new(attempt));
    }

    /// A message if the pricing file is not read because a program is writing it.
    pub fn being_written(&self) -> Option<String> {
        let (since, pricing) = (self.written_since?, &self.pricing);
        Some(format!(
            "{pricing} has been open for writing since {since} (Unix time): the rules before it stay in force until it is closed"
        ))
    }

    /// Why no rules are in force; `None` if some are.
    pub fn not_loaded(&self) -> Option<String> {
        if self.active.is_some() {
            return None;
        }
        let cause = match &self.last_attempt {
            None => "no attempt has finished yet".to_owned(),
            Some(attempt) => attempt.cause(&self.pricing),
        };
        Some(format!("configuration not loaded: {cause}"))
    }

    /// Why nothing is for sale. This is a fault if mistakes in the pricing file left out every paid route.
    pub fn nothing_for_sale(&self) -> Option<NothingForSale> {
        let snapshot = &self.active.as_ref()?.snapshot;
        if snapshot.routes.iter().any(|route| route.gate == Gate::Paid) {
            return None;
        }
        let pricing = &self.pricing;
        Some(match snapshot.skipped.first() {
            None => NothingForSale::Meant(format!("nothing is for sale: {pricing} has no paid route")),
            Some(first) => NothingForSale::Mistaken(format!(
                "nothing is for sale: every paid route of {pricing} was left out, {} for {} in line {}",
                first.pattern,
                first.reason.as_str(),
                first.line
            )),
        })
    }

    /// Why nothing is for sale, if that is a fault.
    pub fn all_left_out(&self) -> Option<String> {
        match self.nothing_for_sale()? {
            NothingForSale::Meant(_) => None,
            NothingForSale::Mistaken(cause) => Some(match &self.last_attempt {
                Some(last) if last.result == ReloadResult::Rejected => {
                    format!("{cause}; a newer file was rejected: {}", last.cause(&self.pricing))
                }
                _ => cause,
            }),
        }
    }
}

// === impl KeptClosed ===

impl KeptClosed {
    /// A message about these paths.
    pub fn describe(&self, pricing: &str) -> String {
        const NAMED: usize = 10;

        let named = self.places.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match self.places.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "{named}{more} stay closed (403) until {} (Unix time), because a file may be written in parts: they were sold or \
             closed, {pricing} does not name them any more, and unmatched paths pass",
            self.until
        )
    }
}

// === impl Attempt ===

impl Attempt {
    /// The first reason of its rejection, with its place.
    pub fn cause(&self, pricing: &str) -> String {
        if let Some(error) = &self.error {
            return error.clone();
        }
        let first = self.findings.iter().find(|finding| finding.severity == Severity::Reject);
        first.map_or_else(|| "nothing is wrong".to_owned(), |finding| describe(pricing, finding))
    }
}

// === impl ReloadResult ===

impl ReloadResult {
    /// Every result, in exposition order.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Rejected];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
        }
    }
}

/// `file:line: key: message`.
pub fn describe(pricing: &str, finding: &Finding) -> String {
    format!("{pricing}:{}: {}: {}", finding.line, finding.key, finding.message)
}
