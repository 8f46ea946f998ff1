//! What an Envoy's statistics say.

use std::fmt;

use farebox_core::metrics::{HostSeries, decode_host_name};
use serde::Deserialize;

use super::Reading;
use crate::aggregate::Report;

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
}

/// Counters of the filter and of the discovery of its configuration, only those that were ever touched:
/// `filter=^(wasmcustom[.]|extension_config_discovery[.]http_filter[.]farebox[.]update_rejected$)`.
const STATS: &str = "/stats?format=json&usedonly&filter=%5E%28wasmcustom%5B.%5D%7C\
    extension_config_discovery%5B.%5Dhttp_filter%5B.%5Dfarebox%5B.%5Dupdate_rejected%24%29";
const SERVER_INFO: &str = "/server_info";
const REJECTED: &str = "extension_config_discovery.http_filter.farebox.update_rejected";
/// Prefix Envoy gives to the metrics of a filter.
const CUSTOM: &str = "wasmcustom.";
/// What every name of ours holds.
const OURS: &str = "farebox_";
/// Larger answers are refused: a reading must not exhaust the companion.
const MAX_REPLY: usize = 256 * 1024 * 1024;
/// Uptimes have whole seconds.
const UPTIME_TOLERANCE: u64 = 2;

#[derive(Deserialize)]
struct ServerInfo {
    uptime_current_epoch: String,
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

/// Reads one Envoy. The uptime is asked before and after: values of two processes must not mix.
pub(super) async fn read(client: &reqwest::Client, base: &str) -> Result<Reading, CollectError> {
    let before = uptime(client, base).await?;
    let stats: Stats = get(client, base, STATS).await?;
    let uptime = uptime(client, base).await?;
    if uptime + UPTIME_TOLERANCE < before {
        return Err(CollectError::Restarted);
    }
    Ok(interpret(uptime, stats))
}

fn interpret(uptime: u64, stats: Stats) -> Reading {
    let mut reading = Reading { report: Report { uptime, ..Report::default() }, ..Reading::default() };
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

async fn uptime(client: &reqwest::Client, base: &str) -> Result<u64, CollectError> {
    let info: ServerInfo = get(client, base, SERVER_INFO).await?;
    let seconds = info.uptime_current_epoch.strip_suffix('s').and_then(|text| text.split('.').next());
    seconds.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let error =
            serde::de::Error::custom(format!("uptime `{}` is not in seconds", info.uptime_current_epoch));
        CollectError::Reply { path: SERVER_INFO, error }
    })
}

async fn get<T: serde::de::DeserializeOwned>(
    client: &reqwest::Client,
    base: &str,
    path: &'static str,
) -> Result<T, CollectError> {
    let http = |error: &dyn fmt::Display| CollectError::Http(format!("{base}: {error}"));
    let mut response = client
        .get(format!("{base}{path}"))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| http(&crate::http::describe(&error)))?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| http(&crate::http::describe(&error)))? {
        if body.len() + chunk.len() > MAX_REPLY {
            return Err(http(&format_args!("the reply is larger than {MAX_REPLY} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| CollectError::Reply { path, error })
}
