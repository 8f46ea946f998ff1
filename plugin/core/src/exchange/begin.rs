//! The request head: path, route, gate, challenge, local checks (contract 6.2 rows 1 to 14).

use super::{RequestHead, Turn};
use crate::Now;
use crate::rules::RuleSet;
use std::sync::Arc;

/// Starts an exchange. Total: any bytes in, one turn out.
pub fn begin(rules: &Arc<RuleSet>, head: &RequestHead<'_>, now: Now) -> Turn {
    let _ = (rules, head, now);
    todo!()
}
