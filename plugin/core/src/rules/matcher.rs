//! Finding the route of a path. Exact and prefix patterns cost the same for ten routes and for ten thousand.
//!
//! Exact patterns are one hash lookup. Prefix patterns are one hash lookup for each segment boundary of the path,
//! up to the longest prefix in the rules. Globs are tried one by one, but only those that begin with the path's
//! first segment or with a wildcard. The lowest route index of the three wins, which is the first in list order.

use super::path::{bare, collapse, folded};
use super::pattern::{Glob, Pattern, PatternError, segments};
use super::{Gate, Route};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Position of a route in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteIndex(pub u32);

/// The result of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The first route in list order that matches.
    Route(RouteIndex),
    /// No route, but under the protected set: 403.
    Protected,
    /// No route: 404, or passed.
    Unmatched,
    /// The path has other terms for an upstream that ignores letter case, `;parameters`, or dots and spaces at
    /// the end of a segment: 400.
    Ambiguous,
}

/// A hasher without a random seed. Only the operator's patterns are inserted, so no client can make the tables
/// slow. For texts as short as paths the simplest hash is the fastest.
type Fixed = BuildHasherDefault<Fnv>;

/// FNV-1a with 64 bits.
struct Fnv(u64);

/// The compiled patterns and the protected set.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    exact: HashMap<Box<str>, RouteIndex, Fixed>,
    prefixes: HashMap<Box<str>, RouteIndex, Fixed>,
    longest_prefix: usize,
    globs: Globs<(RouteIndex, Glob)>,
    protected: Protected,
    /// The same patterns without letter case, if a pattern has a letter whose case could matter.
    folded: Option<Box<Self>>,
}

/// Globs by their first segment, if that is literal. Each list is in route order.
#[derive(Debug)]
struct Globs<T> {
    by_first: HashMap<Box<str>, Vec<T>, Fixed>,
    anywhere: Vec<T>,
}

/// The places where an unmatched path is refused, all in lower case.
#[derive(Debug, Default)]
struct Protected {
    prefixes: HashSet<Box<str>, Fixed>,
    longest_prefix: usize,
    globs: Globs<Glob>,
}

impl super::RuleSet {
    /// Looks up a canonical path. A closed set finds nothing.
    pub fn lookup(&self, path: &super::CanonicalPath<'_>) -> Lookup {
        let Some(matcher) = &self.matcher else { return Lookup::Unmatched };
        let found = matcher.lookup(&path.path);
        let other = match matcher.found_without_case(&path.path) {
            Some(other) if !matches!(found, Lookup::Protected | Lookup::Ambiguous) => other,
            _ => return found,
        };
        let is_free = |lookup| match lookup {
            Lookup::Unmatched => true,
            Lookup::Route(index) => {
                self.routes.get(index.0 as usize).is_some_and(|route| route.gate == Gate::Free)
            }
            Lookup::Protected | Lookup::Ambiguous => false,
        };
        let same = found == other || is_free(found) && is_free(other);
        if same { found } else { Lookup::Ambiguous }
    }
}

// === impl Fnv ===

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

// === impl Matcher ===

impl Matcher {
    /// Adds the pattern of the next route. Among equal patterns the first one added wins.
    pub(super) fn add(&mut self, index: RouteIndex, normalised: &str) -> Result<(), PatternError> {
        match Pattern::parse(normalised)? {
            Pattern::Exact(path) => {
                self.exact.entry(path.into()).or_insert(index);
            }
            Pattern::Prefix(path) => {
                self.longest_prefix = self.longest_prefix.max(path.len());
                self.prefixes.entry(path.into()).or_insert(index);
            }
            Pattern::Glob(glob) => {
                let first = glob.first_literal().map(Box::from);
                self.globs.add(first, (index, glob));
            }
        }
        Ok(())
    }

    /// Adds a member of the protected set: a path prefix, or a glob of leading segments.
    pub(super) fn protect(&mut self, place: &str) -> Result<(), PatternError> {
        self.protected.add(place)
    }

    /// Prepares the lookup without letter case. Of patterns that are equal without case, one that is not free
    /// wins.
    pub(super) fn fold(&mut self, routes: &[Route]) -> Result<(), PatternError> {
        if routes.iter().all(|route| is_folded(&route.pattern)) {
            return Ok(());
        }
        let mut other = Self::default();
        for is_free in [false, true] {
            for (index, route) in (0..).map(RouteIndex).zip(routes) {
                if (route.gate == Gate::Free) != is_free {
                    continue;
                }
                // Without case a range of letters can be empty.
                if other.add(index, &without_case(&route.pattern)).is_err() {
                    other.add(index, &route.pattern)?;
                }
            }
        }
        self.folded = Some(Box::new(other));
        Ok(())
    }

    pub(super) fn lookup(&self, path: &str) -> Lookup {
        let verdict = self.verdict(path);
        if path.split('/').all(|segment| bare(segment).len() == segment.len()) {
            return verdict;
        }
        if self.verdict(&barest(path)) == verdict { verdict } else { Lookup::Ambiguous }
    }

    /// The result of a lookup without letter case; `None` if case can make no difference.
    fn found_without_case(&self, path: &str) -> Option<Lookup> {
        let table = match &self.folded {
            None if is_folded(path) => return None,
            None => self,
            Some(table) => table,
        };
        let index = table.first_match(&barest(&without_case(path)));
        Some(index.map_or(Lookup::Unmatched, Lookup::Route))
    }

    fn verdict(&self, path: &str) -> Lookup {
        match self.first_match(path) {
            Some(index) => Lookup::Route(index),
            None if self.protected.holds(path) => Lookup::Protected,
            None => Lookup::Unmatched,
        }
    }

    fn first_match(&self, path: &str) -> Option<RouteIndex> {
        let exact = self.exact.get(path.strip_suffix('/').unwrap_or(path)).copied();
        let prefix = if self.prefixes.is_empty() {
            None
        } else {
            boundaries(path, self.longest_prefix).filter_map(|start| self.prefixes.get(start)).min().copied()
        };
        let best = exact.into_iter().chain(prefix).min();
        let glob = self
            .globs
            .candidates(path)
            .filter(|(index, _)| best.is_none_or(|best| *index < best))
            .filter(|(_, glob)| glob.matches(path))
            .map(|(index, _)| *index)
            .min();
        best.into_iter().chain(glob).min()
    }
}

/// Every prefix of a path that ends at a segment boundary, the empty one first, up to `longest` bytes.
fn boundaries(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    path.bytes()
        .enumerate()
        .filter_map(|(at, byte)| (byte == b'/').then_some(at))
        .chain([path.len()])
        .take_while(move |at| *at <= longest)
        .filter_map(|at| path.get(..at))
}

// === impl Globs ===

impl<T> Default for Globs<T> {
    fn default() -> Self {
        Self { by_first: HashMap::default(), anywhere: Vec::new() }
    }
}

impl<T> Globs<T> {
    fn add(&mut self, first_literal: Option<Box<str>>, glob: T) {
        match first_literal {
            Some(first) => self.by_first.entry(first).or_default().push(glob),
            None => self.anywhere.push(glob),
        }
    }

    fn candidates(&self, path: &str) -> impl Iterator<Item = &T> {
        let first = segments(path).next().unwrap_or_default();
        self.by_first.get(first).into_iter().flatten().chain(&self.anywhere)
    }
}

// === impl Protected ===

impl Protected {
    fn add(&mut self, place: &str) -> Result<(), PatternError> {
        let place = without_case(place);
        if place.contains('*') {
            let glob = Glob::parse(&place)?;
            let first = glob.first_literal().map(Box::from);
            self.globs.add(first, glob);
        } else {
            let prefix = place.strip_suffix('/').unwrap_or(&place);
            self.longest_prefix = self.longest_prefix.max(prefix.len());
            self.prefixes.insert(prefix.into());
        }
        Ok(())
    }

    fn holds(&self, path: &str) -> bool {
        let path = without_case(path);
        (!self.prefixes.is_empty()
            && boundaries(&path, self.longest_prefix).any(|start| self.prefixes.contains(start)))
            || self.globs.candidates(&path).any(|glob| glob.matches_start(&path))
    }
}

/// Folds letter case, so that two texts that differ only in case become equal.
pub fn without_case(text: &str) -> String {
    text.chars().map(folded).collect()
}

fn is_folded(text: &str) -> bool {
    text.chars().all(|letter| folded(letter) == letter)
}

/// A path as an upstream reads it that drops parameters, and dots and spaces at the end of a segment.
fn barest(path: &str) -> Cow<'_, str> {
    let segments: Vec<&str> = path.split('/').map(bare).collect();
    collapse(Cow::Owned(segments.join("/")))
}

#[cfg(test)]
#[path = "matcher_tests.rs"]
mod tests;
