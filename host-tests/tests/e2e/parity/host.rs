//! One host, and the results of the cases on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Postgres, Shell, Stack};
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::case::{Act, Asked, Case, Expected, Ledger, NewPayment, Pay, Step};
use super::form::has_form;
use super::outcome::{Outcome, of_ledger};
use crate::accounting::shop::{BASIC, PRICING, TUPLES};
use crate::accounting::tally::{Key, PREFIX, Tally, series};
use crate::common::{Answer, Request, exchange};
use crate::support::{now, until};

/// How long a number may take to arrive.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long it may take the companion to find out about an open settlement.
const FINDING_OUT: Duration = Duration::from_secs(30);
/// A look reads a whole page of metrics, or starts a program that reads the ledger.
const LOOK: Duration = Duration::from_millis(150);
/// How long payments are good for, seconds.
const LIFETIME: u64 = 600;
/// Seconds before its end in which a payment is not taken any more.
const MIN_REMAINING: u64 = 6;
/// Bytes for a connection that has switched protocols.
const SAID: &[u8] = b"ping, pong";

/// A host under test.
pub(super) struct Host {
    pub(super) shell: Shell,
    stack: Stack,
    database: Option<Postgres>,
    facilitator: DevFacilitator,
    /// The expected metrics.
    tally: Tally,
    /// Terms by route.
    offers: BTreeMap<&'static str, Vec<Value>>,
    /// The start of the run. Times of payments are relative to it and nonces are numbered, so payments are the
    /// same on every host.
    began: u64,
    payments: u64,
    latest: Option<Value>,
    /// Number of the latest payment.
    number: u64,
    /// The request that was begun.
    begun: Option<JoinHandle<Answer>>,
    pricing: String,
    /// Whether the database is unreachable, so that a companion shows its last counts.
    is_blind: bool,
    pub(super) outcomes: Vec<Outcome>,
    /// The differences that were found.
    pub(super) problems: Vec<String>,
}

// === impl Host ===

impl Host {
    pub(super) async fn start(options: Options, database: Option<Postgres>, began: u64) -> Self {
        let shell = options.shell;
        let stack = Stack::start(options).await.expect("the stack starts");
        Self {
            shell,
            facilitator: DevFacilitator::of(&stack),
            stack,
            database,
            tally: Tally::new(&TUPLES),
            offers: BTreeMap::new(),
            began,
            payments: 0,
            latest: None,
            number: 0,
            begun: None,
            pricing: PRICING.to_owned(),
            is_blind: false,
            outcomes: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Plays every case, in their order.
    pub(super) async fn play(mut self, cases: &[Case]) -> Self {
        for case in cases {
            self.run(case).await;
        }
        if let Err(error) = self.stack.check_alive() {
            self.problems.push(format!("{:?}: {error:#}", self.shell));
        }
        self
    }

    async fn run(&mut self, case: &Case) {
        for step in &case.before {
            self.prepare(step).await;
        }
        let asked = &case.request;
        let bytes = self.bytes(asked).await;
        let (hits, operations) = (self.hits(), self.facilitator.operations().await);
        let answer = self.act(case.act, &asked.path, bytes, &operations).await;
        let own_answer = case.own_answer(self.shell);
        if own_answer.is_none() {
            (case.expected.counted)(&mut self.tally, now());
        }
        // Envoy counts during a request, the gateway at its end.
        if case.act == if self.shell == Shell::Envoy { Act::Begin } else { Act::End } {
            self.tally.presented(BASIC);
            self.tally.call("verify", "success");
        }
        if !self.is_blind {
            let patience = if case.act == Act::Wait { FINDING_OUT } else { PATIENCE };
            self.numbers_agree(&case.name, patience).await;
        }

        let mut outcome = answer.as_ref().map(Outcome::of).unwrap_or_default();
        if own_answer.is_some() {
            outcome = Outcome { status: outcome.status, ..Outcome::default() };
        }
        outcome.reached = difference(&self.hits(), &hits);
        if case.expected.asked.is_some() {
            outcome.asked = self.facilitator.operations().await.split_off(operations.len());
        }
        if case.expected.ledger != Ledger::Unasked && self.database.is_none() {
            let patience = if case.act == Act::Wait { FINDING_OUT } else { PATIENCE };
            let entry = self.in_ledger(case.expected.ledger, patience).await;
            outcome.ledger = entry.map(|entry| of_ledger(&entry));
        }
        self.judge(case, answer.as_ref(), &outcome);
        self.outcomes.push(outcome);
    }

    // --- before a request ---

    async fn prepare(&mut self, step: &Step) {
        match step {
            Step::Fault { endpoint, mode, count, then } => {
                self.facilitator.fail_then(endpoint, mode, *count, then).await;
            }
            Step::Closed => {
                let authorization = &self.latest.as_ref().expect("a case before this one paid")["payload"];
                let end = authorization["authorization"]["validBefore"].as_str().expect("a text");
                let end: u64 = end.parse().expect("a number");
                until("the window of the payment is closed", async || now() + MIN_REMAINING > end).await;
            }
            Step::Pricing(change) => {
                self.pricing = change(&self.pricing);
                let before = self.generation().await;
                self.stack.rewrite_pricing(&self.pricing).expect("the file can be written");
                until("the companion has new rules", async || self.generation().await > before).await;
                self.stack.ready().await.expect("the new rules are enforced");
            }
            Step::BrokenPricing(text) => {
                self.stack.rewrite_pricing(text).expect("the file can be written");
                until("the companion has told of it", async || {
                    let page = self.stack.metrics().await.expect("the companion serves metrics");
                    let name = format!("{PREFIX}config_last_reload_successful");
                    page.sum(&name, &[("source", "file")]).expect("an integer") == 0
                })
                .await;
            }
            Step::Ledger { there } => {
                self.is_blind = !there;
                let database = self.database.as_mut().expect("the stage has a database");
                if *there {
                    database.start_again().expect("it starts again")
                } else {
                    database.stop()
                }
                let (stack, ready) = (&self.stack, format!("{}/readyz", self.stack.companion_url()));
                until("the companion knows of its ledger", async || {
                    let answer = stack.client().get(&ready).send().await.expect("the companion answers");
                    answer.status().is_success() == *there
                })
                .await;
            }
        }
    }

    async fn generation(&self) -> u64 {
        let status = self.stack.status().await.expect("the companion answers");
        status["config_generation"].as_u64().expect("a number")
    }

    // --- the request ---

    async fn bytes(&mut self, asked: &Asked) -> Vec<u8> {
        let mut request = Request::new(asked.method, &asked.path);
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        if let Some(length) = asked.body {
            request = request.header("content-length", length.to_string());
        }
        match &asked.payment {
            None => {}
            Some(pay @ (Pay::New(new) | Pay::Rival(new))) => {
                if matches!(pay, Pay::New(_)) {
                    self.payments += 1;
                    self.number = self.payments;
                }
                let payment = self.sign(new).await;
                for _ in 0..new.copies {
                    request = request.header(new.header, header_value(&payment));
                }
                if matches!(pay, Pay::New(_)) {
                    self.latest = Some(payment);
                }
            }
            Some(Pay::Again(change)) => {
                let mut payment = self.latest.clone().expect("a case before this one paid");
                change(&mut payment);
                request = request.header("payment-signature", header_value(&payment));
            }
        }
        let mut bytes = request.bytes();
        bytes.extend(std::iter::repeat_n(b'b', asked.body.unwrap_or(0)));
        bytes
    }

    async fn sign(&mut self, new: &NewPayment) -> Value {
        let route = new.goods.route;
        if !self.offers.contains_key(route) {
            let challenge = self.stack.challenge(&new.goods.path("")).await.expect("it is for sale");
            self.tally.challenged(new.goods.primary);
            self.offers.insert(route, challenge["accepts"].as_array().expect("a list").clone());
        }
        let offer = &self.offers[route][new.goods.option];
        let (mut signed, mut accepted) = (offer.clone(), offer.clone());
        (new.signed)(&mut signed);
        (new.accepted)(&mut accepted);
        let mut window = Window::numbered(self.number, self.began, LIFETIME);
        (new.window)(&mut window);
        let payer = new.signer.map_or_else(Wallet::development, Wallet::numbered);
        let mut payment = if new.version == 1 {
            payer.pay_v1(&signed, "base-sepolia", window).expect("the offer can be paid")
        } else {
            payer.pay_v2(&signed, window).expect("the offer can be paid")
        };
        if new.version == 2 {
            payment["accepted"] = accepted;
        }
        (new.spoilt)(&mut payment);
        payment
    }

    async fn act(&mut self, act: Act, path: &str, bytes: Vec<u8>, asked: &[String]) -> Option<Answer> {
        let to = self.stack.proxy_address();
        let send = |bytes: Vec<u8>| tokio::task::spawn_blocking(move || exchange(to, &bytes));
        match act {
            Act::Ask => Some(send(bytes).await.expect("the request came to an end")),
            Act::Begin => {
                let before = self.hits_of(path);
                self.begun = Some(send(bytes));
                until("the upstream has the request", async || self.hits_of(path) > before).await;
                None
            }
            Act::End => {
                self.stack.origin().expect("the stack has its own origin").hits().let_go(path);
                let begun = self.begun.take().expect("a request was begun");
                Some(begun.await.expect("the request came to an end"))
            }
            Act::LeaveAt(operation) => {
                let count = |all: &[String]| all.iter().filter(|made| *made == operation).count();
                let stream = begin(to, bytes).await;
                until("the moment to leave has come", async || {
                    count(&self.facilitator.operations().await) > count(asked)
                })
                .await;
                drop(stream);
                None
            }
            Act::LeaveAtUpstream => {
                let before = self.hits_of(path);
                let stream = begin(to, bytes).await;
                until("the moment to leave has come", async || self.hits_of(path) > before).await;
                drop(stream);
                None
            }
            Act::Talk => {
                let talk = move || crate::common::talk(to, &bytes, SAID);
                Some(tokio::task::spawn_blocking(talk).await.expect("the request came to an end"))
            }
            Act::Wait => None,
        }
    }

    // --- what came of it ---

    fn hits(&self) -> BTreeMap<String, u64> {
        self.stack.origin().expect("the stack has its own origin").hits().all()
    }

    fn hits_of(&self, path: &str) -> u64 {
        self.stack.origin().expect("the stack has its own origin").hits().of(path)
    }

    /// Waits until every series of every family has its expected value. A difference is recorded, and the real
    /// value is taken, so that a mistake is reported once.
    async fn numbers_agree(&mut self, name: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let differing = self.differing().await;
            if differing.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                for (key, seen, expected) in differing {
                    let labels: Vec<_> = key.1.values().map(String::as_str).collect();
                    self.problem(name, &format!("{} {labels:?}: {seen:?}, not {expected:?}", key.0));
                    self.tally.take(key, seen);
                }
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn differing(&self) -> Vec<(Key, Option<u128>, Option<u128>)> {
        let page = series(&self.stack.metrics().await.expect("the companion serves metrics"));
        let families: BTreeSet<&str> = self.tally.values().keys().map(|(name, _)| name.as_str()).collect();
        let seen: BTreeMap<&Key, u128> = page
            .iter()
            .filter(|(key, _)| families.contains(key.0.as_str()))
            .map(|(key, value)| (key, value.parse().expect("an integer")))
            .collect();
        let keys: BTreeSet<&Key> = seen.keys().copied().chain(self.tally.values().keys()).collect();
        keys.into_iter()
            .map(|key| (key.clone(), seen.get(key).copied(), self.tally.values().get(key).copied()))
            .filter(|(_, seen, expected)| seen != expected)
            .collect()
    }

    /// The latest payment, if the ledger has it. The ledger gets the end of a request a moment later.
    async fn in_ledger(&self, expected: Ledger, patience: Duration) -> Option<Value> {
        let payload = &self.latest.as_ref()?["payload"];
        let nonce = match payload["permit2Authorization"]["nonce"].as_str() {
            Some(number) => format!("0x{:064x}", number.parse::<u128>().expect("a number")),
            None => payload["authorization"]["nonce"].as_str()?.to_owned(),
        };
        let deadline = Instant::now() + patience;
        loop {
            let entries = self.stack.ledger().expect("the ledger can be read");
            let entry = entries.into_iter().find(|entry| entry["nonce"] == nonce.as_str());
            let is_expected = match expected {
                Ledger::Unasked => true,
                Ledger::Free => entry.is_none(),
                Ledger::Has(state) => entry.as_ref().is_some_and(|entry| entry["state"] == state),
            };
            if is_expected || Instant::now() > deadline {
                return entry;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn judge(&mut self, case: &Case, answer: Option<&Answer>, outcome: &Outcome) {
        let mut wrong = Vec::new();
        if let Some(status) = case.own_answer(self.shell) {
            if outcome.status != status || !outcome.reached.is_empty() {
                wrong.push(format!("status {}, not {status}, {:?}", outcome.status, outcome.reached));
            }
            return wrong.into_iter().for_each(|what| self.problem(&case.name, &what));
        }
        let Expected { status, form, receipt, reached, asked, ledger, checks, .. } = &case.expected;
        if let Some(answer) = answer {
            let summary = answer.summary();
            if answer.status != *status {
                wrong.push(format!("status {}, not {status}\n{summary}", answer.status));
            } else if let Err(what) = has_form(answer, *form) {
                wrong.push(format!("{what}\n{summary}"));
            }
            if answer.receipt()["success"].as_bool() != *receipt {
                wrong.push(format!("receipt {}, not {receipt:?}", answer.receipt()));
            }
            for (number, check) in checks.iter().enumerate() {
                if !check(answer) {
                    wrong.push(format!("check {number} fails\n{summary}"));
                }
            }
        }
        let total: u64 = outcome.reached.values().sum();
        if total != *reached {
            wrong.push(format!("the upstream got {:?}, not {reached}", outcome.reached));
        }
        if asked.as_ref().is_some_and(|asked| outcome.asked != *asked) {
            wrong.push(format!("the facilitator was asked {:?}, not {asked:?}", outcome.asked));
        }
        let state = outcome.ledger.as_ref().and_then(|entry| entry["state"].as_str());
        let is_right = match (ledger, state) {
            (Ledger::Unasked, _) => true,
            (Ledger::Free, state) => state.is_none(),
            (Ledger::Has(expected), state) => self.database.is_some() || state == Some(expected),
        };
        if !is_right {
            wrong.push(format!("the ledger has {state:?}, not {ledger:?}"));
        }
        for what in wrong {
            self.problem(&case.name, &what);
        }
    }

    fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(format!("{:?}, {name}: {what}", self.shell));
    }
}

/// Sends a request and keeps the connection.
async fn begin(to: std::net::SocketAddr, bytes: Vec<u8>) -> std::net::TcpStream {
    let begun = tokio::task::spawn_blocking(move || crate::common::begin(to, &bytes));
    begun.await.expect("a fresh connection takes a request")
}

fn difference(after: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = after.iter().map(|(path, count)| (path, count - before.get(path).unwrap_or(&0)));
    more.filter(|(_, more)| *more > 0).map(|(path, more)| (path.clone(), more)).collect()
}
