//! The name of this proxy, and those of its requests.

use std::cell::RefCell;

use farebox_core::evm::keccak256;
use farebox_core::payment::Holder;
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

/// Names of one VM.
pub(crate) struct Identity {
    /// The VM, as long as it lives. Nobody else has it.
    pub(crate) vm: String,
    /// Id of the Envoy node, for the books of a relay.
    pub(crate) proxy: String,
    /// From the host's randomness. Nobody else has it.
    key: [u8; 32],
}

thread_local! {
    static VM: RefCell<String> = const { RefCell::new(String::new()) };
}

// === impl Identity ===

impl Identity {
    pub(crate) fn take() -> Result<Self, Status> {
        // The property `node.id` does not exist: Envoy gives the id of its node under `xds` only.
        let node = hostcalls::get_property(vec!["xds", "node", "id"])?.unwrap_or_default();
        let proxy = String::from_utf8_lossy(&node).chars().filter(char::is_ascii_graphic).take(63).collect();
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|_| Status::InternalFailure)?;
        let vm = VM.with_borrow_mut(|vm| {
            if vm.is_empty() {
                *vm = holder_of(&key, 0).to_string();
            }
            vm.clone()
        });
        Ok(Self { vm, proxy, key })
    }

    /// The name of a stream's request: contexts of a VM have numbers that do not come again, and nobody knows the
    /// key.
    pub(crate) fn holder(&self, stream: u32) -> Holder {
        holder_of(&self.key, stream)
    }
}

fn holder_of(key: &[u8], stream: u32) -> Holder {
    let name = keccak256(&[key, &stream.to_be_bytes()].concat());
    Holder(name.first_chunk().copied().unwrap_or_default())
}
