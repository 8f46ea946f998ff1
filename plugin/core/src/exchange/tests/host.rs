//! A host that follows every rule for a shell, and checks every rule for the core. It keeps the payments
//! itself, or has a relay.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use super::super::{
    Abandoned, Arrival, Calling, Delivering, Next, Note, Reply, RequestHead, ResponseHead, ResponseOrigin,
    Turn, Upstream, ambiguous_body, begin,
};
use super::relay::{Line, Relay};
use super::script::{Does, End, Request, Story, Up};
use super::world::{START, rules_with};
use crate::Now;
use crate::metrics::{Stamp, TupleCounter};
use crate::payment::{
    Answer, Effect, Event, Expired, Holder, KeyDigest, Limits, Record, State, expired_stamps, records,
    step_in, sweep,
};
use crate::protocol::{CallEnd, Operation};
use crate::rules::{PushedRules, RuleSet};

/// Duration of each call, milliseconds.
pub(super) const CALL_MS: u64 = 7;

/// Which store keeps the payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Direct,
    Relay,
}

pub(super) const MODES: [Mode; 2] = [Mode::Direct, Mode::Relay];

pub(super) struct Host {
    pub(super) rules: Arc<RuleSet>,
    pub(super) now_ms: u64,
    pub(super) limits: Limits,
    pub(super) table: BTreeMap<u32, Vec<u8>>,
    pub(super) relay: Relay,
    pub(super) facilitator: VecDeque<Does>,
    /// Every stamp since the start.
    pub(super) counted: Vec<Stamp>,
    /// Effects of the shell's own store.
    pub(super) effects: Vec<Effect>,
    /// The store of payments is unreachable.
    pub(super) store_down: bool,
    pub(super) requests: u64,
}

// === impl Host ===

impl Host {
    pub(super) fn new() -> Self {
        Self::with_rules(rules_with(|_| {}))
    }
    pub(super) fn of(mode: Mode) -> Self {
        Self::with_rules(rules_in(mode, |_| {}))
    }
    pub(super) fn with_rules(rules: Arc<RuleSet>) -> Self {
        Self {
            limits: Limits::of(&rules),
            rules,
            now_ms: START * 1000,
            table: BTreeMap::new(),
            relay: Relay::new(),
            facilitator: VecDeque::new(),
            counted: Vec::new(),
            effects: Vec::new(),
            store_down: false,
            requests: 0,
        }
    }
    pub(super) fn mode(&self) -> Mode {
        if self.rules.has_relay() { Mode::Relay } else { Mode::Direct }
    }
    /// Changes the rules for later requests.
    pub(super) fn reload(&mut self, change: impl FnOnce(&mut PushedRules)) {
        self.rules = rules_in(self.mode(), change);
        self.limits = Limits::of(&self.rules);
    }
    pub(super) fn now(&self) -> Now {
        Now { unix_ms: self.now_ms }
    }
    pub(super) fn script(&mut self, does: impl IntoIterator<Item = Does>) -> &mut Self {
        self.facilitator = does.into_iter().collect();
        self
    }
    pub(super) fn begin(&mut self, request: &Request) -> Turn {
        self.requests += 1;
        let arrival = Arrival { now: self.now(), holder: Holder(u128::from(self.requests).to_be_bytes()) };
        let Ok(turn) = with_head(request, |head| begin(&self.rules, head, || Ok::<_, Infallible>(arrival)));
        turn
    }
    /// The answer of a shell that cannot send the body in chunks, before it passes a request on.
    pub(super) fn refuses_body(&self, request: &Request) -> Option<Reply> {
        match with_head(request, |head| ambiguous_body(&self.rules, head))?.next {
            Next::Reply(reply) => Some(reply),
            other => panic!("no reply: {other:?}"),
        }
    }
    /// Plays a request to its end.
    pub(super) fn play(&mut self, request: &Request, upstream: &Up) -> Story {
        let mut story = Story::new();
        let turn = self.begin(request);
        match self.advance(turn, &mut story) {
            Some(Next::Serve(_, state)) => self.respond(*state, upstream, &mut story),
            next => self.end(next, false, &mut story),
        }
        story
    }
    /// Plays a request until it is at the upstream; the facilitator says that its payment is valid.
    pub(super) fn until_upstream(&mut self, request: &Request) -> Box<Upstream> {
        let turn = self.begin(request);
        match self.advance(turn, &mut Story::new()) {
            Some(Next::Serve(_, state)) => state,
            other => panic!("not served: {other:?}"),
        }
    }
    /// Plays the upstream's part, and the end of the request.
    pub(super) fn respond(&mut self, state: Upstream, upstream: &Up, story: &mut Story) {
        let (status, headers, origin) = match upstream {
            Up::Answers(status, headers) => (*status, headers.clone(), ResponseOrigin::Upstream),
            Up::Breaks(status) => (*status, Vec::new(), ResponseOrigin::Upstream),
            Up::Unreachable => (503, Vec::new(), ResponseOrigin::ProxyUnavailable),
            Up::TimesOut => (504, Vec::new(), ResponseOrigin::ProxyTimeout),
            Up::ClientGone => return self.abandon(&state.abandoned(), story),
        };
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        let turn = state.response(&ResponseHead { status, headers: &headers, origin }, self.now());
        story.upstream_status = status;
        let next = self.advance(turn, story);
        self.end(next, matches!(upstream, Up::Breaks(_)), story);
    }
    /// Carries out turns until a call, which the story makes.
    pub(super) fn until_call(&mut self, mut turn: Turn) -> Box<Calling> {
        loop {
            self.note(&turn.notes, &mut Story::new());
            turn = match turn.next {
                Next::Call(state) => return state,
                Next::Step(state) => {
                    let event = state.event().clone();
                    let (answer, effects, stamps) = self.step(state.key(), state.tuple(), event);
                    self.counted.extend(stamps);
                    state.stepped(answer, &effects, self.now())
                }
                next => panic!("no call: {next:?}"),
            }
        }
    }
    /// Plays a good answer of the upstream, up to the settle call.
    pub(super) fn until_settling(&mut self, state: Upstream) -> Box<Calling> {
        let head = ResponseHead { status: 200, headers: &[], origin: ResponseOrigin::Upstream };
        let turn = state.response(&head, self.now());
        self.until_call(turn)
    }
    /// Plays the end of a call that the story holds.
    pub(super) fn answer(&mut self, state: Calling, does: &Does) -> Story {
        let mut story = Story::new();
        story.upstream_status = 200;
        let turn = state.answered(does.end(), self.now());
        match self.advance(turn, &mut story) {
            Some(Next::Serve(_, state)) => self.respond(*state, &super::script::ok(), &mut story),
            next => self.end(next, false, &mut story),
        }
        story
    }
    fn end(&mut self, next: Option<Next>, breaks: bool, story: &mut Story) {
        match next {
            None => {}
            Some(Next::Reply(reply)) => {
                check_own_reply(&reply);
                story.end = End::Reply(reply);
            }
            Some(Next::Forward(_, _passing)) => story.end = End::Passed,
            Some(Next::Release(edits, delivering)) => {
                story.end = End::Released(story.upstream_status, edits);
                if let Some(delivering) = delivering {
                    self.deliver(delivering, breaks, story);
                }
            }
            Some(next) => panic!("the upstream is asked twice, or nobody carried out {next:?}"),
        }
    }
    fn count(&mut self, stamps: &[Stamp], story: &mut Story) {
        self.counted.extend_from_slice(stamps);
        story.stamps.extend_from_slice(stamps);
    }
    /// Makes a step in the shell's own store.
    pub(super) fn step(
        &mut self,
        key: KeyDigest,
        tuple: u32,
        event: Event,
    ) -> (Option<Answer>, Vec<Expired>, Vec<Stamp>) {
        assert_eq!(self.mode(), Mode::Direct, "a shell with a relay keeps nothing");
        let bucket = self.table.entry(key.bucket()).or_default();
        let bytes: &[u8] = if self.store_down { b"away" } else { bucket };
        let stepped = step_in(bytes, key, tuple, event, &self.limits, Now { unix_ms: self.now_ms });
        if let Some(write) = stepped.write {
            *bucket = write;
        }
        let stamps = self.expired(&stepped.effects);
        (stepped.answer, stepped.effects, stamps)
    }
    fn expired(&mut self, expired: &[Expired]) -> Vec<Stamp> {
        self.effects.extend(expired.iter().map(|expired| expired.effect.clone()));
        expired_stamps(expired, &self.rules)
    }
    /// Sweeps the store, as a shell or a relay does from time to time.
    pub(super) fn sweep(&mut self) {
        let now = self.now();
        self.relay.sweep(self.limits.retention, now);
        for bucket in self.table.keys().copied().collect::<Vec<_>>() {
            if let Some((bytes, expired)) = sweep(&self.table[&bucket], &self.limits, now) {
                self.table.insert(bucket, bytes);
                let stamps = self.expired(&expired);
                self.counted.extend(stamps);
            }
        }
    }
    pub(super) fn tell(&mut self, notes: &[Note]) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        for note in notes {
            if self.mode() == Mode::Relay {
                self.relay.over(note, Now { unix_ms: self.now_ms });
            } else {
                stamps.extend(self.step(note.key.digest(), note.tuple, note.event.clone()).2);
            }
        }
        stamps
    }
    fn note(&mut self, notes: &[Note], story: &mut Story) {
        let stamps = self.tell(notes);
        self.count(&stamps, story);
    }
    fn abandon(&mut self, abandoned: &Abandoned, story: &mut Story) {
        self.count(&abandoned.stamps, story);
        self.note(&abandoned.notes, story);
        story.end = End::ClientGone;
    }
    /// Carries out effects until the request waits for its upstream or ends. `None` if its client has left.
    fn advance(&mut self, mut turn: Turn, story: &mut Story) -> Option<Next> {
        loop {
            self.count(&turn.stamps, story);
            self.note(&turn.notes, story);
            turn = match turn.next {
                Next::Step(state) => {
                    story.asked += 1;
                    let event = state.event().clone();
                    let (answer, effects, stamps) = self.step(state.key(), state.tuple(), event);
                    self.count(&stamps, story);
                    state.stepped(answer, &effects, self.now())
                }
                Next::Call(state) => {
                    let limit = if state.call().operation == Operation::Verify { 5_000 } else { 60_000 };
                    assert_eq!(state.call().timeout_ms, limit);
                    match self.call(*state, story) {
                        Ok(turn) => turn,
                        Err(abandoned) => {
                            self.abandon(&abandoned, story);
                            return None;
                        }
                    }
                }
                next => {
                    if let Next::Serve(edits, _) | Next::Forward(edits, _) = &next {
                        assert!(story.forwarded.is_none(), "the upstream is asked twice");
                        story.forwarded = Some(edits.clone());
                    }
                    return Some(next);
                }
            };
        }
    }
    fn call(&mut self, state: Calling, story: &mut Story) -> Result<Turn, Abandoned> {
        self.now_ms += CALL_MS;
        let now = self.now();
        let mut is_gone = false;
        let script = &mut self.facilitator;
        let mut facilitator = |operation: Operation, body: &[u8]| {
            story.calls.push((operation, body.to_vec()));
            let does = script.pop_front().expect("the facilitator is called once too often");
            is_gone |= matches!(does, Does::AsClientLeaves(_));
            does
        };
        if !self.rules.has_relay() {
            assert!(state.call().headers.is_empty(), "a facilitator is told nothing of us");
            let does = facilitator(state.call().operation, &state.call().body);
            return if is_gone { Err(state.abandoned()) } else { Ok(state.answered(does.end(), now)) };
        }
        let line = self.relay.line.pop_front();
        story.asked += 1;
        let word = match line {
            Some(Line::NotSent) => return Ok(state.answered(CallEnd::NotSent, now)),
            Some(Line::LosesCall) => return Ok(state.answered(CallEnd::Unreachable, now)),
            Some(Line::Says(status, body)) => {
                return Ok(state.answered(CallEnd::Reply { status, body: body.as_bytes() }, now));
            }
            None | Some(Line::LosesReply) => {
                self.relay.down = self.store_down;
                self.relay.reply(state.call(), &state.claim().1, &mut facilitator, now)
            }
        };
        match line {
            _ if is_gone => Err(state.abandoned()),
            Some(_) => Ok(state.answered(CallEnd::TimedOut, now)),
            None => {
                let (status, body) = (word.status(), word.body());
                Ok(state.answered(CallEnd::Reply { status, body: &body }, now))
            }
        }
    }
    fn deliver(&mut self, delivering: Delivering, broken: bool, story: &mut Story) {
        let ended = delivering.ended(broken, self.now());
        self.count(&ended.stamps, story);
        self.note(&ended.notes, story);
    }
    /// How often a counter of any tuple was stamped.
    pub(super) fn total(&self, wanted: impl Fn(TupleCounter) -> bool) -> usize {
        self.counted.iter().filter(|s| matches!(s, Stamp::Tuple(_, counter) if wanted(*counter))).count()
    }
    /// Charges that were counted.
    pub(super) fn charges(&self) -> usize {
        self.counted.iter().filter(|s| matches!(s, Stamp::Charged(_))).count()
    }
    /// Effects of the store of payments.
    pub(super) fn effects(&self) -> &[Effect] {
        if self.mode() == Mode::Relay { &self.relay.effects } else { &self.effects }
    }
    /// Number of settlements whose outcome is unknown.
    pub(super) fn open(&self) -> usize {
        let count = |wanted: Effect| self.effects().iter().filter(|effect| **effect == wanted).count();
        let open = count(Effect::Opened) - count(Effect::Closed);
        if self.mode() == Mode::Direct {
            let total = |wanted| self.total(|counter| counter == wanted);
            let gauge = total(TupleCounter::UnresolvedOpened) - total(TupleCounter::UnresolvedClosed);
            assert_eq!(gauge, open);
        }
        open
    }
    /// Every record of the store.
    pub(super) fn records(&self) -> Vec<Record> {
        match self.mode() {
            Mode::Direct => {
                let buckets = self.table.values().flat_map(|bucket| records(bucket).unwrap());
                buckets.map(|(_, record)| record).collect()
            }
            Mode::Relay => self.relay.records.values().cloned().collect(),
        }
    }
    /// The states of the payments.
    pub(super) fn lives(&self) -> Vec<&'static str> {
        self.records().iter().map(life).collect()
    }
    /// Checks the counts of a story. With a relay the calls go to the relay, and the relay counts open
    /// settlements.
    #[track_caller]
    pub(super) fn assert_counted(&self, story: &Story, expected: &str) {
        let direct = self.mode() == Mode::Direct;
        let others = ["Verify(", "Settle(", "Unresolved", "ResolvedLate"];
        let ours = |text: &str| {
            let words = text.split_whitespace();
            let ours = words.filter(|word| direct || !others.iter().any(|other| word.starts_with(other)));
            ours.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ours(&story.short()), ours(expected));
    }
}

/// The changed rules for a host of this mode.
pub(super) fn rules_in(mode: Mode, change: impl FnOnce(&mut PushedRules)) -> Arc<RuleSet> {
    rules_with(|pushed| {
        pushed.facilitator.as_mut().unwrap().relay = mode == Mode::Relay;
        change(pushed);
    })
}

/// The state of a payment.
pub(super) fn life(record: &Record) -> &'static str {
    match record.state {
        State::Reserved { .. } => "reserved",
        State::Settling { .. } => "settling",
        State::Unknown => "unknown",
        State::Owed { hold: None } => "owed",
        State::Owed { hold: Some(_) } => "under way",
        State::Delivered => "delivered",
    }
}

/// Checks the rules for every response of Farebox itself.
fn check_own_reply(reply: &Reply) {
    let values = |name: &str| reply.headers.iter().filter(|(n, _)| n == name).count();
    assert_eq!(values("cache-control"), 1);
    assert!(reply.headers.contains(&("cache-control".into(), "no-store".into())));
    assert_eq!(values("content-type"), usize::from(reply.status != 204));
    for (name, value) in &reply.headers {
        assert_eq!(name.to_ascii_lowercase(), *name);
        assert!(value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{name}: {value}");
        assert_eq!(values(name), 1, "{name}");
    }
    assert_eq!(values("payment-required") == 1, matches!(reply.status, 402 | 412));
    if !matches!(reply.status, 402 | 412) {
        assert!(!String::from_utf8_lossy(&reply.body).contains("accepts"));
    }
}

fn with_head<T>(request: &Request, read: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    let lines = request.lines();
    let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    read(&RequestHead { headers: &lines, transport: request.transport })
}
