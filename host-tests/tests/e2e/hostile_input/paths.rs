//! Other spellings of a paid path, other methods, and other ways to name a path.

use crate::common::Request;
use serde_json::json;

use crate::hostile_input::Scene;

/// Spellings of a paid path, or traversals into it, that some program has served unpaid. None of them
/// may reach the upstream. The status is the filter's, if Envoy does not refuse before.
const PATHS: &[(&[u8], u16)] = &[
    // Backslashes, raw and encoded.
    (b"/paid/a\\b", 400),
    (b"/paid\\a", 400),
    (b"\\paid\\a", 400),
    (b"/paid/a\\", 400),
    (b"/paid%5Ca", 400),
    (b"/paid/a%5cb", 400),
    (b"/free\\..\\paid/a", 400),
    // Encoded slashes.
    (b"/paid%2Fa", 400),
    (b"/paid/a%2Fb", 400),
    (b"/paid/a%2f", 400),
    (b"%2Fpaid/a", 400),
    (b"/%2Fpaid/a", 400),
    (b"/free%2F..%2Fpaid/a", 400),
    // Encoded twice.
    (b"/paid%252Fa", 400),
    (b"/%2570aid/a", 400),
    (b"/paid/%252e%252e/paid/a", 400),
    (b"/paid%255Ca", 400),
    // Malformed escapes.
    (b"/paid/%", 400),
    (b"/paid/%c", 400),
    (b"/paid/%zz", 400),
    (b"/paid/%c0", 400),
    (b"/%c0%afpaid/a", 400),
    (b"/paid/%e0%80%af", 400),
    (b"/paid%", 400),
    // Empty segments.
    (b"//paid/a", 402),
    (b"/paid//a", 402),
    (b"///paid///a", 402),
    (b"//paid//", 402),
    (b"/paid/a//", 402),
    // The bare prefix.
    (b"/paid", 402),
    (b"/paid/", 402),
    // Ordinary letters encoded, other case.
    (b"/%70aid/a", 402),
    (b"/p%61id/a", 402),
    (b"/PAID/a", 403),
    (b"/Paid/a", 403),
    (b"/%50AID/a", 403),
    (b"/paid/%61", 402),
    // Line breaks and other separators in a segment.
    (b"/paid/%0a", 400),
    (b"/paid/%0d%0a", 400),
    (b"/paid%0a/a", 400),
    (b"/paid/a%e2%80%a8b", 402),
    (b"/paid/a%e2%80%a9b", 402),
    (b"/paid/%09", 400),
    // Dot segments.
    (b"/free/../paid/a", 400),
    (b"/free/./../paid/a", 400),
    (b"/./paid/a", 400),
    (b"/paid/./a", 400),
    (b"/paid/../paid/a", 400),
    (b"/free/%2e%2e/paid/a", 400),
    (b"/free/.%2e/paid/a", 400),
    (b"/free/%2E./paid/a", 400),
    (b"/%2e/paid/a", 400),
    (b"/../paid/a", 400),
    (b"/free/..;/paid/a", 400),
    (b"/free/..;x=1/paid/a", 400),
    (b"/free/..%2fpaid/a", 400),
    (b"/free/%2e%2e%2fpaid/a", 400),
    (b"/free/..%5cpaid/a", 400),
    (b"/free/..//paid/a", 400),
    // Parameters.
    (b"/paid;x=1/a", 400),
    (b"/paid;/a", 400),
    (b"/;/paid/a", 400),
    (b"/paid/a;x=1", 402),
    (b"/paid/;a", 402),
    // Dots and spaces that some servers drop.
    (b"/paid./a", 400),
    (b"/paid%20/a", 400),
    (b"/paid/a.", 402),
    (b"/free/..%20/paid/a", 400),
    // NUL.
    (b"/paid/%00", 400),
    (b"/paid%00/a", 400),
    (b"/paid/a%00.free", 400),
    (b"/free/%00/../paid/a", 400),
    // Query and fragment.
    (b"/paid/a?x=/free/a", 402),
    (b"/paid/a?", 402),
    (b"/paid?/free/", 402),
    (b"/paid/a%3f/free", 400),
    (b"/paid/a#/free/a", 400),
    (b"/paid#", 400),
    (b"/paid/a%23", 400),
    (b"/paid/a?%", 402),
    (b"/paid/a?a=%00", 402),
    // Absolute form.
    (b"http://shop.example/paid/a", 402),
    (b"http://elsewhere.example/paid/a", 402),
    (b"http://shop.example//paid/a", 402),
    (b"http://shop.example/free/../paid/a", 400),
    (b"HTTP://SHOP.EXAMPLE/paid/a", 402),
    (b"http://shop.example:80/paid/a", 402),
    (b"http://user@shop.example/paid/a", 402),
    (b"https://shop.example/paid/a", 403),
    (b"http:///paid/a", 400),
    (b"paid/a", 400),
    (b"*", 400),
    // Bytes that are no URL.
    (b"/paid/\xff", 400),
    (b"/paid\xff/a", 400),
    (b"/\xc0\xafpaid/a", 400),
    (b"/paid/\x01", 400),
    (b"/paid/\x7f", 400),
    (b"/paid/a\x00", 400),
    (b"/paid/\xe2\x80\xa8", 400),
    (b"/paid/a?\xff", 400),
];

pub(crate) async fn no_spelling_of_a_path_bypasses_payment(scene: &Scene, guarded: bool) {
    for (path, status) in PATHS {
        for method in ["GET", "POST"] {
            let statuses: &[u16] = if guarded { &[400, 402, 403] } else { &[*status] };
            scene.assert_refused(&Request::new(method, path), statuses);
        }
    }
    // Other headers of a client about the path have no effect.
    for name in
        ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Envoy-Original-Path", "X-HTTP-Path"]
    {
        scene.assert_refused(&Request::get("/paid/a").header(name, "/free/a"), &[402]);
        let echo = scene.served(&Request::get("/free/a").header(name, "/paid/a"));
        assert_eq!(echo["path"], "/free/a");
    }
    // A query is passed on unchanged and never affects the match.
    let echo = scene.served(&Request::get("/free/a?/../paid/a&b=%2F"));
    assert_eq!((&echo["path"], &echo["query"]), (&json!("/free/a"), &json!("/../paid/a&b=%2F")));
    // The upstream sees the path that was matched.
    assert_eq!(scene.served(&Request::get("/fre%65/%7Ea"))["path"], "/free/~a");
    assert_eq!(scene.served(&Request::get("//free//a"))["path"], "/free/a");
}

pub(crate) async fn no_method_bypasses_payment(scene: &Scene) {
    let methods =
        ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "FOO", "get", "Get", "M-SEARCH"];
    for method in methods {
        scene.assert_refused(&Request::new(method, "/paid/a"), &[402, 400]);
    }
    let head = scene.assert_refused(&Request::new("HEAD", "/paid/a"), &[402]);
    assert!(head.header("payment-required").is_some());
    for target in ["/paid/a", "shop.example:80"] {
        scene.assert_refused(&Request::new("CONNECT", target), &[400, 403, 404, 501]);
    }
    let preflight = Request::new("OPTIONS", "/paid/a").header("origin", "https://a.example");
    let preflight = preflight.header("access-control-request-method", "POST");
    let before = scene.hits();
    // Envoy shows the filter no `Transfer-Encoding`.
    for preflight in [preflight.clone(), preflight.clone().header("transfer-encoding", "chunked")] {
        assert_eq!(preflight.send(scene.stack.proxy_address()).status, 204);
        assert_eq!(scene.hits(), before);
    }
    scene.assert_refused(&preflight.header("content-length", "18"), &[402]);
    for name in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"] {
        scene.assert_refused(&Request::new("POST", "/paid/a").header(name, "OPTIONS"), &[402]);
    }
    // An upgrade is refused before a buyer signs a payment.
    let upgrade = |to: &str| Request::get("/paid/a").header("connection", "upgrade").header("upgrade", to);
    for protocol in ["websocket", "WebSocket"] {
        let answer = scene.assert_refused(&upgrade(protocol), &[501]);
        assert_eq!(answer.json()["reason"], "upgrade_unsupported");
        assert!(!answer.challenges(), "{protocol}: {}", answer.summary());
    }
    // Envoy supports no other protocol, and either refuses the request or ignores the upgrade.
    for protocol in ["h2c", "connect-udp", "\u{ff}", "tls/1.2, websocket"] {
        scene.assert_refused(&upgrade(protocol), &[402, 403, 404, 501]);
    }
    for method in ["G\u{ff}T", "GET\u{0}", "", "GE T"] {
        scene.assert_refused(&Request::new(method, "/paid/a"), &[0, 400]);
    }
}
