//! `envoy.proxies`: Envoys listed one by one, names that stand for several, and those that ask for rules.

use farebox_core::rules::HttpUrl;

use super::{SettingsError, check_name, file};

/// One Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The `proxy_instance` label: pod or host name.
    pub name: String,
    /// Base URL of `/stats` and `/server_info`, no trailing slash.
    pub stats: String,
}

/// A name whose every address is an Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsName {
    /// What is looked up.
    pub host: String,
    /// Where their statistics are.
    pub port: u16,
    /// Path before `/stats` and `/server_info`, no trailing slash.
    pub path_prefix: String,
}

/// Which Envoys are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) proxies: Vec<Proxy>,
    pub(super) names: Vec<DnsName>,
    /// Port of the statistics of those that have a stream for rules.
    pub(super) announced: Option<u16>,
}

/// Of the settings file.
pub(super) fn listed(entries: Vec<file::Proxy>) -> Result<Sources, SettingsError> {
    let mut sources = Sources::default();
    for entry in entries {
        match entry {
            file::Proxy { name: Some(name), stats: Some(stats), dns: None, announced: None } => {
                add_proxy(&mut sources.proxies, name, &stats)?;
            }
            file::Proxy { name: None, stats: None, dns: Some(url), announced: None } => {
                add_name(&mut sources.names, &url)?;
            }
            file::Proxy { name: None, stats: None, dns: None, announced: Some(port) } => {
                if port == 0 || sources.announced.replace(port).is_some() {
                    return Err(SettingsError(
                        "envoy.proxies: `announced` is one port, between 1 and 65535".to_owned(),
                    ));
                }
            }
            _ => {
                return Err(SettingsError(
                    "envoy.proxies: an entry has `name` and `stats`, or `dns`, or `announced`".to_owned(),
                ));
            }
        }
    }
    Ok(sources)
}

/// Of `--proxy`.
pub(super) fn of_flags(flags: &[String]) -> Result<Sources, SettingsError> {
    let mut proxies = Vec::new();
    for text in flags {
        let (name, stats) = text
            .split_once('=')
            .ok_or_else(|| SettingsError(format!("--proxy {text}: write it as NAME=URL")))?;
        add_proxy(&mut proxies, name.to_owned(), stats)?;
    }
    Ok(Sources { proxies, ..Sources::default() })
}

fn add_proxy(proxies: &mut Vec<Proxy>, name: String, stats: &str) -> Result<(), SettingsError> {
    check_name("envoy.proxies: the name", &name)?;
    if proxies.iter().any(|proxy| proxy.name == name) {
        return Err(SettingsError(format!("envoy.proxies: the name `{name}` is used twice")));
    }
    // Shown in /status, so an address with a password is refused.
    HttpUrl::parse(stats)
        .map_err(|error| SettingsError(format!("envoy.proxies: the stats address of `{name}` {error}")))?;
    proxies.push(Proxy { name, stats: stats.trim_end_matches('/').to_owned() });
    Ok(())
}

fn add_name(names: &mut Vec<DnsName>, url: &str) -> Result<(), SettingsError> {
    let parsed = HttpUrl::parse(url)
        .map_err(|error| SettingsError(format!("envoy.proxies: an address under `dns` {error}")))?;
    if parsed.https {
        return Err(SettingsError(format!(
            "envoy.proxies: `{url}` must start with http://: certificates name no addresses"
        )));
    }
    let port = parsed.effective_port();
    let name = DnsName { host: parsed.host, port, path_prefix: parsed.path };
    if names.contains(&name) {
        return Err(SettingsError(format!("envoy.proxies: `{url}` is listed twice")));
    }
    names.push(name);
    Ok(())
}
