//! Making the filter small: every worker of every proxy holds a copy of it.
//!
//! The SDK exports a handler for every event a host knows. Those the filter has nothing to do for are taken
//! away, which also spares the host a call into the VM for each piece of every body; then the module is
//! optimised as a whole.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use farebox_testkit::{shell, tools};
use serde_json::json;

use super::artefact::Guest;

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

/// Writes to `small` what is left of `built` when only what the host calls can be called from outside.
pub(super) fn shrink(built: &Path, host: &Guest, small: &Path) -> Result<()> {
    let programs = tools::binaryen()?;
    let scratch = tempfile::tempdir()?;
    let graph = scratch.path().join("graph.json");
    let mut nodes = vec![json!({ "name": "host", "reaches": host.exports, "root": true })];
    nodes.extend(host.exports.iter().map(|export| json!({ "name": export, "export": export })));
    std::fs::write(&graph, serde_json::to_vec(&nodes)?).context("cannot write the export graph")?;
    let reached = scratch.path().join("reached.wasm");
    // It lists what it takes away.
    shell::capture(
        Command::new(programs.join("wasm-metadce"))
            .arg(built)
            .args(FEATURES)
            .arg("--graph-file")
            .arg(&graph)
            .arg("-o")
            .arg(&reached),
    )?;
    let optimise = |from: &Path, passes: &[&str], to: &Path| {
        shell::run(
            Command::new(programs.join("wasm-opt")).arg(from).args(FEATURES).args(passes).arg("-o").arg(to),
        )
    };
    if host.bulk_memory {
        // Once more over flat code, where more of it is seen to be the same.
        let optimised = scratch.path().join("optimised.wasm");
        optimise(&reached, &["-Oz"], &optimised)?;
        return optimise(
            &optimised,
            &["--flatten", "--rereloop", "-Oz", "-Oz", "--strip-target-features"],
            small,
        );
    }
    // After the optimiser, which could bring such instructions back; the loops it makes of them are small.
    let optimised = scratch.path().join("optimised.wasm");
    optimise(&reached, &["-Oz"], &optimised)?;
    optimise(&optimised, &["--llvm-memory-copy-fill-lowering", "--strip-target-features"], small)
}
