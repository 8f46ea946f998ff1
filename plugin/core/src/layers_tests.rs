//! The order of the layers, read from the sources: what a file imports stands left of its own folder.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom to the top.
const LAYERS: [&str; 7] = ["evm", "terms", "protocol", "rules", "metrics", "payment", "exchange"];
/// Names of the crate that stand below every layer, and import none.
const BELOW: [&str; 2] = ["members", "Now"];

/// Each import of a file that goes up, or to a name that has no place in the order.
fn wrong_imports(file: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let module: Vec<&str> = file.trim_end_matches(".rs").split('/').filter(|name| *name != "mod").collect();
    let own = LAYERS.iter().position(|layer| *layer == module[0]);
    let code = without_tests(text);
    for (line, name) in names_of_the_crate(&code, module.len()) {
        let imported = LAYERS.iter().position(|layer| *layer == name);
        let is_right = match imported {
            Some(imported) => own.is_some_and(|own| imported <= own),
            None => BELOW.contains(&name.as_str()),
        };
        if !is_right {
            wrong.push(format!("{file}:{line}: {} imports {name}", module[0]));
        }
    }
    wrong
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

/// The first name after `crate::`, or after as many `super::` as lead to the crate, with its line. Of a group all.
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

/// Every file of a folder that is not only for tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("_tests.rs") && name != "fixtures.rs" {
            found.push(path);
        }
    }
}

#[test]
fn each_layer_imports_only_what_stands_left_of_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let names: Vec<String> =
        files.iter().map(|file| file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect();
    for layer in LAYERS {
        assert!(names.contains(&format!("{layer}/mod.rs")), "{layer} is no folder");
    }
    for name in names.iter().filter(|name| *name != "lib.rs") {
        let layer = name.split('/').next().unwrap().trim_end_matches(".rs");
        assert!(LAYERS.contains(&layer) || BELOW.contains(&layer), "{name} has no place in the order");
    }
    let wrong: Vec<String> = names
        .iter()
        .zip(&files)
        .filter(|(name, _)| *name != "lib.rs")
        .flat_map(|(name, file)| wrong_imports(name, &fs::read_to_string(file).unwrap()))
        .collect();
    assert!(wrong.is_empty(), "the order is {}:\n{}", LAYERS.join(" → "), wrong.join("\n"));
}

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
        ("rules/a/b.rs", "use super::super::super::payment::A;\n", "rules/a/b.rs:1: rules imports payment"),
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
        assert_eq!(wrong_imports(file, text), [found], "{text}");
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
        ("rules/a.rs", "impl A {\n    #[cfg(test)]\n    fn b() {\n        crate::exchange::a();\n    }\n}\n"),
    ] {
        assert_eq!(wrong_imports(file, text), [] as [&str; 0], "{text}");
    }
}
