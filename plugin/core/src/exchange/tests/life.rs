//! For a known payment its state decides, also if the rules would refuse it as a new payment.

use super::host::{Host, MODES, Mode};
use super::script::{Does, End, Story, Up, ok, request, settled, valid};
use super::settle::{assert_unknown, host_with_an_open_question};
use super::world::{START, Terms, Wallet, network, other_payment, payment, upfront_payment};
use crate::evm::{Address, Amount};
use crate::rules::PushedRules;
use crate::terms::Flow;

const TX: &str = "0xabc";
const SERVED: &str =
    "PaymentPresented@0 Verify(Success,7) Settle(Success,7) PaymentVerified@0 Charged@0 LastSuccess@0";
const UPFRONT: &str =
    "PaymentPresented@3 Verify(Success,7) Settle(Success,7) PaymentVerified@3 Charged@3 LastSuccess@3";
const USED: &str = "PaymentPresented@0 ReplayRejected(Settled)@0 PaymentFailed(PaymentReplayed)@0";

/// A request for `/paid/a` with payment 1.
fn paid(host: &mut Host, up: &Up) -> Story {
    host.play(&request("/paid/a").paying(&payment(1)), up)
}
/// A host whose payment 1 was settled but not served, because the upstream broke off.
fn host_with_an_owed_answer(mode: Mode) -> Host {
    let mut host = Host::of(mode);
    host.script([valid(), settled(84532, TX)]);
    let story = paid(&mut host, &Up::Breaks(200));
    host.assert_counted(&story, &format!("{SERVED} UpstreamFailedAfterCharge@0"));
    assert_eq!(host.lives(), ["owed"]);
    host
}
/// A host whose payment 1 was served.
fn host_that_served(mode: Mode) -> Host {
    let mut host = Host::of(mode);
    host.script([valid(), settled(84532, TX)]);
    assert_eq!(paid(&mut host, &ok()).status(), 200);
    host
}

#[test]
fn an_owed_answer_is_fetched_once_with_the_receipt_on_record_and_no_call() {
    for mode in MODES {
        let mut host = host_with_an_owed_answer(mode);
        let story = paid(&mut host, &ok());
        host.assert_counted(&story, "PaymentPresented@0 PaymentVerified@0 VerifiedUncharged(Redeemed)@0");
        assert!(story.calls.is_empty());
        assert_eq!(host.lives(), ["delivered"]);
        assert_eq!(story.receipt().unwrap()["transaction"], TX);
        assert_eq!(story.header("cache-control"), Some("private"));
        assert_eq!(paid(&mut host, &ok()).status(), 402);
        assert_eq!(host.charges(), 1);
    }
}

#[test]
fn an_answer_that_breaks_off_again_and_again_is_served_twice_in_all() {
    let upfront = request("/up/a").paying(&upfront_payment(1));
    for (request, mode) in
        [request("/paid/a").paying(&payment(1)), upfront].iter().flat_map(|it| MODES.map(|mode| (it, mode)))
    {
        let mut host = Host::of(mode);
        host.script([valid(), settled(84532, TX)]);
        let stories: Vec<_> = (0..6).map(|_| host.play(request, &Up::Breaks(200))).collect();
        let statuses: Vec<_> = stories.iter().map(Story::status).collect();
        assert_eq!(statuses, [200, 200, 402, 402, 402, 402]);
        assert_eq!(stories.iter().filter(|story| story.forwarded.is_some()).count(), 2);
        assert_eq!((host.lives(), host.charges()), (vec!["delivered"], 1));
    }
}

#[test]
fn an_owed_answer_is_fetched_until_there_is_one_and_one_of_another_kind_is_the_last() {
    let failed = "PaymentPresented@0 UpstreamFailedAfterVerify@0";
    let moved = "PaymentPresented@0 PaymentVerified@0 VerifiedUncharged(Redirect)@0";
    let gone = "PaymentPresented@0 PaymentFailed(ClientDisconnected)@0";
    let cases = [
        (Up::Answers(500, vec![]), failed, Some(500), true),
        (Up::Answers(101, vec![]), failed, Some(502), true),
        (Up::Unreachable, failed, Some(502), true),
        (Up::TimesOut, failed, Some(504), true),
        // The upstream has worked. Otherwise a client that leaves in time could make the upstream
        // work again and again.
        (Up::ClientGone, gone, None, false),
        (Up::Answers(404, vec![]), failed, Some(404), false),
        (Up::Answers(302, vec![]), moved, Some(302), false),
    ];
    for ((up, stamps, status, is_owed), mode) in cases.iter().flat_map(|case| MODES.map(|mode| (case, mode)))
    {
        let mut host = host_with_an_owed_answer(mode);
        for _ in 0..if *is_owed { 3 } else { 1 } {
            let story = paid(&mut host, up);
            host.assert_counted(&story, stamps);
            assert_eq!(host.lives(), [if *is_owed { "owed" } else { "delivered" }], "{up:?}");
            if let Some(status) = status {
                assert_eq!((story.status(), story.is_priced()), (*status, false));
                assert_eq!(story.receipt().unwrap()["success"], true);
                assert_eq!(story.header("x-payment-owed").is_some(), *is_owed);
                assert_eq!(story.header("x-should-retry").is_some(), *is_owed || story.status() >= 500);
            }
            if let End::Reply(_) = story.end {
                let body = story.body();
                assert_eq!((&body["retriable"], body["hint"].is_string()), (&false.into(), true));
            }
        }
        let story = paid(&mut host, &ok());
        assert_eq!(
            (story.status(), story.forwarded.is_some()),
            if *is_owed { (200, true) } else { (402, false) }
        );
        assert_eq!((host.lives(), host.charges()), (vec!["delivered"], 1));
        let story = paid(&mut host, &ok());
        host.assert_counted(&story, USED);
        assert_eq!((story.status(), story.forwarded.is_none()), (402, true));
    }
}

#[test]
fn upfront_money_buys_an_answer_and_an_answer_that_is_none_says_how_to_fetch_it() {
    let cases = [
        (Up::Answers(500, vec![]), Some(500), true),
        (Up::Answers(503, vec![]), Some(503), true),
        (Up::Answers(429, vec![]), Some(429), true),
        (Up::Answers(200, vec![("grpc-status", "13")]), Some(200), true),
        (Up::Unreachable, Some(502), true),
        (Up::TimesOut, Some(504), true),
        (Up::Answers(101, vec![]), Some(502), true),
        (Up::Answers(302, vec![]), Some(302), false),
        (Up::ClientGone, None, false),
    ];
    for ((up, status, counts), mode) in cases.iter().flat_map(|case| MODES.map(|mode| (case, mode))) {
        let mut host = Host::of(mode);
        let request = request("/up/a").paying(&upfront_payment(1));
        host.script([valid(), settled(84532, TX)]);
        let story = host.play(&request, up);
        let failed = if *counts { " UpstreamFailedAfterCharge@3" } else { "" };
        host.assert_counted(&story, &format!("{UPFRONT}{failed}"));
        assert_eq!(host.lives(), ["owed"], "{up:?}");
        if let Some(status) = status {
            assert_eq!((story.status(), story.is_priced()), (*status, false));
            let receipt = story.receipt().unwrap();
            assert_eq!((&receipt["success"], &receipt["transaction"]), (&true.into(), &TX.into()));
        }
        let hint = match &story.end {
            End::Reply(_) => {
                assert_eq!(story.body()["retriable"], false, "a new authorization would pay twice");
                story.body()["hint"].as_str().unwrap().to_owned()
            }
            End::Released(..) => {
                assert_eq!(story.header("cache-control"), Some("private"));
                story.header("x-payment-owed").unwrap().to_owned()
            }
            _ => String::from("charged, with the same payment"),
        };
        assert!(hint.contains("charged") && hint.contains("same payment"), "{hint}");
        let story = host.play(&request, &ok());
        host.assert_counted(&story, "PaymentPresented@3 PaymentVerified@3 VerifiedUncharged(Redeemed)@3");
        assert_eq!((story.status(), host.charges()), (200, 1));
        assert_eq!(host.play(&request, &ok()).status(), 402);
    }
}

#[test]
fn an_upstream_cannot_say_that_an_answer_is_owed() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, TX)]);
    let story = paid(&mut host, &Up::Answers(200, vec![("x-payment-owed", "come again")]));
    assert_eq!(story.released().1.remove, ["x-payment-owed"]);
}

/// A name, the milliseconds that pass, and the operator's change.
type Change = (&'static str, u64, fn(&mut PushedRules));

/// Changes of the offer of `/paid/*` by an operator, or of its payments by time.
fn changes() -> Vec<Change> {
    fn option(p: &mut PushedRules) -> &mut crate::terms::PaymentOption {
        &mut p.routes[0].options[0]
    }
    vec![
        ("the window is over", 900_000, |_| {}),
        ("the price", 0, |p| option(p).amount = Amount::from_u64(2_000)),
        ("the recipient", 0, |p| option(p).pay_to = Address([9; 20])),
        ("the flow", 0, |p| option(p).flow = Flow::Upfront),
        ("the token", 0, |p| option(p).asset = Address([9; 20])),
        ("the chain", 0, |p| {
            p.tuples[0].chain = "eip155:8453".into();
            option(p).network = network(8453);
            option(p).v1_network = Some("base".into());
            p.routes[1].options[0].network = network(8453);
        }),
        ("the offer's name", 0, |p| {
            p.tuples[0].offer_name = "renamed".into();
            p.routes.iter_mut().filter(|r| r.offer_name == "o").for_each(|r| r.offer_name = "renamed".into());
        }),
        ("the pattern", 0, |p| p.routes[0].pattern = "/paid/**".into()),
    ]
}

#[test]
fn while_a_payment_is_open_nothing_an_operator_or_time_does_brings_it_a_price() {
    for (change, mode) in changes().into_iter().flat_map(|change| MODES.map(|mode| (change, mode))) {
        let (what, later, change) = change;
        let mut host = host_with_an_open_question(mode, "/paid/a", &payment(1));
        host.reload(change);
        host.now_ms += later;
        // Only payments for the same terms are settled again, and in a proxy only for terms that
        // are still sold.
        let other_terms = ["the offer's name", "the pattern"].contains(&what);
        let asks =
            !other_terms && (mode == Mode::Relay || what == "the window is over" || what == "the flow");
        host.script(asks.then_some(Does::TimesOut));
        let story = paid(&mut host, &ok());
        assert_unknown(&story, None);
        assert!(host.facilitator.is_empty(), "{what} {mode:?}");
        assert_eq!((host.lives(), host.open()), (vec!["unknown"], 1), "{what}");
        if asks {
            host.script([settled(84532, TX)]);
            let story = paid(&mut host, &ok());
            assert_eq!((story.status(), host.lives()), (200, vec!["delivered"]), "{what} {mode:?}");
            assert_eq!(story.receipt().unwrap()["transaction"], TX);
        }
    }
}

#[test]
fn what_is_owed_is_served_after_the_window_and_at_any_price_and_named_where_it_was_sold_otherwise() {
    for ((what, later, change), mode) in
        changes().into_iter().flat_map(|change| MODES.map(|mode| (change, mode)))
    {
        let mut host = host_with_an_owed_answer(mode);
        host.reload(change);
        host.now_ms += later;
        let story = paid(&mut host, &ok());
        if ["the offer's name", "the pattern"].contains(&what) {
            assert_eq!((story.status(), story.is_priced()), (409, false), "{what}");
            let error = story.body()["error"].as_str().unwrap().to_owned();
            assert!(error.contains(TX) && error.contains("/paid/* of the offer ns/o"), "{error}");
            assert_eq!(host.lives(), ["owed"]);
        } else {
            assert_eq!(story.status(), 200, "{what} {mode:?}");
            assert_eq!(host.lives(), ["delivered"], "{what}");
        }
        assert_eq!(host.charges(), 1);
    }
}

#[test]
fn a_payment_in_use_stays_in_use_when_the_rules_change() {
    for ((what, _, change), mode) in changes().into_iter().flat_map(|it| MODES.map(|mode| (it, mode))).skip(2)
    {
        let mut host = Host::of(mode);
        host.script([valid()]);
        let state = host.until_upstream(&request("/paid/a").paying(&payment(1)));
        host.reload(change);
        let story = paid(&mut host, &ok());
        assert_eq!((story.status(), story.is_priced()), (409, false), "{what} {mode:?}");
        // The request that holds the payment continues with the rules under which it began.
        host.script([settled(84532, TX)]);
        let mut first = Story::new();
        host.respond(*state, &ok(), &mut first);
        assert_eq!((first.status(), host.lives()), (200, vec!["delivered"]), "{what} {mode:?}");
    }
}

#[test]
fn an_unknown_payment_that_fails_the_checks_is_refused_as_before() {
    for ((what, later, change), mode) in
        changes().into_iter().take(6).flat_map(|change| MODES.map(|mode| (change, mode)))
    {
        let mut host = Host::of(mode);
        host.reload(change);
        host.now_ms += later;
        let story = paid(&mut host, &ok());
        let reason = if later > 0 { "payment_invalid" } else { "no_matching_requirement" };
        assert_eq!(story.body()["extensions"]["paymentFailure"]["reason"], reason, "{what}");
        assert_eq!((story.status(), host.records().len(), story.calls.len()), (402, 0, 0), "{what}");
    }
}

#[test]
fn a_token_of_another_route_and_one_everybody_knows_are_still_looked_up() {
    let usdc = crate::evm::asset_by_symbol(&network(84532), "USDC").unwrap();
    let mut terms = Terms::of(0, 0, 1);
    terms.option.asset = usdc.address;
    terms.option.eip712_name = usdc.eip712_name.into();
    terms.option.eip712_version = usdc.eip712_version.into();
    let known = terms.option.clone();
    let request = request("/paid/a").paying(&Wallet::new(1).pay(&terms));
    for mode in MODES {
        for elsewhere in [false, true] {
            let mut host = Host::of(mode);
            host.reload(|p| p.routes[0].options[0] = known.clone());
            host.script([valid(), settled(84532, TX)]);
            assert_eq!(host.play(&request, &Up::Breaks(200)).status(), 200);
            host.reload(|p| {
                if elsewhere {
                    p.routes[1].options[0] = known.clone();
                }
            });
            assert_eq!(host.play(&request, &ok()).status(), 200);
            assert_eq!((host.lives(), host.charges()), (vec!["delivered"], 1));
        }
    }
}

#[test]
fn a_payment_of_version_1_is_found_among_the_tokens_of_its_chain() {
    for mode in MODES {
        let v1 = Wallet::new(1).pay(&Terms { v1: true, ..Terms::of(0, 0, 1) });
        let request = request("/paid/a").with("x-payment", &v1);
        let mut host = Host::of(mode);
        host.script([valid(), Does::TimesOut]);
        assert_eq!(host.play(&request, &ok()).status(), 503);
        // The price changes, and another token is now before the payment's token.
        host.reload(|p| {
            let mut other = p.routes[0].options[0].clone();
            other.asset = Address([9; 20]);
            p.routes[0].options[0].amount = Amount::from_u64(2_000);
            p.routes[0].options.insert(0, other);
        });
        host.script((mode == Mode::Relay).then_some(Does::TimesOut));
        let story = host.play(&request, &ok());
        assert_eq!((story.status(), story.is_priced()), (503, false));
    }
}

#[test]
fn on_another_route_a_payment_buys_nothing_and_gets_no_price_while_it_is_open_or_owed() {
    let elsewhere = request("/same-price").paying(&payment(1));
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid()]);
        let state = host.until_upstream(&request("/paid/a").paying(&payment(1)));
        let story = host.play(&elsewhere, &ok());
        assert_eq!((story.status(), story.body()["retriable"].clone()), (409, false.into()));
        let counted = "PaymentPresented@0 ReplayRejected(OtherRoute)@0 PaymentFailed(PaymentReplayed)@0";
        host.assert_counted(&story, counted);
        host.script([settled(84532, TX)]);
        host.respond(*state, &ok(), &mut Story::new());

        let mut host = host_with_an_open_question(mode, "/paid/a", &payment(1));
        assert_unknown(&host.play(&elsewhere, &ok()), None);
        assert_eq!(host.open(), 1);

        let mut host = host_with_an_owed_answer(mode);
        let story = host.play(&elsewhere, &ok());
        assert_eq!((story.status(), story.is_priced()), (409, false));
        assert!(story.body()["error"].as_str().unwrap().contains("/paid/*"));
        assert_eq!(paid(&mut host, &ok()).status(), 200, "what it was signed for");

        let story = host.play(&elsewhere, &ok());
        assert_eq!(story.status(), 402);
        host.assert_counted(&story, USED);
    }
}

#[test]
fn another_authorization_of_a_nonce_is_another_payment_and_touches_nothing() {
    let other = request("/paid/a").paying(&other_payment(1));
    let in_use = "PaymentPresented@0 ReplayRejected(InFlight)@0 PaymentFailed(PaymentReplayed)@0";
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid()]);
        let state = host.until_upstream(&request("/paid/a").paying(&payment(1)));
        let story = host.play(&other, &ok());
        assert_eq!((story.status(), host.lives()), (409, vec!["reserved"]));
        host.assert_counted(&story, in_use);
        assert!(story.body()["error"].as_str().unwrap().contains("nothing was charged for this one"));
        host.script([Does::TimesOut]);
        host.respond(*state, &ok(), &mut Story::new());

        let story = host.play(&other, &ok());
        assert_eq!((story.status(), story.calls.len()), (409, 0));
        assert_eq!((host.lives(), host.open()), (vec!["unknown"], 1));

        let mut host = host_with_an_owed_answer(mode);
        let story = host.play(&other, &ok());
        assert_eq!((story.status(), host.lives()), (402, vec!["owed"]));
        host.assert_counted(&story, USED);
        assert_eq!(paid(&mut host, &ok()).status(), 200, "the first payment has its answer still");
        assert_eq!(host.play(&other, &ok()).status(), 402);
    }
}

#[test]
fn a_dearer_authorization_of_a_settled_nonce_buys_nothing_when_the_first_has_ended() {
    // Settled for 500. When the first window is over, signed again for 9,999 and with a later end.
    let dear = |p: &mut PushedRules| {
        p.routes[1].options[0].amount = Amount::from_u64(9_999);
        p.routes[1].options[0].flow = Flow::Upfront;
        p.settings.clock_skew_seconds = 30;
    };
    for mode in MODES {
        let mut host = Host::of(mode);
        host.reload(dear);
        let first = Terms { valid_before: START + 8, ..Terms::of(3, 0, 1) };
        host.script([valid(), settled(84532, TX)]);
        let first = request("/up/a").paying(&Wallet::new(1).pay(&first));
        assert_eq!(host.play(&first, &ok()).status(), 200);
        for minutes in [0, 1, 10, 60, 24 * 60] {
            host.now_ms = START * 1000 + minutes * 60_000 + 8_000;
            let mut again = Terms { valid_before: host.now_ms / 1000 + 600, ..Terms::of(3, 0, 1) };
            again.option.amount = Amount::from_u64(9_999);
            again.value = 9_999;
            let again = Wallet::new(1).pay(&again);
            let story = host.play(&request("/same-price").paying(&again), &ok());
            assert_eq!((story.status(), story.calls.len()), (402, 0), "{minutes}");
            host.sweep();
            let story = host.play(&first, &ok());
            assert_eq!((story.status(), story.calls.len()), (402, 0), "{minutes}");
        }
        assert_eq!((host.charges(), host.lives()), (1, vec!["delivered"]));
    }
}

#[test]
fn a_served_payment_is_remembered_as_long_as_it_could_be_accepted() {
    for mode in MODES {
        let mut host = Host::of(mode);
        let skew = |p: &mut PushedRules| p.settings.clock_skew_seconds = 30;
        host.reload(skew);
        let horizon = host.rules.settings.replay_horizon_seconds;
        let far = Terms { valid_before: START + horizon, ..Terms::of(3, 0, 1) };
        let far = request("/up/a").paying(&Wallet::new(1).pay(&far));
        host.script([valid(), settled(84532, TX)]);
        assert_eq!(host.play(&far, &ok()).status(), 200);
        for seconds in [1, 13, 600, horizon - 1, horizon, horizon + 23] {
            host.now_ms = (START + seconds) * 1000;
            host.sweep();
            assert_eq!(host.play(&far, &ok()).status(), 402, "{seconds}");
        }
        assert_eq!(host.charges(), 1);
    }
}

#[test]
fn a_payment_that_was_held_too_long_is_taken_over_and_its_first_request_ends_unserved() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid()]);
        let terms = Terms { valid_before: START + 5_000, ..Terms::of(0, 0, 1) };
        let request = request("/paid/a").paying(&Wallet::new(1).pay(&terms));
        let slow = host.until_upstream(&request);
        host.now_ms += 650_000;
        host.script([valid(), settled(84532, TX)]);
        let second = host.play(&request, &ok());
        assert_eq!((second.status(), host.charges()), (200, 1));
        let mut late = Story::new();
        host.respond(*slow, &ok(), &mut late);
        assert_eq!((late.status(), late.is_priced(), late.calls.len()), (409, false, 0));
        assert_eq!((host.charges(), host.lives()), (1, vec!["delivered"]));
    }
}

#[test]
fn proxies_that_share_a_relay_serve_a_payment_once() {
    let mut one = Host::of(Mode::Relay);
    one.script([valid()]);
    let state = one.until_upstream(&request("/paid/a").paying(&payment(1)));
    let mut two = Host::of(Mode::Relay);
    two.requests = 1_000;
    core::mem::swap(&mut one.relay, &mut two.relay);
    assert_eq!(paid(&mut two, &ok()).status(), 409);
    core::mem::swap(&mut one.relay, &mut two.relay);
    one.script([settled(84532, TX)]);
    let mut first = Story::new();
    one.respond(*state, &Up::Breaks(200), &mut first);
    assert_eq!(one.lives(), ["owed"]);
    core::mem::swap(&mut one.relay, &mut two.relay);
    let story = paid(&mut two, &ok());
    assert_eq!((story.status(), story.calls.len()), (200, 0), "what one proxy owes, every other knows");
    core::mem::swap(&mut one.relay, &mut two.relay);
    assert_eq!(paid(&mut one, &ok()).status(), 402);
}

#[test]
fn a_payment_that_was_served_asks_for_another() {
    for mode in MODES {
        let mut host = host_that_served(mode);
        let story = paid(&mut host, &ok());
        host.assert_counted(&story, USED);
        assert_eq!((story.status(), story.is_priced(), story.calls.len()), (402, true, 0));
        host.now_ms += 900_000;
        let story = paid(&mut host, &ok());
        host.assert_counted(&story, USED);
    }
}
