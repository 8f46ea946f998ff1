//! Making the filter small: every worker of every proxy holds a copy of it.
//!
//! The SDK exports a handler for every event a host knows. Those the filter has nothing to do for are taken
//! away, which also spares the host a call into the VM for each piece of every body; then the module is
//! optimised as a whole.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use farebox_core::evm::{keccak256, to_hex};
use farebox_testkit::{shell, tools};
use serde_json::{Value, json};

use super::artefact::Guest;
use super::place;

/// What the compiler uses of WebAssembly beyond its first version, and every host of ours knows.
const FEATURES: [&str; 7] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// Writes to `small` what is left of `built` when only what the host calls can be called from outside. What `small` was made
/// of is written beside it, so that the same work is not done twice.
pub(super) fn shrink(built: &Path, host: &Guest, small: &Path) -> Result<()> {
    let wasm = std::fs::read(built).with_context(|| format!("{}", built.display()))?;
    let programs = tools::binaryen()?;
    let (graph, passes) = (graph(host), passes(host));
    // The folder of the programs is named after their versions.
    let recipe = json!([programs, FEATURES, graph, passes]).to_string();
    let work = Work { origin: keccak256(&[recipe.as_bytes(), &wasm].concat()) };
    if work.is_done(small) {
        return Ok(());
    }
    shell::say(format_args!("shrinking {}, which takes some 20 s", host.name));
    let scratch = tempfile::tempdir()?;
    let listed = scratch.path().join("graph.json");
    std::fs::write(&listed, graph.to_string()).context("cannot write the export graph")?;
    let mut smaller = scratch.path().join("reached.wasm");
    // It lists what it takes away.
    shell::capture(
        Command::new(programs.join("wasm-metadce"))
            .arg(built)
            .args(FEATURES)
            .arg("--graph-file")
            .arg(&listed)
            .arg("-o")
            .arg(&smaller),
    )?;
    for (number, pass) in passes.iter().enumerate() {
        let optimised = scratch.path().join(format!("{number}.wasm"));
        let mut command = Command::new(programs.join("wasm-opt"));
        shell::run(command.arg(&smaller).args(FEATURES).args(*pass).arg("-o").arg(&optimised))?;
        smaller = optimised;
    }
    place(&smaller, small)?;
    work.note(small)
}

/// The exports that stay, as wasm-metadce reads them.
fn graph(host: &Guest) -> Value {
    let mut nodes = vec![json!({ "name": "host", "reaches": host.exports, "root": true })];
    nodes.extend(host.exports.iter().map(|export| json!({ "name": export, "export": export })));
    nodes.into()
}

/// The calls of wasm-opt, in their order.
const fn passes(host: &Guest) -> [&'static [&'static str]; 2] {
    if host.bulk_memory {
        // Once more over flat code, where more of it is seen to be the same.
        return [&["-Oz"], &["--flatten", "--rereloop", "-Oz", "-Oz", "--strip-target-features"]];
    }
    // After the optimiser, which could bring such instructions back; the loops it makes of them are small.
    [&["-Oz"], &["--llvm-memory-copy-fill-lowering", "--strip-target-features"]]
}

/// One module to shrink.
struct Work {
    /// Digest of the module and of all that is done to it.
    origin: [u8; 32],
}

// === impl Work ===

impl Work {
    /// Whether a result was made of this. One that was written in part, or by another, is not believed.
    fn is_done(&self, result: &Path) -> bool {
        let kept = std::fs::read(result).map(|result| self.statement(&result));
        let noted = std::fs::read_to_string(note_of(result));
        matches!((kept, noted), (Ok(kept), Ok(noted)) if kept == noted)
    }

    fn note(&self, result: &Path) -> Result<()> {
        let statement = self.statement(&std::fs::read(result)?);
        let place = note_of(result);
        std::fs::write(&place, statement).with_context(|| format!("cannot write {}", place.display()))
    }

    fn statement(&self, result: &[u8]) -> String {
        format!("made of {}\nand it is {}\n", to_hex(&self.origin), to_hex(&keccak256(result)))
    }
}

fn note_of(result: &Path) -> PathBuf {
    result.with_extension("made-of")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_believed_only_as_it_was_made_and_only_of_what_it_was_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let result = folder.path().join("guest.small.wasm");
        let (work, other) = (Work { origin: [1; 32] }, Work { origin: [2; 32] });
        assert!(!work.is_done(&result));
        std::fs::write(&result, "small").unwrap();
        assert!(!work.is_done(&result));
        work.note(&result).unwrap();
        assert!(work.is_done(&result) && !other.is_done(&result));
        std::fs::write(&result, "another").unwrap();
        assert!(!work.is_done(&result));
    }
}
