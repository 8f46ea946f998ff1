//! With a relay, which keeps the payments: the filter asks before a payment is used, the relay's reply decides,
//! and the filter reports how each request ended.

use crate::shop::{GENERATION, PAYMENTS, Shop, TRANSACTION, body, counters, decode, rules};
use farebox_core::metrics::{FailureReason, TupleCounter, UnchargedReason};
use farebox_core::payment::{End, Ending, Holder};
use farebox_core::protocol::{
    RELAY_GENERATION, RELAY_HOLDER, RELAY_KNOWN, RELAY_OFFER, RELAY_PROXY, RELAY_ROUTE, RelayReply,
};
use farebox_host_tests::envoy::{Callout, Stream};
use farebox_testkit::wallet::{Window, header_value};
use std::collections::BTreeSet;

fn shop(relay: bool) -> Shop {
    let mut rules = rules(GENERATION);
    rules["facilitator"]["relay"] = relay.into();
    Shop::with_rules(&rules, 2)
}

fn say(callout: Callout<'_>, word: &RelayReply) {
    callout.replies(word.status(), word.body());
}

fn settled() -> RelayReply {
    RelayReply::Settled { transaction: TRANSACTION.to_owned() }
}

fn redeem() -> RelayReply {
    RelayReply::Redeem { transaction: TRANSACTION.to_owned() }
}

/// Has a payment verified, and returns the name of its request.
fn verified<'a>(shop: &'a Shop, worker: usize, path: &str, header: &str) -> (Stream<'a>, String) {
    let stream = shop.send_paid(worker, path, header);
    let verify = stream.expect_callout("/verify");
    let holder = verify.headers().get(RELAY_HOLDER).expect("a request has a name");
    say(verify, &RelayReply::Valid);
    (stream, holder)
}

/// Has a payment settled with the response held.
fn served<'a>(shop: &'a Shop, number: u64) -> (Stream<'a>, String) {
    let (stream, holder) = verified(shop, 0, "/paid/x", &shop.header("/paid/x", number));
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.expect_response(200);
    (stream, holder)
}

/// The ends reported since the last call: the holder of each request, and its end.
fn ends(shop: &Shop) -> Vec<(String, String)> {
    ends_answered(shop, Some(204))
}

/// The same with this answer of the relay, or with an unreachable relay.
fn ends_answered(shop: &Shop, status: Option<u16>) -> Vec<(String, String)> {
    let overs = shop.envoy.overs_answered(status);
    let endings = overs.iter().flat_map(|(_, body)| Ending::read_all(body).expect("ends"));
    endings.map(|ending| (ending.holder.to_string(), ending.end.as_str().to_owned())).collect()
}

fn one(holder: &str, end: &str) -> Vec<(String, String)> {
    vec![(holder.to_owned(), end.to_owned())]
}

#[test]
fn a_relay_is_told_who_asks_for_what_under_which_rules() {
    let shop = shop(true);
    let (stream, holder) = verified(&shop, 0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(200, &[]);
    let settle = stream.expect_callout("/settle");
    let headers = settle.headers();
    let line = |name: &str| headers.get(name);
    assert_eq!(line(RELAY_HOLDER), Some(holder), "one request has one name");
    assert_eq!(line(RELAY_GENERATION), Some(GENERATION.to_string()));
    assert_eq!(line(RELAY_ROUTE).as_deref(), Some("/paid/*"));
    assert!(line(RELAY_OFFER).unwrap().contains("paid"));
    assert_eq!(line(RELAY_PROXY).as_deref(), Some("simulator"));
    assert_eq!(line(RELAY_KNOWN), None);
}

#[test]
fn a_payment_that_is_not_charged_is_given_back_under_the_name_of_its_request() {
    let shop = shop(true);
    let payment = shop.payment("/paid/x", 1);
    let header = header_value(&payment);
    type Plays = fn(&Stream<'_>);
    let ends: [(Plays, End); 5] = [
        (|stream| stream.upstream_answers(500, &[]), End::Unsent),
        (|stream| stream.upstream_answers(302, &[]), End::Unsent),
        (|stream| stream.router_answers(503, "no_healthy_upstream"), End::Unsent),
        (|stream| stream.router_answers(504, "response_timeout"), End::Unsent),
        (|stream| stream.client_leaves(), End::Broken),
    ];
    let mut names = BTreeSet::new();
    for (number, (play, expected)) in ends.into_iter().enumerate() {
        let (stream, holder) = verified(&shop, number % 2, "/paid/x", &header);
        play(&stream);
        let overs = shop.envoy.overs();
        assert_eq!(overs.len(), 1, "end {number}");
        let (headers, sent) = &overs[0];
        let line = |name: &str| headers.get(name);
        assert_eq!((line(":path").as_deref(), line(":method").as_deref()), (Some("/over"), Some("POST")));
        let [Ending { key, holder: told, end }] = &Ending::read_all(sent).unwrap()[..] else {
            panic!("{sent:?}")
        };
        assert_eq!((told.to_string(), *end), (holder.clone(), expected));
        assert_eq!((key.payer, key.network.as_str()), (shop.buyer.address(), "eip155:84532"));
        assert_eq!(key.nonce.to_string(), payment["payload"]["authorization"]["nonce"].as_str().unwrap());
        assert!(Holder::parse(&holder).is_some(), "{holder}");
        names.insert(holder);
    }
    assert_eq!(names.len(), ends.len(), "every request has a name of its own: {names:?}");
}

#[test]
fn names_of_requests_are_no_numbers_one_could_guess() {
    let shop = shop(true);
    let mut names: Vec<_> = Vec::new();
    for number in 0..32 {
        let (stream, holder) = verified(&shop, number % 2, "/paid/x", &shop.header("/paid/x", number as u64));
        stream.client_leaves();
        names.push(Holder::parse(&holder).unwrap().0);
    }
    for pair in names.windows(3) {
        let differing = pair[0].iter().zip(&pair[2]).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
        assert!((32..=96).contains(&differing), "{differing} of 128 bits differ: {pair:?}");
    }
    // Another process, and new VMs of the same process, have other holders.
    shop.envoy
        .replace_vms({
            let mut rules = rules(GENERATION + 1);
            rules["facilitator"]["relay"] = true.into();
            rules.to_string()
        })
        .expect_taken();
    for number in 0..4 {
        let (_, holder) = verified(&shop, 0, "/paid/x", &shop.header("/paid/x", 100 + number));
        assert!(!names.contains(&Holder::parse(&holder).unwrap().0));
    }
}

#[test]
fn a_paid_answer_is_reported_by_how_it_ended() {
    let shop = shop(true);
    let (stream, holder) = served(&shop, 1);
    assert_eq!(ends(&shop), [], "it is not over yet");
    stream.body_ends();
    assert_eq!(ends(&shop), one(&holder, "whole"));

    let (stream, holder) = served(&shop, 2);
    stream.body_breaks_off();
    assert_eq!(ends(&shop), one(&holder, "broken"));

    // A client that leaves during the answer has used its payment; otherwise the answer could be fetched again
    // and again.
    let (stream, holder) = served(&shop, 3);
    stream.body_chunk(10);
    stream.client_leaves();
    assert_eq!(ends(&shop), one(&holder, "whole"));

    let redeeming = shop.send_paid(1, "/paid/x", &shop.header("/paid/x", 2));
    let verify = redeeming.expect_callout("/verify");
    let holder = verify.headers().get(RELAY_HOLDER).unwrap();
    say(verify, &redeem());
    redeeming.upstream_answers(500, &[]);
    assert_eq!(ends(&shop), one(&holder, "unsent"));
}

#[test]
fn a_request_that_is_answered_without_a_settlement_waits_for_none_any_more() {
    let shop = shop(true);
    // Refused, not known, or a fault of the relay. In each case only the relay knows the record.
    let words = [
        RelayReply::Refused { reason: "insufficient_funds".to_owned(), detail: None },
        RelayReply::Open { transaction: None },
        RelayReply::NotBegun,
        RelayReply::Unavailable,
    ];
    for (number, word) in words.iter().enumerate() {
        let (stream, holder) = verified(&shop, 0, "/paid/x", &shop.header("/paid/x", number as u64));
        stream.upstream_answers(200, &[]);
        say(stream.expect_callout("/settle"), word);
        assert!(stream.response().unwrap().status >= 400, "{word:?}");
        assert_eq!(ends(&shop), one(&holder, "unheard"), "{word:?}");
    }
    // A payment that this request never held.
    let header = shop.header("/paid/x", 100);
    for word in [RelayReply::InFlight, RelayReply::OtherPayment, RelayReply::Used, RelayReply::Unreachable] {
        let stream = shop.send_paid(0, "/paid/x", &header);
        say(stream.expect_callout("/verify"), &word);
        assert_eq!((stream.forwarded(), ends(&shop)), (None, Vec::new()), "{word:?}");
    }
}

#[test]
fn a_relay_learns_that_nobody_waits_for_the_call_it_is_making() {
    let shop = shop(true);
    // Envoy continues a call whose stream has ended, so the relay cannot detect the end of the stream.
    for (nonce, operation) in [(1, "/verify"), (2, "/settle")] {
        let stream = shop.send_paid(0, "/paid/x", &shop.header("/paid/x", nonce));
        if operation == "/settle" {
            say(stream.expect_callout("/verify"), &RelayReply::Valid);
            stream.expect_forwarded();
            stream.upstream_answers(200, &[]);
        }
        let holder = stream.expect_callout(operation).headers().get(RELAY_HOLDER).unwrap();
        stream.client_leaves();
        assert_eq!(ends(&shop), one(&holder, "unheard"), "{operation}");
    }
}

#[test]
fn an_end_that_may_have_overtaken_its_call_is_told_again_once_the_call_is_answered() {
    let shop = shop(true);
    let left = |nonce: u64| {
        let stream = shop.send_paid(0, "/paid/x", &shop.header("/paid/x", nonce));
        let holder = stream.expect_callout("/verify").headers().get(RELAY_HOLDER).unwrap();
        stream.client_leaves();
        assert_eq!(ends(&shop), one(&holder, "unheard"));
        (stream, holder)
    };
    let (stream, holder) = left(1);
    say(stream.expect_callout("/verify"), &RelayReply::Valid);
    assert_eq!(ends(&shop), one(&holder, "unheard"));
    // The reply is lost with the filter, and maybe with the VM.
    let (_stream, holder) = left(2);
    let mut next = rules(GENERATION + 1);
    next["facilitator"]["relay"] = true.into();
    shop.envoy.replace_vms(next.to_string()).expect_taken();
    shop.envoy.tick();
    assert_eq!(ends(&shop), one(&holder, "unheard"));
}

#[test]
fn an_upfront_charge_whose_answer_failed_is_reported_as_unsent_and_fetched_by_the_relays_word() {
    let shop = shop(true);
    let header = shop.header("/upfront/x", 1);
    let (stream, holder) = verified(&shop, 0, "/upfront/x", &header);
    say(stream.expect_callout("/settle"), &settled());
    stream.upstream_answers(500, &[]);
    assert!(stream.expect_response(500).headers.get("x-payment-owed").is_some());
    assert_eq!(ends(&shop), one(&holder, "unsent"));

    let again = shop.send_paid(1, "/upfront/x", &header);
    say(again.expect_callout("/verify"), &redeem());
    again.expect_forwarded();
    again.upstream_answers(200, &[]);
    assert!(again.callout().is_none(), "it is charged already");
    let receipt = again.expect_response(200).headers.get("payment-response").unwrap();
    assert_eq!(decode(&receipt)["transaction"], TRANSACTION);
    let redeemed = TupleCounter::VerifiedUncharged(UnchargedReason::Redeemed);
    assert_eq!(shop.count("upfront", redeemed), 1);
}

/// Otherwise a client could have any number of requests processed with one payment by leaving each in time.
#[test]
fn a_client_that_leaves_the_upstream_at_work_has_fetched_what_is_charged() {
    let shop = shop(true);
    let header = shop.header("/upfront/x", 1);
    let (stream, first) = verified(&shop, 0, "/upfront/x", &header);
    say(stream.expect_callout("/settle"), &settled());
    stream.expect_forwarded();
    stream.client_leaves();
    assert_eq!(ends(&shop), one(&first, "broken"));
    let again = shop.send_paid(1, "/upfront/x", &header);
    let callout = again.expect_callout("/verify");
    let second = callout.headers().get(RELAY_HOLDER).unwrap();
    say(callout, &redeem());
    again.expect_forwarded();
    again.client_leaves();
    assert_eq!(ends(&shop), one(&second, "broken"));
}

#[test]
fn a_settlement_that_was_open_is_settled_by_the_relay_before_the_upstream() {
    let shop = shop(true);
    let stream = shop.send_paid(0, "/paid/x", &shop.header("/paid/x", 1));
    say(stream.expect_callout("/verify"), &settled());
    stream.expect_forwarded();
    stream.upstream_answers(200, &[]);
    assert!(stream.callout().is_none());
    assert!(stream.expect_response(200).headers.get("payment-response").is_some());
}

#[test]
fn a_payment_that_is_no_good_any_more_is_looked_up_and_its_life_decides() {
    let shop = shop(true);
    let offer = shop.offer("/paid/x");
    let now = shop.envoy.now();
    let closed = Window { valid_after: now - 600, valid_before: now - 1, nonce: [7; 32] };
    let header = header_value(&shop.buyer.pay_v2(&offer, closed).unwrap());
    let ask = |word: &RelayReply| {
        let stream = shop.send_paid(0, "/paid/x", &header);
        let verify = stream.expect_callout("/verify");
        assert_eq!(verify.headers().get(RELAY_KNOWN).as_deref(), Some("1"));
        say(verify, word);
        stream
    };
    // The payment is not known, so it is refused for its fault.
    let response = ask(&RelayReply::New { now: Some(now) }).expect_response(402);
    let challenge = decode(&response.headers.get("payment-required").unwrap());
    let detail = challenge["extensions"]["paymentFailure"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("valid_before"), "{detail}");
    // The payment is too old only by this proxy's clock, so the answer does not ask for a new payment.
    let response = ask(&RelayReply::New { now: Some(now - 60) }).expect_response(503);
    assert_eq!(body(&response)["reason"], "clock_wrong");
    assert_eq!(shop.failed("paid", FailureReason::ClockWrong), 1);
    // Money may have moved, so the answer has no price.
    let stream = ask(&RelayReply::Open { transaction: None });
    assert_eq!(stream.expect_response(503).headers.get("payment-required"), None);
    let owed = RelayReply::PaidFor {
        offer: "shop/old".to_owned(),
        route: "/old/*".to_owned(),
        transaction: TRANSACTION.to_owned(),
    };
    let response = ask(&owed).expect_response(409);
    assert_eq!(response.headers.get("payment-required"), None);
    assert!(body(&response)["error"].as_str().unwrap().contains("/old/*"), "{:?}", body(&response));
    ask(&redeem()).expect_forwarded();
}

#[test]
fn only_the_relays_own_word_counts() {
    let shop = shop(true);
    // A facilitator's reply, a false reply of another server, or the reply to another operation: none serves
    // the request.
    let replies: [(u16, &str); 6] = [
        (200, r#"{"isValid":true,"success":true,"transaction":"0x1"}"#),
        (200, r#"{"farebox":"yes","isValid":true}"#),
        (200, r#"{"farebox":["valid"]}"#),
        (200, r#"{"farebox":"settled"}"#),
        (200, ""),
        (502, "<html>bad gateway</html>"),
    ];
    for (number, (status, reply)) in replies.into_iter().enumerate() {
        let header = shop.header("/paid/x", number as u64);
        let stream = shop.send_paid(0, "/paid/x", &header);
        stream.expect_callout("/verify").replies(status, reply);
        let response = stream.expect_response(503);
        assert_eq!((stream.forwarded(), response.headers.get("payment-required")), (None, None), "{reply}");

        let (stream, _) = verified(&shop, 1, "/paid/x", &header);
        stream.upstream_answers(200, &[("set-cookie", "paid-content")]);
        stream.expect_callout("/settle").replies(status, reply);
        let response = stream.expect_response(503);
        assert_eq!(response.headers.get("set-cookie"), None, "{reply}");
        assert_eq!(response.headers.get("payment-required"), None, "{reply}");
    }
    let (stream, _) = verified(&shop, 1, "/paid/x", &shop.header("/paid/x", 50));
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &RelayReply::Valid);
    assert!(stream.response().unwrap().status >= 500, "valid is not settled");
}

#[test]
fn a_relay_that_is_away_closes_and_is_told_when_it_may_have_reserved() {
    let shop = shop(true);
    let header = shop.header("/paid/x", 1);
    let ways: [fn(Callout<'_>); 3] =
        [|call| call.times_out(), |call| call.is_unreachable(), |call| call.breaks_off()];
    for away in ways {
        let stream = shop.send_paid(0, "/paid/x", &header);
        let verify = stream.expect_callout("/verify");
        let holder = verify.headers().get(RELAY_HOLDER).unwrap();
        away(verify);
        let response = stream.expect_response(503);
        assert_eq!((stream.forwarded(), response.headers.get("retry-after").is_some()), (None, true));
        assert_eq!(ends(&shop), one(&holder, "unheard"));
    }
    assert_eq!(shop.failed("paid", FailureReason::CompanionUnreachable), 3);
}

#[test]
fn a_filter_with_a_relay_keeps_no_payment_and_one_without_tells_nobody() {
    let relayed = shop(true);
    let (stream, _) = served(&relayed, 1);
    stream.body_ends();
    assert_eq!(relayed.envoy.shared_keys(PAYMENTS), 0);
    let expected = [("PaymentPresented", 1), ("PaymentRequired", 1), ("PaymentVerified", 1)];
    assert_eq!(relayed.counted("paid"), counters(&expected));
    assert_eq!(relayed.charged("paid", 1000), 0, "money is counted by the ledger alone");

    let direct = shop(false);
    let stream = direct.send_paid(0, "/paid/x", &direct.header("/paid/x", 1));
    let verify = stream.expect_callout("/verify");
    let ours: Vec<_> = verify.headers().iter().filter(|(name, _)| name.starts_with("x-farebox")).collect();
    assert_eq!(ours, []);
    verify.replies(200, crate::shop::verified().to_string());
    stream.upstream_answers(500, &[]);
    assert_eq!(direct.envoy.overs(), []);
    assert_eq!(direct.envoy.shared_keys(PAYMENTS), 1);
}

#[test]
fn an_end_is_told_until_the_relay_has_written_it_down() {
    let shop = shop(true);
    let (stream, holder) = served(&shop, 1);
    let (told, away) = (one(&holder, "whole"), None);
    stream.body_ends();
    assert_eq!(ends_answered(&shop, away), told, "at once");
    assert_eq!(ends(&shop), [], "not again before its time");
    // Unreachable, not ready, or another program at its address: none has recorded the end.
    for reply in [away, Some(503), Some(500), Some(404), Some(200)] {
        shop.envoy.tick();
        assert_eq!(ends_answered(&shop, reply), told, "{reply:?}");
    }
    shop.envoy.tick();
    assert_eq!(ends(&shop), told);
    shop.envoy.tick();
    assert_eq!(ends(&shop), [], "it is written down");
}

#[test]
fn an_end_the_relay_cannot_read_is_told_until_it_can_and_the_log_says_so_once() {
    let shop = shop(true);
    let (stream, holder) = served(&shop, 1);
    stream.body_ends();
    for _ in 0..3 {
        assert_eq!(ends_answered(&shop, Some(400)), one(&holder, "whole"));
        shop.envoy.tick();
    }
    assert_eq!(ends(&shop), one(&holder, "whole"));
    let lines = shop.envoy.log();
    assert_eq!(
        lines.iter().filter(|line| line.text.contains("cannot read what the filter tells it")).count(),
        1
    );
}

#[test]
fn an_end_that_could_not_be_sent_is_sent_when_it_can_be() {
    let shop = shop(true);
    let (stream, holder) = served(&shop, 1);
    shop.envoy.remove_clusters();
    stream.body_ends();
    shop.envoy.tick();
    assert_eq!(ends(&shop), []);
    shop.envoy.add_cluster("facilitator");
    shop.envoy.tick();
    assert_eq!(ends(&shop), one(&holder, "whole"));
}

#[test]
fn an_end_whose_reply_was_lost_with_its_filter_is_told_by_the_next_one() {
    let shop = shop(true);
    let (stream, holder) = served(&shop, 1);
    let mut next = rules(GENERATION + 1);
    next["facilitator"]["relay"] = true.into();
    shop.envoy.configure(next.to_string()).expect_taken();
    stream.body_ends();
    assert_eq!(
        (shop.envoy.live_roots(0), ends(&shop)),
        (1, Vec::new()),
        "the filter is gone, and so is the reply"
    );
    shop.envoy.tick();
    assert_eq!(ends(&shop), one(&holder, "whole"));
}

#[test]
fn what_a_vm_that_is_replaced_had_not_told_another_tells() {
    let shop = shop(true);
    let (stream, first) = served(&shop, 1);
    let (other, second) = served(&shop, 2);
    other.body_ends();
    assert_eq!(ends_answered(&shop, None), one(&second, "whole"), "the relay is away");
    let mut next = rules(GENERATION + 1);
    next["facilitator"]["relay"] = true.into();
    shop.envoy.replace_vms(next.to_string()).expect_taken();
    stream.body_ends();
    assert_eq!(ends(&shop), [], "the VM is gone, and so is every reply");
    shop.envoy.tick();
    let mut told = ends(&shop);
    told.sort_unstable();
    let mut both = [one(&first, "whole"), one(&second, "whole")].concat();
    both.sort_unstable();
    assert_eq!(told, both);
}

#[test]
fn a_relay_that_comes_back_is_told_every_end_and_so_many_at_a_time() {
    let shop = shop(true);
    let header = shop.header("/paid/x", 1);
    let mut holders = BTreeSet::new();
    for _ in 0..150 {
        let (stream, holder) = verified(&shop, 0, "/paid/x", &header);
        stream.client_leaves();
        holders.insert(holder);
    }
    assert_eq!(ends_answered(&shop, None).len(), 1, "the first, at once");
    for _ in 0..3 {
        shop.envoy.tick();
        assert_eq!(ends_answered(&shop, None).len(), 64);
    }
    shop.envoy.tick();
    let mut told = BTreeSet::new();
    for many in [64, 64, 22, 0] {
        let now = ends(&shop);
        assert_eq!(now.len(), many);
        told.extend(now.into_iter().map(|(holder, _)| holder));
    }
    assert_eq!(told, holders);
}

#[test]
fn what_ends_while_a_call_is_under_way_is_told_by_the_next() {
    let shop = shop(true);
    let names: Vec<_> = (1..=5)
        .map(|number| {
            let (stream, holder) = served(&shop, number);
            stream.body_ends();
            holder
        })
        .collect();
    let told = |names: &[String]| names.iter().flat_map(|name| one(name, "whole")).collect::<Vec<_>>();
    assert_eq!(ends(&shop), told(&names[..1]));
    assert_eq!(ends(&shop), told(&names[1..]));
    assert_eq!(ends(&shop), []);
}

#[test]
fn ends_that_are_too_many_to_keep_are_dropped_the_oldest_first_and_said_once() {
    let shop = shop(true);
    let header = shop.header("/paid/x", 1);
    let (first, oldest) = verified(&shop, 0, "/paid/x", &header);
    first.client_leaves();
    ends_answered(&shop, None);
    for _ in 0..4_096 + 32 {
        verified(&shop, 0, "/paid/x", &header).0.client_leaves();
    }
    let lines = shop.envoy.log();
    let lines = lines.iter().filter(|line| line.text.contains("can keep no more"));
    assert_eq!(lines.map(|line| line.level).collect::<Vec<_>>(), [4]);
    let mut told = 0;
    for _ in 0..80 {
        shop.envoy.tick();
        let now = ends(&shop);
        assert!(now.iter().all(|(holder, _)| *holder != oldest));
        told += now.len();
    }
    assert_eq!(told, 4_096);
}
