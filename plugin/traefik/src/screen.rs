//! One request, which is answered by the guest or passed on.

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

/// The host's clock is before 1970.
struct NoClock;

// === impl Screen ===

impl Screen {
    /// Enforces the configuration, and writes its generation to the spool for the companion.
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
                // The host cannot send the body in chunks.
                Some(Turn { stamps, next: Next::Reply(reply), .. }) => {
                    self.answer(&captured, response, &reply, &stamps);
                    (false, 0)
                }
                _ => pass(request, &edits),
            },
            // The ledger decides about the payment. The gateway begins a new exchange and counts the request.
            Next::Call(calling) => pass(request, &calling.to_gateway(&head)),
            Next::Reply(reply) => {
                self.answer(&captured, response, &reply, &turn.stamps);
                (false, 0)
            }
            // These turns do not occur: the rules name a relay, and these are not first turns.
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

/// Sends a reply. Headers come first, because the host sends them together with the status and ignores later ones.
fn send(captured: &Captured, response: &Response, reply: &Reply) {
    // Otherwise the host reads the whole body before it sends the answer, and a slow client keeps the request in
    // flight.
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

/// The time of day, the only real clock of this host. The host has no real randomness, so the gateway makes the id of
/// the request.
fn arrival() -> Result<Arrival, NoClock> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| NoClock)?;
    let now = Now { unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) };
    Ok(Arrival { now, holder: Holder([0; 16]) })
}
