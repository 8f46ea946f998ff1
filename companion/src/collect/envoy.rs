//! What an Envoy's statistics say.

use std::fmt;
use std::time::UNIX_EPOCH;

use farebox_core::metrics::{HostSeries, decode_host_name};
use reqwest::header::{self, HeaderMap};
use serde::Deserialize;

use super::Reading;
use super::clock::Clock;
use crate::aggregate::{Interval, Process, Report};
use crate::http::BodyError;

/// Why a proxy could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// It did not answer as it should.
    #[error("{0}")]
    Http(String),
    /// It answered something else.
    #[error("{path}: the reply cannot be read: {error}")]
    Reply {
        /// What was asked for.
        path: &'static str,
        /// What is wrong with the answer.
        error: serde_json::Error,
    },
    /// It restarted between two requests of this reading.
    #[error("restarted while it was read")]
    Restarted,
    /// It is being started by a hot restart and has not taken over the counts of its predecessor.
    #[error("is taking over from the process before it")]
    TakingOver,
}

/// Counters of the filter and of the discovery of its configuration, only those that were ever touched, and
/// which hot restart the numbers themselves are of: `^(wasmcustom[.]|server[.]hot_restart_epoch$|
/// extension_config_discovery[.]http_filter[.]farebox[.]update_rejected$)`.
const STATS: &str = "/stats?format=json&usedonly&filter=%5E%28wasmcustom%5B.%5D%7C\
    server%5B.%5Dhot_restart_epoch%24%7C\
    extension_config_discovery%5B.%5Dhttp_filter%5B.%5Dfarebox%5B.%5Dupdate_rejected%24%29";
const SERVER_INFO: &str = "/server_info";
const REJECTED: &str = "extension_config_discovery.http_filter.farebox.update_rejected";
const RESTART_EPOCH: &str = "server.hot_restart_epoch";
/// Prefix Envoy gives to the metrics of a filter.
const CUSTOM: &str = "wasmcustom.";
/// What every name of ours holds.
const OURS: &str = "farebox_";
/// Larger answers are refused: a reading must not exhaust the companion.
const MAX_REPLY: usize = 256 * 1024 * 1024;
/// Ages and times of day have whole seconds.
const SECOND: i64 = 1_000;

#[derive(Deserialize)]
struct ServerInfo {
    state: String,
    uptime_current_epoch: String,
    #[serde(default)]
    command_line_options: Options,
}

#[derive(Default, Deserialize)]
struct Options {
    #[serde(default)]
    restart_epoch: u32,
    #[serde(default)]
    skip_hot_restart_parent_stats: bool,
}

#[derive(Deserialize)]
struct Stats {
    stats: Vec<Stat>,
}

/// A counter or gauge; the entry that holds histograms has neither member.
#[derive(Deserialize)]
struct Stat {
    name: Option<String>,
    value: Option<serde_json::Value>,
}

/// Reads one Envoy. The process is asked for before and after: values of two must not mix.
pub(super) async fn read(
    client: &reqwest::Client,
    clock: &Clock,
    base: &str,
) -> Result<Reading, CollectError> {
    let before = process(client, clock, base).await?;
    let stats: Stats = get(client, base, STATS).await?.1;
    let mut process = process(client, clock, base).await?;
    // While a hot restart is under way, the three answers may come from old, new and old. An operator may
    // have Envoy keep fewer statistics; then nothing is known against it.
    let same = |epoch| epoch == u64::from(process.restart_epoch);
    if before.distance(&process).is_none() || !stats.value(RESTART_EPOCH).is_none_or(same) {
        return Err(CollectError::Restarted);
    }
    process.refine(&before);
    let report = Report { process, read_at: clock.unix_seconds(), values: Vec::new(), malformed: Vec::new() };
    Ok(interpret(report, stats))
}

impl Stats {
    fn value(&self, name: &str) -> Option<u64> {
        let stat = self.stats.iter().find(|stat| stat.name.as_deref() == Some(name))?;
        stat.value.as_ref()?.as_u64()
    }
}

fn interpret(report: Report, stats: Stats) -> Reading {
    let mut reading = Reading { generation: None, rejected: 0, report };
    for stat in stats.stats {
        let Some((name, value)) = stat.name.zip(stat.value.and_then(|value| value.as_u64())) else {
            continue;
        };
        if name == REJECTED {
            reading.rejected = value;
        }
        let Some(name) = name.strip_prefix(CUSTOM) else { continue };
        match decode_host_name(name) {
            Some(HostSeries::ConfigGeneration) => reading.generation = Some(value),
            Some(series) => reading.report.values.push((series, value)),
            None if name.contains(OURS) => reading.report.malformed.push((name.to_owned(), value)),
            None => {}
        }
    }
    reading
}

/// Which process answers. Envoy tells its age as the difference of two times of day of its own, each cut to
/// whole seconds, and the time of day in `date`. That one is from a cache which a busy Envoy may refresh late,
/// never early.
async fn process(client: &reqwest::Client, clock: &Clock, base: &str) -> Result<Process, CollectError> {
    let asked = clock.unix_millis();
    let (date, info): (_, ServerInfo) = get(client, base, SERVER_INFO).await?;
    let answered = clock.unix_millis();
    let hot = info.command_line_options;
    let inherits = hot.restart_epoch > 0 && !hot.skip_hot_restart_parent_stats;
    if inherits && info.state.contains("INITIALIZING") {
        return Err(CollectError::TakingOver);
    }
    let age = seconds(&info.uptime_current_epoch)? * SECOND;
    Ok(Process {
        proxy_clock: date.map(|now| Interval { low: now - age, high: now - age + SECOND }),
        own_clock: Interval { low: asked - age - SECOND, high: answered - age + SECOND },
        restart_epoch: hot.restart_epoch,
        inherits,
    })
}

fn seconds(uptime: &str) -> Result<i64, CollectError> {
    let seconds = uptime.strip_suffix('s').and_then(|text| text.split('.').next());
    // As many as a clock can count: sums with times of day do not overflow.
    let seconds = seconds.and_then(|text| text.parse::<u32>().ok());
    seconds.map(i64::from).ok_or_else(|| {
        let error = serde::de::Error::custom(format!("uptime `{uptime}` is not in seconds"));
        CollectError::Reply { path: SERVER_INFO, error }
    })
}

/// Unix milliseconds of a `date` header.
fn date_of(headers: &HeaderMap) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// The reply and its `date`.
async fn get<T: serde::de::DeserializeOwned>(
    client: &reqwest::Client,
    base: &str,
    path: &'static str,
) -> Result<(Option<i64>, T), CollectError> {
    let http = |error: &dyn fmt::Display| CollectError::Http(format!("{base}: {error}"));
    let response = client
        .get(format!("{base}{path}"))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| http(&crate::http::describe(&error)))?;
    let date = date_of(response.headers());
    let body = crate::http::body(response, MAX_REPLY).await.map_err(|error| match error {
        BodyError::Broken(error) => http(&crate::http::describe(&error)),
        BodyError::TooLong => http(&format_args!("the reply is larger than {MAX_REPLY} bytes")),
    })?;
    let body = serde_json::from_slice(&body).map_err(|error| CollectError::Reply { path, error })?;
    Ok((date, body))
}
