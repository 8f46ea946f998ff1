//! Header bytes that are not text.

use crate::common::{Request, text};

use crate::hostile_input::{Scene, at_upstream};

pub(crate) async fn bytes_that_are_no_text_are_data(scene: &Scene) {
    const BYTES: &[u8] = b"a\xff\xfe\x80b";
    let names = [
        "x-bytes",
        "user-agent",
        "accept",
        "origin",
        "cookie",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "access-control-request-method",
        "authorization",
        "x-request-id",
        "content-type",
        "sec-fetch-mode",
        "referer",
        "x-original-url",
    ];
    for name in names {
        let echo = scene.served(&Request::get("/free/a").header(name, BYTES));
        assert_eq!(echo["path"], "/free/a", "{name}");
        scene.assert_refused(&Request::get("/paid/a").header(name, BYTES), &[402]);
    }
    for name in ["payment-signature", "x-payment"] {
        let answer = scene.assert_refused(&Request::get("/paid/a").header(name, BYTES), &[400]);
        assert_eq!(answer.json()["reason"], "invalid_payment_header", "{name}");
        assert_eq!(at_upstream(&scene.served(&Request::get("/free/a").header(name, BYTES)), name), [""; 0]);
    }
    // Spoofed identity that is not even text.
    let echo = scene.served(&Request::get("/free/a").header("x-payment-payer", BYTES));
    assert_eq!(at_upstream(&echo, "x-payment-payer"), [""; 0]);
    for name in [&b"x-\xff"[..], b"\xff", b"x\x00y", b"x y", b"", b"x(y)", b"x\x7f"] {
        scene.assert_refused(&Request::get("/paid/a").header(name, "v"), &[400, 402]);
    }
    for value in [&b"a\x00b"[..], b"a\x01b", b"a\x7fb", b"\x00", b"a\rb"] {
        scene.assert_refused(&Request::get("/paid/a").header("x-bytes", value), &[400, 402]);
        scene.assert_refused(&Request::get("/paid/a").header("payment-signature", value), &[400, 402]);
    }
    for host in [&b"a\xffb"[..], b"", b"a b", b"<script>", b"a/b", b"a\"b", b"[::1", b"user@host"] {
        let answer = scene.assert_refused(&Request::get("/paid/a").header("host", host), &[400, 402]);
        assert!(!text(&answer.body).contains("<script>"), "{}", answer.summary());
    }
    let browser = Request::get("/paid/a?<script>alert(1)</script>")
        .header("accept", "text/html")
        .header("user-agent", "Mozilla/5.0");
    let page = scene.assert_refused(&browser, &[402, 400]);
    assert!(!text(&page.body).contains("<script>alert"), "{}", page.summary());
}
