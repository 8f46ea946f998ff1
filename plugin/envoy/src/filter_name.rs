//! Acting in the name of the filter, whose context outlives those of its streams.
//!
//! Two parties decide who hears the reply to a call. Envoy hands it to the context that was the effective one. The SDK
//! then hands it to the context whose callback it saw begin last before the call, whatever the effective one was, and
//! drops it where that is gone. So the SDK has to see a callback of the filter begin, and one that does nothing is
//! enough: `proxy_on_queue_ready`, which Envoy never calls because this filter has no queue.

use std::cell::Cell;

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

#[allow(unsafe_code, reason = "a function the SDK exports to the host under this name and to nobody else")]
mod sdk {
    // SAFETY: the SDK defines it with these parameters, in safe code.
    unsafe extern "C" {
        pub(super) safe fn proxy_on_queue_ready(context: u32, queue: u32);
    }
}

thread_local! {
    /// The filter whose callback runs.
    static ON_STAGE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A callback of the filter, until it is dropped.
pub(crate) struct Callback(());

// === impl Callback ===

impl Callback {
    /// The callback of a filter begins.
    pub(crate) fn begin(root: u32) -> Self {
        ON_STAGE.set(Some(root));
        Self(())
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        ON_STAGE.set(None);
    }
}

/// Makes a call in the name of the filter whose callback runs; in a callback of a stream, in that of `root`. Then the
/// effective context is `context`.
pub(crate) fn take(
    root: u32,
    context: u32,
    call: impl FnOnce() -> Result<u32, Status>,
) -> Result<u32, Status> {
    let root = ON_STAGE.get().unwrap_or_else(|| {
        // Nothing but calls depends on what the SDK saw last, and this stream makes all its calls here.
        sdk::proxy_on_queue_ready(root, 0);
        root
    });
    hostcalls::set_effective_context(root)?;
    let token = call();
    // It cannot fail: the callback of this context runs, or its stream was found waiting.
    let _ = hostcalls::set_effective_context(context);
    token
}
