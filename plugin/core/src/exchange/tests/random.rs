//! Thousands of exchanges, interleaved at random, with a facilitator that keeps a true ledger and gives
//! unreliable answers. In every case the laws of money hold and the counters add up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::super::{
    Abandoned, Calling, Delivering, Next, Reply, ResponseHead, ResponseOrigin, Turn, Upstream,
};
use super::host::{CALL_MS, Host, MODES, Mode};
use super::script::{Does, Request, request, settled};
use super::world::{START, Terms, Wallet};
use crate::evm::Amount;
use crate::metrics::{FailureReason, LateResult, Stamp, TupleCounter, UnchargedReason};
use crate::payment::{Effect, Event, Fingerprint, Record, State};
use crate::protocol::{CallEnd, Operation};
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
    Answer(Box<Calling>),
    Upstream(Box<Upstream>),
    Client(Delivering),
}

/// A payment and its nonce.
struct Payment {
    path: &'static str,
    header: String,
    chain: u64,
    nonce: usize,
    fingerprint: Fingerprint,
}

/// The true history of one payment.
#[derive(Default)]
struct Truth {
    /// Number of reported successes that a request or the relay received.
    told: usize,
    /// Charges, as counted by the store and by the requests.
    charged: usize,
    stamped: usize,
    /// Responses that were released, and those that reached the client whole.
    begun: usize,
    served: usize,
    redeemed: usize,
    /// The bytes of every settle call.
    bodies: BTreeSet<Vec<u8>>,
}

/// The knowledge of chain and facilitator.
struct Books {
    random: Random,
    /// The payment that moved the money of a nonce.
    moved: Vec<Option<usize>>,
    /// Transactions under way that only the chain knows.
    under_way: BTreeSet<usize>,
    truth: Vec<Truth>,
}

struct World {
    host: Host,
    books: Books,
    waiting: Vec<(usize, Waiting)>,
    /// Number of requests whose worker died; they have no end.
    crashed: usize,
}

/// Two authorizations of each nonce. Some end early in the story, some after it.
fn payments() -> &'static [Payment] {
    static ALL: OnceLock<Vec<Payment>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = Vec::new();
        for nonce in 1..=8 {
            for (path, route, place) in [("/paid/a", 0, 0), ("/two", 2, 0), ("/two", 2, 1), ("/up/a", 3, 0)] {
                for later in [0, 60] {
                    let valid_before = START + 150 * u64::from(nonce) + later;
                    let terms = Terms { valid_before, ..Terms::of(route, place, nonce) };
                    let wallet = Wallet::new(1 + route as u8 * 3 + place as u8);
                    let header = wallet.pay(&terms);
                    let Next::Step(state) = Host::new().begin(&request(path).paying(&header)).next else {
                        panic!("no claim")
                    };
                    let Event::Claim(claim) = state.event() else { panic!("no claim") };
                    let fingerprint = claim.fingerprint;
                    let chain = terms.option.network.chain_id();
                    all.push(Payment { path, header, chain, nonce: all.len() / 2, fingerprint });
                }
            }
        }
        all
    })
}

// === impl Books ===

impl Books {
    /// The facilitator's action for a payment, and its reply.
    fn does(&mut self, which: usize, operation: Operation, body: &[u8]) -> Does {
        let Payment { nonce, chain, .. } = payments()[which];
        let before = self.moved[nonce];
        let trouble = self.random.below(14);
        if operation == Operation::Verify {
            return match trouble {
                0 => Does::TimesOut,
                1 => Does::Says(500, "{}".into()),
                2 => super::script::invalid("insufficient_funds"),
                3 | 4 if before.is_some() => super::script::invalid("invalid_exact_evm_nonce_already_used"),
                _ => super::script::valid(),
            };
        }
        self.truth[which].bodies.insert(body.to_vec());
        if trouble == 0 {
            return Does::NotSent;
        }
        if before.is_none() && trouble == 1 {
            return super::script::refuses("insufficient_funds");
        }
        if before.is_none() {
            match self.random.below(10) {
                0 => {}
                1 | 2 => drop(self.under_way.insert(which)),
                _ => self.moved[nonce] = Some(which),
            }
        }
        let moved = self.moved[nonce] == Some(which);
        match trouble {
            2 => Does::TimesOut,
            3 => Does::Cuts,
            4 => Does::Says(502, "<html>".into()),
            5 => super::script::pending("0xfeed"),
            6 if before.is_some() => super::script::refuses("invalid_exact_evm_nonce_already_used"),
            // This refusal is false only if it follows an earlier call.
            7 if before.is_some() => super::script::refuses("invalid_exact_evm_signature"),
            _ if moved => settled(chain, "0xfeed"),
            _ => Does::TimesOut,
        }
    }

    /// The chain mines a transaction under way.
    fn mine(&mut self) {
        if self.random.chance(20)
            && let Some(which) = self.under_way.pop_first()
        {
            self.moved[payments()[which].nonce].get_or_insert(which);
        }
    }
}

// === impl World ===

impl World {
    fn new(mode: Mode, seed: u64) -> Self {
        let truth = payments().iter().map(|_| Truth::default()).collect();
        let moved = vec![None; payments().len() / 2];
        let books = Books { random: Random(seed), moved, under_way: BTreeSet::new(), truth };
        Self { host: Host::of(mode), books, waiting: Vec::new(), crashed: 0 }
    }

    fn start(&mut self) {
        let nonce = self.books.random.below(payments().len() as u64 / 2) as usize;
        let which = 2 * nonce + usize::from(self.books.random.chance(20));
        let Payment { path, header, .. } = &payments()[which];
        let random = &mut self.books.random;
        let (request, pays): (Request, bool) = match random.below(12) {
            0 => (request(path), false),
            1 => (request(path).method("HEAD").paying(header), false),
            2 => (request(path).paying("junk"), false),
            3 => (request("/same-price").paying(header), true),
            4 => {
                (request(["/elsewhere", "/free/a", "/guarded/x", "/broken"][random.below(4) as usize]), false)
            }
            5 => (request(path).with("x-payment", header).with("upgrade", "websocket"), true),
            _ => (request(path).paying(header), true),
        };
        let turn = self.host.begin(&request);
        self.carry_out(which, pays, turn);
    }

    fn carry_out(&mut self, which: usize, pays: bool, mut turn: Turn) {
        loop {
            self.count(which, &turn.stamps);
            self.watch(which, |world| world.host.tell(&turn.notes));
            turn = match turn.next {
                Next::Reply(reply) => return self.answered(which, pays, &reply),
                Next::Forward(..) => return,
                Next::Step(state) => {
                    let event = state.event().clone();
                    let (answer, effects) = self.watch(which, |world| {
                        let (answer, effects, stamps) = world.host.step(state.key(), state.tuple(), event);
                        world.count(which, &stamps);
                        (answer, effects)
                    });
                    state.stepped(answer, &effects, self.host.now())
                }
                Next::Call(state) => return self.waiting.push((which, Waiting::Answer(state))),
                Next::Serve(_, state) => return self.waiting.push((which, Waiting::Upstream(state))),
                Next::Release(edits, delivering) => {
                    let receipt = edits.set.iter().any(|(name, _)| name == "payment-response");
                    let own = self.books.moved[payments()[which].nonce] == Some(which);
                    assert!(own || !receipt, "a receipt of no settlement");
                    if let Some(delivering) = delivering {
                        assert!(own && receipt, "served unpaid, or with another's settlement");
                        self.books.truth[which].begun += 1;
                        self.waiting.push((which, Waiting::Client(delivering)));
                    }
                    return;
                }
            };
        }
    }

    /// Checks that no answer asks a buyer to pay again whose money moved and who was not served.
    fn answered(&self, which: usize, pays: bool, reply: &Reply) {
        assert!(!(200..300).contains(&reply.status));
        let Truth { served, redeemed, .. } = self.books.truth[which];
        let moved = self.books.moved[payments()[which].nonce] == Some(which);
        if pays && moved && served == 0 && redeemed == 0 {
            let priced = reply.headers.iter().any(|(name, _)| name == "payment-required");
            let body = String::from_utf8_lossy(&reply.body);
            assert!(!priced && !matches!(reply.status, 402 | 412), "a price for what is paid: {body}");
            assert!(!body.contains("\"retriable\":true"), "another payment is safe, it says: {body}");
        }
    }

    fn count(&mut self, which: usize, stamps: &[Stamp]) {
        let charged = stamps.iter().filter(|stamp| matches!(stamp, Stamp::Charged(_))).count();
        self.books.truth[which].stamped += charged;
        self.host.counted.extend_from_slice(stamps);
    }

    /// Runs an action that steps this payment, and checks its effects.
    fn watch<T>(&mut self, which: usize, does: impl FnOnce(&mut Self) -> T) -> T {
        let (before, fetching) = (self.host.effects().len(), self.fetching());
        let done = does(self);
        // If no byte went out, the answer was not fetched.
        let now = self.fetching();
        if now.0 < fetching.0 && now.1 == fetching.1 {
            self.books.truth[which].redeemed -= 1;
        }
        for effect in &self.host.effects()[before..] {
            match effect {
                Effect::Charged => self.books.truth[which].charged += 1,
                Effect::Redeemed => self.books.truth[which].redeemed += 1,
                Effect::Contradicted(what) => panic!("{what}"),
                _ => {}
            }
        }
        done
    }

    /// Numbers of owed answers being fetched, and of delivered answers.
    fn fetching(&self) -> (usize, usize) {
        let records = self.host.records();
        let owed = |record: &&Record| record.redeemed && matches!(record.state, State::Owed { .. });
        let delivered = |record: &&Record| record.state == State::Delivered;
        (records.iter().filter(owed).count(), records.iter().filter(delivered).count())
    }

    /// Occasional events: a sweep, a temporary price, the reconciliation of a relay.
    fn now_and_then(&mut self) {
        if self.books.random.chance(5) {
            self.host.sweep();
        }
        if self.books.random.chance(5) {
            let amount = Amount::from_u64(1_000 + 500 * self.books.random.below(2));
            self.host.reload(|p| {
                p.routes[0].options[0].amount = amount;
                p.routes[1].options[0].amount = amount;
            });
        }
        if self.host.mode() == Mode::Relay && self.books.random.chance(10) {
            let before = self.host.relay.effects.len();
            let (books, now) = (&mut self.books, self.host.now());
            let mut settles = |record: &Record| {
                let which = payments().iter().position(|it| Some(it.fingerprint) == record.fingerprint);
                let does = books.does(which.unwrap(), Operation::Settle, &record.call);
                if is_success(&does) {
                    books.truth[which.unwrap()].told += 1;
                    books.truth[which.unwrap()].charged += 1;
                }
                does
            };
            self.host.relay.reconcile(&mut settles, now);
            assert!(
                !self.host.relay.effects[before..].iter().any(|it| matches!(it, Effect::Contradicted(_)))
            );
        }
    }

    fn end(&mut self, which: usize, abandoned: &Abandoned) {
        self.count(which, &abandoned.stamps);
        let stamps = self.watch(which, |world| world.host.tell(&abandoned.notes));
        self.count(which, &stamps);
    }

    /// Plays one event of one waiting request.
    fn step(&mut self) {
        let place = self.books.random.below(self.waiting.len() as u64) as usize;
        let (which, waiting) = self.waiting.swap_remove(place);
        self.host.now_ms += CALL_MS;
        self.books.mine();
        let now = self.host.now();
        match waiting {
            Waiting::Answer(state) if self.host.mode() == Mode::Relay => self.relay(which, state),
            Waiting::Answer(state) => {
                let call = state.call().clone();
                let does = self.books.does(which, call.operation, &call.body);
                if self.books.random.chance(2) {
                    // The worker dies, and the answer is lost.
                    self.crashed += 1;
                } else if self.books.random.chance(5) {
                    self.end(which, &state.abandoned());
                } else {
                    self.books.truth[which].told += usize::from(is_success(&does));
                    let turn = state.answered(does.end(), now);
                    self.carry_out(which, true, turn);
                }
            }
            Waiting::Upstream(state) => {
                if self.books.random.chance(5) {
                    return self.end(which, &state.abandoned());
                }
                let statuses = [200, 201, 204, 200, 200, 302, 404, 500, 101, 200];
                let status = statuses[self.books.random.below(10) as usize];
                let origin = match self.books.random.below(12) {
                    0 => ResponseOrigin::ProxyUnavailable,
                    1 => ResponseOrigin::ProxyTimeout,
                    _ => ResponseOrigin::Upstream,
                };
                let turn = state.response(&ResponseHead { status, headers: &[], origin }, now);
                self.carry_out(which, true, turn);
            }
            Waiting::Client(state) => {
                let broken = self.books.random.chance(20);
                self.books.truth[which].served += usize::from(!broken);
                let ended = state.ended(broken, now);
                self.end(which, &ended);
            }
        }
    }

    /// A call to the relay, which finishes its work even if no request waits.
    fn relay(&mut self, which: usize, state: Box<Calling>) {
        let now = self.host.now();
        let ends = self.books.random.below(100);
        if ends < 2 {
            let turn = state.answered(CallEnd::NotSent, now);
            return self.carry_out(which, true, turn);
        }
        let gone_first = (2..5).contains(&ends);
        let mut state = Some(state);
        let (call, claim) = state.as_ref().map(|state| (state.call().clone(), state.claim().1)).unwrap();
        if gone_first {
            let abandoned = state.take().unwrap().abandoned();
            self.end(which, &abandoned);
        }
        let word = self.watch(which, |world| {
            let (books, relay) = (&mut world.books, &mut world.host.relay);
            let mut facilitator = |operation, body: &[u8]| {
                let does = books.does(which, operation, body);
                books.truth[which].told += usize::from(operation == Operation::Settle && is_success(&does));
                does
            };
            relay.reply(&call, &claim, &mut facilitator, now)
        });
        let Some(state) = state else { return };
        match ends {
            5..=6 => self.crashed += 1,
            7..=11 => self.end(which, &state.abandoned()),
            12..=15 => {
                let turn = state.answered(CallEnd::TimedOut, now);
                self.carry_out(which, true, turn);
            }
            _ => {
                let body = word.body();
                let turn = state.answered(CallEnd::Reply { status: word.status(), body: &body }, now);
                self.carry_out(which, true, turn);
            }
        }
    }
}

/// Whether a settle call was answered with success.
fn is_success(does: &Does) -> bool {
    matches!(does, Does::Says(200, body) if body.contains(r#""success":true"#))
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
                    TupleCounter::ResolvedLate(LateResult::Settled) => "late",
                    TupleCounter::ResolvedLate(_) => panic!("nothing is refused late"),
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

/// Plays a world and checks the laws. Returns the numbers of payments served, redeemed and never known.
fn play(mode: Mode, seed: u64) -> [usize; 3] {
    let mut world = World::new(mode, seed);
    for _ in 0..220 {
        world.start();
        for _ in 0..world.books.random.below(7) {
            if !world.waiting.is_empty() {
                world.step();
            }
        }
        world.host.now_ms += world.books.random.below(9_000);
        world.now_and_then();
    }
    while !world.waiting.is_empty() {
        world.step();
    }
    let World { mut host, books, crashed, .. } = world;
    for (truth, payment) in books.truth.iter().zip(payments()) {
        let Payment { path, nonce, .. } = payment;
        let own = books.moved[*nonce].is_some_and(|which| core::ptr::eq(&payments()[which], payment));
        assert!(truth.served <= 1 && truth.begun <= 2, "{path}: {} whole of {}", truth.served, truth.begun);
        assert!(truth.redeemed <= 1, "{path}: redeemed {} times", truth.redeemed);
        assert_eq!(truth.charged, truth.told.min(1), "{path}: charged once where a settlement was reported");
        assert!(truth.stamped <= truth.charged, "{path}: counted {} times", truth.stamped);
        assert!(own || truth.charged + truth.begun + truth.redeemed == 0, "{path}: served unpaid");
        assert!(truth.bodies.len() <= 1, "{path}: the calls differ");
    }
    for authorizations in books.truth.chunks(2) {
        let charged: usize = authorizations.iter().map(|truth| truth.charged).sum();
        let begun = authorizations.iter().filter(|truth| truth.begun > 0).count();
        assert!(charged <= 1 && begun <= 1, "two authorizations of a nonce");
    }
    // The gauge is exactly the number of open settlements.
    assert_eq!(host.open(), host.records().iter().filter(|record| record.is_open()).count());
    host.now_ms += 2 * host.limits.retention * 1_000;
    host.sweep();
    assert_eq!(host.open(), host.records().iter().filter(|record| record.is_open()).count());
    let sums = sums(&host.counted, &host);
    let total = |name| sums.iter().filter(|((_, n), _)| *n == name).map(|(_, v)| *v).sum::<i64>();
    let effects = |wanted: Effect| host.effects().iter().filter(|effect| **effect == wanted).count();
    // Every payment ended in exactly one way, but for those whose worker died.
    let ends = total("failed") + total("verified") + total("upstream_failed");
    assert_eq!(total("presented"), ends + crashed as i64);
    if mode == Mode::Direct {
        assert_eq!(total("charged") as usize, effects(Effect::Charged));
        assert_eq!(total("expired") as usize, effects(Effect::NeverKnown));
    }
    // For each tuple, each verified payment was charged, or counted as not charged with its reason.
    for tuple in (0..4).map(TupleIndex) {
        let of = |name| sums.get(&(tuple, name)).copied().unwrap_or_default();
        assert_eq!(of("charged"), of("verified") - of("uncharged"), "{tuple:?}");
    }
    let served = books.truth.iter().map(|truth| truth.served).sum();
    [served, effects(Effect::Redeemed), effects(Effect::NeverKnown)]
}

#[test]
fn whatever_happens_nobody_is_served_unpaid_or_charged_twice_and_the_counters_add_up() {
    for mode in MODES {
        let mut sums = [0; 3];
        for seed in 1..=20 {
            let played = play(mode, 0x9e37_79b9 * seed);
            sums.iter_mut().zip(played).for_each(|(sum, one)| *sum += one);
        }
        let [served, redeemed, never_known] = sums;
        assert!(served > 100 && redeemed > 50, "{mode:?}: {sums:?}");
        // A relay asks until it knows the outcome.
        assert!(mode == Mode::Relay || never_known > 10, "{mode:?}: {sums:?}");
    }
}

#[test]
fn identity_i1_holds_for_each_offer_without_crashes() {
    for mode in MODES {
        let mut world = World::new(mode, 77);
        for _ in 0..1_000 {
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
            assert!(of("presented") > 80);
            missing += of("presented") - ends;
        }
        assert_eq!(missing, world.crashed as i64);
    }
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
        let status = host.play(&odd, &super::script::ok()).status();
        assert!(matches!(status, 400 | 402 | 403 | 404 | 501), "{status}");
    }
    let payment = super::world::payment(1);
    for _ in 0..3_000 {
        let text: Vec<u8> = (0..random.below(60)).map(|_| random.below(128) as u8).collect();
        let says = Does::Says(random.below(1_000) as u16, String::from_utf8(text).unwrap());
        let verified = random.chance(50);
        let valid = verified.then(super::script::valid);
        host.script(valid.into_iter().chain([says.clone(), says]));
        host.table.clear();
        let story = host.play(&request("/paid/a").paying(&payment), &super::script::ok());
        assert_eq!(story.status(), 503);
    }
}
