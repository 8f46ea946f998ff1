//! `envoy.proxies`: Envoys listed one by one, and names that stand for several.

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

/// Of the settings file.
pub(super) fn listed(entries: Vec<file::Proxy>) -> Result<(Vec<Proxy>, Vec<DnsName>), SettingsError> {
    let (mut proxies, mut names) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            file::Proxy { name: Some(name), stats: Some(stats), dns: None } => {
                add_proxy(&mut proxies, name, &stats)?;
            }
            file::Proxy { name: None, stats: None, dns: Some(url) } => add_name(&mut names, &url)?,
            _ => {
                return Err(SettingsError(
                    "envoy.proxies: an entry has `name` and `stats`, or `dns`".to_owned(),
                ));
            }
        }
    }
    Ok((proxies, names))
}

/// Of `--proxy`.
pub(super) fn of_flags(flags: &[String]) -> Result<(Vec<Proxy>, Vec<DnsName>), SettingsError> {
    let mut proxies = Vec::new();
    for text in flags {
        let (name, stats) = text
            .split_once('=')
            .ok_or_else(|| SettingsError(format!("--proxy {text}: write it as NAME=URL")))?;
        add_proxy(&mut proxies, name.to_owned(), stats)?;
    }
    Ok((proxies, Vec::new()))
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
