//! Folders of the cache, which are complete or absent.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};

use super::tool::Tool;
use crate::{paths, shell};

/// With `no` in this environment variable, a missing tool is an error at once. The tests run with it, because
/// without a network each test would try to fetch its tool until a timeout.
pub const FETCH: &str = "FAREBOX_FETCH";

/// Installs a tool into a folder of the cache, once in this process. Returns the folder.
pub(super) fn install(tool: &Tool, folder: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = paths::cache()?;
    let place = cache.join(folder);
    if !place.is_dir() {
        let installed = || install_in(&cache, folder, fill).map(drop).map_err(|error| tool.failed(&error));
        fetch_once(tool.name, installed)?;
    }
    Ok(place)
}

/// Installs into a folder that is either complete or absent: `fill` works in a temporary sibling, which is renamed
/// at the end. If another process was faster, its folder is used.
pub(super) fn install_in(
    cache: &Path,
    folder: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let place = cache.join(folder);
    if place.is_dir() {
        return Ok(place);
    }
    std::fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    shell::say(format_args!("tools: installing {folder} into {}", cache.display()));
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{folder}-"))
        .tempdir_in(cache)
        .with_context(|| format!("cannot write to {}", cache.display()))?;
    fill(temporary.path()).with_context(|| format!("{folder} could not be installed"))?;
    let filled = temporary.keep();
    if let Err(error) = std::fs::rename(&filled, &place) {
        let _ = std::fs::remove_dir_all(&filled);
        if !place.is_dir() {
            return Err(error).with_context(|| format!("cannot move {folder} into {}", cache.display()));
        }
    }
    Ok(place)
}

/// Fetches a tool once in this process, unless [`FETCH`] forbids that.
pub(super) fn fetch_once(thing: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let may_fetch = may_fetch(std::env::var_os(FETCH).as_deref());
    once(thing, || if may_fetch { work() } else { bail!("{thing} is missing, and {FETCH} is `no`") })
}

fn may_fetch(said: Option<&OsStr>) -> bool {
    said.is_none_or(|said| said != "no")
}

/// Runs `work` once in this process for a name. Concurrent callers wait, and later callers get the same result, even
/// a failure, so that a suite without its tool fails without trying again.
fn once(thing: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    type Outcome = Arc<OnceLock<Result<(), String>>>;
    static THINGS: Mutex<Option<HashMap<String, Outcome>>> = Mutex::new(None);
    let outcome = {
        let mut things = THINGS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(things.get_or_insert_default().entry(thing.to_owned()).or_default())
    };
    match outcome.get_or_init(|| work().map_err(|error| format!("{error:#}"))) {
        Ok(()) => Ok(()),
        Err(error) => bail!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failed_installation_leaves_nothing_behind() {
        let cache = tempfile::tempdir().unwrap();
        let error = install_in(cache.path(), "tool-1", |dir| {
            std::fs::write(dir.join("half"), "done")?;
            bail!("the network went away")
        })
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "tool-1 could not be installed: the network went away");
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_installed_tool_is_not_installed_again() {
        let cache = tempfile::tempdir().unwrap();
        let first = install_in(cache.path(), "tool-1", |dir| Ok(std::fs::write(dir.join("program"), "v1")?));
        let second = install_in(cache.path(), "tool-1", |_| bail!("must not run"));
        assert_eq!(first.unwrap(), cache.path().join("tool-1"));
        assert_eq!(second.unwrap(), cache.path().join("tool-1"));
        assert_eq!(std::fs::read_to_string(cache.path().join("tool-1/program")).unwrap(), "v1");
    }

    #[test]
    fn a_thing_is_done_once_and_the_others_wait_for_it() {
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let outcome = once("a thing", || {
                        std::thread::sleep(Duration::from_millis(50));
                        done.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    });
                    outcome.unwrap();
                    assert_eq!(done.load(Ordering::SeqCst), 1);
                });
            }
        });
    }

    #[test]
    fn only_a_plain_no_forbids_to_fetch() {
        assert!(may_fetch(None) && may_fetch(Some(OsStr::new("yes"))));
        assert!(!may_fetch(Some(OsStr::new("no"))));
    }

    #[test]
    fn what_failed_is_not_tried_again() {
        let first = once("a broken thing", || bail!("gone")).unwrap_err().to_string();
        let second = once("a broken thing", || Ok(())).unwrap_err().to_string();
        assert_eq!((first.as_str(), second.as_str()), ("gone", "gone"));
    }
}
