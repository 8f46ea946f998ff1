//! The recording rules and alerts of `deploy/prometheus`, before Prometheus's own tools.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use farebox_testkit::{paths, shell, tools};

/// The rules, in [`folder`].
pub(crate) const RULES: &str = "rules.yaml";
/// The configuration that loads them, in [`folder`].
pub(crate) const CONFIGURATION: &str = "prometheus.yaml";
/// How the names of their unit tests end.
const TESTS: &str = "_test.yaml";

/// `deploy/prometheus`.
pub(crate) fn folder() -> PathBuf {
    paths::workspace().join("deploy/prometheus")
}

/// Checks the configuration and the rules, and runs the unit tests of the rules.
pub(crate) fn check() -> Result<()> {
    promtool(&["check", "config", CONFIGURATION])?;
    promtool(&["check", "rules", RULES])?;
    let tests = tests()?;
    let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
    promtool(&[&["test", "rules"][..], &tests[..]].concat())
}

/// The names of the unit tests in [`folder`].
fn tests() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.ends_with(TESTS));
    names.sort_unstable();
    if names.is_empty() {
        bail!("{} has no unit tests", folder().display());
    }
    Ok(names)
}

fn promtool(arguments: &[&str]) -> Result<()> {
    shell::run(Command::new(tools::promtool()?).args(arguments).current_dir(folder()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use farebox_core::metrics::Family;

    use super::*;

    fn read(name: &str) -> String {
        std::fs::read_to_string(folder().join(name)).unwrap()
    }

    #[test]
    fn every_rule_is_named_in_a_unit_test() {
        let tests: String = tests().unwrap().iter().map(|name| read(name)).collect();
        let rules = read(RULES);
        let names: Vec<&str> = rules
            .lines()
            .map(str::trim_start)
            .filter_map(|line| line.strip_prefix("- record: ").or_else(|| line.strip_prefix("- alert: ")))
            .collect();
        assert_eq!(names.len(), 30);
        for name in names {
            let named = tests.match_indices(name).any(|(at, _)| {
                // `x402:a` is not named by `x402:a_b`.
                !tests[at + name.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
            });
            assert!(named, "no unit test names {name}");
        }
    }

    #[test]
    fn every_family_the_rules_read_is_exported() {
        let exported: BTreeSet<&str> = Family::ALL.iter().map(|family| family.name()).collect();
        let rules = read(RULES);
        let mut read = 0;
        for (at, _) in rules.match_indices("obol_x402_verifier_") {
            let rest = &rules[at..];
            let end = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
            // Of a histogram, the rules' texts name the series that counts.
            let family = rest[..end].trim_end_matches("_count");
            assert!(exported.contains(family), "nobody exports {family}");
            read += 1;
        }
        assert!(read > 30, "{read} names found");
    }
}
