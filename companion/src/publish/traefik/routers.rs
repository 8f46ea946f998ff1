//! The routers of Traefik and their paths.
//!
//! A wrong router would be an unpaid way to an upstream, so each router is safe by itself, even if Traefik drops
//! others:
//!
//! * A router to an upstream matches only plain paths that are free in the table, and excludes the paths of earlier
//!   routes in every letter case. Traefik and the plugin cannot read such a path differently, and the plugin
//!   decides again.
//! * All other paths of the table, in every spelling, go to the gateway through the plugin. A shield without the
//!   plugin has the same paths, for the time when Traefik cannot load the plugin and drops every router that names
//!   it. The gateway checks every request itself, so an extra path there costs a hop and opens nothing.
//!
//! For each router that names the plugin, Traefik runs an engine with its own instances. So there is one router for
//! each upstream of free routes and at most two more, not one for each route.

use std::collections::BTreeMap;

use farebox_core::rules::{Gate, PushedRoute, PushedRules, without_case};
use farebox_core::terms::Unmatched;
use farebox_pricing::RouteUpstream;
use serde_json::{Map, Value, json};

use super::expression::{Shape, Take, covering, plain};
use super::{ALIKE, GATEWAY, LIMIT, NAME};
use crate::settings::TraefikSettings;

/// Priority of the table's routers, above the default priority, which is the length of the rule.
const TABLE: u64 = 1_000_000;
/// Priority below every other router; 0 would mean the length of the rule.
const REST: u64 = 1;

/// Where a router must lead.
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

/// The rule for each upstream of free routes.
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
    // If letter case is ignored, a route of the same pattern that is not free wins, even a later one.
    let twin = |index: usize, pattern: &str| {
        let later = rules.routes.iter().skip(index + 1).filter(|route| route.gate != Gate::Free);
        later.map(|route| &*route.pattern).find(|later| without_case(later) == without_case(pattern))
    };
    let mut terms: BTreeMap<&str, Terms> = BTreeMap::new();
    for (index, (pattern, shape, destination)) in rows.iter().enumerate() {
        let Destination::Upstream(url) = destination else { continue };
        // A class of letters may have a letter in one case only.
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

/// Traefik itself can send a free request on if nothing of it has to change. Traefik ignores the path of a server's
/// URL, and gets no secret.
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

/// The paths of a router to an upstream.
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
        // Some upstreams drop dots at the end of a segment, so such a path may belong to another route.
        format!("({rule}) && !PathRegexp(`\\.(?:/|$)`)")
    }
}
