use super::*;

async fn open(client: &mut Client) -> Talk {
    let (requests, sent) = requests();
    let responses = client.stream_extension_configs(sent).await.unwrap().into_inner();
    Talk { requests, responses }
}

/// A stream of a proxy that runs this version.
async fn connect(stage: &Stage, id: &str, version: &str) -> Talk {
    let talk = open(&mut stage.client().await).await;
    talk.say(DiscoveryRequest { node: identity(id), ..asking(version, "") }).await;
    talk
}

fn asking(version: &str, nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: version.to_owned(),
        resource_names: vec!["farebox".to_owned()],
        type_url: TYPE.to_owned(),
        response_nonce: nonce.to_owned(),
        ..DiscoveryRequest::default()
    }
}

impl Talk {
    async fn expect(&mut self, version: &str) -> DiscoveryResponse {
        let response = self.next().await;
        assert_eq!(response.version_info, version);
        assert_eq!(response.type_url, TYPE);
        assert_eq!(response.resources.len(), 1);
        assert_eq!(response.resources[0].value, version.as_bytes());
        response
    }

    async fn acknowledge(&self, response: &DiscoveryResponse) {
        self.say(asking(&response.version_info, &response.nonce)).await;
    }

    async fn refuse(&self, running: &str, response: &DiscoveryResponse) {
        self.say(DiscoveryRequest { error_detail: refusal(), ..asking(running, &response.nonce) }).await;
    }
}

#[tokio::test]
async fn a_proxy_that_connects_late_gets_the_current_rules() {
    let stage = Stage::start().await;
    stage.publish("1");
    stage.publish("2");
    let mut talk = connect(&stage, "proxy", "").await;
    let response = talk.expect("2").await;
    talk.acknowledge(&response).await;
    stage.until("acknowledged", |node| node.acknowledged.as_deref() == Some("2")).await;
    let node = stage.node("proxy");
    assert_eq!((node.sent.as_deref(), node.acknowledgements, node.refusals), (Some("2"), 1, 0));
    assert!(node.connected_since.is_some());
}

#[tokio::test]
async fn a_proxy_that_connects_early_gets_the_first_rules_when_they_are_there() {
    let stage = Stage::start().await;
    let mut talk = connect(&stage, "proxy", "").await;
    talk.hears_nothing().await;
    stage.publish("1");
    talk.expect("1").await;
}

#[tokio::test]
async fn every_proxy_gets_what_is_new() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talks = Vec::new();
    for id in ["a", "b", "c"] {
        let mut talk = connect(&stage, id, "").await;
        let response = talk.expect("1").await;
        talk.acknowledge(&response).await;
        talks.push(talk);
    }
    stage.publish("2");
    for talk in &mut talks {
        talk.expect("2").await;
    }
}

#[tokio::test]
async fn a_proxy_that_reconnects_with_the_current_version_is_not_answered_again() {
    let stage = Stage::start().await;
    stage.publish("7");
    let mut talk = connect(&stage, "proxy", "7").await;
    talk.hears_nothing().await;
    stage.publish("8");
    talk.expect("8").await;
}

#[tokio::test]
async fn a_nonce_of_an_earlier_stream_does_not_keep_a_proxy_from_its_rules() {
    let stage = Stage::start().await;
    stage.publish("8");
    let mut talk = open(&mut stage.client().await).await;
    talk.say(DiscoveryRequest { node: identity("proxy"), ..asking("7", "7-3") }).await;
    talk.expect("8").await;
}

#[tokio::test]
async fn a_refused_version_is_recorded_and_only_something_newer_is_sent() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = connect(&stage, "proxy", "").await;
    let good = talk.expect("1").await;
    talk.acknowledge(&good).await;
    stage.until("acknowledged", |node| node.acknowledged.as_deref() == Some("1")).await;
    stage.publish("2");
    let bad = talk.expect("2").await;
    talk.refuse("1", &bad).await;
    stage.until("refused", |node| node.refusals == 1).await;
    let refusal = stage.node("proxy").refusal.unwrap();
    assert_eq!(refusal.version, "2");
    assert_eq!(refusal.message, "Unable to create Wasm plugin farebox");
    assert_eq!(stage.node("proxy").acknowledged.as_deref(), Some("1"));

    // Neither when the proxy asks again, nor when it leaves the names out for a while, nor on another stream.
    talk.say(asking("1", &bad.nonce)).await;
    talk.say(DiscoveryRequest { resource_names: Vec::new(), ..asking("1", &bad.nonce) }).await;
    talk.say(asking("1", &bad.nonce)).await;
    talk.hears_nothing().await;
    let mut again = connect(&stage, "proxy", "1").await;
    again.hears_nothing().await;

    stage.publish("3");
    let newer = talk.expect("3").await;
    talk.acknowledge(&newer).await;
    again.expect("3").await;
    stage.until("acknowledged", |node| node.acknowledged.as_deref() == Some("3")).await;
    assert_eq!(stage.node("proxy").refusals, 1);
}

#[tokio::test]
async fn a_proxy_that_has_nothing_is_sent_what_it_refused_before() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = connect(&stage, "proxy", "").await;
    let bad = talk.expect("1").await;
    talk.refuse("", &bad).await;
    stage.until("refused", |node| node.refusals == 1).await;
    // The proxy was restarted, perhaps because the missing file is there now.
    connect(&stage, "proxy", "").await.expect("1").await;
}

#[tokio::test]
async fn an_answer_to_an_older_response_says_nothing() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = connect(&stage, "proxy", "").await;
    let first = talk.expect("1").await;
    stage.publish("2");
    let second = talk.expect("2").await;
    talk.refuse("", &first).await;
    talk.say(DiscoveryRequest { resource_names: Vec::new(), ..asking("1", &first.nonce) }).await;
    talk.acknowledge(&second).await;
    stage.until("acknowledged", |node| node.acknowledged.as_deref() == Some("2")).await;
    let node = stage.node("proxy");
    assert_eq!((node.acknowledgements, node.refusals, node.refusal), (1, 0, None));
    // The stale request did not end the subscription.
    stage.publish("3");
    talk.expect("3").await;
}

#[tokio::test]
async fn an_answer_that_is_repeated_counts_once() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = connect(&stage, "proxy", "").await;
    let response = talk.expect("1").await;
    talk.acknowledge(&response).await;
    talk.acknowledge(&response).await;
    stage.until("acknowledged", |node| node.acknowledged.as_deref() == Some("1")).await;
    stage.publish("2");
    let response = talk.expect("2").await;
    talk.acknowledge(&response).await;
    stage.until("acknowledged", |node| node.acknowledged.as_deref() == Some("2")).await;
    assert_eq!(stage.node("proxy").acknowledgements, 2);
}

#[tokio::test]
async fn a_name_that_is_not_ours_gets_nothing() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = open(&mut stage.client().await).await;
    for names in [&["fairbox"][..], &[], &["*"]] {
        let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        talk.say(DiscoveryRequest { node: identity("proxy"), resource_names, ..asking("", "") }).await;
    }
    talk.hears_nothing().await;
    talk.say(asking("", "")).await;
    talk.expect("1").await;
}

#[tokio::test]
async fn another_type_is_an_error_that_says_so() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = open(&mut stage.client().await).await;
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    talk.say(DiscoveryRequest { type_url: cluster.to_owned(), ..asking("", "") }).await;
    let status = talk.status().await;
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(status.message(), format!("only {TYPE} is served, not `{cluster}`"));
}

#[tokio::test]
async fn the_type_may_go_without_saying() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = open(&mut stage.client().await).await;
    talk.say(DiscoveryRequest { type_url: String::new(), ..asking("", "") }).await;
    talk.expect("1").await;
    assert_eq!(stage.node("unnamed").sent.as_deref(), Some("1"));
}

#[tokio::test]
async fn fetching_once_is_refused_with_what_to_use() {
    let stage = Stage::start().await;
    let status = stage.client().await.fetch_extension_configs(asking("", "")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(status.message().contains("GRPC"), "{status}");
}

#[tokio::test]
async fn a_request_beyond_the_bound_ends_the_stream() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = connect(&stage, "proxy", "").await;
    talk.expect("1").await;
    let resource_names = vec!["x".repeat(2 * 1024 * 1024)];
    talk.say(DiscoveryRequest { resource_names, ..asking("", "") }).await;
    assert_eq!(talk.status().await.code(), tonic::Code::OutOfRange);
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused_until_others_end() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talks = Vec::new();
    for _ in 0..40 {
        let mut client = stage.client().await;
        for _ in 0..25 {
            talks.push(open(&mut client).await);
        }
    }
    let mut one_more = stage.client().await;
    let (_requests, sent) = requests();
    let status = one_more.stream_extension_configs(sent).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(status.message(), "1000 streams are open already");
    talks.truncate(990);
    tokio::time::sleep(QUIET).await;
    connect(&stage, "proxy", "").await.expect("1").await;
}

#[tokio::test]
async fn a_proxy_that_leaves_is_known_for_ten_minutes() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut first = connect(&stage, "proxy", "").await;
    let mut second = connect(&stage, "proxy", "").await;
    first.expect("1").await;
    second.expect("1").await;
    drop(first);
    tokio::time::sleep(QUIET).await;
    assert!(stage.node("proxy").connected_since.is_some());
    drop(second);
    stage.until("gone", |node| node.connected_since.is_none()).await;
    let names = |later: u64| stage.state.lock().discovery.nodes(unix_seconds() + later).count();
    assert_eq!((names(590), names(611)), (1, 0));
}

#[tokio::test]
async fn a_name_is_short_and_printable() {
    let stage = Stage::start().await;
    stage.publish("1");
    let id = format!("a b\n{}", "x".repeat(100));
    connect(&stage, &id, "").await.expect("1").await;
    assert_eq!(stage.node(&format!("a?b?{}", "x".repeat(59))).sent.as_deref(), Some("1"));
}

#[tokio::test]
async fn streams_end_when_the_publisher_does() {
    let mut stage = Stage::start().await;
    stage.publish("1");
    let mut talk = connect(&stage, "proxy", "").await;
    talk.expect("1").await;
    stage.resource = watch::channel(None).0;
    assert_eq!(talk.status().await.code(), tonic::Code::Unavailable);
}

#[test]
fn proxies_beyond_the_bound_share_a_name() {
    let mut discovery = Discovery::default();
    for number in 0..500 {
        assert_eq!(discovery.opened(&format!("proxy-{number}"), 100), format!("proxy-{number}"));
    }
    assert_eq!(discovery.opened("proxy-500", 100), "other");
    assert_eq!(discovery.opened("proxy-7", 100), "proxy-7");
    assert_eq!(discovery.nodes(100).count(), 501);
    // Entries of forgotten proxies are free again.
    discovery.closed("proxy-3", 100);
    discovery.closed("proxy-4", 100);
    assert_eq!(discovery.opened("proxy-501", 701), "proxy-501");
}
