//! Guest memory, and the prologue of every host call.

use super::guest::{Guest, Interrupt};
use wasmtime::{Caller, Extern, Result, bail};

pub(crate) use crate::memory::{gather, read, write};

/// Text of the trap a test injects.
pub(crate) const INJECTED: &str = "crash injected by the test";

/// Begins a host call that is available at any time.
pub(crate) fn enter_unrestricted(env: &mut Caller<'_, Guest>) -> Result<()> {
    match env.data_mut().interrupt.take() {
        Some((0, Interrupt::Crash)) => bail!("{INJECTED}"),
        Some((0, Interrupt::Others(act))) => act(),
        Some((left, interrupt)) => env.data_mut().interrupt = Some((left - 1, interrupt)),
        None => {}
    }
    Ok(())
}

/// Counts a host call that Envoy does not offer while `_initialize` runs.
pub(crate) fn enter(env: &mut Caller<'_, Guest>) -> Result<()> {
    if env.data().restricted {
        bail!("a restricted host call was made in _initialize");
    }
    enter_unrestricted(env)
}

pub(crate) fn write_u32(env: &mut Caller<'_, Guest>, at: u32, value: u32) -> Result<()> {
    write(env, at, &value.to_le_bytes())
}

pub(crate) fn write_u64(env: &mut Caller<'_, Guest>, at: u32, value: u64) -> Result<()> {
    write(env, at, &value.to_le_bytes())
}

/// Hands bytes to the guest in memory it allocates; nothing is allocated for no bytes (a null pointer).
pub(crate) fn give(env: &mut Caller<'_, Guest>, bytes: &[u8], data: u32, size: u32) -> Result<()> {
    let len = u32::try_from(bytes.len())?;
    let mut at = 0;
    if len > 0 {
        let Some(Extern::Func(allocate)) = env.get_export("proxy_on_memory_allocate") else {
            bail!("the guest exports no proxy_on_memory_allocate");
        };
        at = allocate.typed::<u32, u32>(&*env)?.call(&mut *env, len)?;
        write(env, at, bytes)?;
    }
    write_u32(env, data, at)?;
    write_u32(env, size, len)
}
