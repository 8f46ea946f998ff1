//! Finding the route of a path. Exact and prefix patterns cost the same for ten routes and ten thousand.

/// Position of a route in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteIndex(pub u32);

/// What a path turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The first route in list order that matches.
    Route(RouteIndex),
    /// No route, but under the protected set: 403.
    Protected,
    /// No route: 404, or passed.
    Unmatched,
    /// A segment with `;parameters` matches differently with and without them: 400.
    Ambiguous,
}

/// The compiled patterns and the protected set.
#[derive(Debug)]
pub(super) struct Matcher {
    _private: (),
}

impl super::RuleSet {
    /// Looks up a canonical path. A closed set finds nothing.
    pub fn lookup(&self, path: &super::CanonicalPath) -> Lookup {
        let _ = path;
        todo!()
    }
}
