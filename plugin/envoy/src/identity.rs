//! The name of this proxy, and those of its requests.

use std::hash::{BuildHasher, RandomState};

use farebox_core::payment::Holder;
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

/// Names of one VM.
pub(crate) struct Identity {
    /// Id of the Envoy node, for the books of a relay.
    pub(crate) proxy: String,
    /// Keys of this VM, from the host's randomness.
    keys: RandomState,
}

// === impl Identity ===

impl Identity {
    pub(crate) fn take() -> Result<Self, Status> {
        let node = hostcalls::get_property(vec!["node", "id"])?.unwrap_or_default();
        let proxy = String::from_utf8_lossy(&node).chars().filter(char::is_ascii_graphic).take(63).collect();
        Ok(Self { proxy, keys: RandomState::new() })
    }

    /// The name of a stream's request: contexts of a VM have numbers that do not come again, and nobody knows
    /// the keys.
    pub(crate) fn holder(&self, stream: u32) -> Holder {
        Holder::from_halves(self.keys.hash_one((stream, 0_u8)), self.keys.hash_one((stream, 1_u8)))
    }
}
