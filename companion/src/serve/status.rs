//! The `/status` document. Times are Unix seconds.

use farebox_pricing::{Finding, Severity, Skipped};
use serde_json::{Value, json};

use super::facts::{Facts, Shared};
use crate::facilitator::FacilitatorState;
use crate::publish::discovery::Node;
use crate::publish::{ProxyState, TraefikState};
use crate::rules::{Attempt, NothingForSale};

/// The document of a state. Payments wait for the lock of the state, so long lists are made without
/// the lock.
pub(super) fn of(shared: &Shared, now: u64) -> Value {
    let state = shared.lock();
    let mut document = without_lists(&state, now);
    let (active, attempt, pricing) =
        (state.rules.active.clone(), state.rules.last_attempt.clone(), state.rules.pricing.clone());
    drop(state);
    document["last_reload"] = json!(attempt.map(|last| reload(&last, &pricing)));
    document["skipped"] = json!(active.map(|active| {
        active.snapshot.skipped.iter().map(|skipped| skip(skipped, &pricing)).collect::<Vec<_>>()
    }));
    document
}

fn without_lists(state: &Facts<'_>, now: u64) -> Value {
    let active = state.rules.active.as_ref();
    let (not_ready, closed) = (state.not_ready(), state.closed());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": state.started_at,
        "ready": not_ready.is_none(),
        "not_ready": not_ready,
        "config_source": "file",
        "config_path": state.rules.pricing,
        "config_generation": active.map(|active| active.generation),
        "config_hash": active.map(|active| &active.hash),
        "config_applied_at": active.map(|active| active.applied_at),
        "config_err_since": state.rules.config_err_since,
        "nothing_for_sale": state.rules.nothing_for_sale().map(|why| match why {
            NothingForSale::Meant(why) | NothingForSale::Mistaken(why) => why,
        }),
        "kept_closed": state.rules.kept_closed.as_ref().map(|kept| kept.describe(&state.rules.pricing)),
        "being_written": state.rules.being_written(),
        "publish_error": state.published.publish_error,
        "ledger_error": state.ledger.error,
        "ledger_went_back": state.ledger.went_back,
        "settlement": {
            "mode": if state.ledger.settles_direct { "direct" } else { "relay" },
            "error": state.published.settlement_error(state.ledger.settles_direct, now),
        },
        "facilitator": {
            "ready": active.is_some() && closed.is_empty() && state.facilitators.all_dead(now).is_none(),
            "closed": closed.iter().map(|chain| json!({
                "network": chain.network,
                "cause": chain.cause,
                "offers": chain.offers,
            })).collect::<Vec<_>>(),
            "unlisted_networks": state.facilitators.unlisted_networks,
            "used": state.facilitators.all.iter().map(|used| facilitator(used, state)).collect::<Vec<_>>(),
        },
        "proxies": state.published.proxies.iter().map(|known| proxy(known, now)).collect::<Vec<_>>(),
        "gateway": state.gateway.as_ref().map(|gateway| json!({
            "listen": gateway.address.to_string(),
            "config_generation": gateway.deployments.generation(),
            "oldest_generation_in_use": gateway.deployments.oldest_generation(),
            "routes_without_upstream": gateway.deployments.without_upstream(),
        })),
        "discovery": state.published.discovery.address.as_ref().map(|address| json!({
            "listen": address.to_string(),
            "proxies": state.published.discovery.nodes(now).map(|(name, known)| node(name, known)).collect::<Vec<_>>(),
        })),
        "traefik": state.published.traefik.as_ref().map(|known| traefik(known, state, now)),
    })
}

fn facilitator(used: &FacilitatorState, state: &Facts<'_>) -> Value {
    let credential = state.facilitators.credentials.get(&used.url);
    json!({
        "url": used.url,
        "networks": used.networks,
        "kinds": used.kinds,
        "for_development": used.is_for_development,
        "loaded_at": used.loaded_at,
        "last_error": used.last_error,
        "failing_since": used.failing_since,
        "credential_error": credential.and_then(|it| it.unusable.as_ref().or(it.refused.as_ref())),
        "last_failed_call": state.facilitators.failed_calls.get(&used.url).map(|failed| json!({
            "operation": failed.operation,
            "error": failed.error,
            "at": failed.at,
        })),
        "last_bad_reply": state.facilitators.bad_replies.get(&used.url).map(|bad| json!({
            "operation": bad.operation,
            "status": bad.status,
            "malformed": bad.malformed,
            "words": bad.words,
            "correlation_id": bad.correlation,
            "at": bad.at,
        })),
    })
}

fn reload(attempt: &Attempt, pricing: &str) -> Value {
    json!({
        "result": attempt.result.as_str(),
        "at": attempt.at,
        "took_ms": u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        "error": attempt.error,
        "findings": attempt.findings.iter().map(|found| finding(found, pricing)).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding, pricing: &str) -> Value {
    let severity = match finding.severity {
        Severity::Warning => "warning",
        Severity::Skip => "skip",
        Severity::Reject => "reject",
    };
    json!({
        "severity": severity,
        "place": format!("{pricing}:{}", finding.line),
        "key": finding.key,
        "message": finding.message,
    })
}

fn skip(skipped: &Skipped, pricing: &str) -> Value {
    json!({
        "offer_namespace": skipped.offer_namespace,
        "offer_name": skipped.offer_name,
        "pattern": skipped.pattern,
        "scope": skipped.scope.as_str(),
        "reason": skipped.reason.as_str(),
        "place": format!("{pricing}:{}", skipped.line),
    })
}

fn proxy(proxy: &ProxyState, now: u64) -> Value {
    json!({
        "proxy": "envoy",
        "name": proxy.name,
        "connected": proxy.is_connected(now),
        "up": proxy.is_up(now),
        "state": proxy.push().as_str(),
        "generation_pushed": proxy.pushed(),
        "generation_confirmed": proxy.confirmed(),
        "refusal": (!proxy.refusal.is_empty()).then_some(&proxy.refusal),
        "last_report": proxy.last_report(),
        "trouble": proxy.trouble(now),
        "reaches_relay": proxy.reaches_relay(now),
        "clock_difference_seconds": proxy.clock(),
        "reporters": proxy.vms().map(|(name, vm)| json!({
            "vm": name,
            "process": vm.process,
            "generation": vm.generation,
            "hash": vm.hash,
            "last_report": vm.heard_at,
            "reports_waiting": vm.waiting,
            "reports_lost": vm.lost,
        })).collect::<Vec<_>>(),
    })
}

/// The state of the rules in Traefik. Its plugin writes to a spool with which generation it starts.
fn traefik(traefik: &TraefikState, state: &Facts<'_>, now: u64) -> Value {
    let started = state.spools.started();
    json!({
        "state": traefik.push(started, now),
        "trouble": traefik.trouble(started, now),
        "generation_pushed": traefik.pushed,
        "generation_started": started,
        "polled_at": traefik.polled_at,
        "publish_error": traefik.publish_error,
        "gateway_error": traefik.gateway_error,
        "api": traefik.api.as_ref().map(|api| match api {
            Ok(loaded) => json!({"generation": loaded.generation, "error": loaded.error, "last_error": null}),
            Err(error) => json!({"generation": null, "error": null, "last_error": error}),
        }),
        "spool_error": state.spools.error,
        "spools": state.spools.all.iter().map(|spool| json!({
            "name": spool.name,
            "generation_started": spool.generation,
            "lost": spool.lost,
            "malformed": spool.malformed,
            "last_error": spool.last_error,
        })).collect::<Vec<_>>(),
    })
}

/// A proxy that gets its rules over gRPC. Versions begin with a generation.
fn node(name: &str, node: &Node) -> Value {
    json!({
        "node": name,
        "connected_since": node.connected_since,
        "sent": node.sent,
        "acknowledged": node.acknowledged,
        "refused": node.refusal.as_ref().map(|refusal| json!({
            "version": refusal.version,
            "message": refusal.message,
            "at": refusal.at,
        })),
    })
}
