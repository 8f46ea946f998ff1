//! No router of Traefik bypasses the table, for any table and any spelling of a path.

use farebox_core::rules::{self, Gate, Lookup, PushedRules, RuleSet, canonicalize};
use farebox_core::terms::{Settings, Unmatched};
use farebox_pricing::{HttpUrl, RouteUpstream};
use serde_json::Value;

use super::muxer::{self, Router, entry, routing_path};
use super::{pushed, settings};
use crate::publish::traefik::body;
use crate::settings::TraefikSettings;

const ONE: &str = "http://one:1";
const TWO: &str = "http://two:2";

/// A table, its rules, and the configuration for Traefik.
struct Stage {
    rules: PushedRules,
    upstreams: Vec<RouteUpstream>,
    set: RuleSet,
    body: Value,
    routers: Vec<Router>,
}

/// Pattern, gate, and the upstream: an address, `strip`, or nothing.
type Row<'a> = (&'a str, Gate, &'a str);

impl Stage {
    fn new(rows: &[Row<'_>], unmatched: Unmatched, settings: &TraefikSettings) -> Self {
        let mut rules = pushed(1);
        let template = rules.routes.remove(0);
        rules.settings = Settings { unmatched, ..Settings::default() };
        for (pattern, gate, _) in rows {
            let mut route =
                rules::PushedRoute { pattern: (*pattern).into(), gate: *gate, ..template.clone() };
            if *gate != Gate::Paid {
                route.options.clear();
            }
            rules.routes.push(route);
        }
        let closed = rows.iter().filter(|(_, gate, _)| *gate != Gate::Free);
        let place = |pattern: &str| match pattern.strip_suffix("/*").unwrap_or(pattern) {
            "" => "/".to_owned(),
            place => place.to_owned(),
        };
        rules.protected = closed.map(|(pattern, ..)| place(pattern)).collect();
        let upstream = |text: &str| RouteUpstream {
            url: HttpUrl::parse(text).ok(),
            strip_prefix: (text == "strip").then(|| "/a".to_owned()),
            ..RouteUpstream::default()
        };
        let upstreams: Vec<_> = rows.iter().map(|(.., text)| upstream(text)).collect();
        let set = RuleSet::compile(rules.clone()).unwrap();
        let body: Value = serde_json::from_str(&body::of(&rules, &upstreams, settings)).unwrap();
        let routers = muxer::routers(&body);
        Self { rules, upstreams, set, body, routers }
    }

    /// The router that Traefik chooses for a path of an entry point, among the working routers.
    fn route(&self, path: &str, works: impl Fn(&Router) -> bool) -> Option<&Router> {
        let text = routing_path(path);
        self.routers.iter().filter(|router| works(router)).find(|router| router.takes(&text))
    }

    fn url(&self, router: &Router) -> &str {
        self.body["http"]["services"][&router.service]["loadBalancer"]["servers"][0]["url"].as_str().unwrap()
    }

    /// Checks the law for the working routers. Returns whether the path went straight to an upstream.
    fn check(&self, path: &str, works: impl Fn(&Router) -> bool, context: &str) -> bool {
        let lookup = canonicalize(path.as_bytes()).map(|path| self.set.lookup(&path));
        let chosen = self.route(path, works);
        let Some(router) = chosen.filter(|router| self.url(router) != super::GATEWAY_URL) else {
            return false;
        };
        let said = format!("{path} ({lookup:?}) went by {} {context}", router.name);
        assert!(router.plugin, "past the plugin: {said}");
        let index = match lookup {
            Ok(Lookup::Route(index)) => index,
            Ok(_) => panic!("{said}"),
            // The plugin refuses an unreadable path.
            Err(_) => return false,
        };
        let route = &self.rules.routes[index.0 as usize];
        assert_eq!(route.gate, Gate::Free, "{said}");
        let upstream = &self.upstreams[index.0 as usize];
        let url = upstream.url.as_ref().map_or_else(|| super::DEFAULT_URL.to_owned(), ToString::to_string);
        assert_eq!(self.url(router), url, "{said}");
        assert!(upstream.strip_prefix.is_none(), "{said}");
        true
    }

    /// Whether a path of the table cannot reach an operator's own router.
    fn holds(&self, path: &str, works: impl Fn(&Router) -> bool) -> bool {
        self.route(path, works).is_some_and(|router| router.priority >= 1_000_000)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound
    }
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
    fn often(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

const SEGMENTS: [&str; 13] = ["a", "b", "ab", "a.b", "a:b", "a b", "é", "A", "$1", "k", "(x)", "100%", "~"];
const WILD: [&str; 9] = ["*", "a*", "*b", "a?", "[ab]", "[!a]*", "*.*", "**", "?*"];

fn pattern(random: &mut Random) -> String {
    let mut pattern = String::new();
    let wild = random.often(3);
    for _ in 0..random.below(4) {
        pattern.push('/');
        pattern.push_str(if wild && random.often(2) { random.one(&WILD) } else { random.one(&SEGMENTS) });
    }
    match random.below(3) {
        0 => pattern + "/*",
        _ if pattern.is_empty() => "/".to_owned(),
        _ => pattern,
    }
}

fn raw_path(random: &mut Random) -> String {
    let mut path = String::new();
    for _ in 0..=random.below(4) {
        path.push_str(random.one(&["/", "/", "/", "/", "/", "//", "/./", "/x/../", "%2F", "%2f", "%5C"]));
        let segment = if random.often(3) {
            random.one(&["", "x", "aa", "ba", "K", "ſ", "?"])
        } else {
            random.one(&SEGMENTS)
        };
        for byte in segment.bytes() {
            let must = !byte.is_ascii_graphic() || b"%?".contains(&byte);
            if must || random.often(6) {
                let text = format!("%{byte:02X}");
                path.push_str(&if random.often(3) { text.to_ascii_lowercase() } else { text });
            } else if random.often(12) {
                path.push(char::from(byte).to_ascii_uppercase());
            } else {
                path.push(char::from(byte));
            }
        }
        if random.often(8) {
            path.push_str(random.one(&[";x", "%3Bx", ";", ";/", "."]));
        }
    }
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if random.often(4) { path + "/" } else { path }
}

#[test]
fn only_what_the_core_calls_free_ever_goes_straight_to_an_upstream() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut straight, mut held) = (0, 0);
    for table in 0..400 {
        let rows: Vec<_> = (0..=random.below(7))
            .map(|_| {
                let gate =
                    random.one(&[Gate::Free, Gate::Free, Gate::Paid, Gate::Paid, Gate::Blocked, Gate::Auth]);
                (pattern(&mut random), gate, random.one(&["", ONE, ONE, TWO, "strip"]))
            })
            .collect();
        let rows: Vec<Row<'_>> = rows.iter().map(|(pattern, gate, to)| (&**pattern, *gate, *to)).collect();
        let unmatched = random.one(&[Unmatched::Deny, Unmatched::Pass]);
        let settings = settings();
        let stage = Stage::new(&rows, unmatched, &settings);
        for _ in 0..100 {
            let raw = raw_path(&mut random);
            let sanitize = !random.often(3);
            let path = entry(&raw, sanitize).unwrap();
            let context = format!("in table {table}: {rows:?}");
            straight += usize::from(stage.check(&path, |_| true, &context));
            assert!(!stage.check(&path, |router| !router.plugin, &context), "{path} {context}");
            // Traefik may drop any of the routers.
            let broken = random.below(64);
            let works = |router: &Router| {
                let position = stage.routers.iter().position(|other| other.name == router.name).unwrap();
                broken >> position & 1 == 0
            };
            stage.check(&path, works, &context);

            let lookup = canonicalize(path.as_bytes()).map(|path| stage.set.lookup(&path));
            if matches!(lookup, Ok(Lookup::Route(_) | Lookup::Protected)) {
                held += 1;
                assert!(stage.holds(&path, |_| true), "{path} {lookup:?} {context}");
                assert!(stage.holds(&path, |router| !router.plugin), "{path} {lookup:?} {context}");
            }
            if unmatched == Unmatched::Deny {
                assert!(stage.route(&path, |_| true).is_some(), "{path} {context}");
                assert!(stage.route(&path, |router| !router.plugin).is_some(), "{path} {context}");
            }
        }
    }
    assert!(straight > 500 && held > 8_000, "{straight} {held}");
}

fn gate(stage: &Stage, path: &str) -> String {
    let path = entry(path, true).unwrap();
    stage.route(&path, |_| true).map_or_else(|| "nobody".to_owned(), |router| stage.url(router).to_owned())
}

#[test]
fn free_paths_go_to_their_upstream_and_everything_else_to_the_gateway() {
    let stage = Stage::new(
        &[
            ("/v1/models", Gate::Free, ONE),
            ("/v1/chat/*", Gate::Paid, ONE),
            ("/v1/*", Gate::Free, ""),
            ("/docs/*.html", Gate::Free, TWO),
            ("/s/*", Gate::Free, "strip"),
        ],
        Unmatched::Deny,
        &settings(),
    );
    for (path, goes_to) in [
        ("/v1/models", ONE),
        ("/v1/models/", ONE),
        ("/v1/%6dodels", ONE),
        ("/v1/models/x", super::DEFAULT_URL),
        ("/v1/chat", super::GATEWAY_URL),
        ("/v1/chat/completions", super::GATEWAY_URL),
        ("/v1/%63hat/completions", super::GATEWAY_URL),
        ("/v1/chat;x/completions", super::GATEWAY_URL),
        ("/v1/chat%2Fcompletions", super::GATEWAY_URL),
        ("/v1/x/../chat/completions", super::GATEWAY_URL),
        ("/v1/embeddings", super::DEFAULT_URL),
        ("/V1/embeddings", super::GATEWAY_URL),
        ("/docs/a.html", TWO),
        ("/docs/a%20b.html", super::GATEWAY_URL),
        ("/s/x", super::GATEWAY_URL),
        ("/", super::GATEWAY_URL),
        ("/elsewhere", super::GATEWAY_URL),
    ] {
        assert_eq!(gate(&stage, path), goes_to, "{path}");
    }
    let free = stage.routers.iter().filter(|router| router.name.contains("free")).count();
    assert_eq!((free, stage.routers.len()), (3, 7), "one for each upstream, not for each route");
}

#[test]
fn paths_that_are_not_for_sale_are_left_to_other_routers_where_the_table_passes_them() {
    let rows: [Row<'_>; 2] = [("/paid/*", Gate::Paid, ""), ("/free", Gate::Free, ONE)];
    let stage = Stage::new(&rows, Unmatched::Pass, &settings());
    for (path, goes_to) in [
        ("/other", "nobody"),
        ("/paidx", "nobody"),
        ("/paid", super::GATEWAY_URL),
        ("/PAID/x", super::GATEWAY_URL),
        ("/paid%2Fx", super::GATEWAY_URL),
        ("/paid;v=1", super::GATEWAY_URL),
        ("/paid%5Cx", super::GATEWAY_URL),
        ("/free", ONE),
        ("/free;x", super::GATEWAY_URL),
        ("/free/x", "nobody"),
    ] {
        assert_eq!(gate(&stage, path), goes_to, "{path}");
    }
    let nothing = Stage::new(&[], Unmatched::Pass, &settings());
    assert!(nothing.routers.is_empty(), "{:?}", nothing.routers);
}

#[test]
fn without_an_upstream_of_its_own_a_free_route_goes_to_the_gateway() {
    let rows: [Row<'_>; 2] = [("/free", Gate::Free, ""), ("/path", Gate::Free, "http://one:1/base")];
    let stage = Stage::new(&rows, Unmatched::Deny, &TraefikSettings { upstream: None, ..settings() });
    assert_eq!(gate(&stage, "/free"), super::GATEWAY_URL);
    assert_eq!(gate(&stage, "/path"), super::GATEWAY_URL, "Traefik would ignore the path of the address");
}

#[test]
fn a_large_table_makes_few_routers() {
    let rows: Vec<_> = (0..2_000)
        .map(|number| {
            let gate = if number % 2 == 0 { Gate::Paid } else { Gate::Free };
            (format!("/offer-{number}/{}", if number % 3 == 0 { "*" } else { "x" }), gate, "")
        })
        .collect();
    let rows: Vec<Row<'_>> = rows.iter().map(|(pattern, gate, to)| (&**pattern, *gate, *to)).collect();
    let stage = Stage::new(&rows, Unmatched::Deny, &settings());
    assert_eq!(stage.routers.len(), 5);
    assert_eq!(gate(&stage, "/offer-1/x"), super::DEFAULT_URL);
    assert_eq!(gate(&stage, "/offer-10/x"), super::GATEWAY_URL);
}
