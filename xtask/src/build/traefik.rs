//! The middleware for Traefik, and the two forms in which Traefik takes it: a folder of local plugins, and the
//! archive of a release for the plugin catalogue.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use farebox_testkit::paths;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::artefact::Guest;
use super::place;

/// What Traefik loads. Its engine mistakes the instructions that copy and fill memory (wazero before 1.9 on
/// amd64), and it sends the names of functions to clients when a guest traps.
pub(crate) const TRAEFIK: Guest = Guest {
    name: "farebox-traefik.wasm",
    profile: "traefik-guest",
    exports: &["memory", "_start", "handle_request", "handle_response"],
    imports: IMPORTS,
    bulk_memory: false,
};

/// Neither sockets, nor buffering, nor anything of a response that the guest did not make itself.
const IMPORTS: &[&str] = &[
    "http_handler.get_config",
    "http_handler.log",
    // The request.
    "http_handler.get_method",
    "http_handler.get_uri",
    "http_handler.set_uri",
    "http_handler.get_header_names",
    "http_handler.get_header_values",
    "http_handler.set_header_value",
    "http_handler.remove_header",
    "http_handler.get_source_addr",
    // An answer of its own.
    "http_handler.set_status_code",
    "http_handler.write_body",
    // The time of day, and the file it counts in.
    "wasi_snapshot_preview1.clock_time_get",
    "wasi_snapshot_preview1.path_open",
    "wasi_snapshot_preview1.fd_write",
    "wasi_snapshot_preview1.fd_close",
    "wasi_snapshot_preview1.fd_filestat_get",
    "wasi_snapshot_preview1.fd_fdstat_get",
    "wasi_snapshot_preview1.fd_prestat_get",
    "wasi_snapshot_preview1.fd_prestat_dir_name",
    // What the Rust standard library links for this target.
    "wasi_snapshot_preview1.environ_get",
    "wasi_snapshot_preview1.environ_sizes_get",
    "wasi_snapshot_preview1.proc_exit",
    "wasi_snapshot_preview1.random_get",
];

/// Puts the plugin where [`paths::traefik_plugin`] says, and a release beside it.
pub(super) fn pack(wasm: &Path) -> Result<()> {
    let sources = paths::workspace();
    let files: [(PathBuf, &str); 3] = [
        (sources.join("traefik/.traefik.yml"), ".traefik.yml"),
        (wasm.to_owned(), "plugin.wasm"),
        (sources.join("LICENSE"), "LICENSE"),
    ];
    let module = paths::traefik_module(&paths::traefik_plugin()?);
    for (source, name) in &files {
        place(source, &module.with_file_name(name))?;
    }
    let draft = tempfile::NamedTempFile::new()?;
    let mut archive = ZipWriter::new(draft.as_file());
    // No times in it: the same sources make the same archive.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    for (source, name) in &files {
        archive.start_file(*name, options)?;
        archive.write_all(&std::fs::read(source).with_context(|| format!("{}", source.display()))?)?;
    }
    archive.finish()?;
    place(draft.path(), &paths::traefik_release()?)
}
