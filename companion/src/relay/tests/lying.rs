//! Whatever facilitators answer, proxies do and clocks show: a payment is charged once and served once, with one
//! redemption at most, and nobody is told that nothing was charged where something was.

use super::*;

/// What a facilitator says when it is asked to verify, and to settle.
const VERIFY: [&str; 10] = [
    "none",
    "none",
    "none",
    "none",
    "none",
    "http_500",
    "html_200",
    "garbage",
    "invalid:insufficient_funds",
    "reset",
];
const SETTLE: [&str; 22] = [
    "none",
    "none",
    "slow:10",
    "http_500",
    "http_429",
    "html_200",
    "garbage",
    "truncated",
    "cut_after_headers",
    "reset",
    "hang",
    "redirect_308:http://127.0.0.1:1",
    "wrong_types",
    "invalid:insufficient_funds",
    "invalid:invalid_exact_evm_nonce_already_used",
    "unknown_code",
    "pending",
    "pending_then_success",
    "success_but_hang",
    "success_503",
    "settled_but:invalid_exact_evm_transaction_failed",
    "settled_but:unexpected_error",
];
const PAYMENTS: u8 = 3;
const DEADLINES: Deadlines =
    Deadlines { verify: Duration::from_millis(150), settle: Duration::from_millis(60) };

/// What the buyer of a payment got.
#[derive(Debug, Default, Clone)]
struct Buyer {
    /// Requests that were served, or were begun by a proxy that died.
    services: u32,
    /// A proxy hung up that may have been given it.
    may_have_had: bool,
    /// One of them is being served.
    serving: Option<u8>,
    delivered: bool,
}

struct World {
    stage: Stage,
    relays: [Relay; 2],
    seed: u64,
    random: u64,
    holders: u8,
    buyers: Vec<Buyer>,
    log: Vec<String>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let stage = Stage::on(Database::sqlite().await, DEADLINES).await;
        let relays = [stage.relay.clone(), stage.second().await];
        let buyers = vec![Buyer::default(); usize::from(PAYMENTS)];
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { stage, relays, seed, random, holders: 0, buyers, log: Vec::new() }
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap() % bound
    }

    fn relay(&mut self) -> Relay {
        let place = self.below(2);
        self.relays[place].clone()
    }

    async fn moved(&self, nonce: u8) -> bool {
        self.stage.dev.settled(&key_of(&payment(nonce)).nonce.to_string()).await > 0
    }

    /// Asks, and hangs up now and then.
    async fn ask(&mut self, path: &str, holder: u8, nonce: u8) -> Option<RelayReply> {
        let relay = self.relay();
        let patience = if self.below(5) == 0 { self.below(40) } else { 5_000 };
        let patience = Duration::from_millis(u64::try_from(patience).unwrap());
        let (by, body) = (By::holder(holder), payment(nonce));
        let reply = tokio::time::timeout(patience, ask(&relay, path, &by, &body)).await.ok();
        self.log.push(format!("{path} {nonce} by {holder}: {reply:?}"));
        reply
    }

    async fn act(&mut self) {
        match self.below(10) {
            0..6 => {
                let nonce = u8::try_from(self.below(usize::from(PAYMENTS))).unwrap();
                self.buy(nonce).await;
            }
            6 => self.time_passes(100),
            7 => self.time_passes(3_000),
            8 if self.below(3) == 0 => {
                self.time_passes(700_000);
                // Every lease is over: whoever was being served is not any more.
                self.buyers.iter_mut().for_each(|buyer| buyer.serving = None);
            }
            _ => self.reconcile().await,
        }
    }

    fn time_passes(&mut self, ms: u64) {
        self.log.push(format!("{ms} ms go by"));
        self.stage.pass(Duration::from_millis(ms));
    }

    async fn reconcile(&mut self) {
        self.fail().await;
        let (relay, permits) = (self.relay(), Arc::new(tokio::sync::Semaphore::new(8)));
        relay.round(&permits, &mut None).await.unwrap();
        let _ = permits.acquire_many(8).await.unwrap();
        self.log.push("reconciled".to_owned());
    }

    /// Chooses what the facilitator says from here on.
    async fn fail(&mut self) {
        let (verify, settle) = (VERIFY[self.below(VERIFY.len())], SETTLE[self.below(SETTLE.len())]);
        self.log.push(format!("verify {verify}, settle {settle}"));
        self.stage.dev.order(&json!({ "verify": verify, "settle": settle })).await;
    }

    async fn buy(&mut self, nonce: u8) {
        self.fail().await;
        self.holders += 1;
        let holder = self.holders;
        match self.ask("/verify", holder, nonce).await {
            Some(RelayReply::Valid) => match self.below(8) {
                0 => self.end(holder, nonce, End::Unsent).await,
                // The proxy dies.
                1 => {}
                _ => match self.ask("/settle", holder, nonce).await {
                    Some(RelayReply::Settled { .. }) => self.serve(holder, nonce).await,
                    Some(reply) => self.not_served(nonce, reply).await,
                    None => {}
                },
            },
            Some(RelayReply::Redeem { .. } | RelayReply::Settled { .. }) => self.serve(holder, nonce).await,
            Some(reply) => self.not_served(nonce, reply).await,
            None => self.buyers[usize::from(nonce)].may_have_had = true,
        }
    }

    async fn serve(&mut self, holder: u8, nonce: u8) {
        let ending = self.below(6);
        let buyer = &mut self.buyers[usize::from(nonce)];
        assert_eq!(buyer.serving, None, "served to two at once");
        assert!(!buyer.delivered, "served again");
        buyer.services += 1;
        buyer.serving = Some(holder);
        match ending {
            0..3 => {
                buyer.delivered = true;
                self.end(holder, nonce, End::Whole).await;
            }
            3 => self.end(holder, nonce, End::Broken).await,
            4 => {
                // No byte went out.
                buyer.services -= 1;
                self.end(holder, nonce, End::Unsent).await;
            }
            _ => {}
        }
    }

    async fn end(&mut self, holder: u8, nonce: u8, end: End) {
        self.log.push(format!("{nonce} by {holder}: {end:?}"));
        let buyer = &mut self.buyers[usize::from(nonce)];
        if buyer.serving == Some(holder) {
            buyer.serving = None;
        }
        let relay = self.relay();
        assert_eq!(over(&relay, holder, end, &payment(nonce)).await, 204);
        // News is not waited for, so a buyer of a test that is faster would be told to wait.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    async fn not_served(&mut self, nonce: u8, reply: RelayReply) {
        let buyer = self.buyers[usize::from(nonce)].clone();
        match reply {
            RelayReply::Open { .. } | RelayReply::InFlight => {}
            RelayReply::Used => {
                assert!(buyer.services > 0 || buyer.may_have_had, "used, and nobody was served");
            }
            RelayReply::Refused { .. }
            | RelayReply::Invalid { .. }
            | RelayReply::Malformed { .. }
            | RelayReply::Unreachable
            | RelayReply::Busy
            | RelayReply::NoVerdict
            | RelayReply::NotBegun => {
                assert!(!self.moved(nonce).await, "told that nothing was charged: {reply:?}");
            }
            reply => panic!("{reply:?}"),
        }
    }

    /// The facilitator tells the truth from here on, and everything is asked about.
    async fn settle_down(&mut self) {
        self.stage.dev.order(&json!({ "verify": "none", "settle": "none" })).await;
        // Calls under way are over.
        tokio::time::sleep(DEADLINES.settle * 3).await;
        for _ in 0..6 {
            self.time_passes(700_000);
            let (relay, permits) = (self.relay(), Arc::new(tokio::sync::Semaphore::new(8)));
            relay.round(&permits, &mut None).await.unwrap();
            let _ = permits.acquire_many(8).await.unwrap();
        }
        let (charged, moved) = self.stage.charges().await;
        assert_eq!(charged, u64::try_from(moved).unwrap(), "what moved is in the books, once");
        self.buyers.iter_mut().for_each(|buyer| buyer.serving = None);
        for nonce in 0..PAYMENTS {
            let Buyer { services, may_have_had, .. } = self.buyers[usize::from(nonce)];
            let unserved = services == 0 && !may_have_had;
            if unserved && self.moved(nonce).await {
                let reply = ask(&self.relays[0], "/verify", &By::holder(250), &payment(nonce)).await;
                assert!(serves(&reply), "charged and never served: {reply:?}");
            }
        }
        for buyer in &self.buyers {
            assert!(buyer.services <= 2, "{buyer:?}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the world of seed {}:\n{}", self.seed, self.log.join("\n"));
        }
    }
}

#[tokio::test]
async fn whatever_a_facilitator_says_a_payment_is_charged_once_and_served_once() {
    let worlds = std::env::var("FAREBOX_WORLDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    for seed in 1..=worlds {
        let mut world = World::new(seed).await;
        for _ in 0..40 {
            world.act().await;
        }
        world.settle_down().await;
    }
}
