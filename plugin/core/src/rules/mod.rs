//! Pricing rules: from the operator's file to the table a proxy matches with.
//!
//! `PricingFile` (YAML, companion only) → [`Snapshot`] → [`PushedRules`] (JSON, pushed) → [`RuleSet`].

mod compile;
mod matcher;
mod path;
mod pattern;
mod pushed;
mod read;
mod ruleset;

#[cfg(feature = "pricing-file")]
mod chain;
#[cfg(feature = "pricing-file")]
mod coverage;
#[cfg(feature = "pricing-file")]
mod dialect;
#[cfg(feature = "pricing-file")]
mod expression;
#[cfg(feature = "pricing-file")]
mod load;
#[cfg(feature = "pricing-file")]
mod mixed;
#[cfg(feature = "pricing-file")]
mod option;
#[cfg(feature = "pricing-file")]
mod pricing_file;
#[cfg(feature = "pricing-file")]
mod resolve;
#[cfg(feature = "pricing-file")]
mod snapshot;
#[cfg(feature = "pricing-file")]
mod upstream;
#[cfg(feature = "pricing-file")]
mod url;
#[cfg(feature = "pricing-file")]
mod yaml;

pub use compile::CompileError;
pub use matcher::{Lookup, RouteIndex};
pub use path::{AmbiguousPath, CanonicalPath, canonicalize};
pub use pushed::{FORMAT, Facilitator, Gate, PublicPath, PushedRoute, PushedRules};
pub(crate) use ruleset::RouteChallenge;
pub use ruleset::{ChargeIndex, OfferIndex, Route, RuleSet, TupleIndex};

#[cfg(feature = "pricing-file")]
pub use chain::read_chain;
#[cfg(feature = "pricing-file")]
pub use expression::{Shape, Take, covering, plain};
#[cfg(feature = "pricing-file")]
pub use load::{Finding, LoadOptions, Loaded, Severity, load, load_with};
pub use matcher::without_case;
#[cfg(feature = "pricing-file")]
pub use snapshot::{HostSetting, NotPushed, SkipReason, SkipScope, Skipped, Snapshot};
#[cfg(feature = "pricing-file")]
pub use upstream::{Credential, RouteUpstream};
#[cfg(feature = "pricing-file")]
pub use url::{HttpUrl, UrlError};
