//! The imports of `http_handler`.

use wasmtime::{Caller, Linker, Result, bail};

use super::exchange::Reply;
use super::host::{Guest, LogLine, Phase};
use super::memory::{enter, fill, read, read_text};

const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;

/// Adds them.
pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    const MODULE: &str = "http_handler";
    linker.func_wrap(MODULE, "get_config", |mut env: Caller<'_, Guest>, buffer: u32, limit: u32| {
        enter(&mut env)?;
        let config = env.data().config.clone();
        fill(&mut env, &config, buffer, limit)
    })?;
    linker.func_wrap(MODULE, "get_method", |mut env: Caller<'_, Guest>, buffer: u32, limit: u32| {
        enter(&mut env)?;
        let method = env.data().request()?.method.clone();
        fill(&mut env, method.as_bytes(), buffer, limit)
    })?;
    linker.func_wrap(MODULE, "get_uri", |mut env: Caller<'_, Guest>, buffer: u32, limit: u32| {
        enter(&mut env)?;
        let uri = env.data().request()?.uri.clone();
        fill(&mut env, &uri, buffer, limit)
    })?;
    linker.func_wrap(MODULE, "get_source_addr", |mut env: Caller<'_, Guest>, buffer: u32, limit: u32| {
        enter(&mut env)?;
        let peer = env.data().request()?.peer.clone();
        fill(&mut env, peer.as_bytes(), buffer, limit)
    })?;
    linker.func_wrap(MODULE, "set_uri", |mut env: Caller<'_, Guest>, at: u32, len: u32| {
        enter(&mut env)?;
        let uri = read(&mut env, at, len)?;
        env.data_mut().request_before_next()?.uri = uri;
        Ok(())
    })?;
    linker.func_wrap(MODULE, "log", |mut env: Caller<'_, Guest>, level: i32, at: u32, len: u32| {
        enter(&mut env)?;
        let text = read_text(&mut env, at, len)?;
        env.data().shared.borrow_mut().log.push(LogLine { level, text });
        Ok(())
    })?;
    linker.func_wrap(MODULE, "get_header_names", get_header_names)?;
    linker.func_wrap(MODULE, "get_header_values", get_header_values)?;
    linker.func_wrap(MODULE, "set_header_value", set_header_value)?;
    linker.func_wrap(MODULE, "remove_header", remove_header)?;
    linker.func_wrap(MODULE, "set_status_code", set_status_code)?;
    linker.func_wrap(MODULE, "write_body", write_body)?;
    Ok(())
}

/// Each with a NUL behind it; how many, and how long they are together.
fn several(env: &mut Caller<'_, Guest>, items: &[Vec<u8>], buffer: u32, limit: u32) -> Result<u64> {
    let joined: Vec<u8> = items.iter().flat_map(|item| item.iter().copied().chain([0])).collect();
    let len = fill(env, &joined, buffer, limit)?;
    Ok((items.len() as u64) << 32 | u64::from(len))
}

fn get_header_names(mut env: Caller<'_, Guest>, kind: u32, buffer: u32, limit: u32) -> Result<u64> {
    enter(&mut env)?;
    if kind != REQUEST {
        bail!("headers of kind {kind} are not to be read");
    }
    let names: Vec<_> = env.data().request()?.headers.keys().map(|name| name.clone().into_bytes()).collect();
    several(&mut env, &names, buffer, limit)
}

fn get_header_values(
    mut env: Caller<'_, Guest>,
    kind: u32,
    name: u32,
    name_len: u32,
    buffer: u32,
    limit: u32,
) -> Result<u64> {
    enter(&mut env)?;
    if kind != REQUEST || name_len == 0 {
        bail!("header of kind {kind} with a name of {name_len} bytes");
    }
    let name = read_text(&mut env, name, name_len)?.to_ascii_lowercase();
    let values = env.data().request()?.headers.get(&name).cloned().unwrap_or_default();
    several(&mut env, &values, buffer, limit)
}

fn set_header_value(
    mut env: Caller<'_, Guest>,
    kind: u32,
    name: u32,
    name_len: u32,
    value: u32,
    value_len: u32,
) -> Result<()> {
    enter(&mut env)?;
    let name = read_text(&mut env, name, name_len)?.to_ascii_lowercase();
    let value = read(&mut env, value, value_len)?;
    if name.is_empty() || value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        bail!("the header `{name}` cannot be sent");
    }
    match kind {
        REQUEST => {
            env.data_mut().request_before_next()?.headers.insert(name, vec![value]);
        }
        RESPONSE => {
            let reply = env.data_mut().reply_before_next()?;
            // Headers go with the status.
            if reply.status == 0 {
                reply.headers.insert(name, value);
            }
        }
        _ => bail!("no such headers: {kind}"),
    }
    Ok(())
}

fn remove_header(mut env: Caller<'_, Guest>, kind: u32, name: u32, len: u32) -> Result<()> {
    enter(&mut env)?;
    let name = read_text(&mut env, name, len)?.to_ascii_lowercase();
    if kind != REQUEST || name.is_empty() {
        bail!("removed `{name}` of kind {kind}");
    }
    env.data_mut().request_before_next()?.headers.remove(&name);
    Ok(())
}

fn set_status_code(mut env: Caller<'_, Guest>, status: u32) -> Result<()> {
    enter(&mut env)?;
    let status = u16::try_from(status)?;
    if !(100..1000).contains(&status) {
        bail!("status {status}");
    }
    let reply = env.data_mut().reply_before_next()?;
    // The first one is sent.
    if reply.status == 0 {
        reply.status = status;
    }
    Ok(())
}

fn write_body(mut env: Caller<'_, Guest>, kind: u32, at: u32, len: u32) -> Result<()> {
    enter(&mut env)?;
    if kind != RESPONSE {
        bail!("the guest wrote a request body");
    }
    let bytes = read(&mut env, at, len)?;
    let reply = env.data_mut().reply_before_next()?;
    if reply.status == 0 {
        reply.status = 200;
    }
    reply.body.extend(bytes);
    Ok(())
}

// === impl Guest ===

impl Guest {
    fn request(&self) -> Result<&super::Request> {
        match (&self.phase, &self.request) {
            (Phase::Request, Some(request)) => Ok(request),
            (phase, _) => bail!("a request was read in phase {phase:?}"),
        }
    }

    fn request_before_next(&mut self) -> Result<&mut super::Request> {
        match (&self.phase, &mut self.request) {
            (Phase::Request, Some(request)) => Ok(request),
            (phase, _) => bail!("a request was changed in phase {phase:?}"),
        }
    }

    fn reply_before_next(&mut self) -> Result<&mut Reply> {
        match self.phase {
            Phase::Request => Ok(&mut self.reply),
            phase => bail!("a response was changed in phase {phase:?}"),
        }
    }
}
