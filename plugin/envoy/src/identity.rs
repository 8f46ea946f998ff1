//! A name for one life of this proxy: reservations of an earlier life died with its shared data.

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

use crate::{clock, replay_table};

/// Where the workers of one process agree on it.
const KEY: &str = "farebox.life";

/// `node id/Unix milliseconds at which the first VM of this process was configured`. The id alone would not
/// do: it stays when the process is replaced.
pub(crate) fn holder() -> Result<String, Status> {
    let node = hostcalls::get_property(vec!["node", "id"])?.unwrap_or_default();
    let node: String =
        String::from_utf8_lossy(&node).chars().filter(char::is_ascii_graphic).take(63).collect();
    let born = clock::now()?.unix_ms.to_string();
    let born = replay_table::agree(KEY, born.as_bytes())?;
    Ok([&node, "/", &String::from_utf8_lossy(&born)].concat())
}
