//! The Farebox middleware for Traefik: a thin http-wasm shell around `farebox-core`.
//!
//! Traefik's host can neither call out safely nor share anything between its instances, so this guest only
//! screens: it answers what needs no payment to be answered (challenges, refusals, blocks), takes forged
//! identities away, and passes on what survives. Free routes go to their upstream; paid ones go to the
//! companion's gateway, which checks everything again. The verdict of this guest is a filter, never a proof.
//!
//! * [`config`]: what the companion publishes for it.
//! * [`head`]: reading a request's headers.
//! * [`screen`]: one request.
//! * [`spool`]: counting what it answered itself.
//!
//! Four rules hold everywhere, each because this host does otherwise what nobody wants. Nothing traps in
//! `main`: Traefik would drop the route, and the request would fall through to a broader one. No feature is
//! enabled and no body is touched: a buffered response is delivered unpaid when its handler traps. Nothing of a
//! response is read. And no instance remembers anything of a request: there is one for each request in flight,
//! and one that trapped is used again.
#![forbid(unsafe_code)]
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

mod config;
mod head;
mod screen;
mod spool;

use http_wasm_guest::host::{admin, log};

use crate::screen::Screen;

/// Levels of the host's log.
const INFO: i32 = 0;
const ERROR: i32 = 2;

fn main() {
    let screen = match config::read(admin::config()) {
        Ok(Some(config)) => Screen::new(config),
        Ok(None) => {
            log::write(INFO, b"farebox: no rules are configured yet, every request is refused");
            Screen::closed()
        }
        Err(reason) => {
            let message =
                format!("farebox: rules refused, every request is refused until they change: {reason}");
            log::write(ERROR, message.as_bytes());
            Screen::closed()
        }
    };
    http_wasm_guest::register(screen);
}
