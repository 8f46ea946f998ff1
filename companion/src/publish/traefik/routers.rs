//! Which router of Traefik takes which path.
//!
//! A wrong router would be an unpaid way to an upstream, so each is safe by itself, whatever becomes of the
//! others:
//!
//! * A router to an upstream takes plain paths only that the table calls free, and names what comes earlier in
//!   the table as taken away, in every letter case. Traefik and the plugin cannot read such a path differently, and
//!   the plugin decides again.
//! * All other paths of the table, in every spelling, go to the gateway: through the plugin, and by a shield
//!   without the plugin for the time when Traefik cannot load it and drops every router that names it. The
//!   gateway takes nothing on trust, so a path too many there costs a hop and opens nothing.
//!
//! Each router that names the plugin costs Traefik an engine with its own instances, so there is one for each
//! upstream of free routes and at most two more, not one for each route.

use std::collections::BTreeMap;

use farebox_core::rules::{Gate, PushedRoute, PushedRules, without_case};
use farebox_core::terms::Unmatched;
use farebox_pricing::RouteUpstream;
use serde_json::{Map, Value, json};

use super::expression::{Shape, Take, covering, plain};
use super::{ALIKE, GATEWAY, LIMIT, NAME};
use crate::settings::TraefikSettings;

/// Above what the length of a rule gives a router without a priority.
const TABLE: u64 = 1_000_000;
/// Below every other router: 0 would mean the length of the rule.
const REST: u64 = 1;

/// What a router has to lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    Gateway,
    /// Base URL of a free route's upstream.
    Upstream(String),
}

/// Routers and services by name.
pub(super) fn of(
    rules: &PushedRules,
    upstreams: &[RouteUpstream],
    settings: &TraefikSettings,
) -> (Map<String, Value>, Map<String, Value>) {
    let mut routers = Map::new();
    let mut services = Map::new();
    let mut add = |name: String, rule: String, priority: u64, plugin: bool, service: &str| {
        let mut router = json!({
            "entryPoints": settings.entry_points,
            "rule": rule,
            "priority": priority,
            "service": service,
        });
        if plugin {
            router["middlewares"] = json!([ALIKE, LIMIT, NAME]);
        }
        routers.insert(name, router);
    };
    let server = |url: &str| json!({"loadBalancer": {"servers": [{"url": url}]}});
    services.insert(GATEWAY.to_owned(), server(&settings.gateway.to_string()));

    for (index, (url, rule)) in straight(rules, upstreams, settings).into_iter().enumerate() {
        let service = format!("{NAME}-upstream-{index}");
        add(format!("{NAME}-free-{index}"), rule, TABLE + 2, true, &service);
        services.insert(service, server(&url));
    }
    let patterns = |is_free: bool| {
        let routes = rules.routes.iter().filter(move |route| (route.gate == Gate::Free) == is_free);
        routes.map(|route| route.pattern.as_str())
    };
    let closed = patterns(false).chain(rules.protected.iter().map(String::as_str));
    if let Some(all) = covering(closed, patterns(true)) {
        let rule = format!("PathRegexp(`{all}`)");
        add(NAME.to_owned(), rule.clone(), TABLE + 1, true, GATEWAY);
        add(format!("{NAME}-shield"), rule, TABLE, false, GATEWAY);
    }
    if rules.settings.unmatched == Unmatched::Deny {
        let rule = "PathPrefix(`/`)".to_owned();
        add(format!("{NAME}-rest"), rule.clone(), REST + 1, true, GATEWAY);
        add(format!("{NAME}-rest-shield"), rule, REST, false, GATEWAY);
    }
    (routers, services)
}

/// The rule of each upstream that free routes lead to.
fn straight(
    rules: &PushedRules,
    upstreams: &[RouteUpstream],
    settings: &TraefikSettings,
) -> BTreeMap<String, String> {
    let rows: Vec<_> = rules
        .routes
        .iter()
        .enumerate()
        .map(|(index, route)| {
            let destination = destination(route, upstreams.get(index), settings);
            (&route.pattern, Shape::new(&route.pattern), destination)
        })
        .collect();
    // Without letter case a closed route of the same pattern wins, also a later one.
    let twin = |index: usize, pattern: &str| {
        let later = rules.routes.iter().skip(index + 1).filter(|route| route.gate != Gate::Free);
        later.map(|route| &*route.pattern).find(|later| without_case(later) == without_case(pattern))
    };
    let mut terms: BTreeMap<&str, Terms> = BTreeMap::new();
    for (index, (pattern, shape, destination)) in rows.iter().enumerate() {
        let Destination::Upstream(url) = destination else { continue };
        // What is in a set of letters is not always in it in the other case.
        if pattern.contains('[') {
            continue;
        }
        let Some(taken) = plain(pattern, Take::AtMost) else { continue };
        let not_taken: Vec<_> = rows
            .iter()
            .take(index)
            .filter(|(_, earlier, elsewhere)| elsewhere != destination && earlier.may_overlap(shape))
            .map(|(earlier, ..)| earlier.as_str())
            .chain(twin(index, pattern))
            .filter_map(|elsewhere| plain(elsewhere, Take::AtLeast))
            .collect();
        terms.entry(url).or_default().add(taken, &not_taken);
    }
    terms.into_iter().map(|(url, terms)| (url.to_owned(), terms.rule())).collect()
}

/// Traefik can send a free request on itself where nothing of it changes on the way. It ignores the path of a
/// server's URL, and is told no secret.
fn destination(
    route: &PushedRoute,
    upstream: Option<&RouteUpstream>,
    settings: &TraefikSettings,
) -> Destination {
    let (Gate::Free, Some(upstream)) = (route.gate, upstream) else { return Destination::Gateway };
    let RouteUpstream { url, strip_prefix: None, credential: None, chat: false } = upstream else {
        return Destination::Gateway;
    };
    match url.as_ref().or(settings.upstream.as_ref()) {
        Some(url) if url.path.is_empty() => Destination::Upstream(url.to_string()),
        _ => Destination::Gateway,
    }
}

/// What a router to an upstream takes.
#[derive(Default)]
struct Terms {
    whole: Vec<String>,
    except: Vec<String>,
}

// === impl Terms ===

impl Terms {
    fn add(&mut self, taken: String, not_taken: &[String]) {
        if not_taken.is_empty() {
            self.whole.push(taken);
            return;
        }
        let not_taken = not_taken.join("|");
        self.except.push(format!("(PathRegexp(`^(?:{taken})$`) && !PathRegexp(`(?i)^(?:{not_taken})$`))"));
    }

    fn rule(self) -> String {
        let whole = (!self.whole.is_empty()).then(|| format!("PathRegexp(`^(?:{})$`)", self.whole.join("|")));
        let rule = whole.into_iter().chain(self.except).collect::<Vec<_>>().join(" || ");
        // Some upstreams drop dots at the end of a segment, so such a path may be another's.
        format!("({rule}) && !PathRegexp(`\\.(?:/|$)`)")
    }
}
