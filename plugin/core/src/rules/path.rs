//! Paths as the proxy routes them: decoded once, collapsed, or refused (contract section 4).

/// Why a path could be read in two ways. All are answered 400 `ambiguous_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AmbiguousPath(pub &'static str);

/// A request target split into its canonical path and its untouched query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalPath {
    /// Decoded once, `//` collapsed, at most one trailing slash. Used for matching.
    pub path: String,
    /// What the upstream gets as `:path` if it differs from what the client sent: canonical path,
    /// percent-encoded again where needed, and the original query.
    pub rewritten: Option<String>,
    /// From `?` on, as sent, or empty.
    pub query: String,
}

/// Canonicalizes a `:path` or refuses it.
pub fn canonicalize(target: &[u8]) -> Result<CanonicalPath, AmbiguousPath> {
    let _ = target;
    todo!()
}
