//! Routes that some upstreams confuse with each other.

use farebox_core::rules::pattern::Pattern;
use farebox_core::rules::{Gate, without_case};

use super::coverage::{Coverage, literal_start};
use super::resolve::Route;

/// Each route whose paths an earlier route with other terms matches if letter case is ignored, with that earlier
/// route. Routes that are covered with letter case, too, are left out.
pub(super) fn by_case(routes: &[Route]) -> Vec<(&Route, &Route)> {
    let (mut exact, mut folded) = (Coverage::default(), Coverage::default());
    let mut found = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let pattern = Pattern::parse(&without_case(&route.pushed.pattern));
        let pattern = pattern.unwrap_or_else(|_| route.pattern.clone());
        let earlier = folded.covering(&pattern).filter(|_| exact.covering(&route.pattern).is_none());
        if let Some(earlier) =
            earlier.and_then(|earlier| routes.get(earlier)).filter(|it| !same_terms(it, route))
        {
            found.push((route, earlier));
        }
        exact.add(index, route.pattern.clone());
        folded.add(index, pattern);
    }
    found
}

fn same_terms(one: &Route, other: &Route) -> bool {
    let (one, other) = (&one.pushed, &other.pushed);
    one.gate == other.gate && one.options == other.options
}

/// Each free route that leads to the upstream paths of a paid route because their `stripPrefix` differ, with that
/// paid route. A free route of a single path is left out, because it is probably intended.
pub(super) fn by_prefix(routes: &[Route]) -> Vec<(&Route, &Route)> {
    let paid = |route: &&Route| route.pushed.gate == Gate::Paid;
    let free =
        |route: &&Route| route.pushed.gate == Gate::Free && !matches!(route.pattern, Pattern::Exact(_));
    let mut found = Vec::new();
    for route in routes.iter().filter(free) {
        let leads_to = |sold: &&Route| {
            let (one, other) = (&route.upstream, &sold.upstream);
            one.url == other.url
                && one.strip_prefix != other.strip_prefix
                && (lies_below(&sent(route), &sent(sold)) || lies_below(&sent(sold), &sent(route)))
        };
        found.extend(routes.iter().filter(paid).find(leads_to).map(|sold| (route, sold)));
    }
    found
}

/// The beginning of every target that a route sends to the upstream.
fn sent(route: &Route) -> String {
    let start = literal_start(&route.pattern);
    let rest = route.upstream.strip_prefix.as_deref().and_then(|prefix| start.strip_prefix(prefix));
    rest.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(&start).to_owned()
}

fn lies_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
