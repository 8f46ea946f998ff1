//! Guest memory, and the prologue of every host call.

use wasmtime::{Caller, Result, bail};

use super::host::Guest;

pub(super) use crate::memory::{gather, read, write};

/// Counts a host call, and traps where a test wants it.
pub(super) fn enter(env: &mut Caller<'_, Guest>) -> Result<()> {
    let guest = env.data_mut();
    guest.calls += 1;
    if guest.crash_at == Some(guest.calls) {
        guest.crash_at = None;
        bail!("crash injected by the test");
    }
    Ok(())
}

pub(super) fn read_text(env: &mut Caller<'_, Guest>, at: u32, len: u32) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(env, at, len)?).into_owned())
}

/// Writes into a buffer of the guest if it fits. The length, either way.
pub(super) fn fill(env: &mut Caller<'_, Guest>, bytes: &[u8], buffer: u32, limit: u32) -> Result<u32> {
    let len = u32::try_from(bytes.len())?;
    if len <= limit {
        write(env, buffer, bytes)?;
    }
    Ok(len)
}
