//! The memory and time of an instance: there is one for each request in flight, and its memory never
//! shrinks.

use std::time::Duration;

use farebox_host_tests::traefik::{Request, Traefik};
use serde_json::{Value, json};

use crate::shop::{config, large_config};

const ROUTES: usize = 1_000;
/// With the few routes of the shop: the stack, the constants of the program, and one page of tables.
const SMALL: usize = 640 << 10;
/// Memory of a further route: its text, or its compiled form.
const PER_ROUTE: usize = 2 << 10;
/// Longest time in an optimising engine; Traefik's engine takes several times as long.
const START: Duration = Duration::from_millis(40);

#[test]
fn an_instance_is_small_and_a_further_route_adds_little_to_it() {
    let small = Traefik::new(&config("guest")).memory_in_use();
    let large = large_config(ROUTES);
    let text = large.to_string().len();
    let traefik = Traefik::new(&large);
    let memory = traefik.memory_in_use();
    let took = (0..5).map(|_| traefik.time_start()).min().unwrap();
    println!("{small} bytes; with {ROUTES} more routes of {text} bytes {memory} bytes, {took:?} to start");
    assert!(small < SMALL, "{small}");
    assert!(memory < small + ROUTES * PER_ROUTE, "{memory}");
    assert!(took < START, "{took:?}");
}

#[test]
fn challenges_of_a_thousand_routes_leave_nothing_behind() {
    let traefik = Traefik::new(&large_config(ROUTES));
    let ask = |number: usize| {
        let reply = traefik.send(Request::get(format!("/more/{number}/x"))).expect_reply();
        assert_eq!(reply.status, 402);
        let text = String::from_utf8(reply.body).unwrap();
        assert!(text.contains(&format!("\\\"customer\\\" {number}, one call.")), "{text}");
    };
    ask(1);
    let before = traefik.memory_in_use();
    (1..=ROUTES).for_each(ask);
    assert_eq!(traefik.made(), 1);
    assert_eq!(traefik.memory_in_use(), before);
}

#[test]
fn text_is_read_whatever_a_provider_escapes_of_it() {
    let mut rules = config("guest");
    let description = "\"a\" \\\\ b / \u{8}\u{c}\n\r\t é 漢 😀 <&> \u{2028}";
    rules["rules"]["routes"][0]["description"] = json!(description);
    let described = |raw: &str| {
        let reply = Traefik::with_raw(raw.as_bytes()).send(Request::get("/paid/x")).expect_reply();
        assert_eq!(reply.status, 402, "{raw}");
        let value: Value = serde_json::from_slice(&reply.body).unwrap();
        value["resource"]["description"].clone()
    };
    let plain = json!({"config": rules.to_string()}).to_string();
    assert_eq!(described(&plain), description);
    // The escapes that Go writes, and all possible escapes.
    let units = |escape_all: bool| {
        let text = rules.to_string();
        let escaped = text.chars().map(|char| match char {
            '"' if !escape_all => "\\\"".to_owned(),
            '\\' if !escape_all => "\\\\".to_owned(),
            char if escape_all || !char.is_ascii() || "<&>".contains(char) => {
                char.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            }
            char => char.to_string(),
        });
        format!("{{\"config\":\"{}\"}}", escaped.collect::<String>())
    };
    assert_eq!(described(&units(false)), description);
    assert_eq!(described(&units(true)), description);
    for broken in [
        r#"{"config":"\ud83d"}"#,
        r#"{"config":"\ud83dx"}"#,
        r#"{"config":"\ud83d\u0041"}"#,
        r#"{"config":7}"#,
    ] {
        let traefik = Traefik::with_raw(broken.as_bytes());
        assert_eq!(traefik.send(Request::get("/free/x")).expect_reply().status, 503, "{broken}");
    }
}
