//! The WASI calls of a Rust guest: clocks, randomness, standard error, and one folder with one spool.

use wasmtime::{Caller, Linker, Result, bail};

use super::host::{Fault, Guest, LogLine};
use super::memory::{enter, gather, read_text, write};

const SUCCESS: u32 = 0;
const ACCESS: u32 = 2;
const BAD_DESCRIPTOR: u32 = 8;
const NO_ENTRY: u32 = 44;
const NO_SPACE: u32 = 51;

const CLOCK_REALTIME: u32 = 0;
const CLOCK_MONOTONIC: u32 = 1;

/// The folder, and the only file in it.
const FOLDER: u32 = 3;
const SPOOL: u32 = 4;
const MOUNT: &str = "/spool";
const FILE_NAME: &str = "farebox";

const IS_FOLDER: u8 = 3;
const IS_FILE: u8 = 4;
const APPEND: u32 = 1;

/// Adds the calls of `wasi_snapshot_preview1`.
pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    const MODULE: &str = "wasi_snapshot_preview1";
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "path_open", path_open)?;
    linker.func_wrap(MODULE, "fd_close", fd_close)?;
    linker.func_wrap(MODULE, "fd_prestat_get", fd_prestat_get)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", fd_prestat_dir_name)?;
    linker.func_wrap(MODULE, "fd_fdstat_get", fd_fdstat_get)?;
    linker.func_wrap(MODULE, "fd_filestat_get", fd_filestat_get)?;
    linker.func_wrap(MODULE, "environ_sizes_get", |mut env: Caller<'_, Guest>, count: u32, size: u32| {
        enter(&mut env)?;
        write(&mut env, count, &[0; 4])?;
        write(&mut env, size, &[0; 4])?;
        Ok(SUCCESS)
    })?;
    linker.func_wrap(MODULE, "environ_get", |mut env: Caller<'_, Guest>, _: u32, _: u32| {
        enter(&mut env)?;
        Ok(SUCCESS)
    })?;
    linker.func_wrap(MODULE, "proc_exit", |_: Caller<'_, Guest>, code: u32| -> Result<()> {
        bail!("the guest exited with {code}")
    })?;
    Ok(())
}

fn clock_time_get(mut env: Caller<'_, Guest>, clock: u32, _precision: u64, time: u32) -> Result<u32> {
    enter(&mut env)?;
    let guest = env.data_mut();
    let now = match clock {
        CLOCK_REALTIME => guest.shared.borrow().wall_ns,
        CLOCK_MONOTONIC => {
            guest.monotonic_ns += 1_000_000;
            guest.monotonic_ns
        }
        _ => bail!("clock {clock}"),
    };
    write(&mut env, time, &now.to_le_bytes())?;
    Ok(SUCCESS)
}

/// The same bytes in every instance.
fn random_get(mut env: Caller<'_, Guest>, at: u32, len: u32) -> Result<u32> {
    enter(&mut env)?;
    let guest = env.data_mut();
    let mut byte = || {
        guest.random =
            guest.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        guest.random.to_le_bytes()[7]
    };
    let bytes: Vec<u8> = (0..len).map(|_| byte()).collect();
    write(&mut env, at, &bytes)?;
    Ok(SUCCESS)
}

fn fault(env: &Caller<'_, Guest>) -> Option<Fault> {
    env.data().shared.borrow().fault
}

fn has_folder(env: &Caller<'_, Guest>) -> bool {
    fault(env) != Some(Fault::NotMounted)
}

#[expect(clippy::too_many_arguments, reason = "the interface has them")]
fn path_open(
    mut env: Caller<'_, Guest>,
    folder: u32,
    _lookup: u32,
    path: u32,
    len: u32,
    _how: u32,
    _rights: u64,
    _inheriting: u64,
    flags: u32,
    opened: u32,
) -> Result<u32> {
    enter(&mut env)?;
    if folder != FOLDER || !has_folder(&env) {
        return Ok(BAD_DESCRIPTOR);
    }
    let path = read_text(&mut env, path, len)?;
    if path != FILE_NAME {
        return Ok(NO_ENTRY);
    }
    if flags & APPEND == 0 {
        bail!("the spool was opened for something else than appending");
    }
    if fault(&env) == Some(Fault::ReadOnly) {
        return Ok(ACCESS);
    }
    env.data_mut().spool_open = true;
    write(&mut env, opened, &SPOOL.to_le_bytes())?;
    Ok(SUCCESS)
}

fn fd_close(mut env: Caller<'_, Guest>, fd: u32) -> Result<u32> {
    enter(&mut env)?;
    let guest = env.data_mut();
    let was_open = fd == SPOOL && std::mem::take(&mut guest.spool_open);
    Ok(if was_open { SUCCESS } else { BAD_DESCRIPTOR })
}

fn fd_write(mut env: Caller<'_, Guest>, fd: u32, vectors: u32, count: u32, written: u32) -> Result<u32> {
    enter(&mut env)?;
    let text = gather(&mut env, vectors, count)?;
    let guest = env.data();
    let mut host = guest.shared.borrow_mut();
    let taken = match fd {
        1 | 2 => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let len = text.len();
            host.log.push(LogLine { level: 2, text });
            len
        }
        SPOOL if guest.spool_open => match host.fault {
            Some(Fault::Full) => return Ok(NO_SPACE),
            Some(Fault::Cut(bytes)) => {
                let bytes = bytes.min(text.len());
                host.spool.extend(&text[..bytes]);
                bytes
            }
            _ => {
                host.spool.extend(&text);
                text.len()
            }
        },
        _ => return Ok(BAD_DESCRIPTOR),
    };
    drop(host);
    write(&mut env, written, &u32::try_from(taken)?.to_le_bytes())?;
    Ok(SUCCESS)
}

fn fd_prestat_get(mut env: Caller<'_, Guest>, fd: u32, at: u32) -> Result<u32> {
    enter(&mut env)?;
    if fd != FOLDER || !has_folder(&env) {
        return Ok(BAD_DESCRIPTOR);
    }
    write(&mut env, at, &[0, 0, 0, 0])?;
    write(&mut env, at + 4, &u32::try_from(MOUNT.len())?.to_le_bytes())?;
    Ok(SUCCESS)
}

fn fd_prestat_dir_name(mut env: Caller<'_, Guest>, fd: u32, at: u32, len: u32) -> Result<u32> {
    enter(&mut env)?;
    if fd != FOLDER || len as usize != MOUNT.len() {
        return Ok(BAD_DESCRIPTOR);
    }
    write(&mut env, at, MOUNT.as_bytes())?;
    Ok(SUCCESS)
}

fn fd_fdstat_get(mut env: Caller<'_, Guest>, fd: u32, at: u32) -> Result<u32> {
    enter(&mut env)?;
    let Some(kind) = kind(&env, fd) else { return Ok(BAD_DESCRIPTOR) };
    let mut stat = [0; 24];
    stat[0] = kind;
    stat[8..].fill(0xff);
    write(&mut env, at, &stat)?;
    Ok(SUCCESS)
}

fn fd_filestat_get(mut env: Caller<'_, Guest>, fd: u32, at: u32) -> Result<u32> {
    enter(&mut env)?;
    let Some(kind) = kind(&env, fd) else { return Ok(BAD_DESCRIPTOR) };
    let mut stat = [0; 64];
    stat[16] = kind;
    let size = env.data().shared.borrow().spool.len() as u64;
    stat[32..40].copy_from_slice(&size.to_le_bytes());
    write(&mut env, at, &stat)?;
    Ok(SUCCESS)
}

fn kind(env: &Caller<'_, Guest>, fd: u32) -> Option<u8> {
    match fd {
        FOLDER if has_folder(env) => Some(IS_FOLDER),
        SPOOL if env.data().spool_open => {
            Some(if fault(env) == Some(Fault::NotAFile) { IS_FOLDER } else { IS_FILE })
        }
        _ => None,
    }
}
