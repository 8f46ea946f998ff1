//! No fault leads to an unpaid answer.

use std::time::Duration;

use farebox_host_tests::traefik::{Request, Sent, Traefik};
use serde_json::{Value, json};

use crate::parity::in_traefik;
use crate::shop::{config, open, paying, payment, pushed};

#[test]
fn a_bad_config_refuses_everything() {
    let mut other_format = config("guest");
    other_format["rules"]["format"] = 99.into();
    let mut unknown = config("guest");
    unknown["more"] = true.into();
    let retyped = json!({"config": config("guest")}).to_string();
    let raw: [Vec<u8>; 8] = [
        b"".to_vec(),
        b"null".to_vec(),
        b"{}".to_vec(),
        b"\xff\x00".to_vec(),
        br#"{"config":"{"}"#.to_vec(),
        json!({"config": other_format.to_string()}).to_string().into_bytes(),
        json!({"config": unknown.to_string()}).to_string().into_bytes(),
        retyped.into_bytes(),
    ];
    for config in raw {
        let shown = String::from_utf8_lossy(&config).chars().take(80).collect::<String>();
        let traefik = Traefik::with_raw(&config);
        for path in ["/paid/x", "/free/x", "/", "/elsewhere"] {
            let reply = traefik.send(Request::get(path)).expect_reply();
            assert_eq!(reply.status, 503, "{path} with {shown}");
        }
        assert!(traefik.log().iter().any(|line| line.text.contains("every request is refused")), "{shown}");
    }
}

#[test]
fn a_trap_does_not_poison_the_next_request() {
    let traefik = open();
    let payment = payment(&traefik, "/paid/x", 1);
    let requests = [Request::get("/paid/x"), Request::get("/free/a%62"), paying("/paid/x", &payment)];
    let normal: Vec<_> = requests.iter().map(|request| in_traefik(&traefik, request)).collect();
    for request in &requests {
        let mut at = 1;
        while let Sent::Trapped(trap) = traefik.send_crashing(request.clone(), Some(at)) {
            assert!(trap.contains("injected"), "{trap}");
            for (request, normal) in requests.iter().zip(&normal) {
                assert_eq!(&in_traefik(&traefik, request), normal, "after a trap at host call {at}");
            }
            at += 1;
        }
        assert!(at > 4, "{at}: there are host calls to trap at");
    }
    assert_eq!(traefik.made(), 1, "it was the same instance all the time");
}

#[test]
fn main_takes_less_than_five_milliseconds() {
    let mut rules = pushed();
    let paid = rules.routes[0].clone();
    for number in 0..50 {
        rules
            .routes
            .push(farebox_core::rules::PushedRoute { pattern: format!("/offer-{number}/*"), ..paid.clone() });
    }
    let mut config: Value = config("guest");
    config["rules"] = serde_json::to_value(rules).unwrap();
    let traefik = Traefik::new(&config);
    let fastest = (0..20).map(|_| traefik.time_start()).min().unwrap();
    assert!(fastest < Duration::from_millis(5), "{fastest:?}");
}
