//! The core as a WebAssembly component. It is built by a toolchain of its own, in a workspace of its own, and is
//! no part of the other artefacts: without it they are as good.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use farebox_testkit::{paths, shell, tools};
use wasmparser::{Encoding, Parser, Payload};

use super::place;

/// What the core needs of a machine: nothing.
const TARGET: &str = "wasm32-unknown-unknown";
/// The one interface it offers.
const INTERFACE: &str = "farebox:x402/gate@0.1.0";

/// What a component holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Component {
    /// Bytes.
    pub(crate) size: usize,
    /// Names of what it offers to its host.
    pub(crate) exports: Vec<String>,
    /// Names of what it asks its host for.
    pub(crate) imports: Vec<String>,
}

/// Builds the component and checks it.
pub(crate) fn component() -> Result<Component> {
    shell::say("building farebox.component.wasm");
    cargo_component(&["build", "--release"], &[])?;
    let folder = target()?.join(TARGET).join("release");
    let built = folder.join("farebox_component.wasm");
    let wasm = std::fs::read(&built).with_context(|| format!("{}", built.display()))?;
    let component = inspect(&wasm).context("farebox.component.wasm must not be loaded")?;
    // cargo-component leaves a file that nobody else may read.
    let readable = folder.join("farebox.component.wasm");
    std::fs::write(&readable, wasm).with_context(|| format!("cannot write {}", readable.display()))?;
    place(&readable, &paths::component()?)?;
    Ok(component)
}

/// Formats and lints of its sources, which the workspace's do not reach.
pub(crate) fn component_lints() -> Result<()> {
    // First, because the lints make the bindings that the sources name.
    cargo_component(&["clippy", "--release"], &["--", "-D", "warnings"])?;
    shell::run(shell::builder(paths::cargo()).args(["fmt", "--check"]).current_dir(sources()))
}

fn cargo_component(command: &[&str], rest: &[&str]) -> Result<()> {
    let program = tools::cargo_component()?;
    shell::run(
        shell::builder(program)
            .arg("component")
            .args(command)
            .args(["--target", TARGET, "--locked"])
            .args(rest)
            .env("CARGO_TARGET_DIR", target()?)
            .current_dir(sources()),
    )
}

fn sources() -> PathBuf {
    paths::workspace().join("plugin/component")
}

/// Not the workspace's: two builds would wait for each other's lock.
fn target() -> Result<PathBuf> {
    Ok(paths::target()?.join("component"))
}

fn inspect(wasm: &[u8]) -> Result<Component> {
    let component = read(wasm)?;
    if !component.imports.is_empty() {
        bail!("imports {}, and it must run where nothing is offered", component.imports.join(", "));
    }
    if component.exports != [INTERFACE] {
        bail!("exports {}, where {INTERFACE} is wanted", component.exports.join(", "));
    }
    Ok(component)
}

/// Reads a component's outermost layer.
fn read(wasm: &[u8]) -> Result<Component> {
    let mut component = Component { size: wasm.len(), ..Component::default() };
    // How many modules and components are open around what is read.
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.context("not a WebAssembly component")? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                bail!("not a component but a core module");
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    component.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    component.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(component)
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "farebox.component.wasm: {} bytes", self.size)?;
        write!(f, "  exports: {}\n  imports: nothing", self.exports.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    /// `(type (func))`
    const FUNCTION: &[u8] = b"\x07\x05\x01\x40\0\x01\0";

    /// A section with one function of this name: 10 imports it, 11 exports it.
    fn named(section: u8, name: &str) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        let end: &[u8] = if section == 10 { b"\x01\0" } else { b"\x01\0\0" };
        let content = [&[1, 0, length], name.as_bytes(), end].concat();
        [&[section, u8::try_from(content.len()).unwrap()], content.as_slice()].concat()
    }

    fn refusal(parts: &[&[u8]]) -> String {
        inspect(&parts.concat()).unwrap_err().to_string()
    }

    #[test]
    fn a_component_with_the_interface_alone_is_taken() {
        let component = inspect(&[HEADER, FUNCTION, &named(11, INTERFACE)].concat()).unwrap();
        assert_eq!((component.exports, component.imports), (vec![INTERFACE.to_owned()], Vec::new()));
    }

    #[test]
    fn a_component_that_asks_its_host_for_anything_is_refused() {
        let error = refusal(&[HEADER, FUNCTION, &named(10, "wasi:cli/run@0.2.0"), &named(11, INTERFACE)]);
        assert_eq!(error, "imports wasi:cli/run@0.2.0, and it must run where nothing is offered");
    }

    #[test]
    fn a_component_that_offers_something_else_is_refused() {
        let error = refusal(&[HEADER, FUNCTION, &named(11, "other")]);
        assert!(error.starts_with("exports other, where farebox:x402/gate"), "{error}");
        assert!(refusal(&[HEADER]).starts_with("exports , where"));
    }

    #[test]
    fn what_an_inner_component_imports_is_no_matter() {
        let inner = [HEADER, FUNCTION, &named(10, "inner")].concat();
        let nested = [&[4, u8::try_from(inner.len()).unwrap()], inner.as_slice()].concat();
        assert!(inspect(&[HEADER, &nested, FUNCTION, &named(11, INTERFACE)].concat()).is_ok());
    }

    #[test]
    fn a_core_module_is_refused() {
        assert_eq!(refusal(&[b"\0asm\x01\0\0\0"]), "not a component but a core module");
        assert_eq!(refusal(&[b"text"]), "not a WebAssembly component");
    }
}
