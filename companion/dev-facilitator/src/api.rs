//! The endpoints.

use std::collections::BTreeSet;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::Response;
use axum::routing::{get, post};
use farebox_core::evm::{Address, Network, assets, named_chains, v1_name};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{json_reply, send};
use crate::judge::{Judged, judge};
use crate::ledger::transaction_of;
use crate::listener::Connection;
use crate::mode::{Endpoint, Mode};
use crate::state::{self, Facilitator, unix_ms};

/// Largest body of a call.
const MAX_BODY: usize = 1 << 20;

/// The address that `/supported` names as signer.
const SIGNER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

/// The endpoints. Serve them with [`crate::CuttableListener`] and connect info [`Connection`].
pub fn router(facilitator: Facilitator) -> Router {
    Router::new()
        .route("/verify", post(verify))
        .route("/settle", post(settle))
        .route("/supported", get(supported))
        .route("/moved/verify", post(moved_verify))
        .route("/moved/settle", post(moved_settle))
        .route("/moved/supported", get(moved_supported))
        .route("/dev/fail", post(fail))
        .route("/dev/record", get(record))
        .route("/dev/reset", post(reset))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(facilitator)
}

/// The outcome of a call.
struct Outcome {
    /// The text for `/dev/record`.
    summary: String,
    /// The honest reply, or `None` for a body that is not a call.
    reply: Option<Value>,
}

async fn verify(
    State(facilitator): State<Facilitator>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Bytes,
) -> Response<Body> {
    let mode = facilitator.with(|state| state.next_mode(Endpoint::Verify));
    call(&facilitator, Endpoint::Verify, &mode, &connection, &body).await
}

async fn settle(
    State(facilitator): State<Facilitator>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Bytes,
) -> Response<Body> {
    let mode = facilitator.with(|state| state.next_mode(Endpoint::Settle));
    call(&facilitator, Endpoint::Settle, &mode, &connection, &body).await
}

/// Where `redirect_308` leads.
async fn moved_verify(
    State(facilitator): State<Facilitator>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Bytes,
) -> Response<Body> {
    call(&facilitator, Endpoint::Verify, &Mode::Honest, &connection, &body).await
}

/// Where `redirect_308` leads.
async fn moved_settle(
    State(facilitator): State<Facilitator>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Bytes,
) -> Response<Body> {
    call(&facilitator, Endpoint::Settle, &Mode::Honest, &connection, &body).await
}

async fn supported(
    State(facilitator): State<Facilitator>,
    ConnectInfo(connection): ConnectInfo<Connection>,
) -> Response<Body> {
    let mode = facilitator.with(|state| {
        let mode = state.next_mode(Endpoint::Supported);
        state.note(Endpoint::Supported, &mode, "kinds".into(), b"");
        mode
    });
    send(&mode, Endpoint::Supported, kinds(), &connection).await
}

/// Where `redirect_308` leads.
async fn moved_supported() -> Response<Body> {
    json_reply(200, &kinds())
}

async fn call(
    facilitator: &Facilitator,
    endpoint: Endpoint,
    mode: &Mode,
    connection: &Connection,
    body: &[u8],
) -> Response<Body> {
    let mut judged = judge(body, unix_ms() / 1000);
    if *mode == Mode::AnotherPayer
        && let Some(judged) = &mut judged
    {
        judged.payer = Some(ANOTHER);
    }
    let outcome = facilitator.with(|state| {
        let outcome = match (endpoint, judged) {
            (_, None) => Outcome { summary: "not a call".into(), reply: None },
            (Endpoint::Settle, Some(judged)) => settle_judged(state, mode, &judged),
            (_, Some(judged)) => verify_judged(state, mode, &judged),
        };
        state.note(endpoint, mode, outcome.summary.clone(), body);
        outcome
    });
    match outcome.reply {
        Some(reply) => send(mode, endpoint, reply, connection).await,
        None => json_reply(400, &no_call(endpoint)),
    }
}

fn verify_judged(state: &state::State, mode: &Mode, judged: &Judged) -> Outcome {
    let verdict = match mode {
        Mode::Invalid(code) => Err(code.as_str()),
        Mode::UnknownCode => Err(UNKNOWN_CODE),
        _ => judged.verdict.as_ref().map_err(|code| *code).and_then(|transfer| state.ledger.check(transfer)),
    };
    match verdict {
        Ok(()) => Outcome {
            summary: "valid".into(),
            reply: Some(json!({ "isValid": true, "payer": judged.payer })),
        },
        Err(code) => Outcome {
            summary: format!("invalid: {code}"),
            reply: Some(json!({ "isValid": false, "invalidReason": code, "payer": judged.payer })),
        },
    }
}

fn settle_judged(state: &mut state::State, mode: &Mode, judged: &Judged) -> Outcome {
    let transfer = match (&judged.verdict, mode) {
        (_, Mode::Invalid(code)) => return refused(code, judged),
        (_, Mode::UnknownCode) => return refused(UNKNOWN_CODE, judged),
        (Err(code), _) => return refused(code, judged),
        (Ok(transfer), _) => transfer,
    };
    let transaction = transaction_of(transfer);
    match mode {
        Mode::Pending => return pending(&transaction, judged),
        Mode::PendingThenSuccess if state.pending.insert(transaction.clone()) => {
            return pending(&transaction, judged);
        }
        mode if !settles(mode) => {
            return Outcome {
                summary: format!("not settled ({mode})"),
                reply: Some(success(&transaction, judged)),
            };
        }
        _ => {}
    }
    match state.ledger.settle(transfer) {
        Ok(transaction) => {
            let summary = format!("settled {transaction}");
            if let Mode::SettledBut(code) = mode {
                return Outcome { summary, reply: Some(failure(code, "", judged)) };
            }
            let mut reply = success(&transaction, judged);
            if *mode == Mode::WrongNetwork
                && let Some(network) = reply.get_mut("network")
            {
                *network = "eip155:31337".into();
            }
            Outcome { summary, reply: Some(reply) }
        }
        Err(code) => refused(code, judged),
    }
}

/// Whether a call that fails this way still settles. A facilitator that breaks during its answer
/// has settled; a facilitator that answers an error, or nothing, has not.
const fn settles(mode: &Mode) -> bool {
    matches!(
        mode,
        Mode::Honest
            | Mode::Slow(_)
            | Mode::PendingThenSuccess
            | Mode::SuccessButHang
            | Mode::SuccessUnder503
            | Mode::WrongNetwork
            | Mode::AnotherPayer
            | Mode::SettledBut(_)
            | Mode::Truncated
            | Mode::CutAfterHeaders
    )
}

/// The payer in replies of `another_payer`.
const ANOTHER: Address = Address([0xaa; 20]);
/// A code that is in no list.
const UNKNOWN_CODE: &str = "a_code_nobody_has_heard_of";

fn success(transaction: &str, judged: &Judged) -> Value {
    json!({
        "success": true,
        "transaction": transaction,
        "network": judged.network,
        "payer": judged.payer,
    })
}

fn refused(code: &str, judged: &Judged) -> Outcome {
    Outcome { summary: format!("refused: {code}"), reply: Some(failure(code, "", judged)) }
}

fn pending(transaction: &str, judged: &Judged) -> Outcome {
    Outcome {
        summary: format!("pending {transaction}"),
        reply: Some(failure("settlement_pending", transaction, judged)),
    }
}

fn failure(code: &str, transaction: &str, judged: &Judged) -> Value {
    json!({
        "success": false,
        "errorReason": code,
        "transaction": transaction,
        "network": judged.network,
        "payer": judged.payer,
    })
}

fn no_call(endpoint: Endpoint) -> Value {
    match endpoint {
        Endpoint::Settle => {
            json!({ "success": false, "errorReason": "invalid_payload", "transaction": "", "network": "" })
        }
        _ => json!({ "isValid": false, "invalidReason": "invalid_payload" }),
    }
}

fn kinds() -> Value {
    let registered = assets().iter().filter_map(|asset| Network::from_caip2(asset.network));
    let networks: BTreeSet<Network> = named_chains().chain(registered).collect();
    let v2 =
        networks.iter().map(|network| json!({ "x402Version": 2, "scheme": "exact", "network": network }));
    let v1 = networks
        .iter()
        .filter_map(v1_name)
        .map(|name| json!({ "x402Version": 1, "scheme": "exact", "network": name }));
    json!({
        "kinds": v2.chain(v1).collect::<Vec<_>>(),
        "extensions": ["eip2612GasSponsoring"],
        "signers": { "eip155:*": [SIGNER] },
        // By this the companion can say that no money moves.
        "development": true,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    verify: Option<String>,
    settle: Option<String>,
    supported: Option<String>,
    /// Number of calls of each named endpoint that fail; all calls if absent.
    count: Option<u64>,
    /// How later calls fail; if absent, they do not fail.
    then: Option<String>,
}

async fn fail(State(facilitator): State<Facilitator>, body: Bytes) -> Response<Body> {
    match read_fail(&body) {
        Ok((modes, count)) => {
            facilitator.with(|state| {
                for (endpoint, mode, then) in modes {
                    state.fail(endpoint, mode, count, then);
                }
            });
            json_reply(200, &json!({ "ok": true }))
        }
        Err(error) => json_reply(400, &json!({ "error": error })),
    }
}

/// How an endpoint fails, and how it fails after the counted calls.
type Modes = Vec<(Endpoint, Mode, Mode)>;

/// Reads a request; one error refuses all of it.
fn read_fail(body: &[u8]) -> Result<(Modes, Option<u64>), String> {
    let fail: Fail = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let named = [
        (Endpoint::Verify, fail.verify),
        (Endpoint::Settle, fail.settle),
        (Endpoint::Supported, fail.supported),
    ];
    let modes = named
        .into_iter()
        .filter_map(|(endpoint, text)| Some((endpoint, text?)))
        .map(|(endpoint, text)| {
            let then = fail.then.as_deref().unwrap_or("none");
            Ok((endpoint, Mode::parse_for(&text, endpoint)?, Mode::parse_for(then, endpoint)?))
        })
        .collect::<Result<_, String>>()?;
    Ok((modes, fail.count))
}

async fn record(State(facilitator): State<Facilitator>) -> Response<Body> {
    let record = facilitator.with(|state| state.record());
    json_reply(200, &serde_json::to_value(record).unwrap_or_default())
}

async fn reset(State(facilitator): State<Facilitator>) -> Response<Body> {
    facilitator.with(state::State::reset);
    json_reply(200, &json!({ "ok": true }))
}
