//! A host that keeps every promise a shell makes, and checks every promise of the core.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use super::super::{
    Abandoned, Answer, Delivering, HeaderEdits, Next, Reply, RequestHead, ResponseHead, ResponseOrigin,
    Transport, Turn, begin,
};
use super::world::{START, rules_with};
use crate::Now;
use crate::metrics::{Stamp, TupleCounter};
use crate::protocol::Operation;
use crate::replay::{KeyChange, Limits, ReplayKey, apply, expired_stamps, reserve};
use crate::rules::RuleSet;

/// How long a facilitator call takes here.
pub(super) const CALL_MS: u64 = 7;

/// What the facilitator does with the next call.
#[derive(Debug, Clone)]
pub(super) enum Does {
    Says(u16, String),
    TimesOut,
    Unreachable,
    Cuts,
    NotSent,
    /// The client goes away while the call is out.
    ClientGone,
}

/// What the upstream does.
#[derive(Debug, Clone)]
pub(super) enum Up {
    Answers(u16, Vec<(&'static str, &'static str)>),
    /// Answers, and breaks off in the body.
    Breaks(u16),
    Unreachable,
    TimesOut,
    ClientGone,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) transport: Transport,
}

/// What became of one request.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) stamps: Vec<Stamp>,
    pub(super) keys: Vec<KeyChange>,
    pub(super) calls: Vec<(Operation, Vec<u8>)>,
    /// Edits of the forwarded request, if it was.
    pub(super) forwarded: Option<HeaderEdits>,
    pub(super) end: End,
}

#[derive(Debug)]
pub(super) enum End {
    Reply(Reply),
    /// Edits of the released response and its status.
    Released(u16, HeaderEdits),
    /// A free request.
    Passed,
    ClientGone,
}

pub(super) struct Host {
    pub(super) rules: Arc<RuleSet>,
    pub(super) now_ms: u64,
    pub(super) limits: Limits,
    pub(super) table: BTreeMap<u32, Vec<u8>>,
    pub(super) facilitator: VecDeque<Does>,
    /// Every stamp since the start.
    pub(super) counted: Vec<Stamp>,
    /// The replay store is away.
    pub(super) store_down: bool,
}

pub(super) fn request(path: &str) -> Request {
    Request { method: "GET", path: path.into(), headers: Vec::new(), transport: Transport::default() }
}

/// Stamps in short: `PaymentPresented@0 PaymentFailed(PaymentInvalid)@0`.
pub(super) fn short(stamps: &[Stamp]) -> String {
    let text = |stamp: &Stamp| match stamp {
        Stamp::Tuple(tuple, counter) => format!("{counter:?}@{}", tuple.0),
        Stamp::Charged(charge) => format!("Charged@{}", charge.0),
        Stamp::LastSuccess(tuple, _) => format!("LastSuccess@{}", tuple.0),
        Stamp::Blocked(None, reason) => format!("Blocked({reason:?})"),
        Stamp::Blocked(Some(offer), reason) => format!("Blocked({reason:?})@{}", offer.0),
        Stamp::Call(operation, outcome, millis) => format!("{operation:?}({outcome:?},{millis})"),
    };
    stamps.iter().map(text).collect::<Vec<_>>().join(" ")
}

// === impl Request ===

impl Request {
    pub(super) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }
    pub(super) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }
    pub(super) fn paying(self, payment: &str) -> Self {
        self.with("payment-signature", payment)
    }
    fn lines(&self) -> Vec<(String, Vec<u8>)> {
        let pseudo = [(":method", self.method), (":path", &self.path), (":authority", "api.example")];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        pseudo.into_iter().chain(self.headers.iter().cloned()).collect()
    }
}

// === impl Host ===

impl Host {
    pub(super) fn new() -> Self {
        Self::with_rules(rules_with(|_| {}))
    }
    pub(super) fn with_rules(rules: Arc<RuleSet>) -> Self {
        Self {
            rules,
            now_ms: START * 1000,
            limits: Limits { records: 64, settling_ms: 150_000 },
            table: BTreeMap::new(),
            facilitator: VecDeque::new(),
            counted: Vec::new(),
            store_down: false,
        }
    }
    pub(super) fn now(&self) -> Now {
        Now { unix_ms: self.now_ms }
    }
    pub(super) fn script(&mut self, does: impl IntoIterator<Item = Does>) -> &mut Self {
        self.facilitator = does.into_iter().collect();
        self
    }
    pub(super) fn begin(&self, request: &Request) -> Turn {
        let lines = request.lines();
        let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let head = RequestHead { headers: &lines, transport: request.transport };
        let Ok(turn) = begin(&self.rules, &head, || Ok::<_, Infallible>(self.now()));
        turn
    }
    /// Plays a request to its end.
    pub(super) fn play(&mut self, request: &Request, upstream: &Up) -> Story {
        let mut story = Story {
            stamps: Vec::new(),
            keys: Vec::new(),
            calls: Vec::new(),
            forwarded: None,
            end: End::ClientGone,
        };
        let turn = self.begin(request);
        self.carry_out(turn, upstream, &mut story);
        story
    }
    fn count(&mut self, stamps: &[Stamp], story: &mut Story) {
        self.counted.extend_from_slice(stamps);
        story.stamps.extend_from_slice(stamps);
    }
    pub(super) fn change(&mut self, keys: &[(ReplayKey, KeyChange)], story: &mut Story) {
        for (key, change) in keys {
            story.keys.push(change.clone());
            let bucket = self.table.entry(key.bucket()).or_default();
            if let Some((bytes, expired)) = apply(bucket, key, change, Now { unix_ms: self.now_ms }) {
                *bucket = bytes;
                self.counted.extend(expired_stamps(&expired, &self.rules));
            }
        }
    }
    fn abandon(&mut self, abandoned: &Abandoned, story: &mut Story) {
        self.count(&abandoned.stamps, story);
        self.change(&abandoned.keys, story);
        story.end = End::ClientGone;
    }
    fn carry_out(&mut self, mut turn: Turn, upstream: &Up, story: &mut Story) {
        loop {
            self.count(&turn.stamps, story);
            self.change(&turn.keys, story);
            turn = match turn.next {
                Next::Reply(reply) => {
                    check_own_reply(&reply);
                    story.end = End::Reply(reply);
                    return;
                }
                Next::Forward(edits, _passing) => {
                    story.forwarded = Some(edits);
                    story.end = End::Passed;
                    return;
                }
                Next::Reserve(state) => {
                    let request = state.request();
                    let bucket = self.table.entry(request.key.bucket()).or_default();
                    let now = Now { unix_ms: self.now_ms };
                    let bytes: &[u8] = if self.store_down { b"away" } else { bucket };
                    let claim = reserve(bytes, &request, &self.limits, now);
                    if let Some(write) = claim.write {
                        *bucket = write;
                        self.counted.extend(expired_stamps(&claim.expired, &self.rules));
                    }
                    state.reserved(claim.reservation, now)
                }
                Next::Call(state) => {
                    let call = state.call();
                    let limit = if call.operation == Operation::Verify { 5_000 } else { 60_000 };
                    assert_eq!(call.timeout_ms, limit);
                    story.calls.push((call.operation, call.body.clone()));
                    let does =
                        self.facilitator.pop_front().expect("the facilitator is called once too often");
                    self.now_ms += CALL_MS;
                    match does {
                        Does::Says(status, body) => {
                            state.answered(Answer::Reply { status, body: body.as_bytes() }, self.now())
                        }
                        Does::TimesOut => state.answered(Answer::TimedOut, self.now()),
                        Does::Unreachable => state.answered(Answer::Unreachable, self.now()),
                        Does::Cuts => state.answered(Answer::Cut, self.now()),
                        Does::NotSent => state.answered(Answer::NotSent, self.now()),
                        Does::ClientGone => {
                            let (abandoned, _) = state.abandoned(self.now());
                            return self.abandon(&abandoned, story);
                        }
                    }
                }
                Next::Serve(edits, state) => {
                    assert!(story.forwarded.is_none(), "the upstream is asked twice");
                    story.forwarded = Some(edits);
                    let (status, headers, origin) = match upstream {
                        Up::Answers(status, headers) => (*status, headers.clone(), ResponseOrigin::Upstream),
                        Up::Breaks(status) => (*status, Vec::new(), ResponseOrigin::Upstream),
                        Up::Unreachable => (503, Vec::new(), ResponseOrigin::ProxyUnavailable),
                        Up::TimesOut => (504, Vec::new(), ResponseOrigin::ProxyTimeout),
                        Up::ClientGone => {
                            let (abandoned, _) = state.abandoned(self.now());
                            return self.abandon(&abandoned, story);
                        }
                    };
                    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
                    state.response(&ResponseHead { status, headers: &headers, origin }, self.now()).0
                }
                Next::Release(edits, delivering) => {
                    let status = match upstream {
                        Up::Answers(status, _) | Up::Breaks(status) => *status,
                        Up::Unreachable | Up::TimesOut | Up::ClientGone => panic!("released nothing"),
                    };
                    story.end = End::Released(status, edits);
                    if let Some(delivering) = delivering {
                        self.deliver(delivering, matches!(upstream, Up::Breaks(_)), story);
                    }
                    return;
                }
            };
        }
    }
    fn deliver(&mut self, delivering: Delivering, broken: bool, story: &mut Story) {
        let ended = delivering.ended(broken, self.now());
        self.count(&ended.stamps, story);
        self.change(&ended.keys, story);
    }
    /// How often a counter of any tuple was stamped.
    pub(super) fn total(&self, wanted: impl Fn(TupleCounter) -> bool) -> usize {
        self.counted.iter().filter(|s| matches!(s, Stamp::Tuple(_, counter) if wanted(*counter))).count()
    }
    pub(super) fn charges(&self) -> usize {
        self.counted.iter().filter(|s| matches!(s, Stamp::Charged(_))).count()
    }
}

/// What holds for every response the filter makes itself.
fn check_own_reply(reply: &Reply) {
    let values = |name: &str| reply.headers.iter().filter(|(n, _)| n == name).count();
    assert_eq!(values("cache-control"), 1);
    assert!(reply.headers.contains(&("cache-control".into(), "no-store".into())));
    assert_eq!(values("content-type"), 1);
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

// === impl Story ===

impl Story {
    pub(super) fn short(&self) -> String {
        short(&self.stamps)
    }
    pub(super) fn reply(&self) -> &Reply {
        match &self.end {
            End::Reply(reply) => reply,
            other => panic!("not a reply of ours: {other:?}"),
        }
    }
    pub(super) fn released(&self) -> (u16, &HeaderEdits) {
        match &self.end {
            End::Released(status, edits) => (*status, edits),
            other => panic!("nothing was released: {other:?}"),
        }
    }
    pub(super) fn status(&self) -> u16 {
        match &self.end {
            End::Reply(reply) => reply.status,
            End::Released(status, _) => *status,
            other => panic!("no response: {other:?}"),
        }
    }
    /// A header of the response, as we set it.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let set = match &self.end {
            End::Reply(reply) => &reply.headers,
            End::Released(_, edits) => &edits.set,
            End::Passed | End::ClientGone => return None,
        };
        set.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
    pub(super) fn body(&self) -> serde_json::Value {
        serde_json::from_slice(&self.reply().body).unwrap()
    }
    /// The receipt, which both headers carry alike.
    pub(super) fn receipt(&self) -> Option<serde_json::Value> {
        let value = self.header("payment-response");
        assert_eq!(value, self.header("x-payment-response"));
        let bytes = crate::protocol::decode_base64(value?.as_bytes()).unwrap();
        Some(serde_json::from_slice(&bytes).unwrap())
    }
    pub(super) fn operations(&self) -> Vec<Operation> {
        self.calls.iter().map(|(operation, _)| *operation).collect()
    }
}

/// Usual answers of a facilitator.
pub(super) fn valid() -> Does {
    Does::Says(200, r#"{"isValid":true,"payer":"0x0"}"#.into())
}
pub(super) fn settled(chain: u64, transaction: &str) -> Does {
    Does::Says(
        200,
        format!(
            r#"{{"success":true,"transaction":"{transaction}","network":"eip155:{chain}","payer":"0x0"}}"#
        ),
    )
}
pub(super) fn refuses(reason: &str) -> Does {
    Does::Says(200, format!(r#"{{"success":false,"errorReason":"{reason}","transaction":"","network":""}}"#))
}
pub(super) fn pending(transaction: &str) -> Does {
    Does::Says(
        200,
        format!(
            r#"{{"success":false,"errorReason":"settlement_pending","transaction":"{transaction}","network":""}}"#
        ),
    )
}
pub(super) fn ok() -> Up {
    Up::Answers(200, vec![("content-type", "application/json")])
}
