//! The stack of the plugin.
//!
//! Traefik makes an instance for each request in flight. A stack of the usual megabyte would be most of it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        // A quarter is several times what is used. Nothing lies beyond its end: an overflow traps.
        println!("cargo::rustc-link-arg-bins=-zstack-size=262144");
    }
}
