use std::path::Path;

use super::*;
use crate::settings::{Flags, Settings, SettingsFile};

fn resolve(facilitator: &str) -> Result<Facilitators, String> {
    let text =
        format!("{{facilitator: {{settlement: relay, {facilitator}}}, envoy: {{wasm: w, publish: p}}}}");
    let flags = Flags { route_source: "file".into(), ..Flags::default() };
    let settings = SettingsFile::parse(&text).and_then(|file| Settings::resolve(file, flags));
    settings.map(|settings| settings.relay.unwrap().facilitators).map_err(|error| error.0)
}

fn network(name: &str) -> Network {
    read_chain(name).unwrap()
}

#[test]
fn a_chain_has_its_own_facilitators_and_all_others_share_the_default_ones() {
    let all = resolve(
        "fallbackUrls: ['https://B.example.com/x402/'], chains: {Base: {urls: ['https://c', 'https://a']}}",
    )
    .unwrap();
    assert_eq!(all.list(&network("eip155:8453"), Some("https://a")), ["https://c", "https://a"]);
    let default = ["https://a", "https://b.example.com/x402"];
    assert_eq!(all.list(&network("polygon"), Some("https://a")), default);
    let own = "https://b.example.com/x402";
    assert_eq!(all.list(&network("polygon"), Some(own)), [own], "nobody is asked twice");
}

#[test]
fn a_chain_is_known_and_named_once() {
    let error = resolve("chains: {bass: {urls: ['https://a']}}").unwrap_err();
    let start = "facilitator.chains.bass: unsupported chain \"bass\"; did you mean `base`? Known are base, ";
    assert!(error.starts_with(start), "{error}");
    let error = resolve("chains: {mainnet: {urls: ['https://a']}}").unwrap_err();
    assert!(
        error.ends_with("write the chain, such as base, ethereum, polygon, avalanche or arbitrum-one"),
        "{error}"
    );
    let urls = "{urls: ['https://a']}";
    assert_eq!(
        resolve(&format!("chains: {{base: {urls}, 'eip155:8453': {urls}}}")),
        Err("facilitator.chains.eip155:8453: is the same chain as `base`; keep one of them".into())
    );
    let error = resolve(&format!("chains: {{base: {urls}, base: {urls}}}")).unwrap_err();
    assert!(error.starts_with("1: ") && error.contains("duplicate"), "{error}");
    assert_eq!(
        resolve("chains: {base: {}}"),
        Err("facilitator.chains.base.urls: name at least one facilitator, or remove the chain".into())
    );
    assert_eq!(
        resolve("chains: {base: {url: 'https://a'}}"),
        Err("1: unknown key `url`; did you mean `urls`?".into())
    );
}

#[test]
fn every_address_is_safe_and_listed_once() {
    for key in
        ["chains: {base: {urls: ['http://pay.cluster:8080']}}", "fallbackUrls: ['http://pay.cluster:8080']"]
    {
        let error = resolve(key).unwrap_err();
        let says = "an address must start with https://, as pay.cluster is not this machine, or set \
                    facilitator.allowPlainHttp";
        assert!(error.contains(says), "{error}");
        assert!(resolve(&format!("allowPlainHttp: true, {key}")).is_ok(), "{key}");
    }
    assert!(resolve("url: 'http://pay.cluster:8080'").is_err());
    assert!(resolve("url: 'http://pay.cluster:8080', allowPlainHttp: true").is_ok());
    assert_eq!(
        resolve("fallbackUrls: ['https://a', 'https://A/']"),
        Err("facilitator.fallbackUrls: https://a is listed twice".into())
    );
    let error = resolve("credentials: {'https://u:pw@a': {bearer: f}}").unwrap_err();
    assert_eq!(error, "facilitator.credentials: an address must not hold a user or password");
}

#[test]
fn a_credential_is_one_file_of_one_kind_for_a_facilitator_that_is_called() {
    let all = resolve("credentials: {'https://A/': {bearer: token}, 'https://b': {jwt: /key.json}}").unwrap();
    assert_eq!(all.credentials["https://a"], Credential::Bearer("token".into()));
    assert_eq!(all.credentials["https://b"].file(), Path::new("/key.json"));
    let either = Err("facilitator.credentials: https://a needs either `bearer` or `jwt`, with a file".into());
    assert_eq!(resolve("credentials: {'https://a': {}}"), either);
    assert_eq!(resolve("credentials: {'https://a': {bearer: f, jwt: g}}"), either);
    assert_eq!(
        resolve("url: 'https://a', credentials: {'https://b': {bearer: f}}"),
        Err("facilitator.credentials: https://b is none of the facilitators".into())
    );
    for called in ["fallbackUrls: ['https://b']", "chains: {base: {urls: ['https://b']}}"] {
        let text = format!("url: 'https://a', {called}, credentials: {{'https://b': {{bearer: f}}}}");
        assert!(resolve(&text).is_ok(), "{called}");
    }
}

#[test]
fn the_facilitators_of_the_shipped_example_are_valid_once_they_are_uncommented() {
    let example = include_str!("../../farebox.example.yaml");
    let keys = ["fallbackUrls:", "chains:", "credentials:", "  base:", "    urls:", "  https://"];
    let uncommented = |line: &str| {
        let is_key = |rest: &str| keys.iter().any(|key| rest.starts_with(key));
        match line.strip_prefix("  # ") {
            Some(rest) if is_key(rest) => format!("  {rest}"),
            _ => line.to_owned(),
        }
    };
    let text = example.lines().map(uncommented).collect::<Vec<_>>().join("\n");
    let flags =
        Flags { route_source: "file".into(), settlement: Some(Settlement::Relay), ..Flags::default() };
    let settings = SettingsFile::parse(&text).and_then(|file| Settings::resolve(file, flags)).unwrap();
    let all = settings.relay.unwrap().facilitators;
    assert_eq!((all.fallbacks.len(), all.credentials.len()), (1, 2));
    let base = all.list(&network("base"), Some("http://127.0.0.1:4020"));
    assert_eq!(base, ["https://api.cdp.coinbase.com/platform/v2/x402", "https://facilitator.example.com"]);
}

#[test]
fn what_only_the_relay_can_do_is_refused_where_proxies_settle_directly() {
    for (key, value) in [
        ("fallbackUrls", "['https://b']"),
        ("chains", "{base: {urls: ['https://b']}}"),
        ("credentials", "{'https://b': {bearer: f}}"),
    ] {
        let text = format!("facilitator: {{settlement: direct, {key}: {value}}}");
        let flags = Flags { route_source: "file".into(), ..Flags::default() };
        let error = SettingsFile::parse(&text).and_then(|file| Settings::resolve(file, flags)).unwrap_err();
        assert!(error.0.starts_with(&format!("facilitator.{key}: needs `settlement: relay`")), "{error}");
    }
}

#[test]
fn paths_of_credentials_start_at_the_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("farebox.yaml");
    let credentials = "{'https://a': {bearer: token}, 'https://b': {jwt: /key.json}}";
    std::fs::write(
        &path,
        format!(
            "facilitator: {{settlement: relay, credentials: {credentials}}}\nenvoy: {{wasm: w, publish: p}}"
        ),
    )
    .unwrap();
    let flags = Flags { route_source: "file".into(), settings: Some(path), ..Flags::default() };
    let all = Settings::load(flags).unwrap().relay.unwrap().facilitators;
    assert_eq!(all.credentials["https://a"], Credential::Bearer(folder.path().join("token")));
    assert_eq!(all.credentials["https://b"], Credential::Jwt("/key.json".into()));
}
