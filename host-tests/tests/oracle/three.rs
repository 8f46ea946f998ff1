//! The same rules and the same request in all three.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use farebox_core::Now;
use farebox_core::exchange::{
    self, Arrival, Calling, HeaderEdits, Next, Reply, RequestHead, Transport, Turn,
};
use farebox_core::payment::{self, Event, Holder};
use farebox_core::protocol::{CallEnd, Operation, RELAY_HOLDER, RELAY_KNOWN, RelayReply};
use farebox_core::rules::RuleSet;
use farebox_core::terms;
use farebox_host_tests::traefik::{self, Sent, Traefik};
use serde_json::{Value, json};

use crate::component::{Answer, Decision, Edits, Flow, Header, Loaded, Payment, Request};

/// The headers of a payment.
const PAYMENT: [&str; 2] = ["payment-signature", "x-payment"];

/// A request, with its client and its time.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The request as Traefik passes it.
    pub(crate) request: traefik::Request,
    pub(crate) peer: IpAddr,
    /// Unix milliseconds.
    pub(crate) now: u64,
}

/// The core, three times.
pub(crate) struct Three {
    native: Arc<RuleSet>,
    component: Loaded,
    traefik: Traefik,
}

/// The result of a request in Traefik.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Answered(traefik::Reply),
    Passed(traefik::Request),
}

// === impl Three ===

impl Three {
    /// With these rules.
    pub(crate) fn with(rules: &Value) -> Self {
        let json = rules.to_string();
        Self {
            native: Arc::new(RuleSet::from_json(json.as_bytes()).expect("the rules can be used")),
            component: Loaded::new(&json).expect("the rules can be used"),
            traefik: Traefik::new(&json!({"signature": "guest", "rules": rules})),
        }
    }

    /// The decision of all three. Panics if they differ.
    #[track_caller]
    pub(crate) fn decide(&mut self, asked: &Asked, place: &str) -> Decision {
        let request = asked.for_component();
        let native = asked.with_head(&[], |head| natively(&self.native, head, asked.now));
        let component = self.component.decide(&request, asked.now);
        assert_eq!(component, native, "{place}: component and native core, {asked:?}");
        self.traefik.set_clock(asked.now);
        let came = came(self.traefik.send(asked.in_traefik()));
        assert_eq!(
            came,
            asked.expected(&native, self.native.has_relay()),
            "{place}: Traefik and native core, {asked:?}"
        );
        self.challenge(asked, &request, place);
        native
    }

    /// The challenge for the same request without its payment.
    fn challenge(&mut self, asked: &Asked, request: &Request, place: &str) {
        let native = asked.with_head(&PAYMENT, |head| natively(&self.native, head, asked.now));
        let expected = match native {
            Decision::Reply(answer) if answer.status == 402 => Some(answer),
            _ => None,
        };
        assert_eq!(self.component.challenge(request), expected, "{place}: challenge, {asked:?}");
    }
}

// === impl Asked ===

impl Asked {
    /// Calls `with` with the core's form of the head, without some headers.
    fn with_head<T>(&self, without: &[&str], with: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let lines: Vec<_> =
            self.request.lines().into_iter().filter(|(name, _)| !without.contains(name)).collect();
        let transport = Transport { tls: self.tls(), peer: Some(self.peer) };
        with(&RequestHead { headers: &lines, transport })
    }

    fn tls(&self) -> bool {
        self.request.lines().contains(&("x-forwarded-proto", b"https".as_slice()))
    }

    fn method(&self) -> String {
        String::from_utf8(self.line(":method").to_vec()).expect("a method is text")
    }

    fn line(&self, pseudo: &str) -> &[u8] {
        let lines = self.request.lines();
        lines.iter().find(|(name, _)| *name == pseudo).expect("every request has it").1
    }

    fn for_component(&self) -> Request {
        let lines = self.request.lines();
        let lines = lines.into_iter().filter(|(name, _)| !name.starts_with(':'));
        Request {
            method: self.method(),
            target: self.line(":path").to_vec(),
            authority: String::new(),
            tls: self.tls(),
            peer: Some(self.peer.to_string()),
            headers: lines
                .map(|(name, value)| Header { name: name.to_owned(), value: value.to_vec() })
                .collect(),
        }
    }

    fn in_traefik(&self) -> traefik::Request {
        self.request.clone().from_peer(&self.address())
    }

    fn address(&self) -> String {
        SocketAddr::new(self.peer, 40_000).to_string()
    }

    /// The result in Traefik for a decision. Paid requests go to the gateway, which needs a relay; without a relay
    /// nothing is sold there.
    fn expected(&self, decision: &Decision, has_relay: bool) -> Came {
        match decision {
            Decision::Pay(_) if !has_relay => {
                self.expected(&Decision::Reply(answer(exchange::internal())), has_relay)
            }
            Decision::Reply(answer) => {
                let headers = answer.headers.iter();
                let mut headers: BTreeMap<_, _> =
                    headers.map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
                if !answer.body.is_empty() {
                    headers.insert("content-length".into(), answer.body.len().to_string().into_bytes());
                }
                if self.request.may_have_a_body() {
                    headers.insert("connection".to_owned(), b"close".to_vec());
                }
                Came::Answered(traefik::Reply { status: answer.status, headers, body: answer.body.clone() })
            }
            Decision::Forward(edits) => Came::Passed(self.edited(edits)),
            Decision::Pay(payment) => {
                let mut edits = self.with_head(&[], |head| edits(exchange::to_gateway(head)));
                if payment.unless_known.is_some() {
                    edits.set.push((RELAY_KNOWN.to_owned(), "1".to_owned()));
                }
                Came::Passed(self.edited(&edits))
            }
        }
    }

    fn edited(&self, edits: &Edits) -> traefik::Request {
        let path = edits.set.iter().find(|(name, _)| name == ":path");
        let target = path.map_or_else(|| self.line(":path").to_vec(), |(_, path)| path.clone().into_bytes());
        let mut sent = traefik::Request::with_method(&self.method(), target).from_peer(&self.address());
        sent.headers.clone_from(&self.request.headers);
        sent.headers.retain(|name, _| !edits.remove.contains(name));
        let others = edits.set.iter().filter(|(name, _)| name != ":path");
        sent.headers.extend(others.map(|(name, value)| (name.clone(), vec![value.clone().into_bytes()])));
        sent
    }
}

fn came(sent: Sent) -> Came {
    match sent {
        Sent::Replied(reply) => Came::Answered(reply),
        Sent::Passed(passed) => Came::Passed(passed.request.clone()),
        Sent::Trapped(trap) => panic!("the plugin trapped: {trap}"),
    }
}

/// The decision of the native core.
fn natively(rules: &Arc<RuleSet>, head: &RequestHead<'_>, now: u64) -> Decision {
    let now = Now { unix_ms: now };
    let arrival = Arrival { now, holder: Holder([0; 16]) };
    let Ok(turn) = exchange::begin(rules, head, || Ok::<_, std::convert::Infallible>(arrival));
    match turn.next {
        Next::Forward(passed, _) => Decision::Forward(edits(passed)),
        Next::Reply(reply) => Decision::Reply(answer(reply)),
        Next::Call(_) | Next::Step(_) => Decision::Pay(paid(rules.has_relay(), turn, now)),
        other => panic!("the core begins no exchange with {other:?}"),
    }
}

/// Continues to the upstream, with a facilitator or a relay that accepts every payment.
fn paid(relay: bool, mut turn: Turn, now: Now) -> Payment {
    let mut payment: Option<Payment> = None;
    let mut calls = Vec::new();
    loop {
        turn = match turn.next {
            Next::Call(calling) => {
                let asked = call(&calling);
                let operation = calling.call().operation;
                let yes = yes(relay, operation, &asked.body);
                calls.push(operation);
                assert_eq!(
                    payment.get_or_insert_with(|| asked.clone()).body,
                    asked.body,
                    "both calls have one body"
                );
                calling.answered(CallEnd::Reply { status: 200, body: &yes }, now)
            }
            Next::Step(stepping) => {
                let answer = match stepping.event() {
                    Event::Claim(_) => payment::Answer::Reserved,
                    Event::Begin(_) => {
                        let call = payment.as_ref().expect("a payment is verified first").body.clone();
                        payment::Answer::Call { epoch: 1, call: call.into(), transaction: None }
                    }
                    Event::Ended { .. } => payment::Answer::Settled { transaction: "0xaa".to_owned() },
                    other => panic!("no step of a request: {other:?}"),
                };
                stepping.stepped(Some(answer), &[], now)
            }
            Next::Serve(served, _) => {
                let payment = payment.expect("a payment is served after a call");
                let expected: &[_] = match payment.flow {
                    Flow::Authorization => &[Operation::Verify],
                    Flow::Upfront => &[Operation::Verify, Operation::Settle],
                };
                // A known payment that fails as a new one is served by its state, possibly with another flow.
                assert!(calls == expected || payment.unless_known.is_some(), "{calls:?}: {payment:?}");
                assert_eq!(payment.edits, edits(served), "what is said to go to the upstream goes there");
                return payment;
            }
            other => panic!("a payment that is agreed to comes to {other:?}"),
        }
    }
}

fn yes(relay: bool, operation: Operation, body: &[u8]) -> Vec<u8> {
    let transaction = || "0xaa".to_owned();
    match (relay, operation) {
        (true, Operation::Verify) => RelayReply::Valid.body(),
        (true, Operation::Settle) => RelayReply::Settled { transaction: transaction() }.body(),
        (false, Operation::Verify) => br#"{"isValid":true}"#.to_vec(),
        (false, Operation::Settle) => {
            let body: Value = serde_json::from_slice(body).expect("the call is JSON");
            let network = &body["paymentRequirements"]["network"];
            json!({"success": true, "transaction": transaction(), "network": network})
                .to_string()
                .into_bytes()
        }
    }
}

/// The payment with its first call.
fn call(calling: &Calling) -> Payment {
    let (call, (key, claim)) = (calling.call(), calling.claim());
    let unless_known = calling.unless_known();
    assert_eq!(claim.only_known, unless_known.is_some());
    let headers = call.headers.iter().filter(|(name, _)| *name != RELAY_HOLDER);
    Payment {
        key: key.0.to_vec(),
        fingerprint: claim.fingerprint.0.to_vec(),
        offer: claim.terms.offer,
        route: claim.terms.route,
        ends: claim.ends,
        unless_known: unless_known.map(answer),
        flow: match claim.terms.flow {
            terms::Flow::Authorization => Flow::Authorization,
            terms::Flow::Upfront => Flow::Upfront,
        },
        body: call.body.clone(),
        headers: headers.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        timeout_ms: call.timeout_ms,
        edits: edits(calling.edits_once_paid()),
    }
}

fn answer(reply: Reply) -> Answer {
    Answer {
        status: reply.status,
        headers: reply.headers.into_iter().map(|(name, value)| (name.into_owned(), value)).collect(),
        body: reply.body,
    }
}

fn edits(edits: HeaderEdits) -> Edits {
    let set = edits.set.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
    Edits { remove: edits.remove, set }
}
