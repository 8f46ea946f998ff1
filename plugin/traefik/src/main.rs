//! The Farebox middleware for Traefik: a thin http-wasm shell around `farebox-core`.
//!
//! A guest in Traefik cannot call out safely, and its instances share nothing. So this guest only screens: it
//! sends the answers that need no payment (challenges, refusals, blocks), removes forged identities, and passes
//! the other requests on. Free requests go to their upstream. Paid requests go to the companion's gateway,
//! which checks everything again and does not rely on this guest.
//!
//! * [`config`]: the configuration that the companion publishes.
//! * [`head`]: reading a request's headers.
//! * [`screen`]: one request.
//! * [`spool`]: counts of the requests that the guest answers.
//!
//! Four rules avoid defects of this host. `main` never traps, because Traefik would drop the router, and the
//! request could match a broader one. No feature is enabled and no body is touched, because a buffered response
//! is delivered unpaid when its handler traps. Nothing of a response is read. And an instance keeps no data of
//! a request, because there is one instance for each request in flight, and an instance that trapped is used
//! again.
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
