//! Compiling a push a few lines at a time.
//!
//! A proxy runs its filter and its requests in one thread, so requests would wait while the filter compiles thousands of
//! routes at once. The companion writes each member of the three lists on a line of its own; between two lines the
//! filter can do other work. The text is also plain JSON.

use super::compile::{CompileError, Compiler, unreadable};
use super::read::{read_route, read_string, read_tuple};
use super::{PushedRules, RuleSet};
use crate::members::Reason;

/// A push that is partly compiled.
#[derive(Debug)]
pub struct GradualCompile {
    text: String,
    /// Byte position of the next line.
    at: usize,
    list: List,
    compiler: Compiler,
}

/// The state of the compilation after some lines.
#[derive(Debug)]
pub enum Progress {
    /// Lines are left.
    More(Box<GradualCompile>),
    /// The rules are complete.
    Done(Box<RuleSet>),
}

/// The list that is read, in the order of a push.
#[derive(Debug, Clone, Copy)]
enum List {
    Tuples,
    Routes,
    Protected,
}

const TUPLES: &str = "\"tuples\":[";
const ROUTES: &str = "],\"routes\":[";
const PROTECTED: &str = "],\"protected\":[";
const END: &str = "]}";

impl PushedRules {
    /// The JSON of the push with each member of its lists on a line of its own, for [`GradualCompile`].
    pub fn to_lines(&self) -> String {
        let head = Self {
            hash: self.hash.clone(),
            settings: self.settings.clone(),
            facilitator: self.facilitator.clone(),
            tuples: Vec::new(),
            routes: Vec::new(),
            protected: Vec::new(),
            ..*self
        };
        let mut text = json(&head);
        // Thousands of routes are megabytes, and a growing text would copy them several times.
        text.reserve(self.tuples.len() * 128 + self.routes.len() * 512 + self.protected.len() * 32);
        text.truncate(text.len() - [ROUTES, PROTECTED, END].concat().len());
        list(&mut text, &self.tuples, ROUTES);
        list(&mut text, &self.routes, PROTECTED);
        list(&mut text, &self.protected, END);
        text
    }
}

/// Writes the members of a list, and then `after`.
fn list<T: serde::Serialize>(text: &mut String, members: &[T], after: &str) {
    for (position, member) in members.iter().enumerate() {
        text.push_str(if position == 0 { "\n" } else { ",\n" });
        text.push_str(&json(member));
    }
    text.push('\n');
    text.push_str(after);
}

/// Writes a value as JSON. This cannot fail, because the values have only strings, integers and maps with string keys.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

// === impl GradualCompile ===

impl GradualCompile {
    /// Reads the first line. `None` if the push is not written in lines; use [`RuleSet::from_json`] then.
    pub fn begin(push: &[u8]) -> Option<Result<Box<Self>, CompileError>> {
        let text = core::str::from_utf8(push).ok()?;
        let (head, _) = text.split_once('\n').filter(|(head, _)| head.ends_with(TUPLES))?;
        let at = head.len() + 1;
        let head = PushedRules::from_json(&[head, ROUTES, PROTECTED, END].concat()).map_err(unreadable);
        let compiler = head.and_then(Compiler::begin);
        let (text, list) = (text.to_owned(), List::Tuples);
        Some(compiler.map(|compiler| Box::new(Self { text, at, list, compiler })))
    }

    /// Reads and compiles the next lines, up to this number of bytes.
    pub fn advance(mut self: Box<Self>, bytes: usize) -> Result<Progress, CompileError> {
        let until = self.at.saturating_add(bytes);
        while self.at < until {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let line = rest.split('\n').next().unwrap_or_default();
            self.at += line.len() + 1;
            match (self.list, line) {
                (List::Tuples, ROUTES) => self.list = List::Routes,
                (List::Routes, PROTECTED) => self.list = List::Protected,
                (List::Protected, END) if rest.len() == line.len() => {
                    return self.compiler.finish().map(|rules| Progress::Done(Box::new(rules)));
                }
                (list, line) => {
                    let member = line.strip_suffix(',').unwrap_or(line);
                    match list {
                        List::Tuples => {
                            let tuple = read_tuple(member).map_err(|why| self.unreadable(&why))?;
                            self.compiler.tuple(tuple)?;
                        }
                        List::Routes => {
                            let route = read_route(member).map_err(|why| self.unreadable(&why))?;
                            self.compiler.route(route)?;
                        }
                        List::Protected => {
                            let place = read_string(member).map_err(|why| self.unreadable(&why))?;
                            self.compiler.protect(&place)?;
                        }
                    }
                }
            }
        }
        Ok(Progress::More(self))
    }

    /// The error of an unreadable next member of the list.
    fn unreadable(&self, why: &Reason) -> CompileError {
        let (list, position) = match self.list {
            List::Tuples => ("tuples", self.compiler.rules.tuples.len()),
            List::Routes => ("routes", self.compiler.rules.routes.len()),
            List::Protected => ("protected", self.compiler.protected),
        };
        unreadable(format!("{list}[{position}]: {why}"))
    }
}

#[cfg(test)]
#[path = "gradual_tests.rs"]
mod tests;
