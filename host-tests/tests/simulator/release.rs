//! A relay is told when a payment it verified is free again, and only then.

use crate::shop::{GENERATION, Shop, rules, say, settled};
use farebox_core::protocol::{RELAY_ATTEMPT, RELAY_HOLDER};
use farebox_host_tests::envoy::Stream;

fn shop(relay: bool) -> Shop {
    let mut rules = rules(GENERATION);
    rules["facilitator"]["relay"] = relay.into();
    Shop::with_rules(&rules, 2)
}

/// Has a payment verified, and returns what its release must say.
fn verified<'a>(shop: &'a Shop, worker: usize, header: &str) -> (Stream<'a>, [Option<String>; 2], Vec<u8>) {
    let stream = shop.send_paid(worker, "/paid/x", header);
    let verify = stream.expect_callout("/verify");
    let names = [RELAY_HOLDER, RELAY_ATTEMPT].map(|name| verify.headers().get(name));
    let body = verify.body().to_vec();
    say(verify, &crate::shop::verified());
    stream.expect_forwarded();
    (stream, names, body)
}

#[test]
fn a_payment_that_is_not_charged_is_given_back_under_the_name_of_its_use() {
    let shop = shop(true);
    let header = shop.header("/paid/x", 1);
    let mut attempts = Vec::new();
    let ends: [fn(&Stream<'_>); 5] = [
        |stream| stream.upstream_answers(500, &[]),
        |stream| stream.upstream_answers(302, &[]),
        |stream| stream.router_answers(503, "no_healthy_upstream"),
        |stream| stream.router_answers(504, "response_timeout"),
        |stream| stream.client_leaves(),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let (stream, names, body) = verified(&shop, number % 2, &header);
        end(&stream);
        let releases = shop.envoy.releases();
        assert_eq!(releases.len(), 1, "end {number}");
        let (headers, sent) = &releases[0];
        assert_eq!(
            (headers.get(":path").as_deref(), headers.get(":method").as_deref()),
            (Some("/release"), Some("POST"))
        );
        assert_eq!([RELAY_HOLDER, RELAY_ATTEMPT].map(|name| headers.get(name)), names);
        assert_eq!(*sent, body);
        attempts.push(names[1].clone().expect("a use has a name"));
    }
    let uses = attempts.len();
    attempts.sort();
    attempts.dedup();
    assert_eq!(attempts.len(), uses, "every use has a name of its own: {attempts:?}");
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn nothing_is_given_back_once_money_may_move() {
    let shop = shop(true);
    // Settled; refused; nobody knows.
    let ends: [fn(&Stream<'_>); 3] = [
        |stream| say(stream.expect_callout("/settle"), &settled()),
        |stream| {
            let refused = serde_json::json!({
                "success": false, "errorReason": "insufficient_funds", "transaction": "", "network": "eip155:84532",
            });
            say(stream.expect_callout("/settle"), &refused);
        },
        |stream| stream.expect_callout("/settle").times_out(),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let (stream, ..) = verified(&shop, 0, &shop.header("/paid/x", number as u64));
        stream.upstream_answers(200, &[]);
        end(&stream);
        assert_eq!(shop.envoy.releases(), [], "end {number}");
    }
}

#[test]
fn a_relay_learns_that_nobody_waits_for_the_call_it_is_making() {
    let shop = shop(true);
    // Envoy goes on with a call whose stream is over, so the relay cannot see it by itself.
    for (nonce, operation) in [(1, "/verify"), (2, "/settle")] {
        let stream = shop.send_paid(0, "/paid/x", &shop.header("/paid/x", nonce));
        if operation == "/settle" {
            say(stream.expect_callout("/verify"), &crate::shop::verified());
            stream.expect_forwarded();
            stream.upstream_answers(200, &[]);
        }
        let call = stream.expect_callout(operation);
        let names = [RELAY_HOLDER, RELAY_ATTEMPT].map(|name| call.headers().get(name));
        let body = call.body().to_vec();
        stream.client_leaves();
        let releases = shop.envoy.releases();
        assert_eq!(releases.len(), 1, "{operation}");
        assert_eq!([RELAY_HOLDER, RELAY_ATTEMPT].map(|name| releases[0].0.get(name)), names);
        assert_eq!(releases[0].1, body);
    }
}

#[test]
fn a_facilitator_is_told_nothing_of_it() {
    let shop = shop(false);
    let (stream, names, _) = verified(&shop, 0, &shop.header("/paid/x", 1));
    assert_eq!(names, [None, None]);
    stream.upstream_answers(500, &[]);
    assert_eq!(shop.envoy.releases(), []);
}
