//! What may happen next.

use farebox_core::payment::{Answer, End, Event, Record, Resolution, Step as Stepped};
use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _, Property};

use crate::cast::{Payment, Tick};
use crate::fault::Fault;
use crate::ledger::{LEASES, Life, RETENTION_TICKS, holder, now, transaction};
use crate::property::{self, Breach, retention_seconds};
use crate::state::{ASKERS, Came, REQUESTS, Request, Step, Task, Truth, Word, World};

/// The world, with a fault or without.
#[derive(Debug, Clone)]
pub struct Model {
    /// The deliberate fault.
    pub fault: Option<Fault>,
    /// The size of the world.
    pub bounds: Bounds,
}

/// Limits on what happens in a run.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Name of the world.
    pub name: &'static str,
    /// The possible payments of each request, with the number of their terms.
    pub requests: Vec<Vec<(Payment, u8)>>,
    /// Steps of time. Leases last one; windows two or three.
    pub ticks: u8,
    /// Crashes, lost messages and lost acknowledgements.
    pub mishaps: u8,
    /// Questions of the reconciliation.
    pub asks: u8,
    /// Resolutions by an operator.
    pub resolutions: u8,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the line above each says what its members are")]
pub enum Action {
    /// A request comes to its proxy, which asks its companion.
    Start { request: usize, payment: Payment, terms: u8 },
    /// A companion's transaction is committed. `acknowledged`: the companion learns of the commit. `notices`:
    /// it sees that its proxy no longer waits.
    Write { request: usize, acknowledged: bool, notices: bool },
    /// The facilitator answers a verification.
    Judge { request: usize, verdict: Verdict },
    /// The chain moves the money of a call under way.
    Move(Payment),
    /// The facilitator answers a settlement.
    Answer { request: usize, came: Came },
    /// The reply of the relay reaches the proxy, or finds no waiting proxy. `notices`: the relay sees that.
    Reply { request: usize, notices: bool },
    /// The reply of the relay is lost.
    LoseReply { request: usize },
    /// The proxy or its client stops waiting.
    GiveUp { request: usize },
    /// The proxy continues without a reply.
    GoOn { request: usize },
    /// The upstream answered: the proxy has the payment settled.
    Settle { request: usize },
    /// The upstream failed, or the client left.
    Fail { request: usize },
    /// The answer ends.
    Finish { request: usize, end: End },
    /// The report of the end arrives.
    Report { request: usize },
    /// The report of the end is lost.
    LoseReport { request: usize },
    /// A proxy dies.
    CrashProxy(u8),
    /// A companion dies.
    CrashCompanion(u8),
    /// A reconciliation begins a call.
    Ask { companion: u8, key: usize, acknowledged: bool },
    /// An operator has looked at the chain.
    Resolve { key: usize, settled: bool },
    /// A record is dropped after its retention.
    Sweep { key: usize },
    /// Time passes.
    Tick,
}

/// A facilitator's verdict about a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Good.
    Valid,
    /// Not good.
    Invalid,
    /// No verdict.
    Silent,
}

// === impl Bounds ===

impl Bounds {
    /// The worlds that are explored completely in about a minute.
    pub fn small() -> Vec<Self> {
        vec![Self::nonce(), Self::operator(), Self::purchase()]
    }

    /// Larger ones, for a machine that has the memory.
    pub fn large() -> Vec<Self> {
        use Payment::{Good, Other};
        let twice = Self { name: "everything twice", ticks: 4, mishaps: 2, resolutions: 1, ..Self::nonce() };
        let third = vec![(Good, 0), (Other, 1)];
        let mut three = Self { name: "three requests", resolutions: 1, ..Self::nonce() };
        three.requests.push(third);
        vec![twice, three]
    }

    /// One nonce: the buyer's payment, and a second try of the buyer or a payment of an adversary.
    pub fn nonce() -> Self {
        use Payment::{Good, Junk, Other};
        Self {
            name: "one nonce",
            requests: vec![vec![(Good, 0)], vec![(Good, 0), (Good, 1), (Other, 1), (Junk, 0)]],
            ticks: 3,
            mishaps: 1,
            asks: 1,
            resolutions: 0,
        }
    }

    /// The same with an operator, who may be wrong, instead of a reconciliation.
    pub fn operator() -> Self {
        Self { name: "an operator", asks: 0, resolutions: 1, ..Self::nonce() }
    }

    /// Two nonces for one purchase.
    pub fn purchase() -> Self {
        use Payment::{Good, Second};
        let requests = vec![vec![(Good, 0)], vec![(Second, 0), (Good, 0)]];
        Self { name: "one purchase", requests, ..Self::nonce() }
    }
}

// === impl Model ===

impl Model {
    /// The machine, with the fault if there is one.
    pub(crate) fn step_of(&self, record: Option<Record>, event: Event, tick: Tick) -> Stepped {
        Fault::step(self.fault, record, event, &LEASES, now(tick))
    }

    fn request_actions(&self, world: &World, number: usize, actions: &mut Vec<Action>) {
        let request = number;
        let known = &world.requests[number];
        let mishap = world.mishaps > 0;
        match known.step {
            Step::Idle => {}
            Step::Verifying | Step::Settling => actions.push(Action::GiveUp { request }),
            Step::Upstream => actions.extend([Action::Settle { request }, Action::Fail { request }]),
            Step::Answering => {
                let ends = [End::Whole, End::Broken, End::Unsent, End::Unheard];
                actions.extend(ends.map(|end| Action::Finish { request, end }));
            }
            Step::Reporting(_) => {
                actions.push(Action::Report { request });
                actions.extend(mishap.then_some(Action::LoseReport { request }));
            }
            Step::Done => {}
        }
        match known.task {
            Task::None => {
                actions.extend((known.step == Step::Verifying).then_some(Action::GoOn { request }));
            }
            Task::Verify => {
                let verdicts = [Verdict::Valid, Verdict::Invalid, Verdict::Silent];
                let possible = verdicts
                    .into_iter()
                    .filter(|verdict| *verdict != Verdict::Valid || known.payment != Payment::Junk);
                actions.extend(possible.map(|verdict| Action::Judge { request, verdict }));
            }
            Task::Call { epoch, body } => {
                let moved = world.moved[body.payment.key()] == Some(body.payment);
                actions.push(Action::Answer { request, came: Came::Unknown });
                actions.push(Action::Answer { request, came: Came::Refused });
                if moved {
                    actions.push(Action::Answer { request, came: Came::Settled });
                }
                if !moved || epoch > 1 {
                    actions.push(Action::Answer { request, came: Came::NotSent });
                }
            }
            Task::Reply(word) => {
                actions.push(Action::Reply { request, notices: true });
                if known.waits() {
                    actions.extend(mishap.then_some(Action::LoseReply { request }));
                } else if matches!(word, Word::Valid | Word::Serve) {
                    actions.push(Action::Reply { request, notices: false });
                }
            }
            Task::NoteEnd { .. } if !known.waits() && request < REQUESTS => {
                for notices in [true, false] {
                    actions.push(Action::Write { request, acknowledged: true, notices });
                    if mishap {
                        actions.push(Action::Write { request, acknowledged: false, notices });
                    }
                }
            }
            Task::Claim
            | Task::NoteVerified
            | Task::NoteRefused { .. }
            | Task::Begin
            | Task::NoteEnd { .. }
            | Task::NoteUnsent => {
                actions.push(Action::Write { request, acknowledged: true, notices: false });
                if mishap {
                    actions.push(Action::Write { request, acknowledged: false, notices: false });
                }
            }
        }
    }

    fn start(&self, world: &mut World, number: usize, payment: Payment, terms: u8) {
        let proxy = (number % 2) as u8;
        let (step, task) = (Step::Verifying, Task::Claim);
        world.requests[number] = Request { payment, terms, proxy, companion: proxy, step, task };
    }

    fn judge(&self, world: &mut World, number: usize, verdict: Verdict) {
        let payment = world.requests[number].payment;
        world.truth_mut(payment).vouched |= verdict == Verdict::Valid;
        world.requests[number].task = match verdict {
            Verdict::Valid => Task::NoteVerified,
            Verdict::Invalid => Task::NoteRefused { says: Word::Priced },
            Verdict::Silent => Task::NoteRefused { says: Word::Unpriced },
        };
    }

    fn settle(&self, world: &mut World, number: usize) {
        let request = &mut world.requests[number];
        // The proxy may use another companion by now.
        request.companion = 1 - request.proxy;
        (request.step, request.task) = (Step::Settling, Task::Begin);
        if self.fault == Some(Fault::CalledBeforeCommit) {
            let payment = request.payment;
            world.truth_mut(payment).out += 1;
        }
    }

    fn answer(&self, world: &mut World, number: usize, came: Came) {
        let Task::Call { epoch, body } = world.requests[number].task else { return };
        if matches!(came, Came::Refused | Came::NotSent) {
            let out = &mut world.truth_mut(body.payment).out;
            *out = out.saturating_sub(1);
        }
        world.requests[number].task = Task::NoteEnd { epoch, body, came };
        if self.fault == Some(Fault::ToldBeforeCommit) && world.requests[number].waits() {
            match came {
                Came::Settled => {
                    self.check_served(world, number);
                    world.requests[number].step = Step::Answering;
                }
                Came::Refused => {
                    self.check_priced(world, body.payment);
                    world.requests[number].step = Step::Done;
                }
                Came::Unknown | Came::NotSent => {}
            }
        }
    }

    fn reply(&self, world: &mut World, number: usize, notices: bool) {
        let request = &mut world.requests[number];
        let Task::Reply(word) = request.task else { return };
        if request.waits() {
            request.task = Task::None;
            request.step = match word {
                Word::Valid => Step::Upstream,
                Word::Serve => Step::Answering,
                Word::Priced | Word::Unpriced => Step::Done,
            };
        } else {
            let holds = matches!(word, Word::Valid | Word::Serve);
            request.task = if holds && notices { Task::NoteUnsent } else { Task::None };
        }
    }

    fn report(&self, world: &mut World, number: usize) {
        let request = world.requests[number];
        let Step::Reporting(end) = request.step else { return };
        self.write(world, request.payment.key(), Event::Over(holder(number as u8), end));
        world.truth_mut(request.payment).answered |= end == End::Whole;
        world.requests[number].step = Step::Done;
    }

    fn ask(&self, world: &mut World, companion: u8, key: usize, acknowledged: bool) {
        let Some(entry) = world.ledger[key] else { return };
        let slot = REQUESTS + usize::from(companion);
        world.asks += 1;
        let asker = 100 + world.asks;
        let step = self.write(world, key, Event::Ask(holder(asker)));
        if let (Answer::Call { epoch, call, .. }, true) = (step.answer, acknowledged) {
            world.requests[slot] = Request {
                payment: entry.payment,
                terms: entry.terms,
                proxy: asker,
                companion,
                ..Request::DONE
            };
            self.call(world, slot, epoch, &call, Some(entry));
        }
    }

    fn resolve(&self, world: &mut World, key: usize, settled: bool) {
        let Some(entry) = world.ledger[key] else { return };
        world.resolutions -= 1;
        let resolution = if settled {
            Resolution::Settled { transaction: transaction(entry.payment) }
        } else {
            Resolution::Refused
        };
        let is_right = self.is_so(world, key, settled);
        self.write(world, key, Event::Resolve(resolution));
        if settled && world.ledger[key].is_some_and(|entry| entry.is_charged()) {
            world.truth_mut(entry.payment).proven = true;
        }
        if !is_right && world.ledger[key].is_none() {
            world.mishaps -= 1;
            world.truth_mut(entry.payment).denied = true;
        }
    }

    fn sweep(&self, world: &mut World, key: usize) {
        let Some(entry) = world.ledger[key] else { return };
        self.write(world, key, Event::Sweep { retention: retention_seconds() });
        let was_money = entry.is_charged() || entry.life == Life::Unknown;
        if world.ledger[key].is_none() && was_money && world.tick > entry.since + RETENTION_TICKS {
            world.truth_mut(entry.payment).forgotten = true;
        }
    }

    fn moves(&self, world: &mut World, payment: Payment) {
        world.moved[payment.key()] = Some(payment);
        let excused = |payment| {
            let Truth { denied, forgotten, .. } = world.truth_of(payment);
            *denied || *forgotten
        };
        let twice = world.moved == [Some(Payment::Good), Some(Payment::Second)];
        if twice && !excused(Payment::Good) && !excused(Payment::Second) {
            world.breach = Some(Breach::ChargedTwice);
        }
    }

    /// Whether this is true on the chain.
    fn is_so(&self, world: &World, key: usize, settled: bool) -> bool {
        world.ledger[key].is_some_and(|entry| {
            let moved = world.moved[key] == Some(entry.payment);
            if settled { moved } else { !moved && !world.may_move(entry.payment) }
        })
    }

    /// Whether an operator may say so. An operator who does not look at the chain may wrongly say "refused".
    fn may_say(&self, world: &World, key: usize, settled: bool) -> bool {
        let is_open = |life| matches!(life, Life::Settling { .. } | Life::Unknown);
        world.ledger[key].is_some_and(|entry| is_open(entry.life))
            && (self.is_so(world, key, settled) || (!settled && world.mishaps > 0))
    }
}

/// The result of exploring a world.
#[derive(Debug, Clone)]
pub struct Explored {
    /// Different states seen.
    pub states: usize,
    /// Steps of the longest history.
    pub depth: usize,
    /// The laws that are broken, each with the shortest history that breaks it.
    pub broken: Vec<(&'static str, Vec<Action>)>,
    /// Names of events that never happened although they should be possible.
    pub missing: Vec<&'static str>,
}

impl Model {
    /// Explores the world until a law is broken, every state was seen, or about `states` states were seen.
    pub fn explore(self, threads: usize, states: Option<usize>) -> Explored {
        let mut walk = self.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
        if let Some(states) = states {
            walk = walk.target_state_count(states);
        }
        let checker = walk.spawn_bfs().join();
        let found = checker.discoveries();
        let (mut broken, mut missing) = (Vec::new(), Vec::new());
        for property in checker.model().properties() {
            match (property.expectation, found.get(property.name)) {
                (Expectation::Always, Some(path)) => {
                    broken.push((property.name, path.clone().into_actions()));
                }
                (Expectation::Sometimes, None) => missing.push(property.name),
                _ => {}
            }
        }
        Explored { states: checker.unique_state_count(), depth: checker.max_depth(), broken, missing }
    }
}

impl stateright::Model for Model {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut requests = [Request::DONE; REQUESTS + ASKERS];
        for request in requests.iter_mut().take(self.bounds.requests.len()) {
            *request = Request::IDLE;
        }
        vec![World {
            tick: 0,
            ledger: [None; 2],
            moved: [None; 2],
            truth: [Truth::default(); 4],
            requests,
            asks: 0,
            mishaps: self.bounds.mishaps,
            resolutions: self.bounds.resolutions,
            breach: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.breach.is_some() {
            return;
        }
        if let Some(request) = world.requests.iter().position(|request| request.step == Step::Idle) {
            let brings = self.bounds.requests[request].iter();
            actions.extend(brings.map(|&(payment, terms)| Action::Start { request, payment, terms }));
        }
        for number in 0..world.requests.len() {
            self.request_actions(world, number, actions);
        }
        actions.extend(Payment::ALL.into_iter().filter(|payment| world.may_move(*payment)).map(Action::Move));
        for key in 0..world.ledger.len() {
            let Some(entry) = world.ledger[key] else { continue };
            if matches!(entry.life, Life::Settling { .. } | Life::Unknown) && world.asks < self.bounds.asks {
                for companion in 0..ASKERS {
                    if world.requests[REQUESTS + companion].task == Task::None {
                        let companion = companion as u8;
                        actions.push(Action::Ask { companion, key, acknowledged: true });
                        if world.mishaps > 0 {
                            actions.push(Action::Ask { companion, key, acknowledged: false });
                        }
                        break;
                    }
                }
            }
            if world.resolutions > 0 {
                let words = [true, false].into_iter().filter(|settled| self.may_say(world, key, *settled));
                actions.extend(words.map(|settled| Action::Resolve { key, settled }));
            }
            // Assumes that no transaction takes longer than the retention.
            let at_work = |request: &Request| {
                request.payment.key() == key
                    && matches!(request.task, Task::Call { .. } | Task::NoteEnd { .. })
            };
            if world.tick <= entry.since + RETENTION_TICKS || !world.requests.iter().any(at_work) {
                actions.push(Action::Sweep { key });
            }
        }
        if world.mishaps > 0 {
            actions.extend([0, 1].map(Action::CrashProxy));
            actions.extend([0, 1].map(Action::CrashCompanion));
        }
        if world.tick < self.bounds.ticks {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Start { request, payment, terms } => self.start(&mut world, request, payment, terms),
            Action::Write { request, acknowledged, notices } => {
                self.commit(&mut world, request, acknowledged, notices);
                world.mishaps -= u8::from(!acknowledged);
            }
            Action::Judge { request, verdict } => self.judge(&mut world, request, verdict),
            Action::Move(payment) => self.moves(&mut world, payment),
            Action::Answer { request, came } => self.answer(&mut world, request, came),
            Action::Reply { request, notices } => self.reply(&mut world, request, notices),
            Action::LoseReply { request } => {
                world.requests[request].task = Task::None;
                world.mishaps -= 1;
            }
            Action::GiveUp { request } => world.requests[request].step = Step::Reporting(End::Unsent),
            Action::GoOn { request } | Action::Settle { request } => self.settle(&mut world, request),
            Action::Fail { request } => world.requests[request].step = Step::Reporting(End::Unsent),
            Action::Finish { request, end } => world.requests[request].step = Step::Reporting(end),
            Action::Report { request } => self.report(&mut world, request),
            Action::LoseReport { request } => {
                world.requests[request].step = Step::Done;
                world.mishaps -= 1;
            }
            Action::CrashProxy(proxy) => {
                for request in world.requests.iter_mut().take(REQUESTS) {
                    if request.proxy == proxy && request.step != Step::Idle {
                        request.step = Step::Done;
                    }
                }
                world.tidy();
                if world == *before {
                    return None;
                }
                world.mishaps -= 1;
            }
            Action::CrashCompanion(companion) => {
                for request in &mut world.requests {
                    if request.companion == companion {
                        request.task = Task::None;
                    }
                }
                world.tidy();
                if world == *before {
                    return None;
                }
                world.mishaps -= 1;
            }
            Action::Ask { companion, key, acknowledged } => {
                self.ask(&mut world, companion, key, acknowledged);
                if world.ledger == before.ledger && world.breach.is_none() {
                    return None;
                }
                world.mishaps -= u8::from(!acknowledged);
            }
            Action::Resolve { key, settled } => {
                self.resolve(&mut world, key, settled);
                if world.ledger == before.ledger && world.breach.is_none() {
                    return None;
                }
            }
            Action::Sweep { key } => self.sweep(&mut world, key),
            Action::Tick => world.tick += 1,
        }
        world.tidy();
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::properties()
    }
}
