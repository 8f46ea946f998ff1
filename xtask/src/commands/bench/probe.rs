//! The core by itself, natively and on V8, in turns.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use farebox_testkit::{paths, shell};
use serde_json::{Map, Value, json};

use super::workload;
use crate::build;
use crate::build::Guest;

/// The probe, built twice.
pub(super) struct Probe {
    native: PathBuf,
    wasm: PathBuf,
}

/// The probe as a program of its own, built as the filter for Envoy is.
const PROBE: Guest = Guest {
    name: "farebox-bench-probe.wasm",
    profile: "guest",
    exports: &["memory", "_start"],
    imports: &[],
    bulk_memory: true,
};

pub(super) fn build() -> Result<Probe> {
    if !shell::answers("node", &["--version"]) {
        bail!("node is needed to measure on V8 and was not found; install Node 20 or newer");
    }
    shell::say("building the probe, with the C library it is compared with");
    let native = build::release("farebox-bench-probe", &["libsecp256k1"])?;
    let wasm = build::guest("farebox-bench-probe", "farebox-bench-probe", &PROBE)?;
    Ok(Probe { native, wasm })
}

/// Nanoseconds by engine and operation, one sample a round; bytes and nanoseconds of whole pushes.
pub(super) fn measure(probe: &Probe, quick: bool) -> Result<Value> {
    let (rounds, recoveries, requests) = if quick { (3, 300, 30_000) } else { (7, 1_000, 200_000) };
    let mut samples = Map::new();
    let pushes = [10, 1_000, 10_000]
        .map(|count| workload::push(count, 1).and_then(|push| Ok((count, serde_json::to_vec(&push)?))));
    let pushes = pushes.into_iter().collect::<Result<Vec<_>>>()?;
    for round in 1..=rounds {
        shell::say(format_args!("core, round {round}/{rounds}"));
        for engine in ["native", "v8"] {
            note(&mut samples, engine, "", &probe.run(engine, &["recover", &recoveries.to_string()], b"")?);
            for (count, push) in &pushes {
                let measured = probe.run(engine, &["rules", &requests.to_string()], push)?;
                note(&mut samples, engine, &format!("_{count}"), &measured);
            }
        }
    }
    Ok(Value::Object(samples))
}

/// Adds the figures of one run to the samples of its engine.
fn note(samples: &mut Map<String, Value>, engine: &str, suffix: &str, figures: &Value) {
    for (name, figure) in figures.as_object().into_iter().flatten() {
        let list = samples.entry(format!("{engine}_{name}{suffix}")).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(figure.clone());
        }
    }
}

// === impl Probe ===

impl Probe {
    fn run(&self, engine: &str, arguments: &[&str], input: &[u8]) -> Result<Value> {
        let mut command = if engine == "v8" {
            let mut node = Command::new("node");
            node.arg("--no-warnings").arg(paths::workspace().join("xtask/bench/probe/node.mjs"));
            node.arg(&self.wasm);
            node
        } else {
            Command::new(&self.native)
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("the probe does not run ({engine})"))?;
        // It reads everything before it writes anything.
        child.stdin.take().context("no standard input")?.write_all(input)?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("the probe failed ({engine}): {}", output.status);
        }
        serde_json::from_slice(&output.stdout).context("the probe's answer is not JSON")
    }
}
