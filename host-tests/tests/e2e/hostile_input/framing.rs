//! Where a request begins and ends, and in which version of the protocol.

use std::io::Read;

use crate::common::{Request, exchange, text};
use serde_json::json;

use crate::hostile_input::Scene;

pub(crate) async fn no_framing_bypasses_payment(scene: &Scene) {
    let second = "GET /paid/hidden HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    for head in [
        format!(
            "POST /free/a HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\ncontent-length: {}\r\n\r\n",
            second.len()
        ),
        format!(
            "POST /paid/a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            second.len()
        ),
        "POST /paid/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n".to_owned(),
        "POST /paid/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n".to_owned(),
        "POST /paid/a HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(),
        "POST /paid/a HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n".to_owned(),
        "GET /paid/a HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n".to_owned(),
        "GET /paid/a HTTP/1.1\r\nhost: x\r\nx : a\r\n\r\n".to_owned(),
        "GET /paid/a HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n".to_owned(),
        "GET /paid/a HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n".to_owned(),
        "GET /paid/a HTTP/1.1\r\n\r\n".to_owned(),
        "GET /paid/a HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(),
        "GET /paid/a\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(),
        "GET /paid/a HTTP/1.1\nhost: x\n\n".to_owned(),
        "GET  /paid/a  HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
    ] {
        let answer = scene.refused(format!("{head}{second}").as_bytes());
        assert!(matches!(answer.status, 0 | 400 | 402 | 426 | 501 | 505), "{head}\n{}", answer.summary());
    }
    // An unpaid request gets no `100 Continue`.
    let waiting =
        Request::new("POST", "/paid/a").header("content-length", "5").header("expect", "100-continue");
    let mut first = [0; 12];
    waiting.begin(scene.stack.proxy_address()).read_exact(&mut first).expect("an answer");
    assert_eq!(text(&first), "HTTP/1.1 402");
    // A second request hidden in a body stays a body.
    let body =
        format!("POST /free/a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{second}", second.len());
    let answer = exchange(scene.stack.proxy_address(), body.as_bytes());
    assert_eq!((answer.status, &answer.json()["bodyBytes"]), (200, &json!(second.len())));
    assert_eq!(scene.stack.origin().unwrap().hits().of("/paid/hidden"), 0);
}

pub(crate) async fn http_1_0_is_priced_like_any_other(scene: &Scene, accepted: bool) {
    let answer = scene.refused(b"GET /paid/a HTTP/1.0\r\nhost: shop.example\r\n\r\n");
    assert_eq!(answer.status, if accepted { 402 } else { 426 }, "{}", answer.summary());
    let answer = scene.refused(b"GET /paid/a HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status, if accepted { 402 } else { 426 }, "{}", answer.summary());
}
