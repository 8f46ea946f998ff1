//! Finding the route of a path. Exact and prefix patterns cost the same for ten routes and ten thousand.
//!
//! Exact patterns are one hash lookup. Prefix patterns are one hash lookup for each segment boundary of
//! the path, up to the longest prefix there is. Globs are tried one by one, but only those that begin with the
//! path's own first segment or with a wildcard. The lowest route index of the three wins, which is
//! exactly "the first in list order".

use super::path::{collapse, without_parameters};
use super::pattern::{Glob, Pattern, PatternError, segments};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

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

/// A hasher without a random seed: only the operator's patterns are ever inserted, so no client can make
/// the tables slow, and paths are short enough for the simplest one to be the fastest.
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
}

/// Globs by their first segment where that is literal. Each list is in route order.
#[derive(Debug)]
struct Globs<T> {
    by_first: HashMap<Box<str>, Vec<T>, Fixed>,
    anywhere: Vec<T>,
}

/// Where an unmatched path is refused. Everything in lower case.
#[derive(Debug, Default)]
struct Protected {
    prefixes: HashSet<Box<str>, Fixed>,
    longest_prefix: usize,
    globs: Globs<Glob>,
}

impl super::RuleSet {
    /// Looks up a canonical path. A closed set finds nothing.
    pub fn lookup(&self, path: &super::CanonicalPath<'_>) -> Lookup {
        self.matcher.as_ref().map_or(Lookup::Unmatched, |matcher| matcher.lookup(&path.path))
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

    pub(super) fn lookup(&self, path: &str) -> Lookup {
        let verdict = self.verdict(path);
        if !path.bytes().any(|byte| byte == b';') {
            return verdict;
        }
        let bare: Vec<&str> = path.split('/').map(without_parameters).collect();
        let bare = collapse(Cow::Owned(bare.join("/")));
        if self.verdict(&bare) == verdict { verdict } else { Lookup::Ambiguous }
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

/// Every beginning of a path that ends where a segment ends, the empty one first, none longer than `longest`.
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

/// A text in which letters differ by more than their case. Beyond ASCII that would take a table of 10 kB in
/// every filter, so there one letter stands for all: the set protects a little more than it must.
fn without_case(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c.to_ascii_lowercase() } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
#[path = "matcher_tests.rs"]
mod tests;
