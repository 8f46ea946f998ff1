//! How the plugin's configuration passes through Traefik.

use std::path::Path;

use farebox_core::rules::PushedRules;
use farebox_testkit::stack::{Options, Part, Stack};
use serde_json::{Value, json};

use super::options;
use crate::common::Request;

/// A plugin that answers every request with the configuration it was started with.
const PROBE: &str = r#"(module
    (import "http_handler" "get_config" (func $get_config (param i32 i32) (result i32)))
    (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))
    (memory (export "memory") 16)
    (func (export "handle_request") (result i64)
        (call $write_body (i32.const 1) (i32.const 0) (call $get_config (i32.const 0) (i32.const 1000000)))
        (i64.const 0))
    (func (export "handle_response") (param i32 i32)))"#;

/// Texts that a provider could misread: digits beyond every integer, text that looks like YAML, like a template or
/// like markup, and text of several lines and scripts.
const DESCRIPTION: &str = "12345678901234567890123456789012345678 0x10 1e9 true null ~ \n\t{{ env \"HOME\" }} \
    {{{{ 'it' }}}} <b>&amp;</b> \\n \u{e9} \u{6f22} \u{1f600} \u{85}\u{2028}\u{feff}: - # @ `";

/// Traefik reads the companion's rules from its endpoint, or from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    Http,
    File,
}

fn pricing() -> String {
    let description = serde_json::to_string(DESCRIPTION).unwrap();
    format!(
        "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
         - {{ pattern: /free/*, gate: free }}\n\
         - pattern: /goods/*\n  price: \"123456789012.345678\"\n  offerName: \"0012\"\n  description: {description}\n"
    )
}

/// Traefik's working directory is the stack's folder.
fn watch(traefik: &mut Value, folder: &str) {
    traefik["providers"] = json!({ "file": { "directory": folder } });
}

/// Puts a plugin where the stack's Traefik loads it.
fn install(stack: &Stack, wasm: &[u8]) {
    let plugin = stack.plugin();
    std::fs::create_dir_all(plugin.parent().unwrap()).unwrap();
    let manifest = farebox_testkit::paths::workspace().join("traefik/.traefik.yml");
    std::fs::copy(manifest, plugin.with_file_name(".traefik.yml")).unwrap();
    std::fs::write(plugin, wasm).unwrap();
}

/// A router and a middleware of one name, with this configuration for the plugin.
fn route(name: &str, rule: &str, upstream: &str, plugin: &Value) -> Value {
    json!({ "http": {
        "routers": {
            name: { "rule": rule, "priority": 2_000_000, "middlewares": [name], "service": name },
            "broad": { "rule": "PathPrefix(`/`)", "priority": 3, "service": name },
        },
        "middlewares": { name: { "plugin": { "farebox": plugin } } },
        "services": { name: { "loadBalancer": { "servers": [{ "url": upstream }] } } },
    }})
}

/// The answer of the probe; `null` if Traefik itself answers.
async fn received(stack: &Stack, path: &str) -> Value {
    let answer = stack.get(path).send().await.unwrap().bytes().await.unwrap();
    serde_json::from_slice(&answer).unwrap_or_default()
}

async fn answers(stack: &Stack, path: &str) {
    let is_there = async |stack: &Stack| {
        stack.get(path).send().await.is_ok_and(|response| response.status().is_success())
    };
    stack.until(&format!("{path} is answered"), is_there).await.unwrap();
}

/// The string the companion publishes for the plugin.
fn published(text: &[u8]) -> String {
    let body: Value = serde_json::from_slice(text).unwrap();
    body["http"]["middlewares"]["farebox"]["plugin"]["farebox"]["config"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_reaches_the_plugin_byte_for_byte_through_both_providers() {
    let probe = wat::parse_str(PROBE).unwrap();
    for provider in [Provider::Http, Provider::File] {
        let mut options = options(move |traefik| {
            if provider == Provider::File {
                watch(traefik, "dynamic");
            }
        });
        options.settings["traefik"] = json!({ "publish": "dynamic/farebox.yaml", "http": true });
        let mut stack =
            Stack::prepare(Options { pricing: farebox_testkit::stack::Pricing::Text(pricing()), ..options })
                .unwrap();
        let dynamic = stack.folder().join("dynamic");
        std::fs::create_dir(&dynamic).unwrap();
        install(&stack, &probe);
        for part in [Part::Facilitator, Part::Companion, Part::Proxy] {
            stack.start_part(part).unwrap();
        }
        answers(&stack, "/goods/a").await;
        let endpoint = format!("{}/traefik", stack.companion_url());
        let is_current = async |stack: &Stack| {
            let text = stack.client().get(&endpoint).send().await.unwrap().bytes().await.unwrap();
            let (expected, file) = (published(&text), std::fs::read(dynamic.join("farebox.yaml")).unwrap());
            // Rules are published again when the facilitator's kinds are known.
            expected.contains("\"ready\":true")
                && text == file
                && received(stack, "/goods/a").await == json!({ "config": expected })
        };
        stack
            .until(&format!("the plugin receives what is published ({provider:?})"), is_current)
            .await
            .unwrap();

        let received = received(&stack, "/goods/a").await;
        let text = received["config"].as_str().unwrap();
        for kind in
            ["\"generation\":", "\"relay\":true", "\"pathPrefix\":\"\"", "\"amount\":\"123456789012345678\""]
        {
            assert!(text.contains(kind), "{kind} in {text}");
        }
        let config: Value = serde_json::from_str(text).unwrap();
        assert_eq!(config["spool"]["maxBytes"], 67_108_864);
        let rules = PushedRules::from_json(&config["rules"].to_string()).unwrap();
        let paid = &rules.routes[1];
        assert_eq!((paid.offer_name.as_str(), paid.description.as_str()), ("0012", DESCRIPTION));

        if provider == Provider::File {
            retyped(&stack, &dynamic).await;
        }
    }
}

/// Shows why the configuration is one string: Traefik turns everything else into strings.
async fn retyped(stack: &Stack, dynamic: &Path) {
    let config = json!({ "number": 5, "flag": true, "list": ["a", 1] });
    let typed = route("typed", "Path(`/typed`)", &stack.upstream_url(), &config);
    std::fs::write(dynamic.join("typed.yaml"), typed.to_string()).unwrap();
    let expected = json!({ "number": "5", "flag": "true", "list": ["a", "1"] });
    let is_received = async |stack: &Stack| received(stack, "/typed").await == expected;
    stack.until("Traefik makes strings of what is no string", is_received).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_config_denies_everything_although_a_broader_router_leads_to_the_same_upstream() {
    let mut stack = Stack::prepare(options(|traefik| watch(traefik, "dynamic"))).unwrap();
    let file = stack.folder().join("dynamic/rules.yaml");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let rule = "PathPrefix(`/goods/`)";
    let write = |stack: &Stack, config: &Value| {
        let text = route("goods", rule, &stack.upstream_url(), config).to_string();
        std::fs::write(&file, text).unwrap();
    };
    let bad = [
        json!({ "config": "no JSON" }),
        json!({ "config": "{\"rules\":{\"format\":99}}" }),
        json!({ "config": { "rules": { "generation": 1 } } }),
        json!({ "config": "{}", "more": true }),
        json!({ "confg": "{}" }),
    ];
    write(&stack, &bad[0]);
    stack.start_part(Part::Proxy).unwrap();
    answers(&stack, "/broad").await;
    for config in &bad {
        write(&stack, config);
        let middleware = format!("{}/api/http/middlewares/goods@file", stack.api_url());
        let names: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
        let taken = async |stack: &Stack| {
            let text = stack.client().get(&middleware).send().await.unwrap().text().await.unwrap();
            let shown: Value = serde_json::from_str(&text).unwrap();
            let plugin = &shown["plugin"]["farebox"];
            names.iter().all(|name| {
                plugin[name].is_object() || plugin[name].as_str() == as_text(&config[name]).as_deref()
            }) && plugin.as_object().is_some_and(|plugin| plugin.len() == names.len())
        };
        stack.until(&format!("Traefik takes {config}"), taken).await.unwrap();
        for path in ["/goods/a", "/goods/%61", "/goods/"] {
            let answer = Request::get(path).header("payment-signature", "e30=").send(stack.proxy_address());
            assert_eq!(answer.status, 503, "{path} with {config}: {}", answer.summary());
        }
        assert_eq!(stack.get("/broad").send().await.unwrap().status(), 200, "the broader router is there");
    }
    assert!(stack.origin().unwrap().hits().all().keys().all(|path| path == "/broad"));
}

/// A value as Traefik shows it.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}
