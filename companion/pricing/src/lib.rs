//! The operator's pricing file: YAML that is read, resolved and audited to a [`Snapshot`]. Each push is made of a
//! snapshot.
//!
//! Every load uses [`load_with`], which returns every [`Finding`] at once, with its line. A mistake in one route takes
//! that route off sale; a contradiction rejects the file.
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
