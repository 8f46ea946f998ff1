//! Pages of other origins: preflights, and which pages may read an answer.

use std::sync::Arc;

use super::host::{Host, MODES, rules_in};
use super::script::{End, Request, Story, Up, ok, request, settled, valid};
use super::world::{payment, rules_with};
use crate::rules::RuleSet;
use crate::terms::Cors;

const PAGE: &str = "https://app.example";

fn cors(origins: &[&str], credentials: bool) -> Option<Cors> {
    Some(Cors { origins: origins.iter().map(|&it| it.to_owned()).collect(), credentials, max_age: 60 })
}

fn selling_to_pages() -> Arc<RuleSet> {
    rules_with(|pushed| pushed.settings.cors = cors(&["https://other.example", PAGE], true))
}

/// The preflight of a browser for a page of `origin` that wants to send a payment.
fn preflight(path: &str, origin: &str) -> Request {
    request(path)
        .method("OPTIONS")
        .with("origin", origin)
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "content-type,payment-signature,x-trace")
}

fn from(origin: &str, path: &str) -> Request {
    request(path).with("origin", origin)
}

const ORIGIN: &str = "access-control-allow-origin";
const CREDENTIALS: &str = "access-control-allow-credentials";

fn granted(story: &Story) -> [Option<&str>; 3] {
    [ORIGIN, CREDENTIALS, "vary"].map(|name| story.header(name))
}

#[test]
fn a_preflight_is_answered_by_us_and_allows_nothing_unless_the_operator_says_so() {
    for rules in [
        rules_with(|_| {}),
        rules_with(|pushed| pushed.facilitator.as_mut().unwrap().ready = false),
        rules_with(|pushed| pushed.settings.cors = cors(&["https://other.example"], true)),
    ] {
        for path in ["/paid/a", "/up/a"] {
            let story = Host::with_rules(rules.clone()).play(&preflight(path, PAGE), &ok());
            assert_eq!((story.status(), story.reply().body.len(), story.short()), (204, 0, String::new()));
            assert!(!story.reply().headers.iter().any(|(name, _)| name.starts_with("access-control-")));
        }
    }
}

#[test]
fn an_allowed_page_may_pay_and_send_what_it_asks_for_within_reason() {
    let mut host = Host::with_rules(selling_to_pages());
    let story = host.play(&preflight("/paid/a", PAGE), &ok());
    assert_eq!((story.status(), story.short()), (204, String::new()));
    assert_eq!(granted(&story), [Some(PAGE), Some("true"), Some("Origin")]);
    assert_eq!(story.header("access-control-max-age"), Some("60"));
    let methods = story.header("access-control-allow-methods").unwrap();
    assert!(["GET", "POST", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
    let headers = story.header("access-control-allow-headers").unwrap().to_owned();
    let own = "PAYMENT-SIGNATURE, X-PAYMENT, Authorization, Content-Type";
    assert_eq!(headers, format!("{own}, content-type,payment-signature,x-trace"));
    for odd in ["x".repeat(1025), "a\"b".into(), "caf\u{e9}".into()] {
        let asked = preflight("/paid/a", PAGE).with("access-control-request-headers", odd);
        assert_eq!(host.play(&asked, &ok()).header("access-control-allow-headers"), Some(own));
    }
    let mut host = Host::with_rules(rules_with(|pushed| pushed.settings.cors = cors(&["*"], false)));
    let story = host.play(&preflight("/paid/a", PAGE), &ok());
    assert_eq!(granted(&story), [Some("*"), None, Some("Origin")]);
}

#[test]
fn what_no_browser_sends_is_no_preflight_and_is_priced() {
    let mut host = Host::with_rules(selling_to_pages());
    let plain = preflight("/paid/a", PAGE);
    let without = |name: &str| {
        let headers = plain.headers.iter().filter(|(known, _)| known != name).cloned().collect();
        Request { headers, ..plain.clone() }
    };
    for priced in [
        without("origin"),
        without("access-control-request-method"),
        plain.clone().with("content-length", "18"),
        plain.clone().with("content-length", "0").with("content-length", "18"),
        plain.clone().method("options"),
        plain.clone().method("GET"),
    ] {
        let story = host.play(&priced, &ok());
        assert_eq!((story.status(), story.short().as_str()), (402, "PaymentRequired@0"), "{priced:?}");
    }
    // Not every host shows a body in chunks, so the core does not look for one. Such a request gets the answer
    // of a preflight, and does not reach an upstream.
    for (name, value) in [("content-length", "0"), ("transfer-encoding", "chunked")] {
        let story = host.play(&plain.clone().with(name, value), &ok());
        assert!(story.status() == 204 && story.forwarded.is_none(), "{name}");
    }
    for path in ["/up/a", "/paid/a"] {
        let upgrade = preflight(path, PAGE).with("upgrade", "websocket");
        let story = host.play(&upgrade, &ok());
        assert!(matches!(story.status(), 402 | 501) && story.forwarded.is_none());
    }
}

#[test]
fn a_preflight_of_a_free_path_is_the_upstreams() {
    let mut host = Host::with_rules(selling_to_pages());
    assert!(matches!(host.play(&preflight("/free/a", PAGE), &ok()).end, End::Passed));
}

#[test]
fn an_allowed_page_reads_every_answer_of_ours_and_another_page_none() {
    let grants = [Some(PAGE), Some("true"), Some("Origin")];
    for mode in MODES {
        let rules = rules_in(mode, |pushed| pushed.settings.cors = cors(&[PAGE], true));
        let mut host = Host::with_rules(rules);
        for (path, status) in [("/paid/a", 402), ("/elsewhere", 404), ("/guarded/x", 403), ("/a%2Fb", 400)] {
            let story = host.play(&from(PAGE, path), &ok());
            assert_eq!((story.status(), granted(&story)), (status, grants), "{path}");
            for other in ["https://app.example.evil.test", "http://app.example", "null"] {
                let story = host.play(&from(other, path), &ok());
                assert_eq!(granted(&story), [None, None, Some("Origin")], "{other}");
            }
            assert_eq!(granted(&host.play(&request(path), &ok())), [None, None, Some("Origin")]);
        }
        host.script([super::script::invalid("insufficient_funds")]);
        let story = host.play(&from(PAGE, "/paid/a").paying(&payment(1)), &ok());
        assert_eq!((story.status(), granted(&story)), (402, grants));
    }
    let story = Host::new().play(&from(PAGE, "/paid/a"), &ok());
    assert_eq!(granted(&story), [None; 3]);
}

#[test]
fn an_allowed_page_reads_what_it_paid_for_unless_the_upstream_decides_itself() {
    let answers = |headers: &[(&'static str, &'static str)]| {
        let mut host = Host::with_rules(selling_to_pages());
        host.script([valid(), settled(84532, "0xabc")]);
        let story =
            host.play(&from(PAGE, "/paid/a").paying(&payment(1)), &Up::Answers(200, headers.to_vec()));
        [ORIGIN, CREDENTIALS, "vary"].map(|name| story.header(name).map(str::to_owned))
    };
    let vary = |text: &str| Some(text.to_owned());
    let (page, yes) = (Some(PAGE.to_owned()), Some("true".to_owned()));
    assert_eq!(answers(&[]), [page, yes, vary("PAYMENT-SIGNATURE, X-PAYMENT, Origin")]);
    let own = answers(&[(ORIGIN, "https://its.example"), ("vary", "origin, accept")]);
    assert_eq!(own, [None, None, vary("origin, accept, PAYMENT-SIGNATURE, X-PAYMENT")]);
    // A page may also read an error of the upstream, which is not charged.
    let mut host = Host::with_rules(selling_to_pages());
    host.script([valid()]);
    let failed = host.play(&from(PAGE, "/paid/a").paying(&payment(1)), &Up::Answers(500, Vec::new()));
    assert_eq!(granted(&failed), [Some(PAGE), Some("true"), Some("Origin")]);
}

#[test]
fn a_page_may_read_why_its_body_is_refused() {
    let host = Host::with_rules(selling_to_pages());
    let reply = host.refuses_body(&from(PAGE, "/free/a").with("content-length", "28")).unwrap();
    assert!(reply.headers.iter().any(|(name, value)| name == ORIGIN && value == PAGE), "{reply:?}");
}
