//! Farebox end to end: a real Envoy with two workers, the companion, the development facilitator and an
//! origin. Every test starts a stack of its own on free ports.
//!
//! * [`accounting`]: a scripted run, and every metric series against the script's own tally.
//! * [`browser`]: a page in a real Chromium that buys from another origin.
//! * [`labels`]: the chain of a route, however it was spelled.
//! * [`concurrency`]: one payment, one service, across workers and spellings.
//! * [`clients`]: public clients, the operator's requirement, streams and large bodies.
//! * [`reload`]: rules that change under load, break, and go.
//! * [`differential`]: spellings of paths, and how real upstreams read them.
//! * [`discovery`]: rules over gRPC.
//! * [`facilitator_faults`]: every way a facilitator can fail.
//! * [`host`]: timeouts of Envoy, and VMs that are replaced.
//! * [`hostile_input`]: hostile requests.
//! * [`fleet`]: three proxies, one companion, and crashes of both under load.
//! * [`crashes`]: programs that die and clients that leave at the worst moment.
//! * [`parity`]: one table of cases in Envoy, in Traefik with the gateway, and on the gateway alone.
//! * [`prometheus`]: the shipped rules in a real Prometheus.
//! * [`random_requests`]: thousands of well-formed requests, and an upstream that records what reaches
//!   it.
//! * [`reference`]: facilitators of other projects, with a chain that loses its answers.
//! * [`relay_doors`]: callers that the relay accepts: by a secret, by a certificate, over a Unix socket.
//! * [`relay`]: payments and crashes with the companion's ledger between proxy and facilitator.
//! * [`requests`]: ordinary requests that hosts read differently.
//! * [`traefik`]: the plugin in a real Traefik with the companion's gateway, and the gateway alone.
//! * [`traefik_traps`]: unexpected behaviour of Traefik.
//! * [`shared_ledger`]: two companions that share a PostgreSQL, each with its own proxy.
#![forbid(unsafe_code)]

mod accounting;
mod browser;
mod clients;
mod common;
mod concurrency;
mod crashes;
mod differential;
mod discovery;
mod facilitator_faults;
mod fleet;
mod host;
mod hostile_input;
mod labels;
mod parity;
mod prometheus;
mod random_requests;
mod reference;
mod relay;
mod relay_doors;
mod reload;
mod requests;
mod shared_ledger;
mod support;
mod traefik;
mod traefik_traps;
