//! Finding the earlier route that matches every path of a later one.

use std::collections::HashMap;

use farebox_core::rules::pattern::{Glob, GlobSegment, Pattern, Token, segments};

/// The patterns of the routes so far, with an index that finds a covering pattern without trying all.
#[derive(Default)]
pub(super) struct Coverage {
    exact: HashMap<String, usize>,
    prefixes: HashMap<String, usize>,
    globs: HashMap<Option<String>, Vec<(usize, Glob)>>,
}

// === impl Coverage ===

impl Coverage {
    /// The first route so far that matches every path of `pattern`.
    ///
    /// An exact route also counts as covered if only one of its two forms, with and without a trailing
    /// slash, is covered, because one slash more must not make a paid path free.
    pub(super) fn covering(&self, pattern: &Pattern) -> Option<usize> {
        let literal = literal_start(pattern);
        let exact = match pattern {
            Pattern::Exact(path) => self.exact.get(path).copied(),
            _ => None,
        };
        let ends = literal.match_indices('/').map(|(at, _)| at).chain([literal.len()]);
        let prefix = ends.filter_map(|end| self.prefixes.get(literal.get(..end)?)).min().copied();
        let first = segments(&literal).next().filter(|_| !literal.is_empty()).map(str::to_owned);
        let globs = [first.is_some().then_some(first), Some(None)];
        let glob = globs
            .iter()
            .flatten()
            .filter_map(|first| self.globs.get(first))
            .flatten()
            .filter(|(_, glob)| covers(glob, pattern))
            .map(|(index, _)| *index)
            .min();
        [exact, prefix, glob].into_iter().flatten().min()
    }

    /// Adds the next route.
    pub(super) fn add(&mut self, index: usize, pattern: Pattern) {
        match pattern {
            Pattern::Exact(path) => {
                self.exact.entry(path).or_insert(index);
            }
            Pattern::Prefix(path) => {
                self.prefixes.entry(path).or_insert(index);
            }
            Pattern::Glob(glob) => {
                let first = glob.first_literal().map(str::to_owned);
                self.globs.entry(first).or_default().push((index, glob));
            }
        }
    }
}

/// The literal text with which every matching path begins.
pub(super) fn literal_start(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(path) | Pattern::Prefix(path) => path.clone(),
        Pattern::Glob(glob) => glob
            .segments
            .iter()
            .map_while(|segment| match segment {
                GlobSegment::Literal(text) => Some(format!("/{text}")),
                GlobSegment::Wild(_) => None,
            })
            .collect(),
    }
}

fn covers(glob: &Glob, pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Exact(path) => glob.matches(path) || glob.matches(&format!("{path}/")),
        Pattern::Prefix(path) => !path.is_empty() && glob.takes_rest && glob.matches_start(path),
        Pattern::Glob(other) => {
            let lengths = match (glob.takes_rest, other.takes_rest) {
                (true, _) => glob.segments.len() <= other.segments.len(),
                (false, true) => false,
                (false, false) => glob.segments.len() == other.segments.len(),
            };
            lengths
                && glob
                    .segments
                    .iter()
                    .zip(&other.segments)
                    .all(|(wide, narrow)| segment_covers(wide, narrow))
        }
    }
}

/// Whether a segment certainly covers another one: it matches everything, is the same, or matches the
/// other's literal.
fn segment_covers(wide: &GlobSegment, narrow: &GlobSegment) -> bool {
    wide == narrow || takes_all(wide) || matches!(narrow, GlobSegment::Literal(text) if wide.matches(text))
}

fn takes_all(segment: &GlobSegment) -> bool {
    matches!(segment, GlobSegment::Wild(tokens) if tokens.iter().all(|token| *token == Token::Many))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::normalize;

    fn pattern(text: &str) -> Pattern {
        normalize(text).unwrap().1
    }

    fn covering(earlier: &[&str], later: &str) -> Option<usize> {
        let mut coverage = Coverage::default();
        for (index, text) in earlier.iter().enumerate() {
            coverage.add(index, pattern(text));
        }
        coverage.covering(&pattern(later))
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        for (earlier, later) in [
            ("/a", "/a/"),
            ("/a/*", "/a"),
            ("/a/*", "/a/b"),
            ("/a/*", "/a/b/*"),
            ("/a/*", "/a/b-*/c"),
            ("/*", "/"),
            ("/*", "/*-x/y"),
            ("/a-*/x", "/a-1/x"),
            ("/a-*/*", "/a-1/*"),
            ("/a-*/*", "/a-1"),
            ("/a-*/*", "/a-1/b-*/c"),
            ("/a-*/x", "/a-*/x"),
            ("/*/b*/c", "/a/bb/c"),
        ] {
            assert_eq!(covering(&[earlier], later), Some(0), "{earlier} over {later}");
        }
    }

    #[test]
    fn patterns_that_only_overlap_do_not_cover() {
        for (earlier, later) in [
            ("/a", "/a/*"),
            ("/a/b/*", "/a/*"),
            ("/a/*", "/ab"),
            ("/a-*/x", "/a-1/*"),
            ("/a-*/x", "/a-1/y"),
            ("/a/*-x/b", "/a/*/b"),
            ("/a/*-x/*", "/*-x/*"),
        ] {
            assert_eq!(covering(&[earlier], later), None, "{earlier} over {later}");
        }
    }

    #[test]
    fn the_first_covering_route_is_named() {
        assert_eq!(covering(&["/a/b/c", "/a/b/*", "/a/*", "/*"], "/a/b/x"), Some(1));
    }
}
