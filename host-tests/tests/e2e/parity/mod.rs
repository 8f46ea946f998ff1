//! One table of cases on every host: Envoy with the filter, Traefik with the plugin and the gateway behind it, and
//! the gateway alone. Status, headers, body, the upstream's request, the calls to the facilitator, the ledger and
//! every series of the metrics are the same on all of them, after every case.
//!
//! These differ, and are not compared:
//!
//! * Headers about the connection or the host (`outcome.rs` lists them), and those a proxy adds to a request.
//! * Row 1 before the first rules: Envoy answers 503 with its default filter, Traefik has no router yet (404), and
//!   the gateway does not listen.
//! * Row 8, CONNECT: each host has its own refusal, see [`no_host_opens_a_tunnel`].
//! * Row 11 needs a peer with a public address. All of them run with `requireSecureTransport`, under which the
//!   private peer of these tests passes; the simulators and the gateway's own tests have a public one.
//! * Row 35 cannot be caused from outside.
//! * A companion that is gone: see [`a_companion_that_is_gone_closes_what_is_paid_on_every_host`].

mod case;
mod expectations;
mod form;
mod host;
mod outcome;
mod table;

use std::thread;

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Durability, Facilitator, Options, Part, Postgres, Shell, Stack};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::accounting::shop::PRICING;
use crate::common::{Payment, Request, Settlement};
use crate::support::now;
use case::Case;
use host::Host;

const HOSTS: [Shell; 3] = [Shell::Envoy, Shell::Traefik, Shell::Gateway];

/// A shop on a host.
fn shop(shell: Shell) -> Options {
    let mut settings = Settlement::Relay.settings(1_000, 2_000);
    settings["filter"] = json!({ "requireSecureTransport": true });
    Options { shell, settings, ..Options::priced(PRICING) }
}

/// The same with a facilitator that does not say what it supports, and with `unmatched: pass`.
fn unready(shell: Shell) -> Options {
    let mut options = shop(shell);
    options.facilitator = Facilitator::Development(vec!["--fail=supported=http_500".into()]);
    options.settings["filter"]["unmatched"] = json!("pass");
    options
}

/// The same with a database, and an upstream that has a second to answer.
fn trouble(shell: Shell, database: &Postgres) -> Options {
    let mut options = shop(shell);
    // Longer than the companion needs to find out that its database is unreachable.
    options.settings["facilitator"] = Settlement::Relay.settings(5_000, 5_000)["facilitator"].clone();
    options.settings["relay"] = json!({ "ledger": database.url() });
    if shell == Shell::Envoy {
        options.tweak = Box::new(|bootstrap| {
            let timeout = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/\
                           virtual_hosts/0/routes/0/route/timeout";
            *bootstrap.pointer_mut(timeout).expect("the route of clients has a timeout") = json!("1s");
        });
    } else {
        options.settings["gateway"] = json!({ "responseTimeout": "1s" });
    }
    options
}

/// Plays cases on all hosts at once, and compares the results with the expected ones and with each other.
async fn play(cases: &[Case], start: impl AsyncFn(Shell) -> Host + Sync) {
    let (runtime, start) = (&Handle::current(), &start);
    // Each on a thread of its own: reading a ledger blocks, and metrics take long to compare.
    let hosts = block_in_place(|| {
        thread::scope(|scope| {
            let on =
                |shell| scope.spawn(move || runtime.block_on(async { start(shell).await.play(cases).await }));
            HOSTS.map(on).map(|host| host.join().expect("its cases are played"))
        })
    });
    let mut problems: Vec<String> = hosts.iter().flat_map(|host| host.problems.clone()).collect();
    for (number, case) in cases.iter().enumerate() {
        let [first, others @ ..] = &hosts;
        for other in others {
            let (one, two) = (&first.outcomes[number], &other.outcomes[number]);
            let is_compared = case.expected.is_compared
                && [first, other].iter().all(|host| case.own_answer(host.shell).is_none());
            if one != two && is_compared {
                let (name, difference) = (&case.name, one.difference(two));
                problems.push(format!("{name}: {:?} and {:?} differ:{difference}", first.shell, other.shell));
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shop_is_the_same_on_every_host() {
    let (cases, began) = (table::shop(), now());
    assert!(cases.len() >= 60, "{} cases", cases.len());
    play(&cases, async |shell| Host::start(shop(shell), None, began).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shop_whose_facilitator_is_not_known_yet_tells_its_terms_and_takes_no_payment_on_every_host() {
    let (cases, began) = (table::unready(), now());
    play(&cases, async |shell| Host::start(unready(shell), None, began).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_upstream_and_a_lost_ledger_are_the_same_on_every_host() {
    let (cases, began) = (table::trouble(), now());
    play(&cases, async |shell| {
        let database = Postgres::start(Durability::Careless).expect("a database starts");
        Host::start(trouble(shell, &database), Some(database), began).await
    })
    .await;
}

/// Envoy and Traefik serve everything that needs no companion. Traefik answers requests to the gateway itself
/// (502), and Envoy's calls to the relay get no answer. The gateway alone is the companion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_that_is_gone_closes_what_is_paid_on_every_host() {
    for (shell, unpaid, paid, free) in
        [(Shell::Envoy, 402, 503, 200), (Shell::Traefik, 402, 502, 200), (Shell::Gateway, 0, 0, 0)]
    {
        let mut stack = Stack::start(shop(shell)).await.unwrap();
        let facilitator = DevFacilitator::of(&stack);
        let payment = Payment::of(&stack, "/basic/1").await.unwrap();
        stack.kill_part(Part::Companion);
        let to = stack.proxy_address();
        if shell == Shell::Gateway {
            assert!(std::net::TcpStream::connect(to).is_err());
        } else {
            let answers = [
                (Request::get("/basic/1").send(to), unpaid),
                (payment.send(&stack, "/basic/1").await, paid),
                (Request::get("/free/1").send(to), free),
            ];
            for (answer, status) in answers {
                assert_eq!(answer.status, status, "{shell:?}: {}", answer.summary());
                assert_eq!(answer.challenges(), status == 402, "nobody is to sign anew");
            }
        }
        assert_eq!(stack.origin().unwrap().hits().of("/basic/1"), 0);
        stack.start_part(Part::Companion).unwrap();
        stack.ready().await.unwrap();
        let served = payment.send(&stack, "/basic/1").await;
        assert_eq!(served.status, 200, "{shell:?}: {}", served.summary());
        assert_eq!(facilitator.operations().await, ["verify", "settle"]);
        assert_eq!(stack.origin().unwrap().hits().of("/basic/1"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_host_opens_a_tunnel() {
    for shell in HOSTS {
        let stack = Stack::start(shop(shell)).await.unwrap();
        let payment = Payment::of(&stack, "/upfront/1").await.unwrap();
        let upstream = stack.upstream_url();
        let upstream = upstream.trim_start_matches("http://");
        for target in ["/upfront/1", "/free/1", "shop.example:443", upstream] {
            let request = Request::new("CONNECT", target).header("payment-signature", payment.header());
            let answer = request.send(stack.proxy_address());
            assert!(matches!(answer.status, 0 | 400..=599), "{shell:?} {target}: {}", answer.summary());
        }
        assert_eq!(stack.origin().unwrap().hits().total(), 0, "{shell:?}");
        assert!(stack.ledger().unwrap().is_empty(), "{shell:?}");
    }
}
