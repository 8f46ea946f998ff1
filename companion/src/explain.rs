//! `farebox explain FILE METHOD PATH`: which rule decides a request, and why.
//!
//! The answer comes from the compiled rules, by the same lookup as in a proxy, so it is what proxies
//! enforce.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use farebox_core::rules::{
    CanonicalPath, Facilitator, Gate, Lookup, Route, RouteIndex, RuleSet, canonicalize,
};
use farebox_core::terms::{Flow, Settings};
use farebox_pricing::{Severity, SkipScope, Snapshot, load_with};

use crate::check::{Around, line, payment, read};

/// Arguments of `farebox explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 explained, 1 the file is rejected or cannot be read.")]
pub struct Args {
    /// Pricing file.
    pub file: PathBuf,
    /// Request method.
    pub method: String,
    /// Request path, with or without a query.
    pub path: String,
    /// The companion's settings.
    #[command(flatten)]
    pub around: Around,
}

/// Prints the rule, price and chain of a request.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let loaded = load_with(&read(&args.file)?, &args.around.options()?);
    let Some(snapshot) = loaded.snapshot else {
        let file = args.file.display();
        for finding in loaded.findings.iter().filter(|finding| finding.severity == Severity::Reject) {
            eprintln!("{file}:{finding}");
        }
        anyhow::bail!(
            "{file} is rejected, so it decides nothing; run `farebox check {file}` for all findings"
        );
    };
    let text = explain(&args.file, &snapshot, &args.method, &args.path)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn explain(file: &Path, snapshot: &Snapshot, method: &str, target: &str) -> anyhow::Result<String> {
    let rules = compile(snapshot)?;
    let mut out = String::new();
    line(&mut out, format_args!("request: {method} {target}"));
    let path = match canonicalize(target.as_bytes()) {
        Ok(path) => path,
        Err(why) => {
            line(&mut out, format_args!("path: refused: {why}"));
            line(
                &mut out,
                format_args!(
                    "answer: 400 ambiguous_path, because two programs could read this path differently"
                ),
            );
            return Ok(out);
        }
    };
    let note = match &path.rewritten {
        Some(sent) => format!(" (the upstream is sent {sent})"),
        None => String::new(),
    };
    line(&mut out, format_args!("path: {}{note}", path.path));
    match rules.lookup(&path) {
        Lookup::Route(index) => {
            let route = rules.routes.get(index.0 as usize).context("the rule does not exist")?;
            explain_route(&mut out, file, snapshot, index, route, method, &path);
        }
        Lookup::Protected => {
            line(&mut out, format_args!("rule: none, but the path lies below a route that is not free"));
            line(&mut out, format_args!("answer: 403 protected_prefix, never forwarded"));
        }
        Lookup::Unmatched => {
            line(&mut out, format_args!("rule: none"));
            line(
                &mut out,
                format_args!(
                    "answer: 404, or forwarded without payment where the setting `unmatched` is `pass`"
                ),
            );
        }
        Lookup::Ambiguous => {
            line(
                &mut out,
                format_args!(
                    "rule: another one, on other terms, without letter case, ;parameters, or dots and spaces at the end of a segment"
                ),
            );
            line(&mut out, format_args!("answer: 400 ambiguous_path"));
        }
    }
    Ok(out)
}

/// Compiles the rules as a proxy does. The address of the facilitator is a placeholder, because it does
/// not affect matching.
fn compile(snapshot: &Snapshot) -> anyhow::Result<RuleSet> {
    let facilitator = Facilitator {
        cluster: "facilitator".into(),
        authority: "facilitator".into(),
        path_prefix: String::new(),
        verify_timeout_ms: 5_000,
        settle_timeout_ms: 60_000,
        ready: true,
        relay: false,
    };
    let pushed = snapshot.push(1, &Settings::default(), &facilitator, &BTreeMap::new(), &BTreeSet::new());
    RuleSet::compile(pushed).context("the rules cannot be compiled, which is a fault of Farebox")
}

fn explain_route(
    out: &mut String,
    file: &Path,
    snapshot: &Snapshot,
    RouteIndex(index): RouteIndex,
    route: &Route,
    method: &str,
    path: &CanonicalPath<'_>,
) {
    let place = snapshot.route_lines.get(index as usize).copied().unwrap_or_default();
    line(
        out,
        format_args!(
            "rule: {} ({}:{place}), the first in the list that matches",
            route.pattern,
            file.display()
        ),
    );
    if let Some(pushed) = snapshot.routes.get(index as usize)
        && !(pushed.offer_namespace.is_empty() && pushed.offer_name.is_empty())
    {
        line(out, format_args!("offer: {}/{}", pushed.offer_namespace, pushed.offer_name));
    }
    match route.gate {
        Gate::Free => {
            line(out, format_args!("gate: free"));
            line(out, format_args!("answer: the upstream's, without payment"));
        }
        Gate::Auth => {
            line(out, format_args!("gate: auth"));
            line(
                out,
                format_args!(
                    "answer: 403 auth_gate_unsupported, because wallet sign-in is not supported yet"
                ),
            );
        }
        Gate::Blocked => {
            line(out, format_args!("gate: blocked, because the route was skipped at load"));
            for skipped in snapshot
                .skipped
                .iter()
                .filter(|skipped| skipped.scope == SkipScope::Route && *skipped.pattern == *route.pattern)
            {
                line(
                    out,
                    format_args!(
                        "skipped: {} ({}:{})",
                        skipped.reason.as_str(),
                        file.display(),
                        skipped.line
                    ),
                );
            }
            line(out, format_args!("answer: 403 route_misconfigured, never forwarded"));
        }
        Gate::Paid => explain_paid(out, snapshot, route, method, path),
    }
}

fn explain_paid(
    out: &mut String,
    snapshot: &Snapshot,
    route: &Route,
    method: &str,
    path: &CanonicalPath<'_>,
) {
    line(out, format_args!("gate: paid"));
    for (position, (option, _)) in route.options.iter().enumerate() {
        let title = if position == 0 { "payment (primary)" } else { "payment" };
        line(out, format_args!("{title}: {}", payment(snapshot, option)));
        line(out, format_args!("  to: {}", option.pay_to));
        line(out, format_args!("  asset: {}", option.asset));
        line(
            out,
            format_args!(
                "  by: {}, EIP-712 domain {:?} version {:?}, {} s to pay",
                option.transfer_method.as_str(),
                option.eip712_name,
                option.eip712_version,
                option.max_timeout_seconds
            ),
        );
        line(out, format_args!("  flow: {}", flow(option.flow)));
    }
    line(out, format_args!("facilitator: {}", snapshot.facilitator_url.as_deref().unwrap_or("none")));
    if let Some(public) = &route.public {
        let shown = path.path.strip_prefix(&public.drop_prefix).unwrap_or(&path.path);
        line(out, format_args!("shown to buyers as: https://{}{shown}{}", public.host, path.query));
    }
    let upfront = route.options.iter().any(|(option, _)| option.flow == Flow::Upfront);
    let unpaid = match method.to_ascii_uppercase().as_str() {
        "HEAD" => "402 with the challenge's headers and no body; a payment on a HEAD is ignored",
        "CONNECT" if !upfront => {
            "501 upgrade_unsupported, because no payment of the route settles first (paymentFlow: upfront)"
        }
        "OPTIONS" => "204 if it is a preflight of a browser, which the setting `cors` answers, else 402",
        _ => "402 with the challenge",
    };
    line(out, format_args!("answer without payment: {unpaid}"));
}

/// `0.001 USDC (1000 atomic) on eip155:84532`.
const fn flow(flow: Flow) -> &'static str {
    match flow {
        Flow::Authorization => "authorization: verified, then the upstream, settled only if it answers 2xx",
        Flow::Upfront => "upfront: settled before the upstream is called",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "wallet: \"0x2222222222222222222222222222222222222222\"
chain: base-sepolia
routes:
- pattern: /services/o/health
  gate: free
- pattern: /services/o/*
  offerNamespace: ns
  offerName: o
  hostname: o.example.com
  stripPrefix: /services/o
  payments:
  - price: 0.001
  - price: 2
    assetSymbol: OBOL
    paymentFlow: upfront
- pattern: /broken
  price: 0
- pattern: /members
  gate: auth
facilitatorURL: https://f.example
";

    fn explained(method: &str, target: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pricing.yaml");
        std::fs::write(&file, FILE).unwrap();
        let snapshot = farebox_pricing::load(&read(&file).unwrap()).snapshot.unwrap();
        let text = explain(Path::new("pricing.yaml"), &snapshot, method, target).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_paid_request_shows_rule_price_chain_recipient_and_answer() {
        assert_eq!(
            explained("GET", "/services/o//x?y=1"),
            [
                "request: GET /services/o//x?y=1",
                "path: /services/o/x (the upstream is sent /services/o/x?y=1)",
                "rule: /services/o/* (pricing.yaml:6), the first in the list that matches",
                "offer: ns/o",
                "gate: paid",
                "payment (primary): 0.001 USDC (1000 atomic, 6 decimals) on eip155:84532 (base-sepolia)",
                "  to: 0x2222222222222222222222222222222222222222",
                "  asset: 0x036CbD53842c5426634e7929541eC2318f3dCF7e",
                "  by: eip3009, EIP-712 domain \"USDC\" version \"2\", 600 s to pay",
                "  flow: authorization: verified, then the upstream, settled only if it answers 2xx",
                "payment: 2 OBOL (2000000000000000000 atomic, 18 decimals) on eip155:84532",
                "  to: 0x2222222222222222222222222222222222222222",
                "  asset: 0x0a09371a8b011d5110656ceBCc70603e53FD2c78",
                "  by: permit2, EIP-712 domain \"Obol Network\" version \"1\", 600 s to pay",
                "  flow: upfront: settled before the upstream is called",
                "facilitator: https://f.example",
                "shown to buyers as: https://o.example.com/x?y=1",
                "answer without payment: 402 with the challenge",
            ]
        );
        assert!(explained("HEAD", "/services/o").last().unwrap().contains("no body"));
        assert!(explained("CONNECT", "/services/o").last().unwrap().ends_with("402 with the challenge"));
    }

    #[test]
    fn every_other_outcome_says_why() {
        let answer = |target: &str| explained("GET", target).split_off(2);
        assert_eq!(
            answer("/services/o/health"),
            [
                "rule: /services/o/health (pricing.yaml:4), the first in the list that matches",
                "gate: free",
                "answer: the upstream's, without payment",
            ]
        );
        assert_eq!(
            answer("/broken"),
            [
                "rule: /broken (pricing.yaml:16), the first in the list that matches",
                "gate: blocked, because the route was skipped at load",
                "skipped: zero_price (pricing.yaml:17)",
                "answer: 403 route_misconfigured, never forwarded",
            ]
        );
        assert!(answer("/members")[2].starts_with("answer: 403 auth_gate_unsupported"));
        assert_eq!(
            answer("/Services/o/x"),
            [
                "rule: none, but the path lies below a route that is not free",
                "answer: 403 protected_prefix, never forwarded",
            ]
        );
        assert!(answer("/elsewhere")[1].starts_with("answer: 404"));
        assert_eq!(answer("/services;v=1/o/x")[1], "answer: 400 ambiguous_path");
    }

    #[test]
    fn an_ambiguous_path_is_refused_with_its_reason() {
        assert_eq!(
            explained("GET", "/services%2Fo"),
            [
                "request: GET /services%2Fo",
                "path: refused: the path holds an encoded slash (%2F)",
                "answer: 400 ambiguous_path, because two programs could read this path differently",
            ]
        );
    }

    #[test]
    fn a_rejected_file_explains_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pricing.yaml");
        std::fs::write(&file, "routes:\n").unwrap();
        let error = run(Args { file, method: "GET".into(), path: "/".into(), around: Around::default() })
            .unwrap_err();
        assert!(error.to_string().contains("is rejected, so it decides nothing"));
    }
}
