//! Thousands of random events over a few payments, two workers and a hostile world. Seeded: a failure names
//! its seed and repeats.

use crate::shop::{GENERATION, Shop, rules, settled, verified};
use farebox_host_tests::envoy::{Origin, Phase, Request, Stream};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use xtask::payer::{Window, header_value};

const PATHS: [&str; 5] = ["/paid/x", "/other/x", "/upfront/x", "/free/x", "/nowhere"];
/// Payments in use at one time; old ones give way to new ones as the story goes on.
const PAYMENTS: u64 = 12;
/// When the stories begin, Unix seconds.
const START: u64 = 1_790_000_000;
const EVENTS: u64 = 4000;

/// xorshift64*, for the same story on every machine.
struct Dice(u64);

/// One stream and what the world did to it.
struct Live<'a> {
    stream: Stream<'a>,
    path: &'static str,
    /// The payment it carries, if its header is a good one.
    payment: Option<u64>,
    verified: bool,
    settled: bool,
}

/// What became of one payment.
#[derive(Debug, Default)]
struct Fate {
    /// Success replies to /settle that reached the filter.
    settled: u32,
    /// Responses that ran to their last byte.
    served: u32,
    /// Bodies the upstream broke off, each of which is owed once more.
    owed: u32,
}

struct World<'a> {
    shop: &'a Shop,
    dice: Dice,
    offers: Vec<Value>,
    /// Number of events so far.
    age: u64,
    streams: Vec<Live<'a>>,
    fates: BTreeMap<u64, Fate>,
    generation: u64,
}

// === impl Dice ===

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("below n")
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = self.below(most + 1);
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

// === impl World ===

impl<'a> World<'a> {
    fn new(shop: &'a Shop, seed: u64) -> Self {
        let offers = PATHS.iter().take(3).map(|path| shop.offer(path)).collect();
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self {
            shop,
            dice,
            offers,
            age: 0,
            streams: Vec::new(),
            fates: BTreeMap::new(),
            generation: GENERATION,
        }
    }

    /// A payment of the present, and its header for one of the priced paths.
    fn payment(&mut self, offer: usize) -> (u64, String) {
        let number = self.age / 20 + self.dice.next() % PAYMENTS;
        // The same number has to give the same authorization whenever it is signed.
        let window = Window::numbered(number, START, 1_000_000);
        let signed = self.shop.buyer.pay_v2(&self.offers[offer], window).expect("the offer can be paid");
        (number, header_value(&signed))
    }

    fn step(&mut self) {
        self.age += 1;
        match self.dice.below(20) {
            0..=4 => self.request(),
            5 => self.shop.envoy.advance(Duration::from_millis(self.dice.next() % 60_000)),
            6 => self.shop.envoy.tick(),
            7 if self.dice.below(10) == 0 => {
                self.generation += 1;
                self.shop.envoy.configure(rules(self.generation).to_string()).expect_taken();
            }
            8 => self.shop.envoy.lose_races(u32::try_from(self.dice.below(3)).expect("small")),
            _ if self.streams.is_empty() => self.request(),
            _ => {
                let at = self.dice.below(self.streams.len());
                let mut live = self.streams.swap_remove(at);
                self.event(&mut live);
                if live.stream.phase() != Phase::Ended {
                    self.streams.push(live);
                }
            }
        }
    }

    fn request(&mut self) {
        let at = self.dice.below(PATHS.len());
        let path = PATHS[at];
        let mut request = Request::get(path);
        let mut payment = None;
        match self.dice.below(12) {
            0 => {}
            1 => request = request.header("payment-signature", sendable(self.dice.bytes(300))),
            2 => request = request.header("x-payment", sendable(self.dice.bytes(40))),
            3 => {
                // A good payment with one byte changed; mostly refused, sometimes still good.
                let offer = self.dice.below(3);
                let (number, header) = self.payment(offer);
                let mut header = header.into_bytes();
                let spot = self.dice.below(header.len());
                header[spot] = b"AZaz09+/="[self.dice.below(9)];
                request = request.header("payment-signature", header);
                payment = Some(number);
            }
            _ => {
                let (number, header) = self.payment(if at < 3 { at } else { 0 });
                request = request.header("payment-signature", header);
                payment = Some(number);
            }
        }
        for _ in 0..self.dice.below(3) {
            let name = ["accept", "x-forwarded-host", "x-payment-payer", "accept-language", "x-odd"]
                [self.dice.below(5)];
            request = request.header(name, sendable(self.dice.bytes(30)));
        }
        let stream = self.shop.envoy.send(self.dice.below(2), request);
        let live = Live { stream, path, payment, verified: false, settled: false };
        self.judge(&live);
        if live.stream.phase() != Phase::Ended {
            self.streams.push(live);
        }
    }

    fn event(&mut self, live: &mut Live<'_>) {
        if self.dice.below(20) == 0 {
            live.stream.client_leaves();
            // A client that leaves in the middle of a body has had its service.
            if live.settled && live.stream.response().is_some() {
                self.fate(live).served += 1;
            }
            return self.judge(live);
        }
        match live.stream.phase() {
            Phase::RequestHeld | Phase::ResponseHeld => self.reply(live),
            Phase::AtUpstream => match self.dice.below(12) {
                0 => live.stream.router_answers(503, "no_healthy_upstream"),
                1 => live.stream.upstream_answers(500, &[]),
                2 => live.stream.upstream_answers(302, &[]),
                _ => live.stream.upstream_answers(200, &[("cache-control", "max-age=1")]),
            },
            Phase::Streaming => self.body(live),
            phase => panic!("a live stream in {phase:?}"),
        }
        self.judge(live);
    }

    fn body(&mut self, live: &mut Live<'_>) {
        let served =
            live.stream.response().expect("a streaming response").status == 200 && live.path != "/free/x";
        if self.dice.below(6) == 0 {
            live.stream.body_breaks_off();
            if served {
                self.fate(live).owed += 1;
            }
        } else {
            live.stream.body_ends();
            if served {
                self.fate(live).served += 1;
            }
        }
    }

    fn reply(&mut self, live: &mut Live<'_>) {
        let callout = live.stream.callout().expect("a held stream has a callout");
        let settle = callout.path() == "/settle";
        let good = if settle { settled() } else { verified() };
        match self.dice.below(24) {
            0 => callout.times_out(),
            1 => callout.is_unreachable(),
            2 => callout.breaks_off(),
            3 => callout.replies(200, self.dice.bytes(200)),
            4 => callout.replies(500, good.to_string()),
            5 => callout.replies(200, refusal(settle).to_string()),
            6 => {
                let text = good.to_string();
                callout.replies(200, &text.as_bytes()[..self.dice.below(text.len())]);
            }
            _ => {
                if settle {
                    let fate = self.fate(live);
                    assert_eq!(fate.settled, 0, "settled twice: {fate:?}");
                    fate.settled += 1;
                    live.settled = true;
                } else {
                    live.verified = true;
                }
                callout.replies(200, good.to_string());
            }
        }
    }

    fn fate(&mut self, live: &Live<'_>) -> &mut Fate {
        self.fates.entry(live.payment.expect("only a payment gets this far")).or_default()
    }

    /// The laws, after every event.
    fn judge(&mut self, live: &Live<'_>) {
        let free = live.path == "/free/x";
        let paid_before = live.payment.is_some_and(|p| self.fates.get(&p).is_some_and(|f| f.settled > 0));
        if live.stream.forwarded().is_some() && !free {
            assert!(live.verified || live.settled || paid_before, "{} was served unpaid", live.path);
        }
        if let Some(response) = live.stream.response() {
            let content = response.origin == Origin::Upstream && response.status == 200;
            assert!(!content || free || paid_before, "{} was delivered without a settlement", live.path);
            let ended = matches!(live.stream.phase(), Phase::Streaming | Phase::Ended);
            assert!(ended, "a client has a response in {:?}", live.stream.phase());
        } else {
            assert_ne!(live.stream.phase(), Phase::Hung);
        }
        if let Some(fate) = live.payment.and_then(|p| self.fates.get(&p)) {
            assert!(fate.served <= 1, "one payment was served twice: {fate:?}");
        }
    }

    /// Lets every stream come to its end.
    fn finish(&mut self) {
        while let Some(mut live) = self.streams.pop() {
            for _ in 0..10 {
                if live.stream.phase() == Phase::Ended {
                    break;
                }
                self.event(&mut live);
            }
            assert_eq!(live.stream.phase(), Phase::Ended, "a stream does not end");
        }
    }
}

fn refusal(settle: bool) -> Value {
    if settle {
        serde_json::json!({
            "success": false, "errorReason": "insufficient_funds", "transaction": "", "network": "eip155:84532",
        })
    } else {
        serde_json::json!({ "isValid": false, "invalidReason": "insufficient_funds" })
    }
}

/// Any bytes an HTTP codec lets through.
fn sendable(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().filter(|b| !matches!(b, 0 | b'\r' | b'\n')).collect()
}

fn play(seed: u64) {
    let shop = Shop::open();
    let mut world = World::new(&shop, seed);
    for _ in 0..EVENTS {
        world.step();
    }
    world.finish();
    let sum = |of: fn(&Fate) -> u32| world.fates.values().map(of).sum::<u32>();
    let (settled, served, owed) = (sum(|f| f.settled), sum(|f| f.served), sum(|f| f.owed));
    assert!(settled > 60 && served > 40 && owed > 0, "a dull story: {settled} {served} {owed}");
    let charged = shop.charged("paid", 1000) + shop.charged("other", 1000) + shop.charged("upfront", 2500);
    assert_eq!(charged, u64::from(settled), "charges are counted one for one");
}

macro_rules! seeds {
    ($($name:ident: $seed:literal),+ $(,)?) => {
        $(#[test] fn $name() { play($seed); })+
    };
}

seeds! {
    no_random_story_breaks_a_law_1: 1,
    no_random_story_breaks_a_law_2: 2,
    no_random_story_breaks_a_law_3: 3,
    no_random_story_breaks_a_law_4: 4,
}
