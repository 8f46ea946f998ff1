//! Resolves an entry of `routes`: gate, labels, ways to pay, and reasons to skip.

use farebox_core::protocol::{Challenge, MIN_REMAINING_SECONDS};
use farebox_core::rules::pattern::Pattern;
use farebox_core::rules::{Gate, PublicPath, PushedRoute, canonical_text};
use farebox_core::terms::{Extra, Settings, is_label};

use super::dialect::foreign;
use super::load::{Finding, Severity};
use super::option::{self, Defaults, Refusal, Resolved};
use super::pattern::normalize;
use super::pricing_file::{At, Money, RouteEntry};
use super::url::is_host_name;
use super::{Credential, HostSetting, HttpUrl, NotPushed, RouteUpstream, SkipReason, SkipScope, Skipped};

/// A route with its place, before it is compared with the others.
pub(super) struct Route {
    /// Its options still have tuple 0.
    pub(super) pushed: PushedRoute,
    /// Symbols of the assets of its options.
    pub(super) symbols: Vec<String>,
    /// The pattern in its lookup form.
    pub(super) pattern: Pattern,
    /// Whether the file asks for free access, even if the route is skipped.
    pub(super) free: bool,
    pub(super) upstream: RouteUpstream,
    /// Line and key path of the pattern.
    pub(super) line: usize,
    pub(super) key: String,
}

/// Largest encoded challenge header, bytes: clients and proxies refuse larger ones.
const MAX_CHALLENGE: usize = 16 * 1024;
/// Encoded challenge header, bytes, above which some clients and proxies refuse.
const LARGE_CHALLENGE: usize = 8 * 1024;
/// Length allowed for the part of a URL below a route's pattern.
const URL_ROOM: usize = 256;

/// Resolves one route. `None` if its paths are unknown, which rejects the file.
pub(super) fn resolve(
    entry: &RouteEntry,
    defaults: &Defaults,
    findings: &mut Vec<Finding>,
    skipped: &mut Vec<Skipped>,
    not_pushed: &mut Vec<NotPushed>,
) -> Option<Route> {
    let mut at = Resolver { entry, findings, refused: None };
    let (text, pattern, line) = at.pattern()?;
    let offer_namespace = at.label(entry.offer_namespace.as_ref(), "offerNamespace");
    let offer_name = at.label(entry.offer_name.as_ref(), "offerName");
    let gate = at.gate();
    let upstream = RouteUpstream {
        url: at.upstream_url(),
        strip_prefix: at.strip_prefix(),
        credential: at.credential(),
        chat: is_chat(entry),
    };
    let public = at.public(upstream.strip_prefix.as_deref());
    at.features();
    let mut dropped = Vec::new();
    let resolved = if gate == Some(Gate::Paid) { at.options(defaults, &mut dropped) } else { Vec::new() };
    at.free_of_terms(gate, &text);
    let min_remaining = at.min_remaining(&resolved);
    at.told();
    let description = entry.description.as_ref().map_or_else(String::new, |text| text.value.clone());
    let (options, symbols): (Vec<_>, Vec<_>) =
        resolved.into_iter().map(|resolved| (resolved.option, resolved.symbol)).unzip();
    let mut pushed = PushedRoute {
        pattern: text,
        gate: gate.unwrap_or(Gate::Blocked),
        offer_namespace,
        offer_name,
        options,
        min_remaining,
        description,
        public,
    };
    at.challenge_size(&pushed);
    let skip = |scope, reason, line| Skipped {
        offer_namespace: pushed.offer_namespace.clone(),
        offer_name: pushed.offer_name.clone(),
        scope,
        reason,
        pattern: pushed.pattern.clone(),
        line,
    };
    match at.refused {
        Some((reason, line)) => skipped.push(skip(SkipScope::Route, reason, line)),
        None => skipped.extend(dropped.iter().map(|(reason, line)| skip(SkipScope::Option, *reason, *line))),
    }
    let symbols = if at.refused.is_some() {
        pushed = PushedRoute { gate: Gate::Blocked, options: Vec::new(), public: None, ..pushed };
        Vec::new()
    } else {
        symbols
    };
    host_settings(entry, not_pushed);
    let free = gate == Some(Gate::Free);
    let key = format!("{}.pattern", entry.path);
    Some(Route { pushed, symbols, pattern, free, upstream, line, key })
}

fn is_chat(entry: &RouteEntry) -> bool {
    entry.offer_type.as_ref().is_some_and(|kind| matches!(kind.value.as_str(), "inference" | "agent"))
}

/// Collects settings of the route that are not part of a push.
fn host_settings(entry: &RouteEntry, not_pushed: &mut Vec<NotPushed>) {
    let line = |typed: &Option<At<String>>| typed.as_ref().map(|typed| typed.line);
    let chat = entry.offer_type.as_ref().filter(|_| is_chat(entry));
    for (line, key, setting) in [
        (line(&entry.upstream_url), "upstreamURL", HostSetting::UpstreamUrl),
        (line(&entry.strip_prefix), "stripPrefix", HostSetting::StripPrefix),
        (entry.upstream_auth.as_ref().map(|typed| typed.line), "upstreamAuth", HostSetting::UpstreamAuth),
        (chat.map(|kind| kind.line), "offerType", HostSetting::ChatRewrite),
    ] {
        not_pushed.extend(line.map(|line| NotPushed { line, key: format!("{}.{key}", entry.path), setting }));
    }
}

struct Resolver<'a> {
    entry: &'a RouteEntry,
    findings: &'a mut Vec<Finding>,
    /// The first reason to skip the route, and its line.
    refused: Option<(SkipReason, usize)>,
}

// === impl Resolver ===

impl Resolver<'_> {
    fn find(&mut self, severity: Severity, line: usize, key: &str, message: String) {
        let key = format!("{}.{key}", self.entry.path);
        self.findings.push(Finding { severity, line, key, message });
    }

    fn warn(&mut self, line: usize, key: &str, message: &str) {
        self.find(Severity::Warning, line, key, message.to_owned());
    }

    fn skip(&mut self, reason: SkipReason, line: usize, key: &str, message: &str) {
        let message =
            format!("{message} [{}: the route is skipped and its paths are refused]", reason.as_str());
        self.find(Severity::Skip, line, key, message);
        self.refused.get_or_insert((reason, line));
    }

    fn pattern(&mut self) -> Option<(String, Pattern, usize)> {
        let entry = self.entry;
        let Some(typed) = &entry.pattern else {
            let message = "is missing, so the paths to protect are unknown".into();
            self.find(Severity::Reject, entry.line, "pattern", message);
            return None;
        };
        if let Some(message) = foreign(&typed.value) {
            let message = format!("{:?} cannot be used: {message}", typed.value);
            self.find(Severity::Reject, typed.line, "pattern", message);
            return None;
        }
        match normalize(&typed.value) {
            Ok((text, pattern)) => {
                if !matches!(pattern, Pattern::Glob(_)) && text.contains(['?', '[']) {
                    self.warn(
                        typed.line,
                        "pattern",
                        "? and [ are literal here: wildcards need a * before the end",
                    );
                }
                Some((text, pattern, typed.line))
            }
            Err(error) => {
                let message = format!("{:?} cannot be used: {error}", typed.value);
                self.find(Severity::Reject, typed.line, "pattern", message);
                None
            }
        }
    }

    fn label(&mut self, typed: Option<&At<String>>, key: &str) -> String {
        let Some(typed) = typed else { return String::new() };
        if is_label(&typed.value) {
            return typed.value.clone();
        }
        let message = "cannot be a metric label: at most 253 bytes, no control characters and no `;.;`";
        self.skip(SkipReason::Other, typed.line, key, message);
        String::new()
    }

    fn gate(&mut self) -> Option<Gate> {
        let Some(typed) = &self.entry.gate else { return Some(Gate::Paid) };
        match typed.value.as_str() {
            "paid" => Some(Gate::Paid),
            "free" => Some(Gate::Free),
            "auth" => {
                self.warn(
                    typed.line,
                    "gate",
                    "wallet sign-in is not supported yet: every request is refused",
                );
                Some(Gate::Auth)
            }
            other => {
                let message = format!("is {other:?}; known are paid, free and auth");
                self.skip(SkipReason::BadGate, typed.line, "gate", &message);
                None
            }
        }
    }

    fn upstream_url(&mut self) -> Option<HttpUrl> {
        let typed = self.entry.upstream_url.as_ref()?;
        let parsed = HttpUrl::parse(&typed.value);
        parsed
            .inspect_err(|error| {
                self.skip(SkipReason::Other, typed.line, "upstreamURL", &error.to_string());
            })
            .ok()
    }

    fn credential(&mut self) -> Option<Credential> {
        let typed = self.entry.upstream_auth.as_ref()?;
        if typed.value.is_none() {
            let message = "must be a header value on one line, file:PATH or env:NAME";
            self.skip(SkipReason::MissingCredential, typed.line, "upstreamAuth", message);
        }
        typed.value.clone()
    }

    fn strip_prefix(&mut self) -> Option<String> {
        let typed = self.entry.strip_prefix.as_ref()?;
        match canonical_text(typed.value.as_bytes()) {
            Ok(path) if !path.contains(['*', ';']) => {
                Some(path.trim_end_matches('/').to_owned()).filter(|path| !path.is_empty())
            }
            _ => {
                self.skip(
                    SkipReason::Other,
                    typed.line,
                    "stripPrefix",
                    "must be a plain path such as /services/o",
                );
                None
            }
        }
    }

    fn public(&mut self, strip_prefix: Option<&str>) -> Option<PublicPath> {
        let typed = self.entry.hostname.as_ref()?;
        if !is_host_name(&typed.value) {
            self.skip(SkipReason::Other, typed.line, "hostname", "is not a host name");
            return None;
        }
        let drop_prefix = strip_prefix.unwrap_or_default().to_owned();
        Some(PublicPath { host: typed.value.to_ascii_lowercase(), drop_prefix })
    }

    /// The least remaining window of a payment. At least one of these options must allow it.
    fn min_remaining(&mut self, options: &[Resolved]) -> Option<u64> {
        let typed = self.entry.min_remaining.as_ref()?;
        let shortest = options.iter().map(|resolved| resolved.option.max_timeout_seconds).min();
        let seconds = u64::try_from(typed.value).ok().filter(|seconds| *seconds >= MIN_REMAINING_SECONDS);
        match (seconds, shortest) {
            (Some(seconds), Some(shortest)) if seconds >= shortest => {
                let message = "is so long that a payment valid for maxTimeoutSeconds has no time to arrive";
                self.skip(SkipReason::BadTimeout, typed.line, "minRemaining", message);
            }
            (Some(_), _) => {}
            (None, _) => {
                let message = format!("must be at least {MIN_REMAINING_SECONDS}, the margin of facilitators");
                self.skip(SkipReason::BadTimeout, typed.line, "minRemaining", &message);
            }
        }
        seconds
    }

    /// Warns about texts that buyers or facilitators refuse.
    fn told(&mut self) {
        let entry = self.entry;
        if let Some(typed) = entry.description.as_ref().filter(|typed| typed.value.chars().count() > 500) {
            self.warn(
                typed.line,
                "description",
                "has more than 500 characters: CDP's facilitator refuses every payment of this route then",
            );
        }
        let is_public =
            |host: &str| HttpUrl::parse(&["https://", host].concat()).is_ok_and(|url| url.is_public());
        if let Some(typed) = entry.hostname.as_ref().filter(|typed| !is_public(&typed.value)) {
            self.warn(
                typed.line,
                "hostname",
                "is not public: challenges name an address that buyers cannot reach",
            );
        }
    }

    /// Reports keys for features that Farebox does not support.
    fn features(&mut self) {
        let entry = self.entry;
        if let Some(typed) = entry.is_async.as_ref().filter(|typed| typed.value) {
            self.skip(
                SkipReason::UnsupportedFeature,
                typed.line,
                "async",
                "asynchronous jobs are not supported",
            );
        }
        if let Some(typed) = &entry.async_visibility
            && !matches!(typed.value.as_str(), "payer" | "public")
        {
            self.warn(typed.line, "asyncVisibility", "is neither payer nor public; it has no effect");
        }
        if let Some(typed) = entry.free_quota.as_ref().filter(|typed| typed.value != 0) {
            self.warn(typed.line, "freeQuota", "needs wallet identity and is ignored: every call is paid");
        }
    }

    /// Rejects a free route with terms, because it is unclear which of the two the operator wants.
    fn free_of_terms(&mut self, gate: Option<Gate>, pattern: &str) {
        let entry = self.entry;
        let Some(typed) = entry.gate.as_ref().filter(|_| gate == Some(Gate::Free)) else { return };
        let terms = [
            entry.inline.first_set(),
            entry.payments.first().map(|payment| (payment.line, "payments")),
            entry.inline.payment_flow.as_ref().map(|flow| (flow.line, "paymentFlow")),
            entry.min_remaining.as_ref().map(|seconds| (seconds.line, "minRemaining")),
        ];
        let Some((line, key)) = terms.into_iter().flatten().next() else {
            if let Some((line, key)) = entry.terms {
                let message = format!(
                    "is empty, and `gate: free` serves {pattern} without a payment; remove one of the two"
                );
                self.find(Severity::Warning, line, key, message);
            }
            return;
        };
        let message = format!(
            "contradicts `gate: free` on line {}, which would serve {pattern} without a payment; remove \
             `gate: free` to sell it, or `{key}` to give it away",
            typed.line
        );
        self.find(Severity::Reject, line, key, message);
    }

    fn options(&mut self, defaults: &Defaults, dropped: &mut Vec<(SkipReason, usize)>) -> Vec<Resolved> {
        let entry = self.entry;
        let extra = extra(entry);
        let one = core::slice::from_ref(&entry.inline);
        let from_list = !entry.payments.is_empty();
        let flow = entry.inline.payment_flow.as_ref();
        let mut resolved = Vec::new();
        let mut first_refusal: Option<Refusal> = None;
        for (position, money) in if from_list { &entry.payments } else { one }.iter().enumerate() {
            let outcome = option::resolve(money, defaults, flow, &extra, self.findings);
            if from_list && position == 0 {
                self.inline_repeats_first(money, &outcome, defaults, &extra);
            }
            match outcome {
                Ok(option) if resolved.contains(&option) => {
                    let message = "is the same as an earlier payment of the route".into();
                    self.findings.push(Finding {
                        severity: Severity::Warning,
                        line: money.line,
                        key: money.path.clone(),
                        message,
                    });
                }
                Ok(option) => resolved.push(option),
                Err(refusal) => {
                    self.drop_option(&refusal, from_list);
                    dropped.push((refusal.reason, refusal.line));
                    first_refusal.get_or_insert(refusal);
                }
            }
        }
        if let (true, Some(refusal)) = (resolved.is_empty(), first_refusal) {
            if from_list {
                self.skip(refusal.reason, entry.line, "payments", "has no entry that can be used");
            } else {
                self.refused.get_or_insert((refusal.reason, refusal.line));
            }
        }
        resolved
    }

    fn drop_option(&mut self, refusal: &Refusal, from_list: bool) {
        let consequence = if from_list {
            "this payment is left out"
        } else {
            "the route is skipped and its paths are refused"
        };
        self.findings.push(Finding {
            severity: Severity::Skip,
            line: refusal.line,
            key: refusal.key.clone(),
            message: format!("{} [{}: {consequence}]", refusal.message, refusal.reason.as_str()),
        });
    }

    /// Checks that inline keys beside `payments` only repeat its first entry.
    fn inline_repeats_first(
        &mut self,
        first: &Money,
        outcome: &Result<Resolved, Refusal>,
        defaults: &Defaults,
        extra: &Extra,
    ) {
        let entry = self.entry;
        let Some((line, key)) = entry.inline.first_set() else { return };
        let merged = entry.inline.over(first);
        let flow = entry.inline.payment_flow.as_ref();
        let repeated = option::resolve(&merged, defaults, flow, extra, &mut Vec::new());
        let same = match (outcome, &repeated) {
            (Ok(first), Ok(repeated)) => first == repeated,
            (Err(first), Err(repeated)) => first.reason == repeated.reason,
            _ => false,
        };
        if !same {
            let message =
                "and the other money keys beside `payments` must repeat its first entry or be left out";
            self.skip(SkipReason::ConflictingTerms, line, key, message);
        }
    }

    fn challenge_size(&mut self, pushed: &PushedRoute) {
        if pushed.options.is_empty() {
            return;
        }
        let host = pushed.public.as_ref().map_or(0, |public| public.host.len());
        let url = pushed.pattern.len() + host + URL_ROOM;
        if largest_challenge(pushed, url) <= LARGE_CHALLENGE {
            return;
        }
        let options: Vec<_> = pushed.options.iter().collect();
        let challenge = Challenge::prepare(&options, &pushed.description, &Settings::default(), true);
        let length = challenge.header_len(url);
        let line = self.entry.description.as_ref().map_or(self.entry.line, |text| text.line);
        if length > MAX_CHALLENGE {
            let message = format!(
                "the 402 header would have {length} bytes, the limit is {MAX_CHALLENGE}; shorten this"
            );
            self.skip(SkipReason::ChallengeTooLarge, line, "description", &message);
        } else if length > LARGE_CHALLENGE {
            let message = format!("the 402 header has {length} bytes, more than some clients accept");
            self.warn(line, "description", &message);
        }
    }
}

/// An upper bound for the challenge header of a route, computed without rendering, because a load has
/// thousands of routes and nearly all are far below the limit.
fn largest_challenge(pushed: &PushedRoute, url: usize) -> usize {
    /// JSON writes one byte as at most `\u00XX`.
    const ESCAPED: usize = 6;
    let texts: usize = pushed
        .options
        .iter()
        .map(|option| {
            let extra: usize = option.extra.iter().map(|(key, value)| key.len() + value.len()).sum();
            option.eip712_name.len() + option.eip712_version.len() + extra
        })
        .sum();
    let fixed = if pushed.options.iter().any(|option| option.gas_sponsoring) { 4_400 } else { 1_000 };
    let json = fixed + pushed.options.len() * 500 + ESCAPED * (pushed.description.len() + texts) + url;
    json / 3 * 4 + 8
}

/// The metadata in `extra` for buyers.
fn extra(entry: &RouteEntry) -> Extra {
    let mut extra = Extra::default();
    if let Some(runtime) = &entry.agent_runtime {
        extra.set("agentRuntime", &runtime.value);
    }
    if !entry.agent_skills.is_empty() {
        extra.set("agentSkills", &entry.agent_skills);
    }
    extra
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    #[test]
    fn no_challenge_is_larger_than_its_bound() {
        let payments = "{price: 1, assetSymbol: OBOL}, {price: 115792089237316195423570985008687907853269, network: base}";
        for (description, payments, skills) in [
            ("", "{price: 1}", "[]"),
            ("plain words", "{price: 1, assetSymbol: OBOL}", "[]"),
            ("\\u0001\\u0002\\u0003\\u0004\\\"", payments, "[\"\\u0001\", b]"),
            ("\\n\\t\\u001f", "{price: 1, eip712Name: \"\\u0001\\u0001\\u0001\"}", "[]"),
        ] {
            let text = format!(
                "wallet: \"0x2222222222222222222222222222222222222222\"\nchain: base-sepolia\nfacilitatorURL: https://f.example\nroutes:\n- pattern: /a\n  \
                 description: \"{description}\"\n  agentSkills: {skills}\n  payments: [{payments}]\n"
            );
            let snapshot = load(&text).snapshot.unwrap();
            let route = &snapshot.routes[0];
            let options: Vec<_> = route.options.iter().collect();
            assert!(!options.is_empty());
            let settings = Settings { public_facilitator: None, ..Settings::default() };
            let length = Challenge::prepare(&options, &route.description, &settings, true).header_len(300);
            let bound = largest_challenge(route, 300);
            assert!(length <= bound, "{length} > {bound} for {text}");
        }
    }
}
