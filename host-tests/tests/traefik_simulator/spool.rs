//! Counting what the plugin answers itself.

use farebox_core::metrics::{BlockedReason, FailureReason, MetricSeries, SpoolLine, TupleCounter};
use farebox_host_tests::traefik::{Fault, Request, START, Traefik};
use serde_json::json;

use crate::shop::{GENERATION, config, forged, open, paying, payment};

fn lines(traefik: &Traefik) -> Vec<SpoolLine> {
    let spool = traefik.spool();
    spool.lines().map(|line| SpoolLine::decode(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// Names of what each line counts, the offer apart.
fn counted(traefik: &Traefik) -> Vec<String> {
    let name = |series: &MetricSeries| match series {
        MetricSeries::Tuple(tuple, counter) => format!("{} {counter:?}", tuple.offer_name),
        MetricSeries::Blocked(_, offer, reason) => format!("{offer} {reason:?}"),
        other => format!("{other:?}"),
    };
    let line = |line: &SpoolLine| {
        assert_eq!(line.generation, GENERATION);
        assert!(line.series.iter().all(|(_, by)| *by == 1), "{line:?}");
        line.series.iter().map(|(series, _)| name(series)).collect::<Vec<_>>().join(", ")
    };
    lines(traefik).iter().map(line).collect()
}

#[test]
fn what_is_answered_is_counted_and_what_is_passed_on_is_not() {
    let traefik = open();
    assert_eq!(counted(&traefik), ["ConfigGeneration"], "an instance says which rules it starts with");
    assert!(lines(&traefik)[0].time >= START * 1_000_000_000, "the time makes a line unlike any other");
    let payment = payment(&traefik, "/paid/x", 1);
    traefik.send(paying("/paid/x", &forged(&payment))).expect_reply();
    drop(traefik.send(paying("/paid/x", &payment)).expect_passed());
    drop(traefik.send(Request::get("/free/x")).expect_passed());
    traefik.send(Request::get("/broken/x")).expect_reply();
    traefik.send(Request::get("/elsewhere")).expect_reply();
    let failed = TupleCounter::PaymentFailed(FailureReason::PaymentInvalid);
    let presented = TupleCounter::PaymentPresented;
    let refused = format!("paid {presented:?}, paid {failed:?}");
    let required = format!("paid {:?}", TupleCounter::PaymentRequired);
    let all = counted(&traefik);
    assert_eq!(all[1..3], [required, refused]);
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(BlockedReason::ALL.iter().any(|reason| all[3] == format!("broken {reason:?}")), "{all:?}");
    assert!(BlockedReason::ALL.iter().any(|reason| all[4] == format!(" {reason:?}")), "{all:?}");
}

#[test]
fn a_spool_that_cannot_be_written_fails_no_request_and_its_losses_are_told() {
    for fault in [Fault::NotMounted, Fault::ReadOnly, Fault::Full, Fault::Cut(0), Fault::NotAFile] {
        let config = json!({"config": config("guest").to_string()}).to_string();
        let traefik = Traefik::with_fault(config.as_bytes(), Some(fault));
        for _ in 0..3 {
            assert_eq!(traefik.send(Request::get("/paid/x")).expect_reply().status, 402, "{fault:?}");
            drop(traefik.send(Request::get("/free/x")).expect_passed());
        }
        assert_eq!(traefik.spool(), "", "{fault:?}");
        let said = traefik.log().iter().filter(|line| line.text.contains("cannot count")).count();
        assert_eq!(said, 1, "once, not for each request: {fault:?}");
        if fault == Fault::NotMounted {
            // An instance keeps the mounts from its start.
            continue;
        }
        traefik.set_fault(None);
        traefik.send(Request::get("/paid/x")).expect_reply();
        traefik.send(Request::get("/paid/x")).expect_reply();
        let lost: Vec<_> = lines(&traefik).iter().map(|line| line.lost).collect();
        assert_eq!(lost, [4, 0], "{fault:?}");
    }
}

#[test]
fn a_spool_that_nobody_reads_stops_at_its_size() {
    let mut small = config("guest");
    small["spool"]["maxBytes"] = 1_000.into();
    let traefik = Traefik::new(&small);
    for _ in 0..50 {
        assert_eq!(traefik.send(Request::get("/paid/x")).expect_reply().status, 402);
    }
    let size = traefik.spool().len();
    assert!((1_000..2_000).contains(&size), "{size}");
}
