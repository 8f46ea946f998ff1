//! One request: answered here, or passed on.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use farebox_core::Now;
use farebox_core::exchange::{self, Arrival, HeaderEdits, Next, Reply, Turn};
use farebox_core::metrics::{MetricSeries, Stamp, series_of};
use farebox_core::payment::Holder;
use farebox_core::rules::RuleSet;
use http_wasm_guest::Guest;
use http_wasm_guest::host::{Request, Response, log};

use crate::ERROR;
use crate::config::Config;
use crate::head::Captured;
use crate::spool::Spool;

/// The rules of one instance.
pub(crate) struct Screen {
    rules: Arc<RuleSet>,
    spool: Option<Spool>,
}

/// The clock cannot be used.
struct NoClock;

// === impl Screen ===

impl Screen {
    /// Enforces what is configured, and says so to whoever reads the spool.
    pub(crate) fn new(config: Config) -> Self {
        let spool = config.spool.map(|spool| Spool::new(spool, config.rules.generation));
        let screen = Self { rules: Arc::new(config.rules), spool };
        screen.write(&[MetricSeries::ConfigGeneration]);
        screen
    }

    /// Refuses everything.
    pub(crate) fn closed() -> Self {
        Self { rules: Arc::new(RuleSet::closed()), spool: None }
    }

    fn answer(&self, captured: &Captured, response: &Response, reply: &Reply, stamps: &[Stamp]) {
        send(captured, response, reply);
        let series: Vec<_> =
            stamps.iter().flat_map(|stamp| series_of(stamp, &self.rules)).map(|(series, _)| series).collect();
        self.write(&series);
    }

    /// A failure to count never fails a request.
    fn write(&self, series: &[MetricSeries]) {
        if let Some(spool) = self.spool.as_ref().filter(|_| !series.is_empty()) {
            spool.write(series);
        }
    }
}

impl Guest for Screen {
    fn handle_request(&self, request: &Request, response: &Response) -> (bool, i32) {
        let captured = Captured::read(request, self.rules.settings.require_secure_transport);
        let lines = captured.lines();
        let head = captured.head(&lines);
        let Ok(turn) = exchange::begin(&self.rules, &head, arrival) else {
            log::write(ERROR, b"farebox: the host's clock is before 1970");
            return refuse(&captured, response);
        };
        match turn.next {
            Next::Forward(edits, _passing) => match exchange::ambiguous_body(&self.rules, &head) {
                // The host frames bodies as they came.
                Some(Turn { stamps, next: Next::Reply(reply), .. }) => {
                    self.answer(&captured, response, &reply, &stamps);
                    (false, 0)
                }
                _ => pass(request, &edits),
            },
            // Whoever keeps the payments decides about it. The gateway begins anew and counts it.
            Next::Call(calling) => pass(request, &calling.to_gateway(&head)),
            Next::Reply(reply) => {
                self.answer(&captured, response, &reply, &turn.stamps);
                (false, 0)
            }
            // There is a relay, and the core begins no exchange with the others.
            Next::Step(_) | Next::Serve(..) | Next::Release(..) => refuse(&captured, response),
        }
    }
}

fn pass(request: &Request, edits: &HeaderEdits) -> (bool, i32) {
    for name in &edits.remove {
        request.header.remove(name.as_bytes());
    }
    for (name, value) in &edits.set {
        if name == ":path" {
            request.set_uri(value.as_bytes());
        } else {
            request.header.set(name.as_bytes(), value.as_bytes());
        }
    }
    (true, 0)
}

fn refuse(captured: &Captured, response: &Response) -> (bool, i32) {
    send(captured, response, &exchange::internal());
    (false, 0)
}

/// The host sends headers with the status, and those set later never.
fn send(captured: &Captured, response: &Response, reply: &Reply) {
    // Else the host reads what a client sends at its leisure before the answer leaves, and the request stays in flight.
    if captured.may_have_a_body() {
        response.header.set(b"connection", b"close");
    }
    for (name, value) in &reply.headers {
        response.header.set(name.as_bytes(), value.as_bytes());
    }
    if !reply.body.is_empty() {
        response.header.set(b"content-length", reply.body.len().to_string().as_bytes());
    }
    response.set_status(i32::from(reply.status));
    response.body.write(&reply.body);
}

/// The time of day, which is the one clock that is real in this host. Its randomness is not; the gateway names the
/// request.
fn arrival() -> Result<Arrival, NoClock> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| NoClock)?;
    let now = Now { unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) };
    Ok(Arrival { now, holder: Holder([0; 16]) })
}
