//! The operator's pricing file: YAML, read, resolved and audited into a [`Snapshot`], of which each push is made.
//!
//! [`load_with`] is the way of every reload. It gives every [`Finding`] at once, with its line. A mistake in one route
//! takes that route off sale; a contradiction rejects the file.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod chain;
mod coverage;
mod dialect;
mod load;
mod mixed;
mod option;
mod pattern;
mod pricing_file;
mod resolve;
mod snapshot;
mod upstream;
mod url;
mod yaml;

pub use chain::read_chain;
pub use load::{Finding, LoadOptions, Loaded, Severity, load, load_with};
pub use snapshot::{HostSetting, NotPushed, SkipReason, SkipScope, Skipped, Snapshot};
pub use upstream::{Credential, RouteUpstream};
pub use url::{HttpUrl, UrlError};
