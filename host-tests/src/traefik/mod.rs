//! A simulator of Traefik's http-wasm host (http-wasm-host-go 0.7.0 in Traefik 3.7), as far as it matters for
//! the Farebox middleware.
//!
//! It runs the real artefact under wasmtime, and behaves as the real host does:
//!
//! * A pool of instances without bound: one for each request in flight, each of which ran `main` by itself. One
//!   that trapped goes back to the pool.
//! * Header names are lower-case, `host` is among them, several values come one by one. What does not fit into
//!   the guest's buffer is asked for again.
//! * Headers go out with the status: those set later are lost. Nothing of a request can be changed once it has
//!   been passed on.
//! * Randomness is the same in every instance and after every restart, the monotonic clock advances by a
//!   millisecond with each reading, and only the time of day is real.
//! * The guest sees one folder, with one spool.
//!
//! A host call at which the real host would panic is a trap. So is a call that this guest must not use: bodies
//! of requests, features, sockets.
//!
//! * [`host`]: what all instances share, and the pool.
//! * [`handler`], [`wasi`]: the imports.
//! * [`exchange`]: requests and their results.

mod exchange;
mod handler;
mod host;
mod memory;
mod wasi;

pub use exchange::{Passed, Reply, Request, Sent};
pub use host::{Fault, LogLine, START, Traefik};
