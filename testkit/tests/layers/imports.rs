//! The imports between folders of a crate, read from the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files of a crate, in the order in which they may import each other.
pub(crate) struct Layers {
    /// From the bottom to the top.
    pub(crate) order: &'static [&'static str],
    /// Names of the crate that are below every layer, and import none.
    pub(crate) below: &'static [&'static str],
}

/// An import that goes up, or to a name that has no place in the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WrongImport {
    /// File and line.
    place: String,
    from: String,
    to: String,
}

// === impl Layers ===

impl Layers {
    /// Each wrong import of a crate. Every file of the crate needs a place in the order. `src` begins at the root of
    /// the repository.
    pub(crate) fn wrong_imports(&self, src: &str) -> Vec<WrongImport> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(src);
        let mut files = Vec::new();
        sources(&root, &mut files);
        let relative = |file: &PathBuf| file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let names: Vec<String> = files.iter().map(relative).collect();
        let rooms: BTreeSet<&str> = names.iter().map(|name| room(name)).collect();
        for layer in self.order {
            assert!(rooms.contains(layer), "{src} has no {layer}");
        }
        for room in &rooms {
            assert!(
                self.order.contains(room) || self.below.contains(room),
                "{room} has no place in the order"
            );
        }
        let files = names.iter().zip(&files);
        files.flat_map(|(name, file)| self.wrong_in(name, &fs::read_to_string(file).unwrap())).collect()
    }

    /// Each wrong import of a file.
    fn wrong_in(&self, file: &str, text: &str) -> Vec<WrongImport> {
        let depth = file.trim_end_matches(".rs").split('/').filter(|name| *name != "mod").count();
        let place_of = |name: &str| self.order.iter().position(|layer| *layer == name);
        let from = room(file);
        let is_right = |to: &str| match place_of(to) {
            Some(imported) => place_of(from).is_some_and(|own| imported <= own),
            None => self.below.contains(&to),
        };
        let names = names_of_the_crate(&without_tests(text), depth).into_iter();
        names
            .filter(|(_, to)| !is_right(to))
            .map(|(line, to)| WrongImport { place: format!("{file}:{line}"), from: from.to_owned(), to })
            .collect()
    }
}

// === impl WrongImport ===

impl std::fmt::Display for WrongImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} imports {}", self.place, self.from, self.to)
    }
}

/// The folder of a file, or the file itself if it is beside `lib.rs`.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// The text with blank lines in place of comments and of items that are compiled only for tests. It relies on the
/// form that rustfmt gives an item.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        if trimmed == "#[cfg(test)]" {
            let indent = &line[..line.len() - trimmed.len()];
            code.push('\n');
            for skipped in lines.by_ref() {
                code.push('\n');
                let is_item = !skipped.trim_start().starts_with('#');
                let is_end = skipped.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}'));
                if is_end
                    || is_item && skipped.ends_with(';') && skipped.find(|c| c != ' ') == Some(indent.len())
                {
                    break;
                }
            }
        } else {
            code.push_str(if trimmed.starts_with("//") { "" } else { line });
            code.push('\n');
        }
    }
    code
}

/// The first name after `crate::`, or after the number of `super::` that leads to the crate, with its line; for a
/// group, each name.
fn names_of_the_crate(code: &str, depth: usize) -> Vec<(usize, String)> {
    let supers = "super::".repeat(depth);
    let mut names = Vec::new();
    for root in ["crate::", supers.as_str()] {
        for (at, _) in code.match_indices(root) {
            let line = code[..at].lines().count().max(1);
            let path = &code[at + root.len()..];
            match path.strip_prefix('{') {
                Some(group) => names.extend(members(group).into_iter().map(|name| (line, name))),
                None => names.push((line, first_name(path))),
            }
        }
    }
    names
}

/// The first names of the members of a group, up to its closing brace.
fn members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut all = vec![String::new()];
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => all.push(String::new()),
            _ => {}
        }
        if let Some(member) = all.last_mut() {
            member.push(letter);
        }
    }
    let names = all.iter().map(|member| first_name(member.trim_start_matches([',', ' ', '\n'])));
    names.filter(|name| !name.is_empty()).collect()
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// Every file of a crate or folder that is not only for tests. The roots of a crate are left out, because they name
/// every folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_for_tests =
            ["tests", "testing", "tests.rs", "fixtures.rs"].contains(&name) || name.ends_with("_tests.rs");
        if is_for_tests || ["lib.rs", "main.rs"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::CORE;

    #[test]
    fn an_import_that_goes_up_is_named_with_its_place() {
        for (file, text, found) in [
            ("evm/a.rs", "\nuse crate::rules::RuleSet;\n", "evm/a.rs:2: evm imports rules"),
            ("rules/a.rs", "fn a(of: &crate::metrics::Stamp) {}\n", "rules/a.rs:1: rules imports metrics"),
            (
                "terms/a.rs",
                "use crate::{\n    evm::{A, B},\n    payment::C,\n};\n",
                "terms/a.rs:1: terms imports payment",
            ),
            ("rules/a.rs", "use super::super::exchange;\n", "rules/a.rs:1: rules imports exchange"),
            ("rules/mod.rs", "use super::exchange;\n", "rules/mod.rs:1: rules imports exchange"),
            (
                "rules/a/b.rs",
                "use super::super::super::payment::A;\n",
                "rules/a/b.rs:1: rules imports payment",
            ),
            ("members.rs", "use crate::evm::A;\n", "members.rs:1: members imports evm"),
            ("evm/a.rs", "use crate::unknown::A;\n", "evm/a.rs:1: evm imports unknown"),
            (
                "evm/a.rs",
                "#[cfg(test)]\nuse crate::rules::A;\nuse crate::terms::B;\n",
                "evm/a.rs:3: evm imports terms",
            ),
            (
                "evm/a.rs",
                "#[cfg(test)]\nmod tests {\n    a();\n}\nuse crate::terms::B;\n",
                "evm/a.rs:5: evm imports terms",
            ),
        ] {
            let wrong = CORE.wrong_in(file, text);
            assert_eq!(wrong.iter().map(ToString::to_string).collect::<Vec<_>>(), [found], "{text}");
        }
    }

    #[test]
    fn imports_that_go_down_those_of_tests_and_comments_are_right() {
        for (file, text) in [
            ("rules/a.rs", "use crate::evm::A;\nuse crate::{Now, members::B, rules::C, terms};\n"),
            ("rules/a.rs", "use super::path::A;\nuse super::super::protocol::B;\n"),
            ("rules/a.rs", "/// See [`crate::exchange::A`].\nuse crate::Now;\n"),
            ("rules/a.rs", "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n"),
            ("rules/a.rs", "#[cfg(test)]\nmod tests {\n    use crate::exchange::A;\n    a();\n}\n"),
            (
                "rules/a.rs",
                "impl A {\n    #[cfg(test)]\n    fn b() {\n        crate::exchange::a();\n    }\n}\n",
            ),
        ] {
            assert_eq!(CORE.wrong_in(file, text), [], "{text}");
        }
    }
}
