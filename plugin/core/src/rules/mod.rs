//! Rules: the push of the companion, and the table with which a proxy matches requests.
//!
//! [`PushedRules`] (JSON) → [`RuleSet`]. The companion makes the push from the operator's pricing file.

pub mod pattern;

mod compile;
mod gradual;
mod matcher;
mod path;
mod pushed;
mod read;
mod ruleset;

pub use compile::CompileError;
pub use gradual::{GradualCompile, Progress};
pub use matcher::{Lookup, RouteIndex, without_case};
pub use path::{AmbiguousPath, CanonicalPath, canonical_text, canonicalize};
pub use pushed::{FORMAT, Facilitator, Gate, PublicPath, PushedRoute, PushedRules};
pub use ruleset::{ChargeIndex, OfferIndex, Route, RuleSet, TupleIndex};
pub(crate) use ruleset::{RouteChallenge, Unseeded};
