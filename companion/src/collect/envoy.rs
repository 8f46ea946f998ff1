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
use crate::state::unix_millis;

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

/// Which statistics are asked for: counters of the filter and of the discovery of its configuration, only those that
/// were ever touched, which hot restart the numbers themselves are of, and what a health check of the relay says.
#[derive(Debug)]
pub(super) struct Query {
    target: String,
    healthy: Option<String>,
}

const STATS: &str = "/stats";
const SERVER_INFO: &str = "/server_info";
const REJECTED: &str = "extension_config_discovery.http_filter.farebox.update_rejected";
/// Of a cluster: how many of its hosts are healthy, and how often a check of them was over.
const HEALTHY: &str = "membership_healthy";
const SUCCEEDED: &str = "health_check.success";
const FAILED: &str = "health_check.failure";
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

// === impl Query ===

impl Query {
    /// `relay` is the name of the cluster that leads there.
    pub(super) fn new(relay: Option<&str>) -> Self {
        let mut filter = format!("^(wasmcustom[.]|{RESTART_EPOCH}$|{REJECTED}$");
        let healthy = relay.map(|cluster| format!("cluster.{cluster}.{HEALTHY}"));
        if let Some(cluster) = relay {
            // Characters that mean something in an expression match themselves as any character.
            let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
            let cluster: String = cluster.chars().map(|char| if plain(char) { char } else { '.' }).collect();
            filter.push_str(&format!("|cluster[.]{cluster}[.]({HEALTHY}|{SUCCEEDED}|{FAILED})$"));
        }
        filter.push(')');
        let encoded: String = filter
            .bytes()
            .map(|byte| match byte {
                byte if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect();
        Self { target: format!("{STATS}?format=json&usedonly&filter={encoded}"), healthy }
    }
}

/// Reads one Envoy. The process is asked for before and after: values of two must not mix.
pub(super) async fn read(
    client: &reqwest::Client,
    clock: &Clock,
    base: &str,
    query: &Query,
) -> Result<Reading, CollectError> {
    let before = process(client, clock, base).await?;
    let asked = unix_millis();
    let (date, stats): (_, Stats) = get(client, base, &query.target).await?;
    let clock_difference = date.map(|date| difference(date, asked, unix_millis()));
    let mut process = process(client, clock, base).await?;
    // While a hot restart is under way, the three answers may come from old, new and old. An operator may
    // have Envoy keep fewer statistics; then nothing is known against it.
    let same = |epoch| epoch == u64::from(process.restart_epoch);
    if before.distance(&process).is_none() || !stats.value(RESTART_EPOCH).is_none_or(same) {
        return Err(CollectError::Restarted);
    }
    process.refine(&before);
    let report = Report { process, read_at: clock.unix_seconds(), values: Vec::new(), malformed: Vec::new() };
    let mut reading = interpret(report, stats, query);
    reading.clock = clock_difference;
    Ok(reading)
}

/// Seconds that a clock which said `date`, a whole second and up to half a one late, is ahead of this one, which went from
/// `asked` to `answered` meanwhile: none if they may agree. All in milliseconds.
fn difference(date: i64, asked: u64, answered: u64) -> i64 {
    let [asked, answered] = [asked, answered].map(|at| i64::try_from(at).unwrap_or(i64::MAX));
    let (least, most) =
        (date.saturating_sub(answered), date.saturating_add(3 * SECOND / 2).saturating_sub(asked));
    if least > 0 {
        least / SECOND
    } else if most < 0 {
        most / SECOND
    } else {
        0
    }
}

impl Stats {
    fn value(&self, name: &str) -> Option<u64> {
        let stat = self.stats.iter().find(|stat| stat.name.as_deref() == Some(name))?;
        stat.value.as_ref()?.as_u64()
    }

    /// `None` where there is no health check, for every host is healthy then.
    fn health(&self, query: &Query) -> Option<bool> {
        let healthy = query.healthy.as_deref()?;
        let cluster = healthy.strip_suffix(HEALTHY)?;
        let is_over = |kind| self.value(&format!("{cluster}{kind}")).is_some_and(|times| times > 0);
        if !is_over(SUCCEEDED) && !is_over(FAILED) {
            return None;
        }
        // A gauge that was never above zero is one that was never used.
        Some(self.value(healthy).unwrap_or(0) > 0)
    }
}

fn interpret(report: Report, stats: Stats, query: &Query) -> Reading {
    let relay_is_healthy = stats.health(query);
    let mut reading = Reading { generation: None, rejected: 0, clock: None, relay_is_healthy, report };
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
    target: &str,
) -> Result<(Option<i64>, T), CollectError> {
    let http = |error: &dyn fmt::Display| CollectError::Http(format!("{base}: {error}"));
    let response = client
        .get(format!("{base}{target}"))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| http(&crate::http::describe(&error)))?;
    let date = date_of(response.headers());
    let body = crate::http::body(response, MAX_REPLY).await.map_err(|error| match error {
        BodyError::Broken(error) => http(&crate::http::describe(&error)),
        BodyError::TooLong => http(&format_args!("the reply is larger than {MAX_REPLY} bytes")),
    })?;
    let body = serde_json::from_slice(&body).map_err(|error| {
        let path = if target == SERVER_INFO { SERVER_INFO } else { STATS };
        CollectError::Reply { path, error }
    })?;
    Ok((date, body))
}
