//! Requests that the plugin passes on, and their changes.

use farebox_host_tests::traefik::{Request, START, Traefik};
use farebox_testkit::paths;
use farebox_testkit::wallet::{Wallet, Window};
use serde_json::Value;
use wasmtime::{Config, Engine, Module};

use crate::shop::{config, forged, open, paying, payment};

#[test]
fn a_free_route_passes_without_what_others_could_lie_with() {
    let traefik = open();
    let request = Request::get("/free/a%62c?q=%62")
        .header("payment-signature", "x")
        .header("x-payment-payer", "0x1")
        .header("x_verified_wallet", "0x1")
        .header("x-mine", "kept");
    let passed = traefik.send(request).expect_passed();
    assert_eq!(passed.request.uri(), "/free/abc?q=%62");
    let names: Vec<_> = passed.request.headers.keys().map(String::as_str).collect();
    assert_eq!(names, ["host", "user-agent", "x-forwarded-proto", "x-mine"]);
}

#[test]
fn a_preflight_of_a_paid_path_is_answered_here_and_never_goes_on() {
    let traefik = open();
    let preflight = || {
        Request::with_method("OPTIONS", "/paid/x")
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST")
    };
    let reply = traefik.send(preflight()).expect_reply();
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    let reply = traefik.send(preflight().header("content-length", "3")).expect_reply();
    assert_eq!(reply.status, 402);
}

#[test]
fn a_paid_request_goes_on_with_its_payment_and_without_forged_identity() {
    let traefik = open();
    let request = paying("/paid/x", &payment(&traefik, "/paid/x", 1)).header("x-payment-payer", "0x1");
    let sent = request.clone();
    let passed = traefik.send(request).expect_passed();
    assert_eq!(passed.request.get_header("payment-signature"), sent.get_header("payment-signature"));
    assert_eq!(passed.request.get_header("x-payment-payer"), None);
    assert_eq!(passed.request.uri(), "/paid/x");
}

#[test]
fn a_payment_that_is_no_good_as_a_new_one_goes_on_because_its_life_decides_first() {
    let traefik = open();
    let offer = payment(&traefik, "/paid/x", 1)["accepted"].clone();
    let sign = |offer: &Value, window: Window| Wallet::numbered(1).pay_v2(offer, window).unwrap();
    let window = Window::numbered(1, START, 600);
    let mut cheaper = offer.clone();
    cheaper["amount"] = "999".into();
    let mut elsewhere = offer.clone();
    elsewhere["payTo"] = "0x00000000000000000000000000000000000000b6".into();
    let known = [
        ("its window is closed", sign(&offer, Window { valid_before: START - 1, ..window })),
        ("its window is not open yet", sign(&offer, Window { valid_after: START + 60, ..window })),
        ("the price was another", sign(&cheaper, window)),
        ("the wallet was another", sign(&elsewhere, window)),
        ("the route was another", payment(&traefik, "/upfront/x", 1)),
    ];
    for (why, payment) in &known {
        let request = paying("/paid/x", payment);
        let passed = traefik.send(request.clone()).expect_passed();
        let header = passed.request.get_header("payment-signature");
        assert_eq!(header, request.get_header("payment-signature"), "{why}");
        // A forged signature is refused, with any other fault.
        assert_eq!(traefik.send(paying("/paid/x", &forged(payment))).expect_reply().status, 402, "{why}");
    }
}

#[test]
fn a_payment_in_an_unknown_token_is_refused_here() {
    let traefik = open();
    let mut offer = payment(&traefik, "/paid/x", 1)["accepted"].clone();
    let window = Window::numbered(1, START, 600);
    for (member, value) in
        [("asset", "0x00000000000000000000000000000000c0ffee00"), ("network", "eip155:137")]
    {
        let known = std::mem::replace(&mut offer[member], value.into());
        let payment = Wallet::numbered(1).pay_v2(&offer, window).unwrap();
        assert_eq!(traefik.send(paying("/paid/x", &payment)).expect_reply().status, 402, "{member}");
        offer[member] = known;
    }
}

#[test]
fn a_forged_signature_is_refused_here_unless_the_gateway_is_to_do_it() {
    let here = open();
    let forged = forged(&payment(&here, "/paid/x", 1));
    let reply = here.send(paying("/paid/x", &forged)).expect_reply();
    assert_eq!(reply.status, 402, "{reply:?}");
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.contains("signature"), "{text}");
    let there = Traefik::new(&config("gateway"));
    let passed = there.send(paying("/paid/x", &forged)).expect_passed();
    assert!(passed.request.get_header("payment-signature").is_some());
}

#[test]
fn headers_of_any_size_arrive_byte_for_byte() {
    let traefik = open();
    for size in [1, 100, 2_047, 2_048, 2_049, 3_000, 16_384, 60_000] {
        let value: Vec<u8> = (0..size).map(|at| b"abcdefghijklmnopqrstuvwxyz\xff\xe9"[at % 28]).collect();
        let request =
            Request::get(format!("/free/{}", "x".repeat(size.min(8_000)))).header("x-large", &value);
        let passed = traefik.send(request.clone()).expect_passed();
        assert_eq!(passed.request, request, "{size}");
    }
}

#[test]
fn many_requests_at_once_have_an_instance_each_and_one_after_the_other_share_one() {
    let traefik = open();
    for _ in 0..20 {
        drop(traefik.send(Request::get("/free/x")).expect_passed());
    }
    assert_eq!(traefik.made(), 1);
    let under_way: Vec<_> = (0..64).map(|_| traefik.send(Request::get("/free/x")).expect_passed()).collect();
    assert_eq!(traefik.made(), 64);
    assert_eq!(traefik.send(Request::get("/paid/x")).expect_reply().status, 402);
    drop(under_way);
    drop(traefik.send(Request::get("/free/x")).expect_passed());
    assert_eq!(traefik.made(), 65);
}

#[test]
fn the_plugin_as_it_is_shipped_has_no_bulk_memory_instruction_and_no_names() {
    let wasm = std::fs::read(paths::traefik_module(&paths::traefik_plugin().unwrap())).unwrap();
    let mut config = Config::new();
    config.wasm_bulk_memory(false);
    Module::validate(&Engine::new(&config).unwrap(), &wasm).unwrap();
    // The section of names is recognised by its own name of four letters.
    assert!(!wasm.windows(5).any(|bytes| bytes == b"\x04name"));
}

#[test]
fn the_plugin_asks_for_nothing_it_must_not_use() {
    let imports = Traefik::imports();
    for never in [
        "enable_features",
        "read_body",
        "get_status_code",
        "set_method",
        "random_get",
        "sock_",
        "poll_oneoff",
    ] {
        assert!(!imports.iter().any(|import| import.contains(never)), "{never} in {imports:?}");
    }
}
