//! Why the ledger cannot do what it was asked to.

use std::sync::Arc;

use crate::settings::Settlement;

/// Why the ledger cannot do what it was asked to. The text names the database and, where there is one, the fix.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be opened.
    #[error("the ledger {url} cannot be opened: {cause}")]
    Open {
        /// Without a password.
        url: String,
        /// What the database says.
        cause: String,
    },
    /// Its schema is not one this version knows.
    #[error(
        "the ledger {url} has a schema this version does not know ({cause}); use the version of farebox that wrote it, or a newer one"
    )]
    Schema {
        /// Without a password.
        url: String,
        /// What does not fit.
        cause: String,
    },
    /// Its schema is that of an earlier version, and it was opened to be read.
    #[error(
        "the ledger {url} has the schema {found} of an earlier version, this one reads {known}; `farebox run` of this version brings it up to date"
    )]
    Older {
        /// Without a password.
        url: String,
        /// Its schema.
        found: i64,
        /// That of this version.
        known: i64,
    },
    /// It was there when it was opened, and is not now.
    #[error("the ledger {url} cannot be reached: {cause}")]
    Unreachable {
        /// Without a password.
        url: String,
        /// What the database says.
        cause: String,
    },
    /// Its payments are settled by others.
    #[error(
        "facilitator.settlement is {ours}, and the ledger {url} belongs to {theirs}: {ours} would take payments again that {theirs} took. Set {theirs}, or change the ledger with `farebox ledger settlement {ours}` as \"Who settles\" in docs/ledger.md says"
    )]
    Settlement {
        /// Without a password.
        url: String,
        /// What is written in it.
        theirs: Settlement,
        /// What the settings say.
        ours: Settlement,
    },
    /// Another run of the companion has begun, and reads the spools.
    #[error(
        "another companion of the name `{companion}` reads its spools: give them different names (relay.companion), or stop one of them, and start the other again"
    )]
    Superseded {
        /// See [`crate::settings::RelaySettings::companion`].
        companion: String,
    },
    /// Another file, or none, is in its place.
    #[error(
        "the ledger {url} was replaced while it was open: stop the companion, put the file in its place (without the -wal and -shm files of another), and start it again"
    )]
    Replaced {
        /// Its URL.
        url: String,
    },
    /// A row holds what this version cannot read. Nothing is done with it.
    #[error("the ledger {url} holds a payment that cannot be read: {cause}")]
    Unreadable {
        /// Without a password.
        url: String,
        /// What does not fit.
        cause: String,
    },
    /// A statement failed: disk full, connection lost, file damaged.
    #[error("the ledger failed: {0}")]
    Failed(Arc<sqlx::Error>),
    /// It was closed.
    #[error("the ledger is closed")]
    Closed,
}

// === impl LedgerError ===

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(Arc::new(error))
    }
}
