//! The WASI calls a Rust guest makes: clock, randomness, standard error, environment, exit.

use super::guest::Guest;
use super::host::LogLine;
use super::memory::{enter_unrestricted, gather, write, write_u32, write_u64};
use wasmtime::{Caller, Linker, Result, bail};

const SUCCESS: u32 = 0;
const BAD_DESCRIPTOR: u32 = 8;
const CLOCK_MONOTONIC: u32 = 1;

/// Adds the calls of `wasi_snapshot_preview1`.
pub(crate) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    const MODULE: &str = "wasi_snapshot_preview1";
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "environ_sizes_get", nothing_sized)?;
    linker.func_wrap(MODULE, "environ_get", nothing)?;
    linker.func_wrap(MODULE, "args_sizes_get", nothing_sized)?;
    linker.func_wrap(MODULE, "args_get", nothing)?;
    linker.func_wrap(MODULE, "proc_exit", proc_exit)?;
    Ok(())
}

fn clock_time_get(mut env: Caller<'_, Guest>, clock: u32, _precision: u64, time: u32) -> Result<u32> {
    enter_unrestricted(&mut env)?;
    let now = env.data().host.borrow().clock;
    write_u64(&mut env, time, if clock == CLOCK_MONOTONIC { now.monotonic } else { now.wall })?;
    Ok(SUCCESS)
}

fn random_get(mut env: Caller<'_, Guest>, at: u32, len: u32) -> Result<u32> {
    enter_unrestricted(&mut env)?;
    let bytes = env.data().host.borrow_mut().random_bytes(len as usize);
    write(&mut env, at, &bytes)?;
    Ok(SUCCESS)
}

/// Standard output and error go to the log, as in Envoy.
fn fd_write(mut env: Caller<'_, Guest>, fd: u32, vectors: u32, count: u32, written: u32) -> Result<u32> {
    enter_unrestricted(&mut env)?;
    if !matches!(fd, 1 | 2) {
        return Ok(BAD_DESCRIPTOR);
    }
    let text = gather(&mut env, vectors, count)?;
    write_u32(&mut env, written, u32::try_from(text.len())?)?;
    let level = if fd == 2 { 4 } else { 2 };
    let text = String::from_utf8_lossy(&text).into_owned();
    env.data().host.borrow_mut().log.push(LogLine { level, text });
    Ok(SUCCESS)
}

fn nothing_sized(mut env: Caller<'_, Guest>, count: u32, size: u32) -> Result<u32> {
    enter_unrestricted(&mut env)?;
    write_u32(&mut env, count, 0)?;
    write_u32(&mut env, size, 0)?;
    Ok(SUCCESS)
}

fn nothing(mut env: Caller<'_, Guest>, _pointers: u32, _text: u32) -> Result<u32> {
    enter_unrestricted(&mut env)?;
    Ok(SUCCESS)
}

fn proc_exit(_: Caller<'_, Guest>, code: u32) -> Result<()> {
    bail!("the guest exited with {code}")
}
