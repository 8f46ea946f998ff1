//! The stack of the plugin.
//!
//! Traefik makes an instance for each request in flight. The usual stack of a megabyte would be most of its
//! memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        // A quarter of a megabyte is several times the use. No data is beyond the end of the stack, so an
        // overflow traps.
        println!("cargo::rustc-link-arg-bins=-zstack-size=262144");
    }
}
