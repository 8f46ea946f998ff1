//! What the gateway counts, in a spool of its own (see [`crate::collect::Spools`]): a line written before an answer's
//! head is sent is counted, whoever ends the companion then.

use farebox_core::metrics::{Stamp, series_of};
use farebox_core::rules::RuleSet;

use crate::collect::SpoolWriter;

/// Where the gateway counts.
#[derive(Debug)]
pub(super) struct Meters(SpoolWriter);

// === impl Meters ===

impl Meters {
    pub(super) const fn new(spool: SpoolWriter) -> Self {
        Self(spool)
    }

    /// Counts stamps: the one place where the gateway counts anything. Money is left out, as the ledger counts it.
    pub(super) fn count(&self, rules: &RuleSet, stamps: &[Stamp]) {
        let counted = stamps.iter().filter(|stamp| rules.counts(stamp));
        let growth: Vec<_> = counted.flat_map(|stamp| series_of(stamp, rules)).collect();
        self.0.write(rules.generation, &growth);
    }
}
