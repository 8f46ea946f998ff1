//! The `env` imports: every host call the filter may make, with the statuses Envoy answers.

use super::abi::{Headers, MapType, Status};
use super::guest::{After, Call, Guest, LocalReply, Phase, lock};
use super::host::LogLine;
use super::memory::{enter, enter_unrestricted, give, read, write_u32, write_u64};
use std::time::Duration;
use wasmtime::{Caller, Linker, Result};

type Env<'a> = Caller<'a, Guest>;

/// Adds every import.
pub(crate) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    linker.func_wrap("env", "proxy_log", log)?;
    linker.func_wrap("env", "proxy_get_log_level", get_log_level)?;
    linker.func_wrap("env", "proxy_get_current_time_nanoseconds", get_time)?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", set_tick)?;
    linker.func_wrap("env", "proxy_set_effective_context", set_effective_context)?;
    linker.func_wrap("env", "proxy_done", done)?;
    linker.func_wrap("env", "proxy_get_buffer_bytes", get_buffer)?;
    linker.func_wrap("env", "proxy_get_header_map_pairs", get_map)?;
    linker.func_wrap("env", "proxy_get_header_map_value", get_map_value)?;
    linker.func_wrap("env", "proxy_set_header_map_pairs", set_map)?;
    linker.func_wrap("env", "proxy_replace_header_map_value", replace_map_value)?;
    linker.func_wrap("env", "proxy_add_header_map_value", add_map_value)?;
    linker.func_wrap("env", "proxy_remove_header_map_value", remove_map_value)?;
    linker.func_wrap("env", "proxy_get_property", get_property)?;
    linker.func_wrap("env", "proxy_get_shared_data", get_shared_data)?;
    linker.func_wrap("env", "proxy_set_shared_data", set_shared_data)?;
    linker.func_wrap("env", "proxy_continue_stream", continue_stream)?;
    linker.func_wrap("env", "proxy_send_local_response", send_local_response)?;
    linker.func_wrap("env", "proxy_http_call", http_call)?;
    Ok(())
}

const fn answer(status: Status) -> Result<u32> {
    Ok(status as u32)
}

// === log, clock, context ===

fn log(mut env: Env<'_>, level: u32, text: u32, len: u32) -> Result<u32> {
    enter_unrestricted(&mut env)?;
    let text = String::from_utf8_lossy(&read(&mut env, text, len)?).into_owned();
    env.data().host.borrow_mut().log.push(LogLine { level, text });
    answer(Status::Ok)
}

fn get_log_level(mut env: Env<'_>, level: u32) -> Result<u32> {
    enter_unrestricted(&mut env)?;
    write_u32(&mut env, level, 2)?;
    answer(Status::Ok)
}

fn get_time(mut env: Env<'_>, time: u32) -> Result<u32> {
    enter_unrestricted(&mut env)?;
    let wall = env.data().host.borrow().clock.wall;
    write_u64(&mut env, time, wall)?;
    answer(Status::Ok)
}

fn set_tick(mut env: Env<'_>, millis: u32) -> Result<u32> {
    enter(&mut env)?;
    env.data_mut().tick = (millis > 0).then(|| Duration::from_millis(u64::from(millis)));
    answer(Status::Ok)
}

fn set_effective_context(mut env: Env<'_>, context: u32) -> Result<u32> {
    enter(&mut env)?;
    if !env.data().contexts.contains_key(&context) {
        return answer(Status::BadArgument);
    }
    env.data_mut().effective = context;
    if env.data().stream().is_some() {
        env.data_mut().about = context;
    }
    answer(Status::Ok)
}

fn done(mut env: Env<'_>) -> Result<u32> {
    enter(&mut env)?;
    answer(Status::Ok)
}

// === buffers and properties ===

fn get_buffer(mut env: Env<'_>, kind: u32, start: u32, max: u32, data: u32, size: u32) -> Result<u32> {
    enter(&mut env)?;
    let buffer = match kind {
        4 => env.data().reply.as_ref().map(|r| r.body.clone()),
        7 => env.data().configuration().map(|c| c.to_vec()),
        _ => None,
    };
    let Some(buffer) = buffer else { return answer(Status::NotFound) };
    let from = (start as usize).min(buffer.len());
    let to = from.saturating_add(max as usize).min(buffer.len());
    give(&mut env, &buffer[from..to], data, size)?;
    answer(Status::Ok)
}

fn get_property(mut env: Env<'_>, path: u32, len: u32, data: u32, size: u32) -> Result<u32> {
    enter(&mut env)?;
    let path = read(&mut env, path, len)?;
    let path = String::from_utf8_lossy(&path).into_owned();
    let parts: Vec<&str> = path.split('\0').collect();
    let value = match parts.as_slice() {
        ["plugin_name" | "plugin_root_id" | "plugin_vm_id"] => Some(b"farebox".to_vec()),
        ["xds", "node", "id"] => Some(b"simulator".to_vec()),
        parts => env.data().stream().and_then(|s| lock(&s).property(parts)),
    };
    let Some(value) = value else { return answer(Status::NotFound) };
    give(&mut env, &value, data, size)?;
    answer(Status::Ok)
}

// === header maps ===

fn get_map(mut env: Env<'_>, map: u32, data: u32, size: u32) -> Result<u32> {
    enter(&mut env)?;
    let Some(map) = env.data().map(MapType::from_wire(map)) else { return answer(Status::BadArgument) };
    let mut wire = map.to_wire();
    let cut = env.data().host.borrow().cut_header_maps;
    wire.truncate(cut.unwrap_or(usize::MAX));
    give(&mut env, &wire, data, size)?;
    answer(Status::Ok)
}

fn get_map_value(mut env: Env<'_>, map: u32, name: u32, len: u32, data: u32, size: u32) -> Result<u32> {
    enter(&mut env)?;
    let name = read(&mut env, name, len)?;
    let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
    let Some(map) = env.data().map(MapType::from_wire(map)) else { return answer(Status::BadArgument) };
    let Some(value) = map.get_bytes(&name) else { return answer(Status::NotFound) };
    give(&mut env, value, data, size)?;
    answer(Status::Ok)
}

/// Changes a stream's header map if Envoy allows it now; `on_log` may read but not write.
fn edit(env: &Env<'_>, map: u32, change: impl FnOnce(&mut Headers)) -> Result<u32> {
    let Some(stream) = env.data().stream() else { return answer(Status::BadArgument) };
    let mut stream = lock(&stream);
    let Some(headers) = stream.open_map(MapType::from_wire(map), false) else {
        return answer(Status::BadArgument);
    };
    change(headers);
    let unsendable = headers.unsendable();
    if !unsendable.is_empty() {
        env.data().violate(format!("header lines no proxy can send: {unsendable:?}"));
    }
    answer(Status::Ok)
}

fn set_map(mut env: Env<'_>, map: u32, data: u32, len: u32) -> Result<u32> {
    enter(&mut env)?;
    let Some(new) = Headers::from_wire(&read(&mut env, data, len)?) else {
        return answer(Status::BadArgument);
    };
    edit(&env, map, |headers| *headers = new)
}

fn named(env: &mut Env<'_>, name: u32, len: u32) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(env, name, len)?).into_owned())
}

fn replace_map_value(mut env: Env<'_>, map: u32, name: u32, len: u32, value: u32, size: u32) -> Result<u32> {
    enter(&mut env)?;
    let (name, value) = (named(&mut env, name, len)?, read(&mut env, value, size)?);
    edit(&env, map, |headers| headers.set(&name, value))
}

fn add_map_value(mut env: Env<'_>, map: u32, name: u32, len: u32, value: u32, size: u32) -> Result<u32> {
    enter(&mut env)?;
    let (name, value) = (named(&mut env, name, len)?, read(&mut env, value, size)?);
    edit(&env, map, |headers| headers.add(&name, value))
}

fn remove_map_value(mut env: Env<'_>, map: u32, name: u32, len: u32) -> Result<u32> {
    enter(&mut env)?;
    let name = named(&mut env, name, len)?;
    edit(&env, map, |headers| headers.remove(&name))
}

// === shared data ===

fn get_shared_data(mut env: Env<'_>, key: u32, len: u32, data: u32, size: u32, cas: u32) -> Result<u32> {
    enter(&mut env)?;
    let key = read(&mut env, key, len)?;
    let found = env.data().host.borrow().shared.get(&key).map(|(value, cas)| (value.to_vec(), cas));
    let Some((value, current)) = found else { return answer(Status::NotFound) };
    give(&mut env, &value, data, size)?;
    write_u32(&mut env, cas, current)?;
    answer(Status::Ok)
}

fn set_shared_data(mut env: Env<'_>, key: u32, len: u32, value: u32, size: u32, cas: u32) -> Result<u32> {
    enter(&mut env)?;
    let (key, value) = (read(&mut env, key, len)?, read(&mut env, value, size)?);
    let rival = env.data().host.borrow_mut().rival.take();
    if let Some(rival) = rival {
        rival();
    }
    answer(env.data().host.borrow_mut().shared.set(&key, value, cas))
}

// === streams ===

fn continue_stream(mut env: Env<'_>, kind: u32) -> Result<u32> {
    enter(&mut env)?;
    let Some(stream) = env.data().stream() else { return answer(Status::BadArgument) };
    // Envoy forgets the request maps at once, whichever direction is resumed.
    lock(&stream).request_open = false;
    let after = match kind {
        0 => After::ContinueRequest(stream),
        1 => After::ContinueResponse(stream),
        _ => return answer(Status::BadArgument),
    };
    env.data_mut().after.push_back(after);
    answer(Status::Ok)
}

#[expect(clippy::too_many_arguments, reason = "the ABI has that many")]
fn send_local_response(
    mut env: Env<'_>,
    status: u32,
    _details: u32,
    _details_len: u32,
    body: u32,
    body_len: u32,
    headers: u32,
    headers_len: u32,
    _grpc: i32,
) -> Result<u32> {
    enter(&mut env)?;
    let body = read(&mut env, body, body_len)?;
    let Some(headers) = Headers::from_wire(&read(&mut env, headers, headers_len)?) else {
        return answer(Status::BadArgument);
    };
    let Some(stream) = env.data().stream() else { return answer(Status::BadArgument) };
    {
        let mut stream = lock(&stream);
        if stream.reply_held {
            env.data().violate("sent a second local reply");
            return answer(Status::BadArgument);
        }
        stream.reply_held = true;
        let unsendable = headers.unsendable();
        if !unsendable.is_empty() {
            env.data().violate(format!("header lines no proxy can send: {unsendable:?}"));
        }
        if matches!(stream.phase, Phase::Streaming | Phase::Ended) {
            env.data().violate("sent a local reply after the response had started");
        }
    }
    env.data_mut().after.push_back(After::Reply(stream, LocalReply { status, headers, body }));
    answer(Status::Ok)
}

#[expect(clippy::too_many_arguments, reason = "the ABI has that many")]
fn http_call(
    mut env: Env<'_>,
    cluster: u32,
    cluster_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    _trailers: u32,
    _trailers_len: u32,
    timeout: u32,
    token: u32,
) -> Result<u32> {
    enter(&mut env)?;
    let cluster = named(&mut env, cluster, cluster_len)?;
    let body = read(&mut env, body, body_len)?;
    let Some(headers) = Headers::from_wire(&read(&mut env, headers, headers_len)?) else {
        return answer(Status::BadArgument);
    };
    let complete = [":method", ":path", ":authority"].iter().all(|name| headers.get(name).is_some());
    if !env.data().host.borrow().clusters.contains(&cluster) || !complete {
        return answer(Status::BadArgument);
    }
    let timeout = Duration::from_millis(u64::from(timeout));
    let deadline = env.data().host.borrow().clock.after(timeout);
    let guest = env.data_mut();
    guest.last_token += 1;
    let (id, context) = (guest.last_token, guest.active());
    let about = guest.about;
    let call = Call { context, about, cluster, headers, body, timeout, deadline };
    let path = call.headers.get(":path").unwrap_or_default();
    if path.ends_with("/over") || path.ends_with("/report") {
        guest.root_calls.push((id, call));
    } else {
        if about == 0 {
            guest.violate("dispatched a callout outside a stream");
        }
        guest.calls.insert(id, call);
    }
    write_u32(&mut env, token, id)?;
    answer(Status::Ok)
}
