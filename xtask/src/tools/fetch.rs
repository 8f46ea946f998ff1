//! Fetching what is missing: all of it at once, and early, so that what cannot be had is named in the first minute.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};

use super::{TOOLS, Tool};
use crate::shell;

/// Names at once what is missing and cannot be had, fetches what can, and says how far it is. What fails is tried by
/// nobody else in this process: who needs it gets the same error.
pub fn fetch() -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !matches!(tool.here(), Ok(Some(_)))).collect();
    if missing.is_empty() {
        shell::say("tools: all are here");
        return Ok(());
    }
    ask(&missing);
    let done = AtomicUsize::new(0);
    let get = |tool: &Tool| {
        let started = Instant::now();
        let fetched = tool.fetch();
        let number = done.fetch_add(1, Ordering::SeqCst) + 1;
        let count = format!("{number} of {}", missing.len());
        match fetched {
            Ok(()) => {
                shell::say(format_args!("tools: {count}: {}, {} s", tool.name, started.elapsed().as_secs()))
            }
            Err(error) => shell::say(format_args!("tools: {count}: {}", failure(tool, &error))),
        }
    };
    let (compiled, downloaded): (Vec<&Tool>, Vec<&Tool>) =
        missing.iter().partition(|tool| tool.is_compiled());
    std::thread::scope(|scope| {
        for tool in downloaded {
            scope.spawn(move || get(tool));
        }
    });
    // One after the other, because each keeps every core busy.
    compiled.into_iter().for_each(get);
    fetched()
}

/// Waits until everything has been fetched, and names all that could not be.
pub fn fetched() -> Result<()> {
    let failures: Vec<String> =
        TOOLS.iter().filter_map(|tool| tool.fetch().err().map(|error| failure(tool, &error))).collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// Names what its source does not have. Whether it can be fetched is seen by fetching it; but that takes longer.
fn ask(missing: &[&Tool]) {
    std::thread::scope(|scope| {
        for tool in missing {
            scope.spawn(|| {
                if let Err(error) = tool.ask() {
                    shell::say(format_args!("tools: {}", failure(tool, &error)));
                }
            });
        }
    });
}

fn failure(tool: &Tool, error: &anyhow::Error) -> String {
    format!(
        "{} cannot be had: {error:#}\n  if {} has it no longer: {}",
        tool.name,
        tool.source,
        (tool.gone)()
    )
}
