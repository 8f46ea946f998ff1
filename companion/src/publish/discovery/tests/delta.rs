use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::*;

type Delta = Talk<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

async fn open(stage: &Stage) -> Delta {
    let (requests, sent) = requests();
    let responses = stage.client().await.delta_extension_configs(sent).await.unwrap().into_inner();
    Talk { requests, responses }
}

fn ours() -> Vec<String> {
    vec!["farebox".to_owned()]
}

fn first() -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: identity("proxy"),
        type_url: TYPE.to_owned(),
        resource_names_subscribe: ours(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// The first request of a proxy that has this version.
fn first_with(version: &str) -> DeltaDiscoveryRequest {
    let held = [("farebox".to_owned(), version.to_owned())];
    DeltaDiscoveryRequest { initial_resource_versions: held.into(), ..first() }
}

/// A stream over which version 1 was taken.
async fn with_version_1(stage: &Stage) -> Delta {
    let mut talk = open(stage).await;
    talk.say(first()).await;
    let response = talk.expect("1").await;
    talk.answer(&response, None).await;
    talk
}

impl Delta {
    async fn expect(&mut self, version: &str) -> DeltaDiscoveryResponse {
        let response = self.next().await;
        assert_eq!((response.system_version_info.as_str(), response.type_url.as_str()), (version, TYPE));
        assert!(response.removed_resources.is_empty());
        assert_eq!(response.resources.len(), 1);
        let resource = &response.resources[0];
        assert_eq!((resource.name.as_str(), resource.version.as_str()), ("farebox", version));
        assert_eq!(resource.resource.as_ref().unwrap().value, version.as_bytes());
        response
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, error_detail: Option<Detail>) {
        let request = DeltaDiscoveryRequest {
            response_nonce: response.nonce.clone(),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        self.say(request).await;
    }
}

#[tokio::test]
async fn a_subscriber_gets_what_is_current_and_what_comes() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = with_version_1(&stage).await;
    stage.until("acknowledged", |node| node.acknowledged.as_deref() == Some("1")).await;
    stage.publish("2");
    talk.expect("2").await;
}

#[tokio::test]
async fn a_subscriber_that_has_the_current_version_is_not_answered() {
    let stage = Stage::start().await;
    stage.publish("7");
    let mut talk = open(&stage).await;
    talk.say(first_with("7")).await;
    talk.hears_nothing().await;
    let mut behind = open(&stage).await;
    behind.say(first_with("6")).await;
    behind.expect("7").await;
}

#[tokio::test]
async fn who_unsubscribes_gets_nothing_and_who_subscribes_again_gets_it_again() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = with_version_1(&stage).await;
    let leave =
        DeltaDiscoveryRequest { resource_names_unsubscribe: ours(), ..DeltaDiscoveryRequest::default() };
    talk.say(leave).await;
    talk.hears_nothing().await;
    stage.publish("2");
    talk.hears_nothing().await;
    talk.say(DeltaDiscoveryRequest { resource_names_subscribe: ours(), ..DeltaDiscoveryRequest::default() })
        .await;
    talk.expect("2").await;
}

#[tokio::test]
async fn a_refused_version_is_not_sent_again_but_a_newer_one_is() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = with_version_1(&stage).await;
    stage.until("acknowledged", |node| node.acknowledged.as_deref() == Some("1")).await;
    stage.publish("2");
    let bad = talk.expect("2").await;
    talk.answer(&bad, refusal()).await;
    stage.until("refused", |node| node.refusals == 1).await;
    talk.say(DeltaDiscoveryRequest { resource_names_subscribe: ours(), ..DeltaDiscoveryRequest::default() })
        .await;
    talk.hears_nothing().await;
    let mut again = open(&stage).await;
    again.say(first_with("1")).await;
    again.hears_nothing().await;
    stage.publish("3");
    talk.expect("3").await;
    again.expect("3").await;
    assert_eq!(stage.node("proxy").refusal.unwrap().version, "2");
}

#[tokio::test]
async fn a_stale_nonce_answers_nothing_but_its_changes_count() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = open(&stage).await;
    talk.say(first()).await;
    let older = talk.expect("1").await;
    stage.publish("2");
    talk.expect("2").await;
    talk.say(DeltaDiscoveryRequest {
        resource_names_unsubscribe: ours(),
        response_nonce: older.nonce,
        error_detail: refusal(),
        ..DeltaDiscoveryRequest::default()
    })
    .await;
    talk.hears_nothing().await;
    assert_eq!((stage.node("proxy").refusals, stage.node("proxy").acknowledgements), (0, 0));
    stage.publish("3");
    talk.hears_nothing().await;
}

#[tokio::test]
async fn another_name_gets_nothing_and_another_type_is_an_error() {
    let stage = Stage::start().await;
    stage.publish("1");
    let mut talk = open(&stage).await;
    talk.say(DeltaDiscoveryRequest { resource_names_subscribe: vec!["fairbox".to_owned()], ..first() }).await;
    talk.hears_nothing().await;
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    talk.say(DeltaDiscoveryRequest { type_url: cluster.to_owned(), ..DeltaDiscoveryRequest::default() })
        .await;
    assert_eq!(talk.status().await.code(), tonic::Code::InvalidArgument);
}
