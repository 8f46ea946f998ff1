//! Envoy's shared data: bytes under a name that every worker of the process sees, written under
//! compare-and-swap.
//!
//! It has no insert-if-absent in the obvious form: a compare-and-swap of nothing or of 0 overwrites. A number
//! that is never current inserts where the key is absent and is refused where another worker was first.

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

/// Each lost round means that another worker won it, so whoever loses this many gives up.
const ROUNDS: u32 = 128;

/// A compare-and-swap number no entry ever has.
const ABSENT: u32 = u32::MAX;

/// What is under a name, and the number of that version.
pub(crate) fn read(name: &str) -> Result<(Vec<u8>, u32), Status> {
    let (bytes, cas) = hostcalls::get_shared_data(name)?;
    Ok((bytes.unwrap_or_default(), cas.unwrap_or(ABSENT)))
}

/// Writes over the version of this number; says whether it was still the current one.
pub(crate) fn write(name: &str, bytes: &[u8], cas: u32) -> bool {
    hostcalls::set_shared_data(name, Some(bytes), Some(cas)).is_ok()
}

/// Changes what is under a name, again until nobody was quicker. The change gives the new bytes, or `None` if
/// there is nothing to write, and what it found out.
pub(crate) fn change<T>(
    name: &str,
    mut change: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Result<T, Status> {
    for _ in 0..ROUNDS {
        let (bytes, cas) = read(name)?;
        match change(&bytes) {
            (None, found) => return Ok(found),
            (Some(changed), found) if write(name, &changed, cas) => return Ok(found),
            (Some(_), _) => {}
        }
    }
    Err(Status::CasMismatch)
}
