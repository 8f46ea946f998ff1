//! Finding and compiling the filter.

use farebox_core::evm::keccak256;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use wasmtime::{Engine, Module};

/// Path of the filter: `FAREBOX_ENVOY_WASM`, else `farebox/farebox-envoy.wasm` in the target directory.
pub fn filter_path() -> PathBuf {
    env::var_os("FAREBOX_ENVOY_WASM")
        .map_or_else(|| target_dir().join("farebox").join("farebox-envoy.wasm"), PathBuf::from)
}

pub(crate) fn target_dir() -> PathBuf {
    // Cargo resolves a relative directory against the workspace, tests run in their package.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    workspace.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(Engine::default)
}

/// The real filter.
pub(crate) fn filter() -> &'static Module {
    static FILTER: OnceLock<Module> = OnceLock::new();
    FILTER.get_or_init(|| {
        let path = filter_path();
        let bytes = fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}. Build the filter with `cargo xtask build --guests`, or name it in FAREBOX_ENVOY_WASM.",
                path.display()
            )
        });
        compiled(&bytes).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()))
    })
}

/// Compiles a guest, or loads what another test process compiled: every test is a process, and compiling
/// takes longer than most tests.
pub(crate) fn compiled(wasm: &[u8]) -> wasmtime::Result<Module> {
    let name: String = keccak256(wasm).iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = target_dir().join("farebox").join("simulator");
    let path = folder.join(format!("{name}.cwasm"));
    if let Some(module) = load(&path) {
        return Ok(module);
    }
    let module = Module::new(engine(), wasm)?;
    // The first process writes it for the others. If the folder is not writable, that only costs time.
    let draft = folder.join(format!("{name}.{}", process::id()));
    let machine_code = module.serialize()?;
    let left = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&draft, machine_code))
        .and_then(|()| fs::rename(&draft, &path));
    if let Err(error) = left {
        eprintln!("{}: {error}", path.display());
    }
    Ok(module)
}

/// Loads a compiled module; `None` if there is none or another wasmtime made it.
#[expect(unsafe_code, reason = "machine code of our own making, from our own build folder")]
fn load(path: &Path) -> Option<Module> {
    // SAFETY: the file runs as machine code. `compiled` writes it from `Module::serialize` and moves it into
    // place whole, its name is the hash of the guest, and wasmtime refuses another version or configuration.
    // Whoever can write to the build folder can replace the test binary as well.
    unsafe { Module::deserialize_file(engine(), path) }.ok()
}
