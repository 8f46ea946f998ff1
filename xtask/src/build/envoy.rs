//! The filter for Envoy.

use super::artefact::Guest;

/// What Envoy loads. Names of functions are left out too: a trap is logged by the panic hook, in words.
pub(crate) const ENVOY: Guest = Guest {
    name: "farebox-envoy.wasm",
    profile: "guest",
    exports: &EXPORTS,
    imports: ALLOWED_IMPORTS,
    bulk_memory: true,
};

/// What Envoy calls: without these it finds no filter or never asks it. The handlers of bodies are not among
/// them, so no body ever enters the VM, nor is that of a stream that is done, which asks whether it may go:
/// a call into the VM for each request, always answered with yes.
const EXPORTS: [&str; 15] = [
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_memory_allocate",
    "proxy_on_vm_start",
    "proxy_on_context_create",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
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
