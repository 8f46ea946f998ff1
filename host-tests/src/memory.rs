//! Access to guest memory, for every host.

use wasmtime::{Caller, Extern, Memory, Result, bail};

fn memory<T>(env: &mut Caller<'_, T>) -> Result<Memory> {
    match env.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => bail!("the guest exports no memory"),
    }
}

/// Reads guest memory; out of bounds is a trap.
pub(crate) fn read<T>(env: &mut Caller<'_, T>, at: u32, len: u32) -> Result<Vec<u8>> {
    let memory = memory(env)?;
    let (at, len) = (at as usize, len as usize);
    match memory.data(&*env).get(at..at.saturating_add(len)) {
        Some(bytes) => Ok(bytes.to_vec()),
        None => bail!("a host call was given memory out of bounds"),
    }
}

/// Reads the buffers of a WASI write, one after the other.
pub(crate) fn gather<T>(env: &mut Caller<'_, T>, vectors: u32, count: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for index in 0..count {
        let vector = read(env, vectors + index * 8, 8)?;
        let (at, len) = vector.split_at(4);
        let word = |b: &[u8]| b.iter().rev().fold(0, |n, b| (n << 8) | u32::from(*b));
        bytes.extend(read(env, word(at), word(len))?);
    }
    Ok(bytes)
}

/// Writes guest memory; out of bounds is a trap.
pub(crate) fn write<T>(env: &mut Caller<'_, T>, at: u32, bytes: &[u8]) -> Result<()> {
    let memory = memory(env)?;
    memory.write(env, at as usize, bytes)?;
    Ok(())
}
