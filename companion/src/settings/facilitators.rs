//! The facilitators of each chain, and their credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use farebox_core::evm::Network;
use farebox_pricing::read_chain;

use super::{FacilitatorSettings, SettingsError, Settlement, file};

/// The facilitators of the relay beside the default one, which is `facilitator.url` or the pricing file's. Addresses
/// have no trailing slash and a host in lower case, as in the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facilitators {
    /// Asked to verify after the default one, in this order.
    pub fallbacks: Vec<String>,
    /// The facilitators of chains with their own, at least one each, in the order of calls.
    pub chains: BTreeMap<Network, Vec<String>>,
    /// The credential for each facilitator, by its address.
    pub credentials: BTreeMap<String, Credential>,
}

/// A file with a secret. It is read again for every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token, sent as it is.
    Bearer(PathBuf),
    /// A key that signs a token for every request, for the Coinbase Developer Platform.
    Jwt(PathBuf),
}

// === impl Facilitators ===

impl Facilitators {
    pub(super) fn resolve(
        file: file::Facilitator,
        facilitator: &FacilitatorSettings,
    ) -> Result<Self, SettingsError> {
        if facilitator.settlement == Settlement::Direct {
            return refuse_in_direct_mode(&file).map(|()| Self::default());
        }
        let mut chains = BTreeMap::new();
        let mut named = BTreeMap::new();
        for (name, chain) in file.chains {
            let key = format!("facilitator.chains.{name}");
            let network = read_chain(&name).map_err(|message| SettingsError(format!("{key}: {message}")))?;
            if let Some(other) = named.insert(network.clone(), name) {
                return Err(SettingsError(format!(
                    "{key}: is the same chain as `{other}`; keep one of them"
                )));
            }
            let urls = addresses(facilitator, &format!("{key}.urls"), chain.urls)?;
            if urls.is_empty() {
                return Err(SettingsError(format!(
                    "{key}.urls: name at least one facilitator, or remove the chain"
                )));
            }
            chains.insert(network, urls);
        }
        let fallbacks = addresses(facilitator, "facilitator.fallbackUrls", file.fallback_urls)?;
        let mut credentials = BTreeMap::new();
        for (url, credential) in file.credentials {
            let address = address(facilitator, "facilitator.credentials", &url)?;
            let credential = match (credential.bearer, credential.jwt) {
                (Some(file), None) => Credential::Bearer(file),
                (None, Some(file)) => Credential::Jwt(file),
                _ => {
                    return Err(SettingsError(format!(
                        "facilitator.credentials: {address} needs either `bearer` or `jwt`, with a file"
                    )));
                }
            };
            if credentials.insert(address.clone(), credential).is_some() {
                return Err(SettingsError(format!("facilitator.credentials: {address} is listed twice")));
            }
        }
        let all = Self { fallbacks, chains, credentials };
        all.refuse_unused_credentials(facilitator)?;
        Ok(all)
    }

    /// The facilitators of a chain, in the order of calls; `default` is the one of the rules, if these name one.
    pub fn list(&self, network: &Network, default: Option<&str>) -> Vec<String> {
        self.chains.get(network).cloned().unwrap_or_else(|| self.default_list(default))
    }

    /// The facilitators of every chain without its own.
    pub fn default_list(&self, default: Option<&str>) -> Vec<String> {
        let others = self.fallbacks.iter().filter(|url| Some(url.as_str()) != default);
        default.map(str::to_owned).into_iter().chain(others.cloned()).collect()
    }

    /// Refuses a credential for an address that is never called, because it is probably a typing error. Without
    /// `facilitator.url` the address may be the pricing file's.
    fn refuse_unused_credentials(&self, facilitator: &FacilitatorSettings) -> Result<(), SettingsError> {
        let Some(default) = &facilitator.url else { return Ok(()) };
        let default = address(facilitator, "facilitator.url", default)?;
        let used: BTreeSet<_> =
            self.chains.values().flatten().chain(&self.fallbacks).chain([&default]).collect();
        match self.credentials.keys().find(|url| !used.contains(url)) {
            None => Ok(()),
            Some(url) => {
                Err(SettingsError(format!("facilitator.credentials: {url} is none of the facilitators")))
            }
        }
    }
}

// === impl Credential ===

impl Credential {
    /// The file.
    pub const fn file(&self) -> &PathBuf {
        match self {
            Self::Bearer(file) | Self::Jwt(file) => file,
        }
    }
}

fn refuse_in_direct_mode(file: &file::Facilitator) -> Result<(), SettingsError> {
    let keys = [
        ("fallbackUrls", file.fallback_urls.is_empty()),
        ("chains", file.chains.is_empty()),
        ("credentials", file.credentials.is_empty()),
    ];
    match keys.into_iter().find(|(_, empty)| !empty) {
        None => Ok(()),
        Some((key, _)) => Err(SettingsError(format!(
            "facilitator.{key}: needs `settlement: relay`; proxies that settle directly call one facilitator, \
             without a credential"
        ))),
    }
}

fn addresses(
    facilitator: &FacilitatorSettings,
    key: &str,
    urls: Vec<String>,
) -> Result<Vec<String>, SettingsError> {
    let mut all = Vec::new();
    for url in urls {
        let address = address(facilitator, key, &url)?;
        if all.contains(&address) {
            return Err(SettingsError(format!("{key}: {address} is listed twice")));
        }
        all.push(address);
    }
    Ok(all)
}

fn address(facilitator: &FacilitatorSettings, key: &str, url: &str) -> Result<String, SettingsError> {
    facilitator
        .checked(url)
        .map(|url| url.to_string())
        .map_err(|error| SettingsError(format!("{key}: an address {error}")))
}

#[cfg(test)]
#[path = "facilitators_tests.rs"]
mod tests;
