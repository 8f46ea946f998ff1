//! What is asserted about the filter before it may be shipped: a filter that exports too little does
//! not start, one that imports too much asks the proxy for powers it must not have, and every worker
//! of every proxy holds it in memory.

use anyhow::{Context, Result, bail};
use wasmparser::{Parser, Payload};

/// Larger filters are refused, in bytes.
const SIZE_LIMIT: usize = 400_000;

/// What Envoy calls: without these it finds no filter or never asks it. The handlers of bodies are not among
/// them, so no body ever enters the VM, nor is that of a stream that is done, which asks whether it may go:
/// a call into the VM for each request, always answered with yes.
pub const EXPORTS: [&str; 13] = [
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_memory_allocate",
    "proxy_on_vm_start",
    "proxy_on_context_create",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_delete",
];

/// The host functions the filter may link. A function that is not here would be a new power.
const ALLOWED_IMPORTS: &[&str] = &[
    // Log and dispatch of the SDK.
    "env.proxy_log",
    "env.proxy_get_log_level",
    "env.proxy_set_effective_context",
    "env.proxy_done",
    // Time, timers and identity.
    "env.proxy_get_current_time_nanoseconds",
    "env.proxy_set_tick_period_milliseconds",
    "env.proxy_get_property",
    // The request, the response, the configuration and callout replies.
    "env.proxy_get_header_map_pairs",
    "env.proxy_set_header_map_pairs",
    "env.proxy_get_header_map_value",
    "env.proxy_add_header_map_value",
    "env.proxy_replace_header_map_value",
    "env.proxy_remove_header_map_value",
    "env.proxy_get_buffer_bytes",
    "env.proxy_send_local_response",
    "env.proxy_continue_stream",
    "env.proxy_close_stream",
    "env.proxy_http_call",
    // Reservations and counters.
    "env.proxy_get_shared_data",
    "env.proxy_set_shared_data",
    "env.proxy_define_metric",
    "env.proxy_increment_metric",
    "env.proxy_record_metric",
    "env.proxy_get_metric",
    // Linked because the SDK's contexts are trait objects with a default body for every call; the filter
    // calls none of them.
    "env.proxy_call_foreign_function",
    "env.proxy_dequeue_shared_queue",
    "env.proxy_enqueue_shared_queue",
    "env.proxy_get_status",
    "env.proxy_grpc_call",
    "env.proxy_grpc_cancel",
    "env.proxy_grpc_close",
    "env.proxy_grpc_send",
    "env.proxy_grpc_stream",
    "env.proxy_register_shared_queue",
    "env.proxy_resolve_shared_queue",
    "env.proxy_set_buffer_bytes",
    "env.proxy_set_property",
    // What the Rust standard library links for this target.
    "wasi_snapshot_preview1.clock_time_get",
    "wasi_snapshot_preview1.environ_get",
    "wasi_snapshot_preview1.environ_sizes_get",
    "wasi_snapshot_preview1.fd_write",
    "wasi_snapshot_preview1.proc_exit",
    "wasi_snapshot_preview1.random_get",
];

/// What a filter module holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Bytes.
    pub size: usize,
    /// Exported names, sorted.
    pub exports: Vec<String>,
    /// Imported `module.name`, sorted.
    pub imports: Vec<String>,
}

/// Reads a module and refuses one that breaks a rule above, naming every rule it breaks.
pub fn inspect(wasm: &[u8]) -> Result<Artefact> {
    let artefact = read(wasm)?;
    let faults = artefact.faults();
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(artefact)
}

fn read(wasm: &[u8]) -> Result<Artefact> {
    let mut exports = Vec::new();
    let mut imports = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.context("not a WebAssembly module")? {
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export?.name.to_owned());
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    imports.push(format!("{}.{}", import.module, import.name));
                }
            }
            _ => {}
        }
    }
    exports.sort();
    imports.sort();
    Ok(Artefact { size: wasm.len(), exports, imports })
}

// === impl Artefact ===

impl Artefact {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for name in EXPORTS {
            if !self.exports.iter().any(|export| export == name) {
                faults.push(format!("does not export {name}"));
            }
        }
        for name in &self.exports {
            if !EXPORTS.contains(&name.as_str()) {
                faults.push(format!("exports {name}, which nobody needs"));
            }
        }
        for name in &self.imports {
            if !ALLOWED_IMPORTS.contains(&name.as_str()) {
                faults.push(format!("imports {name}, which is not on the list of what it may use"));
            }
        }
        if self.size >= SIZE_LIMIT {
            faults.push(format!("has {} bytes, the limit is {SIZE_LIMIT}", self.size));
        }
        faults
    }
}

impl std::fmt::Display for Artefact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "farebox-envoy.wasm: {} bytes (limit {SIZE_LIMIT})", self.size)?;
        writeln!(f, "  exports: {}", self.exports.join(" "))?;
        write!(f, "  imports: {}", self.imports.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Artefact {
        Artefact {
            size: SIZE_LIMIT - 1,
            exports: EXPORTS.map(str::to_owned).to_vec(),
            imports: ALLOWED_IMPORTS.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_module_within_the_rules_has_no_fault() {
        assert_eq!(whole().faults(), Vec::<String>::new());
    }

    #[test]
    fn a_missing_export_is_named() {
        let mut artefact = whole();
        artefact.exports.retain(|name| name != "proxy_on_configure");
        assert_eq!(artefact.faults(), ["does not export proxy_on_configure"]);
    }

    #[test]
    fn a_body_handler_is_refused() {
        let mut artefact = whole();
        artefact.exports.push("proxy_on_response_body".to_owned());
        assert_eq!(artefact.faults(), ["exports proxy_on_response_body, which nobody needs"]);
    }

    #[test]
    fn a_socket_import_is_refused() {
        let mut artefact = whole();
        artefact.imports.push("wasi_snapshot_preview1.sock_open".to_owned());
        assert_eq!(artefact.faults().len(), 1);
        assert!(artefact.faults()[0].starts_with("imports wasi_snapshot_preview1.sock_open"));
    }

    #[test]
    fn the_size_limit_is_exclusive() {
        let mut artefact = whole();
        artefact.size = SIZE_LIMIT;
        assert_eq!(artefact.faults(), [format!("has {SIZE_LIMIT} bytes, the limit is {SIZE_LIMIT}")]);
    }

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        assert_eq!(inspect(b"not wasm").unwrap_err().to_string(), "not a WebAssembly module");
    }
}
