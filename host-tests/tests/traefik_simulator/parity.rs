//! The plugin answers as the core does natively, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::Now;
use farebox_core::exchange::{self, Arrival, Next, RequestHead, Transport};
use farebox_core::payment::Holder;
use farebox_host_tests::traefik::{Reply, Request, START, Sent, Traefik};

use crate::shop::{config, forged, native, open, paying, payment};

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Answered(Reply),
    Passed { uri: String, headers: Vec<String> },
}

pub(crate) fn in_traefik(traefik: &Traefik, request: &Request) -> Came {
    match traefik.send(request.clone()) {
        Sent::Replied(reply) => Came::Answered(reply),
        Sent::Passed(passed) => Came::Passed {
            uri: passed.request.uri(),
            headers: passed.request.headers.keys().cloned().collect(),
        },
        Sent::Trapped(trap) => panic!("{trap}"),
    }
}

pub(crate) fn natively(request: &Request) -> Came {
    let lines = request.lines();
    let transport = Transport { tls: false, peer: None };
    let head = RequestHead { headers: &lines, transport };
    let rules = native();
    let arrival = Arrival { now: Now { unix_ms: START * 1_000 }, holder: Holder([0; 16]) };
    let turn = exchange::begin(&rules, &head, || Ok::<_, ()>(arrival)).unwrap();
    let edits = match turn.next {
        Next::Reply(reply) => {
            let mut headers: BTreeMap<_, _> = reply
                .headers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes().to_vec()))
                .collect();
            if request.may_have_a_body() {
                headers.insert("connection".into(), b"close".to_vec());
            }
            let body = reply.body.to_vec();
            if !body.is_empty() {
                headers.insert("content-length".into(), body.len().to_string().into_bytes());
            }
            return Came::Answered(Reply { status: reply.status, headers, body });
        }
        Next::Forward(edits, _) => edits,
        Next::Call(calling) => calling.to_gateway(&head),
        _ => panic!("the core begins no exchange with this"),
    };
    let uri = edits
        .set
        .iter()
        .find(|(name, _)| name == ":path")
        .map_or_else(|| request.uri(), |(_, uri)| uri.clone());
    let kept = request.headers.keys().filter(|name| !edits.remove.contains(name)).cloned();
    let set = edits.set.iter().map(|(name, _)| name.to_string()).filter(|name| name != ":path");
    // Headers by name, as in the host: a set header replaces earlier ones.
    let headers: BTreeSet<String> = kept.chain(set).collect();
    Came::Passed { uri, headers: headers.into_iter().collect() }
}

#[test]
fn a_table_of_requests_comes_to_the_same_natively() {
    let traefik = open();
    let payment = payment(&traefik, "/paid/x", 1);
    let html = "text/html,application/xhtml+xml";
    let requests = [
        Request::get("/paid/x"),
        Request::get("/paid/x?q=1"),
        Request::get("/paid"),
        Request::get("/PAID/x"),
        Request::get("/paid/x").header("accept", html).header("user-agent", "Mozilla/5.0"),
        Request::get("/paid/x").header("origin", "https://shop.example"),
        Request::with_method("HEAD", "/paid/x"),
        Request::with_method("POST", "/paid/x"),
        Request::with_method("OPTIONS", "/paid/x")
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "POST"),
        Request::get("/paid/x").header("connection", "upgrade").header("upgrade", "websocket"),
        Request::get("/paid/x").header("payment-signature", "not base64"),
        Request::get("/paid/x").header("payment-signature", "e30="),
        Request::get("/paid/x").header("x-payment", "e30="),
        Request::get("/paid/x").header("payment-signature", [0xff, 0xfe]),
        Request::get("/paid/x").header("payment-signature", "x".repeat(60_000)),
        paying("/paid/x", &payment),
        paying("/paid/x", &payment).header("payment-signature", "e30="),
        paying("/paid/x", &forged(&payment)),
        paying("/upfront/x", &payment),
        Request::get("/upfront/x"),
        Request::get("/free/x"),
        Request::get("/free/%41?x"),
        Request::get("/free//x"),
        Request::get("/broken/x"),
        Request::get("/elsewhere"),
        Request::get("/paid/../free/x"),
        Request::get("/paid%2Fx"),
        Request::get("/paid;v=1/x"),
        Request::get("/free/%"),
        Request::get([b"/free/".as_slice(), &[0xff]].concat()),
        Request::get("*"),
    ];
    for request in &requests {
        assert_eq!(in_traefik(&traefik, request), natively(request), "{request:?}");
    }
}

#[test]
fn a_payment_in_plaintext_from_a_public_address_is_refused_before_anything_else() {
    let mut config = config("guest");
    config["rules"]["settings"]["requireSecureTransport"] = true.into();
    let traefik = Traefik::new(&config);
    let payment = payment(&traefik, "/paid/x", 1);
    for (peer, proto, refused) in [
        ("203.0.113.7:40000", "http", true),
        ("[2001:db8::1]:40000", "http", true),
        ("203.0.113.7:40000", "https", false),
        ("10.0.0.9:40000", "http", false),
    ] {
        let mut request = paying("/paid/x", &payment).from_peer(peer);
        request.headers.insert("x-forwarded-proto".into(), vec![proto.into()]);
        match traefik.send(request) {
            Sent::Replied(reply) => {
                assert!(refused && reply.status == 400, "{peer} {proto}: {reply:?}");
                assert!(String::from_utf8_lossy(&reply.body).contains("insecure_transport"), "{reply:?}");
            }
            Sent::Passed(_) => assert!(!refused, "{peer} {proto}"),
            Sent::Trapped(trap) => panic!("{trap}"),
        }
    }
}
