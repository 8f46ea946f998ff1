use std::time::Duration;

use super::*;

fn resolve(text: &str) -> Result<Settings, String> {
    resolve_with(text, Flags { route_source: "file".into(), ..Flags::default() })
}

fn resolve_with(text: &str, flags: Flags) -> Result<Settings, String> {
    SettingsFile::parse(text).and_then(|file| Settings::resolve(file, flags)).map_err(|error| error.0)
}

#[test]
fn the_shipped_example_is_valid_and_states_the_defaults() {
    let settings = resolve(include_str!("../../farebox.example.yaml")).unwrap();
    assert_eq!(settings.filter, terms::Settings::default());
    assert_eq!(settings.listen, "127.0.0.1:9402".parse().unwrap());
    assert!(settings.envoy.is_some());
    assert_eq!(settings.facilitator.verify_timeout, Duration::from_secs(5));
    assert_eq!(settings.facilitator.settle_timeout, Duration::from_secs(60));
    assert_eq!(settings.facilitator.settlement, Settlement::default());
    let bare = resolve("envoy: {wasm: w, publish: p}").unwrap();
    assert_eq!(settings.facilitator.cluster, bare.facilitator.cluster);
    assert_eq!(settings.relay, bare.relay);
    assert_eq!(settings.shutdown_delay, bare.shutdown_delay);
}

#[test]
fn the_ledger_keeps_payments_for_a_quarter_or_as_long_as_is_said_but_not_less_than_they_are_signed_for() {
    let days = |text: &str| {
        let settings = resolve(&format!("relay: {{{text}}}\nenvoy: {{wasm: w, publish: p}}"));
        settings.map(|settings| settings.relay.unwrap().retention.as_secs() / 86_400)
    };
    assert_eq!(days("listen: 127.0.0.1:1"), Ok(90));
    assert_eq!(days("retention: 48h"), Ok(2));
    assert_eq!(days("retention: 400d"), Ok(400));
    assert!(days("retention: 47h").unwrap_err().starts_with("relay.retention: must be 2d at least"));
}

#[test]
fn the_relay_settles_unless_something_else_is_said_and_only_where_there_is_a_proxy() {
    let settings = resolve("envoy: {wasm: w, publish: p}").unwrap();
    assert_eq!(settings.relay.unwrap().listen, tcp("127.0.0.1:9404"));
    let endpoint = settings.facilitator.endpoint(Some("https://pay.example.com/x402"), true).unwrap();
    assert_eq!((endpoint.cluster.as_str(), endpoint.authority.as_str()), ("farebox", "farebox"));
    assert_eq!((endpoint.path_prefix.as_str(), endpoint.relay), ("", true));
    // The relay needs its own time in addition to the facilitator's.
    assert_eq!((endpoint.verify_timeout_ms, endpoint.settle_timeout_ms), (7_000, 62_000));

    let direct = resolve("facilitator: {settlement: direct}\nenvoy: {wasm: w, publish: p}").unwrap();
    assert!(direct.relayed().is_none() && direct.relay.is_some(), "proxies report there nevertheless");
    assert_eq!(direct.facilitator.cluster, "facilitator");
    assert_eq!(resolve("{}").unwrap().relay, None);
}

#[test]
fn without_settings_every_port_is_on_the_loopback_interface() {
    let settings = resolve("{gateway: {}, envoy: {wasm: w, publish: p}}").unwrap();
    let (relay, gateway) = (settings.relay.unwrap(), settings.gateway.unwrap());
    assert_eq!(settings.listen, "127.0.0.1:9402".parse().unwrap());
    assert_eq!(gateway.listen, "127.0.0.1:9405".parse().unwrap());
    assert_eq!((relay.listen, relay.tls, relay.secret), (tcp("127.0.0.1:9404"), None, None));
}

#[test]
fn no_settings_at_all_give_the_originals_defaults() {
    let settings = resolve("{}").unwrap();
    assert_eq!(settings.pricing, PathBuf::from("/config/pricing.yaml"));
    assert!(settings.watch);
    assert_eq!(settings.envoy, None);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
    assert_eq!(
        resolve("listen: :1\nlisten2: x"),
        Err("2: unknown key `listen2`; did you mean `listen`?".into())
    );
    assert_eq!(
        resolve("filter:\n  maxPaymentByte: 9000"),
        Err("2: unknown key `maxPaymentByte`; did you mean `maxPaymentBytes`?".into())
    );
    assert_eq!(
        resolve("envoy:\n  discovery:\n    listem: :1"),
        Err("3: unknown key `listem`; did you mean `listen`?".into())
    );
}

#[test]
fn a_repeated_key_is_refused() {
    let error = resolve("watch: true\nwatch: false").unwrap_err();
    assert!(error.starts_with("2: ") && error.contains("duplicate"), "{error}");
}

#[test]
fn a_gateway_needs_the_ledger_and_can_be_asked_for_by_a_flag_alone() {
    let relay = "facilitator: {settlement: relay}\n";
    let flags = |address: Option<&str>| Flags {
        route_source: "file".into(),
        gateway: Some(address.map(str::to_owned)),
        ..Flags::default()
    };
    assert_eq!(resolve(relay).unwrap().gateway, None);
    let settings = resolve_with(relay, flags(None)).unwrap();
    assert!(settings.relay.is_some(), "it is the proxy that calls the relay");
    let gateway = settings.gateway.unwrap();
    assert_eq!(gateway.listen, "127.0.0.1:9405".parse().unwrap());
    assert_eq!((gateway.http2, gateway.preserve_host, gateway.upstream), (false, true, None));
    let text = format!(
        "{relay}gateway: {{listen: \":1\", upstream: \"http://a:2/b\", upstreamProtocol: http2, grace: 1s}}"
    );
    let gateway = resolve_with(&text, flags(Some("127.0.0.1:2"))).unwrap().gateway.unwrap();
    assert_eq!((gateway.listen.port(), gateway.http2, gateway.grace), (2, true, Duration::from_secs(1)));
    assert_eq!(gateway.upstream.unwrap().to_string(), "http://a:2/b");
    let error = resolve(&format!("{relay}gateway: {{spool: /s/g}}")).unwrap_err();
    assert!(error.starts_with("gateway.spool: the gateway counts in the ledger now; remove"), "{error}");
    let error = resolve("facilitator: {settlement: direct}\ngateway: {}").unwrap_err();
    assert!(error.starts_with("gateway: needs `facilitator.settlement: relay`"), "{error}");
    for (wrong, key) in
        [("upstream: nowhere", "upstream"), ("idleTimeout: 61m", "idleTimeout"), ("listen: x", "listen")]
    {
        let error = resolve(&format!("{relay}gateway: {{{wrong}}}")).unwrap_err();
        assert!(error.starts_with(&format!("gateway.{key}: ")), "{error}");
    }
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Flags {
        route_source: "file".into(),
        listen: Some("127.0.0.1:1234".into()),
        pricing: Some("other.yaml".into()),
        watch: Some(false),
        envoy_wasm: Some("other.wasm".into()),
        ..Flags::default()
    };
    let settings = resolve_with(include_str!("../../farebox.example.yaml"), flags).unwrap();
    assert_eq!(settings.listen, "127.0.0.1:1234".parse().unwrap());
    assert_eq!(settings.pricing, PathBuf::from("other.yaml"));
    assert!(!settings.watch);
    assert_eq!(settings.envoy.unwrap().wasm, "other.wasm");
}

#[test]
fn only_the_file_route_source_exists() {
    let source = |name: &str| {
        let flags = Flags { route_source: name.into(), ..Flags::default() };
        resolve_with("{}", flags).map(|_| ())
    };
    assert_eq!(source("file"), Ok(()));
    assert_eq!(
        source("kube"),
        Err("--route-source kube is not supported yet; use --route-source file".into())
    );
    assert_eq!(source("nacos"), Err("--route-source nacos is unknown; use --route-source file".into()));
}

#[test]
fn durations_have_a_unit_and_bounds() {
    let timeout = |text: &str| {
        resolve(&format!("facilitator: {{verifyTimeout: {text}}}"))
            .map(|settings| settings.facilitator.verify_timeout)
    };
    assert_eq!(timeout("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(timeout("10m"), Ok(Duration::from_secs(600)));
    assert!(timeout("11m").is_err());
    assert!(timeout("0s").is_err());
    assert!(timeout("5").unwrap_err().contains("not a duration"));
}

#[test]
fn an_incomplete_envoy_section_is_refused() {
    assert_eq!(
        resolve("envoy: {wasm: a}"),
        Err("envoy.publish (or --envoy-publish) is missing: without it nothing reaches Envoy".into())
    );
}

#[test]
fn settings_about_reading_statistics_are_refused_with_what_stands_in_their_place() {
    let instead = "remove it; statistics are no longer read: each Envoy reports by itself, through its cluster \
                   `farebox`, which leads to relay.listen";
    for (key, value) in [
        ("proxies", "[{name: a, stats: 'http://x'}, {dns: 'http://e:1'}, {announced: 9901}]"),
        ("proxies", "[]"),
        ("scrapeInterval", "5s"),
    ] {
        let error = resolve(&format!("envoy: {{wasm: a, publish: b, {key}: {value}}}")).unwrap_err();
        assert_eq!(error, format!("envoy.{key}: {instead}"));
    }
    let flags =
        Flags { route_source: "file".into(), proxy: vec!["a=http://x".to_owned()], ..Flags::default() };
    assert_eq!(resolve_with("{}", flags).unwrap_err(), format!("--proxy: {instead}"));
}

#[test]
fn a_facilitator_address_becomes_cluster_authority_and_prefix() {
    let settings =
        resolve("facilitator: {settlement: direct, cluster: pay, verifyTimeout: 250ms}").unwrap().facilitator;
    let endpoint = settings.endpoint(Some("https://pay.example.com:8443/x402/"), true).unwrap();
    assert_eq!(endpoint.cluster, "pay");
    assert_eq!(endpoint.authority, "pay.example.com:8443");
    assert_eq!(endpoint.path_prefix, "/x402");
    assert_eq!((endpoint.verify_timeout_ms, endpoint.settle_timeout_ms), (250, 60_000));
    assert!(endpoint.ready);
    assert_eq!(settings.endpoint(Some("http://[::1]:4020"), false).unwrap().authority, "[::1]:4020");
}

#[test]
fn proxies_that_settle_do_not_call_the_companion_and_no_clock_is_off_for_hours() {
    let error = resolve("facilitator: {settlement: direct, cluster: farebox}").unwrap_err();
    assert!(error.starts_with("facilitator.cluster: `farebox` leads to this companion"), "{error}");
    let error = resolve("filter: {clockSkewSeconds: 3601}").unwrap_err();
    assert!(error.starts_with("filter.clockSkewSeconds: 3601 is above 3600"), "{error}");
}

#[test]
fn a_facilitator_address_must_be_safe() {
    let url =
        |url: &str| resolve(&format!("facilitator: {{url: '{url}'}}")).map(|s| s.facilitator.url.unwrap());
    assert_eq!(url("http://127.0.0.1:4020/"), Ok("http://127.0.0.1:4020".into()));
    for bad in [
        "http://pay.example.com",
        "https://user:pw@pay.example.com",
        "ftp://x",
        "pay.example.com",
        "https://x/?k=1",
    ] {
        let error = url(bad).unwrap_err();
        assert!(error.starts_with("facilitator.url must "), "{error}");
        assert!(!error.contains("pw"), "{error}");
    }
}

#[test]
fn the_catalog_is_linked_as_a_header_can_hold_it() {
    let catalog =
        |text: &str| resolve(&format!("filter: {{catalog: {text}}}")).map(|it| it.filter.catalog.unwrap());
    assert_eq!(catalog("'/caté/s.json?a=\"b\"'").unwrap(), "/cat%C3%A9/s.json?a=%22b%22");
    assert_eq!(catalog("https://shop.example/a%20b>").unwrap(), "https://shop.example/a%20b%3E");
    assert!(catalog("\"/a\\nb\"").unwrap_err().starts_with("filter.catalog: "));
}

#[test]
fn pages_that_may_buy_are_named_by_their_origin_and_cookies_are_not_for_all_of_them() {
    let cors = |text: &str| resolve(&format!("filter: {{cors: {{{text}}}}}"));
    let filter =
        cors("origins: ['https://app.example', 'http://localhost:3000'], credentials: true").unwrap().filter;
    assert_eq!(filter.cors.unwrap().max_age, 600);
    assert!(cors("origins: ['*']").is_ok());
    for bad in ["https://App.example", "https://app.example/", "app.example", "https://*.example", "null", ""]
    {
        let error = cors(&format!("origins: ['{bad}']")).unwrap_err();
        assert!(error.starts_with("filter.cors.origins: "), "{bad}: {error}");
    }
    assert!(cors("origins: []").unwrap_err().starts_with("filter.cors.origins: "));
    assert!(cors("origins: ['*'], credentials: true").unwrap_err().starts_with("filter.cors.credentials: "));
}

#[test]
fn the_facilitator_named_to_buyers_is_not_a_setting() {
    let error = resolve("filter: {publicFacilitator: 'https://x'}").unwrap_err();
    assert!(error.starts_with("filter.publicFacilitator: "), "{error}");
}

fn tcp(address: &str) -> Listen {
    Listen::Tcp(address.parse().unwrap())
}

#[test]
fn the_relay_listens_where_strangers_come_only_if_its_callers_prove_themselves() {
    let relay = |text: &str| {
        let settings = resolve(&format!("relay: {{{text}}}\nenvoy: {{wasm: w, publish: p}}"));
        settings.map(|settings| settings.relay.unwrap())
    };
    let tls = "tls: {certificate: c, key: k";
    for proof in [String::new(), format!(", {tls}}}")] {
        for address in ["':9404'", "10.0.0.1:9404", "'[::]:9404'"] {
            let error = relay(&format!("listen: {address}{proof}")).unwrap_err();
            assert!(error.starts_with("relay.listen: "), "{error}");
            for way in ["127.0.0.1", "unix:/", "relay.secret", "relay.tls"] {
                assert!(error.contains(way), "{way} in {error}");
            }
        }
    }
    assert!(relay("listen: ':9404', secret: /run/secret").is_ok());
    assert!(relay(&format!("listen: ':9404', {tls}, clientCa: a}}")).is_ok());
    assert!(relay("listen: '[::1]:9404'").is_ok() && relay("listen: 127.0.0.2:9404").is_ok());
    let socket = relay("listen: 'unix:/run/farebox/relay.sock'").unwrap();
    assert_eq!(socket.listen, Listen::Unix("/run/farebox/relay.sock".into()));
    assert!(relay("listen: 'unix:relay.sock'").unwrap_err().contains("not a whole path"));
    assert!(
        relay(&format!("{}}}", tls.replace(", key: k", "")))
            .unwrap_err()
            .starts_with("relay.tls.key is missing")
    );
}

#[test]
fn the_companion_goes_on_for_a_while_when_it_is_told_to_stop() {
    let delay = |text: &str| resolve(text).map(|settings| settings.shutdown_delay.as_secs());
    assert_eq!(delay("{}"), Ok(5));
    assert_eq!(delay("shutdown: {delay: 0s}"), Ok(0));
    assert_eq!(delay("shutdown: {delay: 11m}"), Err("shutdown.delay: must be at most 10m".into()));
}

fn discovery(text: &str) -> Result<Option<DiscoverySettings>, String> {
    resolve(&format!("envoy: {{wasm: a, publish: b, discovery: {text}}}"))
        .map(|settings| settings.envoy.unwrap().discovery)
}

#[test]
fn rules_are_served_over_grpc_only_where_that_is_set() {
    assert_eq!(resolve("envoy: {wasm: a, publish: b}").unwrap().envoy.unwrap().discovery, None);
    let listen = tcp("127.0.0.1:9403");
    assert_eq!(discovery("{listen: '127.0.0.1:9403'}"), Ok(Some(DiscoverySettings { listen, tls: None })));
    assert_eq!(
        discovery("{}"),
        Err("envoy.discovery.listen (or --discovery-listen) is missing: without it no proxy can connect"
            .into())
    );
    assert!(discovery("{listen: nowhere}").unwrap_err().starts_with("envoy.discovery.listen: `nowhere`"));
}

#[test]
fn the_channel_of_the_shipped_example_is_valid_once_it_is_uncommented() {
    let uncommented = |line: &str| {
        let section = line.starts_with("  # discovery:") || line.starts_with("  #   ");
        if section { line.replacen("# ", "", 1) } else { line.to_owned() }
    };
    let example = include_str!("../../farebox.example.yaml");
    let (before, section) = example.split_at(example.find("  # discovery:").unwrap());
    let text = before.to_owned() + &section.lines().map(uncommented).collect::<Vec<_>>().join("\n");
    let tls = TlsSettings {
        section: "envoy.discovery.tls",
        certificate: "/etc/farebox/tls/server.pem".into(),
        key: "/etc/farebox/tls/server.key".into(),
        client_ca: Some("/etc/farebox/tls/ca.pem".into()),
    };
    let expected = DiscoverySettings { listen: tcp("0.0.0.0:9403"), tls: Some(tls) };
    assert_eq!(resolve(&text).unwrap().envoy.unwrap().discovery, Some(expected));
}

#[test]
fn rules_are_served_where_strangers_come_only_to_proxies_that_prove_themselves() {
    for text in ["{listen: ':9403'}", "{listen: ':9403', tls: {certificate: c, key: k}}"] {
        let error = discovery(text).unwrap_err();
        assert!(
            error.starts_with("envoy.discovery.listen: 0.0.0.0:9403 can be reached by strangers"),
            "{error}"
        );
        assert!(
            error.contains("clientCa") && error.contains("127.0.0.1") && error.contains("unix:/"),
            "{error}"
        );
    }
    assert!(discovery("{listen: '[::1]:9403'}").is_ok());
    assert!(discovery("{listen: 'unix:/run/farebox/discovery.sock'}").is_ok());
    assert!(discovery("{listen: ':9403', tls: {certificate: c, key: k, clientCa: a}}").is_ok());
}

#[test]
fn a_certificate_needs_its_key() {
    let missing =
        |what: &str| Err(format!("envoy.discovery.tls.{what} is missing: TLS needs certificate and key"));
    let tls = |text: &str| discovery(&format!("{{listen: ':9403', tls: {text}}}")).map(|_| ());
    assert_eq!(tls("{certificate: c}"), missing("key"));
    assert_eq!(tls("{key: k, clientCa: a}"), missing("certificate"));
    assert_eq!(tls("{certificate: c, key: k, clientCa: a}"), Ok(()));
}

#[test]
fn flags_of_the_channel_win_over_the_file() {
    let flags = Flags {
        route_source: "file".into(),
        discovery: flags::Discovery {
            listen: Some("127.0.0.1:1".into()),
            key: Some("other".into()),
            ..flags::Discovery::default()
        },
        ..Flags::default()
    };
    let file = "envoy: {wasm: a, publish: b, discovery: {listen: ':2', tls: {certificate: c, key: k}}}";
    let found = resolve_with(file, flags).unwrap().envoy.unwrap().discovery.unwrap();
    assert_eq!(found.listen, tcp("127.0.0.1:1"));
    let tls = found.tls.unwrap();
    assert_eq!((tls.certificate, tls.key), (PathBuf::from("c"), PathBuf::from("other")));
}

#[test]
fn paths_of_certificates_start_at_the_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("farebox.yaml");
    let tls = "tls: {certificate: c.pem, key: k.pem, clientCa: /ca.pem}";
    std::fs::write(&path, format!("envoy: {{wasm: a, publish: b, discovery: {{listen: ':1', {tls}}}}}"))
        .unwrap();
    let flags = Flags { route_source: "file".into(), settings: Some(path), ..Flags::default() };
    let tls = Settings::load(flags).unwrap().envoy.unwrap().discovery.unwrap().tls.unwrap();
    assert_eq!(tls.certificate, folder.path().join("c.pem"));
    assert_eq!(tls.key, folder.path().join("k.pem"));
    assert_eq!(tls.client_ca, Some(PathBuf::from("/ca.pem")));
}

// --- traefik ---

fn traefik(section: &str) -> Result<TraefikSettings, String> {
    let text = format!("facilitator: {{settlement: relay}}\ntraefik: {section}");
    resolve(&text).map(|settings| settings.traefik.expect("there is a section"))
}

#[test]
fn traefik_needs_a_gateway_a_spool_and_the_ledger() {
    let settings = traefik("{gateway: 'http://10.0.0.2:9405', spool: {folder: /var/spool/farebox}}").unwrap();
    assert_eq!(settings.entry_points, ["web"]);
    assert_eq!((settings.http, settings.publish, settings.api), (true, None, None));
    assert_eq!(settings.signature, Signature::Guest);
    assert_eq!(settings.gateway.to_string(), "http://10.0.0.2:9405");
    assert_eq!(settings.spool.file, "/spool/farebox");
    assert_eq!(settings.spool.max_bytes, 64 * 1024 * 1024);
    for (section, error) in [
        ("{spool: {folder: /s}}", "traefik.gateway is missing"),
        ("{gateway: 'http://g'}", "traefik.spool.folder is missing"),
    ] {
        let said = traefik(section).unwrap_err();
        assert!(said.starts_with(error), "{said}");
    }
    let direct = "facilitator: {settlement: direct}\ntraefik: {gateway: 'http://g', spool: {folder: /s}}";
    let direct = resolve(direct).unwrap_err();
    assert!(direct.contains("facilitator.settlement: relay"), "{direct}");
    assert_eq!(resolve("{}").unwrap().traefik, None);
}

#[test]
fn settings_that_traefik_would_ignore_or_that_lose_counts_are_refused() {
    for (more, error) in [
        ("gateway: 'http://g/base'", "traefik.gateway: must have no path"),
        ("gateway: 'g:1'", "traefik.gateway must start with"),
        ("gateway: 'http://g', upstream: 'http://u/v1'", "traefik.upstream: must have no path"),
        ("gateway: 'http://g', entryPoints: []", "traefik.entryPoints: name at least one"),
        ("gateway: 'http://g', requestsInFlight: 0", "traefik.requestsInFlight: 0 would serve nothing"),
        (
            "gateway: 'http://g', publish: /etc/traefik/farebox.json",
            "traefik.publish: /etc/traefik/farebox.json must end in .yaml",
        ),
        ("gateway: 'http://g', http: false", "traefik: with http: false and no `publish`"),
        ("gateway: 'http://g', api: 'http://user:pass@t'", "traefik.api must not hold a user"),
        ("gateway: 'http://g', signature: nobody", "2: "),
    ] {
        let said = traefik(&format!("{{{more}, spool: {{folder: /s}}}}")).unwrap_err();
        assert!(said.starts_with(error), "{said}");
    }
    for (spool, error) in [
        ("file: spool", "traefik.spool.file: `spool` is not the path"),
        ("file: /spool/", "traefik.spool.file: `/spool/` is not the path"),
        ("file: /spool/a~", "traefik.spool.file: `/spool/a~` is not the path"),
        ("maxBytes: 1000", "traefik.spool.maxBytes: 1000 is below"),
    ] {
        let said = traefik(&format!("{{gateway: 'http://g', spool: {{folder: /s, {spool}}}}}")).unwrap_err();
        assert!(said.starts_with(error), "{said}");
    }
}

#[test]
fn relative_paths_of_traefik_start_at_the_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("farebox.yaml");
    let text = "facilitator: {settlement: relay}\ntraefik: {gateway: 'http://g', publish: dyn/f.yaml, spool: {folder: spool}}";
    std::fs::write(&path, text).unwrap();
    let flags = Flags { route_source: "file".into(), ..Flags::default() };
    let settings = SettingsFile::read(&path).and_then(|file| Settings::resolve(file, flags)).unwrap();
    let traefik = settings.traefik.unwrap();
    assert_eq!(traefik.publish, Some(folder.path().join("dyn/f.yaml")));
    assert_eq!(traefik.spool.folder, folder.path().join("spool"));
    assert!(!traefik.http, "unless it is asked for");
}
