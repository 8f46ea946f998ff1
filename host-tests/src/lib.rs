//! The filters under wasmtime and in the real proxies.
