//! From a push to a [`super::RuleSet`].

/// Why a push cannot be used. The text names the member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);
