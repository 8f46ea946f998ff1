//! A stateful simulator of Envoy's proxy-wasm host.
//!
//! It follows the rules of Envoy 1.40 that a filter can violate:
//!
//! * header maps exist only in their phase (`BadArgument` otherwise), request maps are gone once the
//!   request was passed on or resumed, properties of the request are gone in the response phase;
//! * resumes and local replies happen after the guest's call has returned, and a local reply of the
//!   request side passes the guest's own response callback;
//! * callouts need a known cluster and the three pseudo-headers; a reply that broke off has no headers;
//!   a callout whose context, of a stream or of a filter, is gone never calls back;
//! * shared data has compare-and-swap but no deletion;
//! * a stream ends with `on_log`, `on_done`, `on_delete`;
//! * a trap kills the VM: its streams get 503 (or hang, if only a callout reply could have woken them),
//!   and the next request of that worker starts a fresh VM (`FAIL_RELOAD`).
//!
//! The simulator panics where Envoy would crash or a client would wait for ever: at a second resume or
//! reply, at a stream that is paused with nothing to wake it, at a header that no codec can send, and at
//! a trap that the test did not allow.
//!
//! ```no_run
//! # use farebox_host_tests::envoy::{Envoy, Request};
//! # let rules = "{}";
//! let envoy = Envoy::new(2);
//! envoy.configure(rules).expect_taken();
//! let stream = envoy.send(0, Request::get("/paid").header("payment-signature", "…"));
//! stream.expect_callout("/verify").replies(200, r#"{"isValid":true}"#);
//! stream.upstream_answers(200, &[("content-type", "text/plain")]);
//! stream.expect_callout("/settle").replies(200, r#"{"success":true}"#);
//! stream.body_ends();
//! assert_eq!(stream.expect_response(200).body, b"");
//! ```

mod abi;
pub(crate) mod artefact;
mod callout;
mod companion;
mod guest;
mod host;
mod imports;
mod lifecycle;
mod memory;
mod process;
mod request;
mod stream;
mod vm;
mod wasi;

pub use abi::Headers;
pub use artefact::filter_path;
pub use callout::Callout;
pub use guest::{Origin, Phase, Response};
pub use host::LogLine;
pub use process::{Envoy, Push};
pub use request::Request;
pub use stream::Stream;
