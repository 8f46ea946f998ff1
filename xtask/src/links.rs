//! The links of the Markdown files: each leads to a file of the repository, and to a heading where it names one.
//! Links to other servers are not followed.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use farebox_testkit::{paths, shell};

/// Fails with every link that leads nowhere.
pub(crate) fn check() -> Result<()> {
    let root = paths::workspace();
    let listed = shell::capture(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
            .current_dir(root),
    )?;
    let mut faults = Vec::new();
    let mut links = 0;
    for file in listed.lines() {
        let text = read(&root.join(file))?;
        for target in targets(&prose(&text)) {
            links += 1;
            if let Err(error) = follow(&root.join(file), target) {
                faults.push(format!("{file}: {target}: {error}"));
            }
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!("{links} links lead somewhere");
    Ok(())
}

fn follow(from: &Path, target: &str) -> Result<()> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let place = if path.is_empty() { from.to_owned() } else { from.with_file_name(path) };
    if !place.exists() {
        bail!("no such file");
    }
    if let Some(anchor) = anchor
        && !anchors(&prose(&read(&place)?)).iter().any(|known| known == anchor)
    {
        bail!("no such heading");
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))
}

/// A text without its blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Where the links of a text lead, without those to other servers.
fn targets(text: &str) -> Vec<&str> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    ends.filter(|target| !target.contains(':')).collect()
}

/// What a link says after `#` to reach a heading, by the rule of GitHub.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let names = headings.map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let number = seen.entry(name.clone()).or_default();
        *number += 1;
        if *number == 1 { name } else { format!("{name}-{}", *number - 1) }
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_this_repository_are_found_outside_of_code() {
        let text = prose("[a](b.md#c), [d](https://e/f)\n```text\n[g](h)\n```\n[i](../j/)");
        assert_eq!(targets(&text), ["b.md#c", "../j/"]);
    }

    #[test]
    fn headings_are_reached_by_the_names_that_github_gives_them() {
        let text = "# What a *buyer* sees: `402`\n## Twice\ntext\n## Twice";
        assert_eq!(anchors(text), ["what-a-buyer-sees-402", "twice", "twice-1"]);
    }

    #[test]
    fn a_link_to_a_file_or_a_heading_that_is_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.md");
        std::fs::write(&file, "# Here\n").unwrap();
        assert!(follow(&file, "#here").is_ok() && follow(&file, "a.md").is_ok());
        assert_eq!(follow(&file, "a.md#there").unwrap_err().to_string(), "no such heading");
        assert_eq!(follow(&file, "b.md").unwrap_err().to_string(), "no such file");
    }
}
