//! Guest memory, and the prologue of every host call.

use wasmtime::{Caller, Extern, Memory, Result, bail};

use super::host::Guest;

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

fn memory(env: &mut Caller<'_, Guest>) -> Result<Memory> {
    match env.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => bail!("the guest exports no memory"),
    }
}

/// Reads guest memory; out of bounds is a trap.
pub(super) fn read(env: &mut Caller<'_, Guest>, at: u32, len: u32) -> Result<Vec<u8>> {
    let memory = memory(env)?;
    let (at, len) = (at as usize, len as usize);
    match memory.data(&*env).get(at..at.saturating_add(len)) {
        Some(bytes) => Ok(bytes.to_vec()),
        None => bail!("a host call was given memory out of bounds"),
    }
}

pub(super) fn read_text(env: &mut Caller<'_, Guest>, at: u32, len: u32) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(env, at, len)?).into_owned())
}

/// Writes guest memory; out of bounds is a trap.
pub(super) fn write(env: &mut Caller<'_, Guest>, at: u32, bytes: &[u8]) -> Result<()> {
    let memory = memory(env)?;
    memory.write(env, at as usize, bytes)?;
    Ok(())
}

/// Writes into a buffer of the guest if it fits. The length, either way.
pub(super) fn fill(env: &mut Caller<'_, Guest>, bytes: &[u8], buffer: u32, limit: u32) -> Result<u32> {
    let len = u32::try_from(bytes.len())?;
    if len <= limit {
        write(env, buffer, bytes)?;
    }
    Ok(len)
}
