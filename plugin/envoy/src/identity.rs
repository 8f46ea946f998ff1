//! What a relay knows a proxy and its uses of payments by.

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

use crate::{clock, shared_data};

/// Where the workers of one process agree on its birth.
const LIFE: &str = "farebox.life";
/// Where they get numbers of their own.
const NUMBERS: &str = "farebox.numbers";

/// Names of this filter towards a relay.
#[derive(Default)]
pub(crate) struct Identity {
    /// `node id/Unix milliseconds at which the first VM of this process was configured`: one life of this
    /// proxy, as reservations of an earlier life died with its shared data. The id alone would not do: it stays
    /// when the process is replaced.
    pub(crate) holder: String,
    /// No other filter of the process has it.
    number: u64,
}

// === impl Identity ===

impl Identity {
    pub(crate) fn take() -> Result<Self, Status> {
        let node = hostcalls::get_property(vec!["node", "id"])?.unwrap_or_default();
        let node: String =
            String::from_utf8_lossy(&node).chars().filter(char::is_ascii_graphic).take(63).collect();
        let born = clock::now()?.unix_ms.to_string();
        let born = shared_data::agree(LIFE, born.as_bytes())?;
        let holder = [&node, "/", &String::from_utf8_lossy(&born)].concat();
        Ok(Self { holder, number: shared_data::number(NUMBERS)? })
    }

    /// The name of a stream's use of a payment: contexts of a VM have numbers that do not come again, and each
    /// stream reserves once.
    pub(crate) fn attempt(&self, stream: u32) -> String {
        [self.number.to_string(), stream.to_string()].join(".")
    }
}
