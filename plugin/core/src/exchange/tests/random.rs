//! Thousands of exchanges, interleaved at random with a facilitator that keeps a true ledger behind its
//! unreliable answers. Whatever happens, the laws of money hold and the counters add up.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    Abandoned, Answer, Calling, Delivering, Next, ResponseHead, ResponseOrigin, Turn, Upstream,
};
use super::host::Does;
use super::host::{CALL_MS, Host, Request, request, settled};
use super::world::{START, Terms, Wallet};
use crate::metrics::{FailureReason, LateResult, Stamp, TupleCounter, UnchargedReason};
use crate::protocol::Operation;
use crate::replay::{apply, expired_stamps, reserve, sweep};
use crate::rules::TupleIndex;

struct Random(u64);
impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A request that is waiting for something.
enum Waiting {
    Facilitator(Box<Calling>),
    Upstream(Box<Upstream>),
    Client(Delivering),
}

/// One payment and what really became of it.
#[derive(Default)]
struct Truth {
    /// Money moved.
    moved: bool,
    /// The facilitator told us so.
    told: usize,
    charged: usize,
    /// Complete good responses.
    served: usize,
    /// The bytes of every call.
    bodies: BTreeSet<Vec<u8>>,
}

struct World {
    host: Host,
    random: Random,
    waiting: Vec<(usize, Waiting)>,
    truth: Vec<Truth>,
    payments: Vec<(&'static str, String)>,
    /// Requests whose worker died: they end nowhere.
    crashed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut payments = Vec::new();
        for nonce in 1..=12 {
            for (path, route, place) in [("/paid/a", 0, 0), ("/two", 2, 0), ("/two", 2, 1), ("/up/a", 3, 0)] {
                // Some end early in the story, some after it.
                let valid_before = START + 100 * u64::from(nonce);
                let terms = Terms { valid_before, ..Terms::of(route, place, nonce) };
                payments.push((path, Wallet::new(1 + route as u8 * 3 + place as u8).pay(&terms)));
            }
        }
        Self {
            host: Host::new(),
            random: Random(seed),
            waiting: Vec::new(),
            truth: payments.iter().map(|_| Truth::default()).collect(),
            payments,
            crashed: 0,
        }
    }

    fn start(&mut self) {
        let which = self.random.below(self.payments.len() as u64) as usize;
        let (path, header) = self.payments[which].clone();
        let request: Request = match self.random.below(12) {
            0 => request(path),
            1 => request(path).method("HEAD").paying(&header),
            2 => request(path).paying("junk"),
            3 => request("/same-price").paying(&header),
            4 => request(["/elsewhere", "/free/a", "/guarded/x", "/broken"][self.random.below(4) as usize]),
            5 => request(path).with("x-payment", &header).with("upgrade", "websocket"),
            _ => request(path).paying(&header),
        };
        let turn = self.host.begin(&request);
        self.carry_out(which, turn);
    }

    fn carry_out(&mut self, which: usize, mut turn: Turn) {
        loop {
            self.note(which, &turn.stamps);
            self.change(&turn.keys);
            turn = match turn.next {
                Next::Reply(reply) => {
                    assert!(!(200..300).contains(&reply.status));
                    return;
                }
                Next::Forward(..) => return,
                Next::Reserve(state) => {
                    let ask = state.request();
                    let now = self.host.now();
                    let bucket = self.host.table.entry(ask.key.bucket()).or_default();
                    let claim = reserve(bucket, &ask, &self.host.limits, now);
                    if let Some(write) = claim.write {
                        *bucket = write;
                        let stamps = expired_stamps(&claim.expired, &self.host.rules);
                        self.host.counted.extend(stamps);
                    }
                    state.reserved(claim.reservation, now)
                }
                Next::Call(state) => {
                    self.truth[which].bodies.insert(state.call().body.clone());
                    return self.waiting.push((which, Waiting::Facilitator(state)));
                }
                Next::Serve(_, state) => return self.waiting.push((which, Waiting::Upstream(state))),
                Next::Release(edits, delivering) => {
                    let receipt = edits.set.iter().any(|(name, _)| name == "payment-response");
                    assert_eq!(receipt, self.truth[which].told > 0);
                    if let Some(delivering) = delivering {
                        assert!(self.truth[which].moved, "served unpaid");
                        self.waiting.push((which, Waiting::Client(delivering)));
                    }
                    return;
                }
            };
        }
    }

    fn note(&mut self, which: usize, stamps: &[Stamp]) {
        self.truth[which].charged += stamps.iter().filter(|s| matches!(s, Stamp::Charged(_))).count();
        self.host.counted.extend_from_slice(stamps);
    }

    fn change(&mut self, keys: &[(crate::replay::ReplayKey, crate::replay::KeyChange)]) {
        let now = self.host.now();
        for (key, change) in keys {
            let bucket = self.host.table.entry(key.bucket()).or_default();
            if let Some((bytes, expired)) = apply(bucket, key, change, now) {
                *bucket = bytes;
                let stamps = expired_stamps(&expired, &self.host.rules);
                self.host.counted.extend(stamps);
            }
        }
    }

    /// What a shell does now and then.
    fn sweep(&mut self) {
        let now = self.host.now();
        for bucket in self.host.table.values_mut() {
            if let Some((bytes, expired)) = sweep(bucket, now) {
                *bucket = bytes;
                self.host.counted.extend(expired_stamps(&expired, &self.host.rules));
            }
        }
    }

    fn end(&mut self, which: usize, abandoned: &Abandoned) {
        self.note(which, &abandoned.stamps);
        self.change(&abandoned.keys);
    }

    /// Something happens to one waiting request.
    fn step(&mut self) {
        let place = self.random.below(self.waiting.len() as u64) as usize;
        let (which, waiting) = self.waiting.swap_remove(place);
        self.host.now_ms += CALL_MS;
        let now = self.host.now();
        match waiting {
            Waiting::Facilitator(state) => {
                let does = self.facilitator(which, state.call().operation);
                if self.random.chance(2) {
                    // The worker dies, and nobody hears the answer.
                    self.crashed += 1;
                    return;
                }
                if self.random.chance(5) {
                    let (abandoned, _) = state.abandoned(now);
                    return self.end(which, &abandoned);
                }
                let settles = state.call().operation == Operation::Settle;
                let turn = match &does {
                    Does::Says(status, body) => {
                        let told = settles && *status == 200 && body.contains(r#""success":true"#);
                        self.truth[which].told += usize::from(told);
                        state.answered(Answer::Reply { status: *status, body: body.as_bytes() }, now)
                    }
                    Does::TimesOut => state.answered(Answer::TimedOut, now),
                    Does::Cuts => state.answered(Answer::Cut, now),
                    Does::NotSent => state.answered(Answer::NotSent, now),
                    Does::Unreachable | Does::ClientGone => state.answered(Answer::Unreachable, now),
                };
                self.carry_out(which, turn);
            }
            Waiting::Upstream(state) => {
                if self.random.chance(5) {
                    let (abandoned, _) = state.abandoned(now);
                    return self.end(which, &abandoned);
                }
                let statuses = [200, 201, 204, 200, 200, 302, 404, 500, 101, 200];
                let status = statuses[self.random.below(10) as usize];
                let origin = match self.random.below(12) {
                    0 => ResponseOrigin::ProxyUnavailable,
                    1 => ResponseOrigin::ProxyTimeout,
                    _ => ResponseOrigin::Upstream,
                };
                let (turn, _) = state.response(&ResponseHead { status, headers: &[], origin }, now);
                self.carry_out(which, turn);
            }
            Waiting::Client(state) => {
                let broken = self.random.chance(20);
                self.truth[which].served += usize::from(!broken);
                let ended = state.ended(broken, now);
                self.end(which, &ended);
            }
        }
    }

    /// What the facilitator does about a payment, and what it says.
    fn facilitator(&mut self, which: usize, operation: Operation) -> Does {
        let chain = if self.payments[which].0 == "/two" && which % 4 == 1 { 8453 } else { 84532 };
        let trouble = self.random.below(14);
        if operation == Operation::Verify {
            return match trouble {
                0 => Does::TimesOut,
                1 => Does::Says(500, "{}".into()),
                2 => Does::Says(200, r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#.into()),
                _ => Does::Says(200, r#"{"isValid":true}"#.into()),
            };
        }
        let before = self.truth[which].moved;
        if trouble == 0 {
            return Does::NotSent;
        }
        let refuses = !before && trouble == 1;
        self.truth[which].moved = before || (!refuses && self.random.chance(80));
        let moved = self.truth[which].moved;
        match trouble {
            1 if !moved => Does::Says(
                200,
                r#"{"success":false,"errorReason":"insufficient_funds","transaction":""}"#.into(),
            ),
            2 => Does::TimesOut,
            3 => Does::Cuts,
            4 => Does::Says(502, "<html>".into()),
            5 => Does::Says(
                200,
                r#"{"success":false,"errorReason":"settlement_pending","transaction":"0xfeed"}"#.into(),
            ),
            6 if before => Does::Says(
                200,
                r#"{"success":false,"errorReason":"invalid_exact_evm_nonce_already_used","transaction":""}"#
                    .into(),
            ),
            _ if moved => settled(chain, "0xfeed"),
            _ => Does::TimesOut,
        }
    }
}

type Sums = BTreeMap<(TupleIndex, &'static str), i64>;

fn sums(counted: &[Stamp], host: &Host) -> Sums {
    let mut sums = Sums::new();
    for stamp in counted {
        let (tuple, name) = match stamp {
            Stamp::Tuple(tuple, counter) => {
                let name = match counter {
                    TupleCounter::PaymentPresented => "presented",
                    TupleCounter::PaymentRequired => "required",
                    TupleCounter::PaymentVerified => "verified",
                    TupleCounter::PaymentFailed(FailureReason::InternalError) => panic!("internal error"),
                    TupleCounter::PaymentFailed(_) => "failed",
                    TupleCounter::UpstreamFailedAfterVerify => "upstream_failed",
                    TupleCounter::VerifiedUncharged(UnchargedReason::DryRun | UnchargedReason::Other) => {
                        panic!("no such service")
                    }
                    TupleCounter::VerifiedUncharged(_) => "uncharged",
                    TupleCounter::UnresolvedOpened => "opened",
                    TupleCounter::UnresolvedClosed => "closed",
                    TupleCounter::ResolvedLate(LateResult::Expired) => "expired",
                    TupleCounter::ResolvedLate(_) => panic!("nothing resolves in the background here"),
                    TupleCounter::UpstreamFailedAfterCharge | TupleCounter::ReplayRejected(_) => continue,
                };
                (*tuple, name)
            }
            Stamp::Charged(charge) => (host.rules.charges[charge.0 as usize].0, "charged"),
            _ => continue,
        };
        *sums.entry((tuple, name)).or_default() += 1;
    }
    sums
}

#[test]
fn whatever_happens_nobody_is_served_unpaid_or_charged_twice_and_the_counters_add_up() {
    let (mut exchanges, mut served, mut expired) = (0, 0, 0);
    for seed in 1..=30 {
        let mut world = World::new(0x9e37_79b9 * seed);
        for _ in 0..150 {
            world.start();
            exchanges += 1;
            for _ in 0..world.random.below(5) {
                if !world.waiting.is_empty() {
                    world.step();
                }
            }
            world.host.now_ms += world.random.below(9_000);
            if world.random.chance(5) {
                world.sweep();
            }
        }
        while !world.waiting.is_empty() {
            world.step();
        }
        for (truth, (path, _)) in world.truth.iter().zip(&world.payments) {
            assert!(truth.charged <= 1, "{path}: charged {} times", truth.charged);
            assert!(truth.served <= 1, "{path}: served {} times", truth.served);
            assert!(truth.bodies.len() <= 1, "{path}: the calls differ");
            assert_eq!(truth.charged, truth.told, "{path}: charged exactly where a settlement was reported");
            assert!(truth.moved || truth.charged + truth.served == 0, "{path}: served unpaid");
            served += truth.served;
        }
        // What is still open is exactly what the gauge says.
        let end = crate::Now { unix_ms: world.host.now_ms + 10_000_000 };
        let sums = sums(&world.host.counted, &world.host);
        let total = |name| sums.iter().filter(|((_, n), _)| *n == name).map(|(_, v)| *v).sum::<i64>();
        let open = world.host.table.values().filter_map(|bucket| sweep(bucket, end));
        let open = open.flat_map(|(_, expired)| expired).filter(|e| !e.first_seen).count() as i64;
        assert_eq!(total("opened") - total("closed"), open);
        expired += total("expired");
        // Every payment ended in exactly one way, but for those whose worker died.
        let ends = total("failed") + total("verified") + total("upstream_failed");
        assert_eq!(total("presented"), ends + world.crashed as i64);
        // What was verified was charged, or counted as not charged with its reason, for each tuple.
        for tuple in (0..4).map(TupleIndex) {
            let of = |name| sums.get(&(tuple, name)).copied().unwrap_or_default();
            assert_eq!(of("charged"), of("verified") - of("uncharged"), "{tuple:?}");
        }
    }
    assert_eq!(exchanges, 4_500);
    assert!(served > 200, "{served} served");
    assert!(expired > 10, "{expired} expired");
}

#[test]
fn identity_i1_holds_for_each_offer_without_crashes() {
    let mut world = World::new(77);
    for _ in 0..1_500 {
        world.start();
        while !world.waiting.is_empty() {
            world.step();
        }
        world.host.now_ms += 300;
    }
    let sums = sums(&world.host.counted, &world.host);
    let offers: [&[u32]; 3] = [&[0], &[1, 2], &[3]];
    let mut missing = 0;
    for tuples in offers {
        let of = |name| tuples.iter().filter_map(|t| sums.get(&(TupleIndex(*t), name))).sum::<i64>();
        let ends = of("failed") + of("verified") + of("upstream_failed");
        assert!(of("presented") > 100);
        missing += of("presented") - ends;
    }
    assert_eq!(missing, world.crashed as i64);
}

#[test]
fn no_bytes_of_a_request_or_an_answer_panic() {
    let mut random = Random(0xdead_beef);
    let mut host = Host::new();
    let names =
        ["payment-signature", "x-payment", ":path", "host", "accept", "origin", "upgrade", "\u{fffd}", ""];
    for _ in 0..5_000 {
        let mut odd = request("/paid/a");
        for _ in 0..random.below(6) {
            let name = names[random.below(names.len() as u64) as usize];
            let value: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
            odd = odd.with(name, value);
        }
        let status = host.play(&odd, &super::host::ok()).status();
        assert!(matches!(status, 400 | 402 | 403 | 404 | 501), "{status}");
    }
    let payment = super::world::payment(1);
    for _ in 0..3_000 {
        let text: Vec<u8> = (0..random.below(60)).map(|_| random.below(128) as u8).collect();
        let says = Does::Says(random.below(1_000) as u16, String::from_utf8(text).unwrap());
        let verified = random.chance(50);
        let valid = verified.then(super::host::valid);
        host.script(valid.into_iter().chain([says]));
        host.table.clear();
        let story = host.play(&request("/paid/a").paying(&payment), &super::host::ok());
        assert_eq!(story.status(), 503);
    }
}
