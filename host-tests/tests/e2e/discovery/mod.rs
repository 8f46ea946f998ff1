//! Rules over gRPC, in the real Envoy: it starts before the companion, takes each change, keeps its rules while
//! the companion is unreachable, and reports acknowledgements and refusals.

mod channel;

use std::process::Command;
use std::time::Duration;

use farebox_testkit::paths;
use farebox_testkit::stack::{Part, Process, Stack};
use serde_json::{Value, json};

use crate::reload::buyer::Buyer;
use crate::reload::metrics::sum;
use crate::reload::pricing::{file, free, paid};
use crate::reload::stage::{BOUND, Stage};

use channel::Channel;

/// `node.id` of the shipped bootstrap.
const NODE: &str = "envoy-0";

fn prices(price: &str) -> String {
    file(&[paid("kept", price), free("open")])
}

/// A stack whose Envoy runs and answers, and whose companion has never run.
async fn without_companion(channel: &Channel) -> Stack {
    let mut stack = Stack::prepare(channel.options(&prices("0.001"))).unwrap();
    stack.start_part(Part::Facilitator).unwrap();
    stack.start_part(Part::Proxy).unwrap();
    let answers = async |stack: &Stack| stack.get("/open/api").send().await.is_ok();
    stack.until("Envoy answers", answers).await.unwrap();
    stack
}

/// The only proxy of `discovery` in `/status`; null while none is connected, or the listener is not open yet.
async fn node(stack: &Stack) -> Value {
    let mut status = stack.status().await.unwrap();
    let proxies = &mut status["discovery"]["proxies"];
    assert!(proxies.as_array().is_none_or(|proxies| proxies.len() <= 1), "{proxies}");
    proxies.get_mut(0).map(Value::take).unwrap_or_default()
}

/// Whether a version is one of the generation in force.
fn is_of(version: &Value, status: &Value) -> bool {
    let generation = format!("{}-", status["config_generation"]);
    version.as_str().is_some_and(|version| version.starts_with(&generation))
}

/// Waits until the proxy has acknowledged the generation in force.
async fn acknowledged(stage: &Stage) {
    let is_acknowledged = async || {
        let status = stage.stack.status().await.unwrap();
        let node = node(&stage.stack).await;
        is_of(&node["acknowledged"], &status) && node["sent"] == node["acknowledged"]
    };
    stage.until("the rules in force are acknowledged", is_acknowledged).await;
    let node = node(&stage.stack).await;
    assert_eq!((&node["node"], &node["refused"]), (&json!(NODE), &Value::Null));
    assert!(node["connected_since"].is_u64(), "{node}");
}

async fn pushes(stage: &Stage, answer: &str) -> u128 {
    let labels = [("proxy", "envoy"), ("proxy_instance", NODE)];
    sum(&stage.page().await, &format!("proxy_pushes_{answer}_total"), &labels)
}

/// The story from a start without a companion to a restart of the companion.
async fn story(channel: Channel) {
    let mut stack = without_companion(&channel).await;
    let buyer = Buyer::new(stack.proxy_url());
    for path in ["/kept/api", "/open/api", "/elsewhere"] {
        let reply = buyer.ask(path).await.unwrap();
        assert_eq!((reply.status, reply.reason().as_deref()), (503, Some("config_not_loaded")), "{path}");
    }

    stack.start_part(Part::Companion).unwrap();
    stack.ready().await.map_err(|error| stack.explain(error)).unwrap();
    let generation = stack.enforced().await.unwrap().unwrap();
    let mut stage = Stage { stack, generation };
    let terms = buyer.terms("/kept/api").await.unwrap();
    assert_eq!(terms["amount"], "1000");
    assert!(buyer.pay("/kept/api", &terms).await.unwrap().is_settled());
    assert_eq!(buyer.ask("/open/api").await.unwrap().status, 200);
    acknowledged(&stage).await;
    assert_eq!(pushes(&stage, "refused").await, 0);

    // A change is in force, on every worker, within the bound.
    let before = pushes(&stage, "acknowledged").await;
    stage.stack.rewrite_pricing(&prices("0.003")).unwrap();
    let costs = async |buyer: &Buyer| buyer.terms("/kept/api").await.unwrap()["amount"] == "3000";
    stage.within(BOUND, "the new price is asked", async || costs(&buyer).await).await;
    stage.reloaded().await;
    for _ in 0..20 {
        assert!(costs(&stage.buyer()).await);
    }
    acknowledged(&stage).await;
    assert_eq!(pushes(&stage, "acknowledged").await, before + 1);

    // The rules outlive the companion, and the proxy comes back to the next one.
    stage.stack.kill_part(Part::Companion);
    let terms = buyer.terms("/kept/api").await.unwrap();
    assert_eq!(terms["amount"], "3000");
    // Terms are still sent, but the relay that would settle is gone.
    let closed = buyer.pay("/kept/api", &terms).await.unwrap();
    assert_eq!((closed.status, closed.reason().as_deref()), (503, Some("companion_unreachable")));
    assert_eq!(buyer.ask("/elsewhere").await.unwrap().status, 404);
    stage.stack.start_part(Part::Companion).unwrap();
    back(&stage).await;
    assert_eq!(stage.stack.enforced().await.unwrap(), Some(stage.generation));
    assert!(buyer.pay("/kept/api", &terms).await.unwrap().is_settled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_reach_an_envoy_that_boots_first_and_outlive_the_companion() {
    story(Channel::plain()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_over_mutual_tls_reach_an_envoy_that_boots_first_and_outlive_the_companion() {
    story(Channel::encrypted()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_push_is_told_and_the_proxy_keeps_its_rules_until_a_better_one_comes() {
    let channel = Channel::plain();
    let mut stack = without_companion(&channel).await;
    stack.start_part(Part::Companion).unwrap();
    stack.ready().await.map_err(|error| stack.explain(error)).unwrap();
    let generation = stack.enforced().await.unwrap().unwrap();
    let mut stage = Stage { stack, generation };
    let buyer = stage.buyer();
    acknowledged(&stage).await;

    // A companion with a wrong path of the filter.
    stage.stack.kill_part(Part::Companion);
    let misled = misled_companion(&stage.stack);
    // When the facilitator's kinds are known, there is nothing more to push.
    let is_refused = async || match stage.stack.status().await {
        Ok(status) => {
            let node = node(&stage.stack).await;
            status["facilitator"]["ready"] == true && is_of(&node["refused"]["version"], &status)
        }
        Err(_) => false,
    };
    stage.until("the push is refused", is_refused).await;
    let told = node(&stage.stack).await;
    let refusals = pushes(&stage, "refused").await;
    assert_eq!(told["refused"]["version"], told["sent"]);
    assert!(told["refused"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{told}");
    assert_eq!(told["acknowledged"], Value::Null);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It is not sent again.
    assert!(refusals >= 1);
    assert_eq!((pushes(&stage, "refused").await, pushes(&stage, "acknowledged").await), (refusals, 0));
    let is_kept = async || stage.stack.enforced().await.unwrap() == Some(stage.generation);
    stage.until("the proxy says that it has its rules still", is_kept).await;
    let terms = buyer.terms("/kept/api").await.unwrap();
    assert!(buyer.pay("/kept/api", &terms).await.unwrap().is_settled());

    drop(misled);
    stage.stack.start_part(Part::Companion).unwrap();
    back(&stage).await;
    stage.reload(&prices("0.003")).await;
    acknowledged(&stage).await;
}

/// Waits until the proxy is connected to the next companion, which sends nothing, because the proxy has these
/// rules.
async fn back(stage: &Stage) {
    stage.stack.ready().await.unwrap();
    let is_back = async || node(&stage.stack).await["connected_since"].is_u64();
    stage.until("the proxy is back", is_back).await;
    let node = node(&stage.stack).await;
    assert_eq!((&node["sent"], &node["refused"]), (&Value::Null, &Value::Null));
}

/// The connection is lost and made again while nothing changes, and then something does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_reconnects_is_not_sent_what_it_has() {
    let channel = Channel::wired().await;
    let mut stage = Stage::with(channel.options(&prices("0.001"))).await;
    acknowledged(&stage).await;
    // The counter of attempts also counts lost streams.
    let counter = "extension_config_discovery.http_filter.farebox.update_success";
    let before = (pushes(&stage, "acknowledged").await, stage.envoy_counter(counter).await);
    let connections = channel.connections();

    channel.cut();
    stage.until("the proxy is back", async || channel.connections() > connections).await;
    // Envoy asks as soon as it is connected, so a response would have arrived by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(node(&stage.stack).await["connected_since"].is_u64());
    assert_eq!((pushes(&stage, "acknowledged").await, stage.envoy_counter(counter).await), before);

    stage.reload(&prices("0.003")).await;
    assert_eq!(stage.buyer().terms("/kept/api").await.unwrap()["amount"], "3000");
    acknowledged(&stage).await;
    assert_eq!(pushes(&stage, "acknowledged").await, before.0 + 1);
}

/// The companion of a stack, but with a filter that is not there.
fn misled_companion(stack: &Stack) -> Process {
    let folder = stack.folder();
    let mut command = Command::new(paths::dev_farebox().unwrap());
    command.arg("run").current_dir(folder).arg("--settings").arg(folder.join("farebox.yaml"));
    command.arg("--relay-listen").arg(stack.relay_url().trim_start_matches("http://"));
    command.arg("--pricing").arg(stack.pricing());
    command.arg("--listen").arg(stack.companion_url().trim_start_matches("http://"));
    command.arg("--facilitator").arg(stack.facilitator_url());
    command.arg("--envoy-wasm").arg(folder.join("missing.wasm"));
    command.arg("--envoy-publish").arg(folder.join("discovery/filter.yaml"));
    Process::spawn("misled", command, &folder.join("misled.log")).unwrap()
}
