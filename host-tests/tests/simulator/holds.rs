//! A payment is reserved as long as its request lasts, also with a slow upstream.

use crate::shop::{GENERATION, Shop, TRANSACTION, rules, say, settled};
use farebox_core::Now;
use farebox_core::evm::{Address, Amount};
use farebox_core::payment::{
    Answer, Claim, End, Ending, Event, Fingerprint, Holder, Leases, Record, Terms, step,
};
use farebox_core::protocol::{RELAY_HOLDER, RelayReply};
use farebox_core::terms::Flow;
use farebox_host_tests::envoy::{Request, Stream};
use farebox_testkit::wallet::{Window, header_value};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const MINUTES: u32 = 20;

fn shop(relay: bool) -> Shop {
    let mut rules = rules(GENERATION);
    rules["facilitator"]["relay"] = relay.into();
    Shop::with_rules(&rules, 2)
}

/// A payment with a window longer than all waits of this test.
fn header(shop: &Shop, path: &str) -> String {
    let window = Window::numbered(1, shop.envoy.now(), 20_000);
    header_value(&shop.buyer.pay_v2(&shop.offer(path), window).unwrap())
}

/// Sends the payment again every minute while the request goes on.
fn refused_all_along(shop: &Shop, path: &str, header: &str) {
    for minute in 0..MINUTES {
        shop.envoy.advance(MINUTE);
        shop.envoy.tick();
        let resend = shop.send_paid(minute as usize % 2, path, header);
        resend.expect_response(409);
        assert_eq!(resend.forwarded(), None, "minute {minute}");
    }
}

#[test]
fn a_payment_without_a_relay_is_in_use_while_its_upstream_works_and_while_its_answer_streams() {
    for path in ["/paid/x", "/upfront/x"] {
        let shop = shop(false);
        let header = header(&shop, path);
        let stream = if path == "/paid/x" {
            shop.at_upstream(0, path, &header)
        } else {
            shop.settled_first(0, path, &header)
        };
        refused_all_along(&shop, path, &header);
        stream.upstream_answers(200, &[]);
        if path == "/paid/x" {
            say(stream.expect_callout("/settle"), &settled());
        }
        refused_all_along(&shop, path, &header);
        stream.body_ends();
        stream.expect_response(200);
        shop.send_paid(1, path, &header).expect_response(402);
    }
}

#[test]
fn a_payment_that_is_fetched_slowly_is_in_use_until_it_is_fetched() {
    let shop = shop(false);
    let header = header(&shop, "/paid/x");
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.body_breaks_off();
    let again = shop.redeemed(1, "/paid/x", &header);
    refused_all_along(&shop, "/paid/x", &header);
    again.upstream_answers(200, &[]);
    refused_all_along(&shop, "/paid/x", &header);
    again.body_ends();
    shop.send_paid(0, "/paid/x", &header).expect_response(402);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_payment_is_free_again_when_the_vm_that_held_it_is_dead_and_its_lease_is_over() {
    let shop = shop(false);
    let header = header(&shop, "/paid/x");
    let _stream = shop.at_upstream(0, "/paid/x", &header);
    shop.envoy.crash(0);
    for _ in 0..9 {
        shop.envoy.advance(MINUTE);
        shop.envoy.tick();
        shop.send_paid(1, "/paid/x", &header).expect_response(409);
    }
    shop.envoy.advance(2 * MINUTE);
    shop.at_upstream(1, "/paid/x", &header);
}

/// The part of a relay's record about the holder of the payment.
struct Relay {
    record: Option<Record>,
    now_ms: u64,
}

impl Relay {
    fn claim(&mut self, holder: Holder) -> Answer {
        self.step(Event::Claim(Claim {
            fingerprint: Fingerprint([1; 32]),
            terms: Terms {
                offer: "shop/paid".to_owned(),
                route: "/paid/*".to_owned(),
                asset: Address([2; 20]),
                amount: Amount::from_u64(1000),
                pay_to: Address([3; 20]),
                flow: Flow::Authorization,
            },
            holder,
            call: Arc::from(&b"{}"[..]),
            ends: u64::MAX,
            proven: true,
            only_known: false,
            can_settle: true,
            twin: None,
        }))
    }

    fn step(&mut self, event: Event) -> Answer {
        let leases = Leases::of_timeout(60_000);
        let stepped = step(self.record.take(), event, &leases, Now { unix_ms: self.now_ms });
        self.record = stepped.record;
        stepped.answer
    }

    /// A minute passes in which the stream goes on.
    fn minute(&mut self, shop: &Shop) {
        shop.envoy.advance(MINUTE);
        self.now_ms += 60_000;
        shop.envoy.tick();
        for ending in shop.envoy.overs().iter().flat_map(|(_, body)| Ending::read_all(body).unwrap()) {
            assert_eq!(ending.end, End::NotYet);
            self.step(Event::Over(ending.holder, ending.end));
        }
        let resend = Holder([9; 16]);
        assert_eq!(self.claim(resend), Answer::InFlight);
    }
}

#[test]
fn a_relay_is_told_of_each_request_that_goes_on_until_it_ends() {
    let shop = shop(true);
    let mut relay = Relay { record: None, now_ms: shop.envoy.now() * 1000 };
    let stream = shop.send_paid(0, "/paid/x", &header(&shop, "/paid/x"));
    let verify = stream.expect_callout("/verify");
    let holder = verify.headers().get(RELAY_HOLDER).and_then(|text| Holder::parse(&text)).unwrap();
    assert_eq!(relay.claim(holder), Answer::Reserved);
    relay.step(Event::Verified(holder));
    verify.replies(200, RelayReply::Valid.body());
    for _ in 0..MINUTES {
        relay.minute(&shop);
    }
    stream.upstream_answers(200, &[]);
    let Answer::Call { epoch, .. } = relay.step(Event::Begin(holder)) else { panic!("not begun") };
    let outcome = farebox_core::payment::Outcome::Settled { transaction: TRANSACTION.to_owned() };
    relay.step(Event::Ended { epoch, holder, outcome, claim: None });
    let word = RelayReply::Settled { transaction: TRANSACTION.to_owned() };
    stream.expect_callout("/settle").replies(word.status(), word.body());
    for _ in 0..MINUTES {
        relay.minute(&shop);
    }
    stream.body_ends();
    let told: Vec<_> =
        shop.envoy.overs().iter().flat_map(|(_, body)| Ending::read_all(body).unwrap()).collect();
    assert_eq!(told.iter().map(|ending| ending.end).collect::<Vec<_>>(), [End::Whole]);
    shop.envoy.advance(10 * MINUTE);
    shop.envoy.tick();
    assert_eq!(shop.envoy.overs(), [], "a request that is over does not go on");
}

#[test]
fn a_sign_that_is_lost_is_not_told_again_and_the_next_one_is_in_time() {
    let shop = shop(true);
    let stream = shop.send_paid(0, "/paid/x", &header(&shop, "/paid/x"));
    stream.expect_callout("/verify").replies(200, RelayReply::Valid.body());
    let mut told = Vec::new();
    for second in 0..320 {
        shop.envoy.advance(Duration::from_secs(1));
        shop.envoy.tick();
        told.extend(shop.envoy.overs_answered(None).iter().map(|_| second));
    }
    assert_eq!(told, [149, 299]);
}

#[test]
fn a_clock_that_is_set_back_silences_no_request() {
    let shop = shop(true);
    let stream = shop.send_paid(0, "/paid/x", &header(&shop, "/paid/x"));
    stream.expect_callout("/verify").replies(200, RelayReply::Valid.body());
    shop.envoy.set_wall_clock(shop.envoy.now() - 100_000);
    shop.envoy.tick();
    assert_eq!(shop.envoy.overs().len(), 1);
    stream.client_leaves();
}

#[test]
fn requests_that_hold_nothing_say_nothing() {
    let shop = shop(true);
    let free: [fn(&Shop) -> Stream<'_>; 2] =
        [|shop| shop.envoy.send(0, Request::get("/free/x")), |shop| shop.send_paid(0, "/free/x", "junk")];
    for send in free {
        let stream = send(&shop);
        shop.envoy.advance(10 * MINUTE);
        shop.envoy.tick();
        assert_eq!(shop.envoy.overs(), []);
        stream.client_leaves();
    }
}
