//! Loading a pricing file: the one function for every reload path.

use super::Snapshot;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Noted; nothing is lost.
    Warning,
    /// One route or payment option is left out; its paths are refused.
    Skip,
    /// The whole file is rejected and the last good rules stay.
    Reject,
}

/// One thing found while loading, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// 1-based line in the file.
    pub line: usize,
    /// Key path, e.g. `routes[2].payments[0].price`.
    pub key: String,
    /// What is wrong and how to put it right. Never holds a secret.
    pub message: String,
}

/// The result of loading: every finding at once, and the snapshot unless something rejects.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// In file order.
    pub findings: Vec<Finding>,
    /// `None` if any finding is a [`Severity::Reject`].
    pub snapshot: Option<Snapshot>,
}

/// What a load takes from outside the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Replaces `facilitatorURL`. Held to the same rules.
    pub facilitator_url: Option<String>,
}

/// Parses, resolves and validates a pricing file.
pub fn load(text: &str) -> Loaded {
    load_with(text, &LoadOptions::default())
}

/// As [`load`], with values that do not come from the file.
pub fn load_with(text: &str, options: &LoadOptions) -> Loaded {
    let _ = (text, options);
    todo!()
}
