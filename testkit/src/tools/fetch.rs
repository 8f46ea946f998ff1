//! Fetching all missing tools at once, so that an unavailable tool is named in the first minute.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};

use super::{TOOLS, Tool};
use crate::shell;

/// Asks the sources of all missing tools, names the unavailable ones, and fetches all with lines of progress. A
/// failed tool is not tried again in this process, and every caller gets the same error.
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
            Err(error) => shell::say(format_args!("tools: {count}: {error:#}")),
        }
    };
    let (compiled, downloaded): (Vec<&Tool>, Vec<&Tool>) =
        missing.iter().partition(|tool| tool.is_compiled());
    std::thread::scope(|scope| {
        for tool in downloaded {
            scope.spawn(move || get(tool));
        }
    });
    // One after the other, because each compilation keeps every core busy.
    compiled.into_iter().for_each(get);
    fetched()
}

/// Waits until every tool has been fetched, and names those that could not be.
pub fn fetched() -> Result<()> {
    let failures: Vec<String> =
        TOOLS.iter().filter_map(|tool| tool.fetch().err().map(|error| format!("{error:#}"))).collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// Names the tools that their sources do not have. Fetching would show that too, but later.
fn ask(missing: &[&Tool]) {
    std::thread::scope(|scope| {
        for tool in missing {
            scope.spawn(|| {
                if let Err(error) = tool.ask() {
                    shell::say(format_args!("tools: {:#}", tool.failed(&error)));
                }
            });
        }
    });
}
