//! `cargo xtask tools`: the tools that the other commands fetch, their sources, and whether they can be had right now.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use farebox_testkit::paths;
use farebox_testkit::tools::{self, TOOLS, Tool};

/// Width of the name of a tool.
const NAME: usize = 18;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Fetch all of it first.
    #[arg(long)]
    fetch: bool,
}

/// One line of the list.
struct Row {
    tool: &'static Tool,
    /// Its version here, and its bytes.
    here: Option<(String, u64)>,
    /// The version its source has.
    offer: Result<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let fetched = if args.fetch { tools::fetch() } else { Ok(()) };
    let rows = look()?;
    print(&rows);
    println!("\ncache: {}", paths::cache()?.display());
    fetched?;
    // A tool that is here can be used, whatever its source says.
    let lacking = rows.iter().any(|row| row.here.is_none() && row.offer.is_err());
    Ok(if lacking { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Asks all sources at once.
fn look() -> Result<Vec<Row>> {
    std::thread::scope(|scope| {
        let questions: Vec<_> = TOOLS.iter().map(|tool| scope.spawn(|| Row::look(tool))).collect();
        let broken_off = |_| Err(anyhow!("a question was broken off"));
        questions.into_iter().map(|question| question.join().unwrap_or_else(broken_off)).collect()
    })
}

fn print(rows: &[Row]) {
    println!("{:<NAME$}{:<32}{:<28}{:<20}{:>13}  to be had now", "tool", "source", "wanted", "here", "size");
    for Row { tool, here, offer } in rows {
        let (version, size) = match here {
            Some((version, 0)) => (version.as_str(), "on the PATH".to_owned()),
            Some((version, bytes)) => (version.as_str(), format!("{} MB", megabytes(*bytes))),
            None => ("-", format!("about {} MB", tool.megabytes)),
        };
        let offer = offer.as_ref().map_or("NO", String::as_str);
        println!(
            "{:<NAME$}{:<32}{:<28}{version:<20}{size:>13}  {offer}",
            tool.name, tool.source, tool.wanted
        );
    }
    for Row { tool, offer, .. } in rows {
        if let Err(error) = offer {
            println!("\n{}: {error:#}", tool.name);
        }
    }
    println!("\nIf a source has something no longer:");
    rows.iter().for_each(|Row { tool, .. }| println!("  {:<NAME$}{}", tool.name, (tool.gone)()));
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

/// Bytes of all files in a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Of the entry itself: a link counts nothing of what it leads to.
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

// === impl Row ===

impl Row {
    fn look(tool: &'static Tool) -> Result<Self> {
        let here = match tool.here()? {
            Some(here) => {
                let sizes: Result<Vec<u64>> = here.places.iter().map(|place| size(place)).collect();
                Some((here.version, sizes?.iter().sum()))
            }
            None => None,
        };
        Ok(Self { tool, here, offer: tool.ask() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_folder_is_that_of_everything_in_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        std::fs::write(folder.path().join("one"), [0; 10]).unwrap();
        std::fs::write(folder.path().join("inner/two"), [0; 20]).unwrap();
        std::os::unix::fs::symlink("one", folder.path().join("link")).unwrap();
        assert_eq!(size(folder.path()).unwrap(), 10 + 20 + "one".len() as u64);
        assert_eq!((megabytes(0), megabytes(1), megabytes(2_000_000)), (0, 1, 2));
    }

    #[test]
    fn every_tool_has_a_name_that_fits_a_size_and_a_way_out() {
        for tool in &TOOLS {
            assert!(tool.name.len() < NAME, "{}", tool.name);
            assert!(tool.megabytes > 0, "{}", tool.name);
            assert!(!(tool.gone)().is_empty(), "{}", tool.name);
        }
    }
}
