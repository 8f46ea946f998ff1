//! The Farebox filter for Envoy: a thin proxy-wasm shell around `farebox-core`.
//!
//! The core decides, this crate carries out. In the order a request meets the modules:
//!
//! * [`root`]: takes pushed rules, or refuses them so that Envoy keeps the last good filter.
//! * [`stream`]: one request: feeds the core its events and carries out what comes back.
//! * [`callout`]: calls to the facilitator and the companion, and which replies Envoy made up itself.
//! * [`filter_name`]: why the filter hears of them also when their streams are gone.
//! * [`waiting`]: streams that wait, for a reply or with a payment for their upstream, and calls without a stream.
//! * [`outbox`]: messages to the companion, each told until it knows.
//! * [`ends`]: how requests ended for their payments, as such messages.
//! * [`reports`]: what requests count, in memory and as such messages.
//! * [`origin`]: who made a response, and who ended a stream.
//! * [`shared_data`]: what the workers of a process share, under compare-and-swap.
//! * [`payments`]: payments, kept there by a filter without a relay.
//! * [`identity`]: the name of this proxy, and those of its requests.
//! * [`header_map`]: reading headers without a copy; the only `unsafe` code beside a declaration in [`filter_name`].
//!
//! Two rules hold everywhere. Only the byte forms of `proxy_wasm::hostcalls` are used (see `clippy.toml`):
//! everything else panics on input. And a map is read only in its own phase, once, and captured.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod callout;
mod clock;
mod ends;
mod filter_name;
mod header_map;
mod identity;
mod origin;
mod outbox;
mod payments;
mod reports;
mod root;
mod shared_data;
mod stream;
mod waiting;

#[allow(unreachable_pub, reason = "the macro exports `_initialize`, which the host calls")]
mod start {
    use proxy_wasm::types::LogLevel;

    use crate::root::Root;

    proxy_wasm::main! {{
        // Also installs the panic hook, which logs a panic before the VM dies of it.
        proxy_wasm::set_log_level(LogLevel::Info);
        proxy_wasm::set_root_context(|context| Box::new(Root::new(context)));
    }}
}
