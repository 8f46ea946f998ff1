//! Hostile requests, byte by byte, to the real Envoy with two workers. They are refused cleanly, never
//! served unpaid, and no worker is lost. The tests run once with the shipped bootstrap, and once with a
//! bootstrap that passes everything to the filter.

mod framing;
mod headers;
mod http2;
mod identity;
mod paths;
mod payments;

use crate::common::{Answer, Payment, Request, assert_workers_live, exchange, text};
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Stack};
use serde_json::{Value, json};

const PRICING: &str = r#"
wallet: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
chain: base-sepolia
routes:
- { pattern: /free/*, gate: free }
- { pattern: /paid/*, price: 0.001, offerNamespace: hostile, offerName: paid }
"#;

/// The filter on a whole listener, with `unmatched: pass`.
fn shipped() -> Options {
    Options { settings: json!({ "filter": { "unmatched": "pass" } }), ..Options::priced(PRICING) }
}

/// The same without any protection of Envoy's own.
fn unguarded() -> Options {
    Options {
        settings: json!({ "filter": { "unmatched": "pass", "maxPaymentBytes": 59_000 } }),
        tweak: Box::new(|bootstrap| {
            let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
            let manager = bootstrap.pointer_mut(manager).expect("the connection manager of clients");
            assert_eq!(manager["stat_prefix"], "paid");
            manager["normalize_path"] = json!(false);
            manager["merge_slashes"] = json!(false);
            manager["path_with_escaped_slashes_action"] = json!("KEEP_UNCHANGED");
            manager["common_http_protocol_options"]["headers_with_underscores_action"] = json!("ALLOW");
            manager["max_request_headers_kb"] = json!(96);
            manager["http_protocol_options"] = json!({
                "accept_http_10": true,
                "default_host_for_http_10": "shop.example",
                "allow_absolute_url": true,
            });
        }),
        ..Options::priced(PRICING)
    }
}

/// A stack, with checks after every request.
struct Scene {
    stack: Stack,
    facilitator: DevFacilitator,
}

impl Scene {
    async fn of(options: Options) -> Self {
        let stack = Stack::start(options).await.unwrap();
        let facilitator = DevFacilitator::of(&stack);
        Self { stack, facilitator }
    }

    fn hits(&self) -> u64 {
        self.stack.origin().unwrap().hits().total()
    }

    /// Sends bytes that must not reach the upstream.
    fn refused(&self, bytes: &[u8]) -> Answer {
        let before = self.hits();
        let answer = exchange(self.stack.proxy_address(), bytes);
        let what = text(&bytes[..bytes.len().min(300)]);
        assert_eq!(self.hits(), before, "the upstream was reached by {what}\n{}", answer.summary());
        assert!(!matches!(answer.status, 200..=399 | 500..=500), "{what}\n{}", answer.summary());
        answer
    }

    /// Sends a request that must be refused with one of these statuses.
    fn assert_refused(&self, request: &Request, statuses: &[u16]) -> Answer {
        let bytes = request.bytes();
        let answer = self.refused(&bytes);
        let what = text(&bytes[..bytes.len().min(300)]);
        assert!(statuses.contains(&answer.status), "not one of {statuses:?}: {what}\n{}", answer.summary());
        answer
    }

    /// Sends a request the upstream answers, and returns what reached it.
    fn served(&self, request: &Request) -> Value {
        let answer = request.send(self.stack.proxy_address());
        assert_eq!(answer.status, 200, "{}\n{}", text(&request.bytes()), answer.summary());
        answer.json()
    }

    async fn pay(&self) -> Payment {
        Payment::of(&self.stack, "/paid/a").await.unwrap()
    }

    async fn assert_live(&self) {
        assert_workers_live(&self.stack, "/free/a", "/paid/a").await;
    }
}

/// Values of a header as it reached the upstream, under any spelling a gateway could read as the name.
fn at_upstream(echo: &Value, name: &str) -> Vec<String> {
    let fold = |name: &str| name.to_lowercase().replace(['_', '.'], "-");
    let headers = echo["headers"].as_array().expect("the upstream lists its headers");
    let ours = headers.iter().filter(|pair| fold(pair[0].as_str().unwrap()) == name);
    ours.map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_input_is_refused_behind_the_shipped_bootstrap() {
    let scene = Scene::of(shipped()).await;
    payments::what_is_no_payment_is_refused_as_such(&scene).await;
    payments::absurd_payments_are_refused_with_new_terms(&scene).await;
    payments::odd_signatures_buy_nothing(&scene).await;
    scene.assert_live().await;
    paths::no_spelling_of_a_path_bypasses_payment(&scene, true).await;
    paths::no_method_bypasses_payment(&scene).await;
    framing::no_framing_bypasses_payment(&scene).await;
    framing::http_1_0_is_priced_like_any_other(&scene, false).await;
    headers::bytes_that_are_no_text_are_data(&scene).await;
    scene.assert_live().await;
    payments::the_largest_accepted_payment_passes_and_more_is_refused(&scene, 48 * 1024, 60 * 1024).await;
    identity::nobody_can_say_who_paid(&scene, false).await;
    identity::payments_do_not_leak_and_have_one_name(&scene, false).await;
    http2::http_2_is_priced_like_any_other(&scene).await;
    scene.assert_live().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_is_safe_where_the_proxy_in_front_of_it_refuses_nothing() {
    let scene = Scene::of(unguarded()).await;
    paths::no_spelling_of_a_path_bypasses_payment(&scene, false).await;
    paths::no_method_bypasses_payment(&scene).await;
    framing::no_framing_bypasses_payment(&scene).await;
    framing::http_1_0_is_priced_like_any_other(&scene, true).await;
    headers::bytes_that_are_no_text_are_data(&scene).await;
    scene.assert_live().await;
    payments::the_largest_accepted_payment_passes_and_more_is_refused(&scene, 59_000, 96 * 1024).await;
    identity::nobody_can_say_who_paid(&scene, true).await;
    identity::payments_do_not_leak_and_have_one_name(&scene, true).await;
    http2::http_2_is_priced_like_any_other(&scene).await;
    scene.assert_live().await;
}
