//! Many proxies, each with many lives.

use super::tests::{loaded, report, requests, total};
use super::*;

#[test]
fn processes_that_answer_by_turns_at_one_address_are_each_counted_once() {
    let mut aggregate = loaded(&["a"]);
    for round in 1..=4 {
        aggregate.ingest("e1", report(100, &[(requests("a", 0), 10 * round)]));
        aggregate.ingest("e1", report(200, &[(requests("a", 0), 7 * round)]));
    }
    assert_eq!(total(&aggregate, "a"), Some(68));
}

#[test]
fn a_proxy_that_comes_back_after_hours_goes_on_where_it_was() {
    let mut aggregate = loaded(&["a"]);
    let at = |read_at, value| Report { read_at, ..report(100, &[(requests("a", 0), value)]) };
    aggregate.ingest("e1", at(1_000, 10));
    aggregate.forget_silent(1_000 + 20 * 3600);
    aggregate.ingest("e1", at(1_000 + 20 * 3600, 15));
    assert_eq!(total(&aggregate, "a"), Some(15));
}

#[test]
fn one_that_comes_back_after_days_adds_only_what_follows() {
    let mut aggregate = loaded(&["a"]);
    let at =
        |hours: u64, value| Report { read_at: hours * 3600, ..report(100, &[(requests("a", 0), value)]) };
    aggregate.ingest("e1", at(0, 10));
    aggregate.forget_silent(48 * 3600);
    assert_eq!(total(&aggregate, "a"), Some(10));
    aggregate.ingest("e1", at(48, 15));
    assert_eq!(total(&aggregate, "a"), Some(10));
    aggregate.ingest("e1", at(49, 18));
    assert_eq!(total(&aggregate, "a"), Some(13));
    // Nobody remembers a process for ever, and its total stays all the same.
    aggregate.forget_silent((49 + 25) * 3600);
    aggregate.forget_silent((49 + 31 * 24) * 3600);
    assert_eq!(total(&aggregate, "a"), Some(13));
    assert_eq!(aggregate.to_state().processes, []);
}

#[test]
fn a_proxy_that_restarts_all_the_time_fills_no_memory() {
    let mut aggregate = loaded(&["a"]);
    for round in 0_u64..200 {
        let started = 100 * i64::try_from(round).unwrap();
        aggregate.ingest("e1", Report { read_at: round, ..report(started, &[(requests("a", 0), 1)]) });
    }
    assert_eq!(total(&aggregate, "a"), Some(200));
    let processes = aggregate.to_state().processes;
    assert_eq!(processes.iter().filter(|row| !row.folded).count(), 8);
    assert_eq!(processes.iter().filter(|row| row.folded).count(), 64);
}

/// A process that a hot restart led to.
fn hot(started: i64, restart_epoch: u32, values: &[(HostSeries, u64)]) -> Report {
    let mut report = report(started, values);
    report.process.restart_epoch = restart_epoch;
    report.process.inherits = restart_epoch > 0;
    report
}

#[test]
fn what_a_hot_restart_carries_over_is_not_counted_again() {
    let mut aggregate = loaded(&["a", "b"]);
    aggregate.ingest("e1", hot(100, 0, &[(requests("a", 0), 13)]));
    // The new process has the last 3 of them, and 2 of a counter that was never read of the old one.
    aggregate.ingest("e1", hot(200, 1, &[(requests("a", 0), 3), (requests("b", 0), 2)]));
    assert_eq!((total(&aggregate, "a"), total(&aggregate, "b")), (Some(13), Some(2)));
    aggregate.ingest("e1", hot(200, 1, &[(requests("a", 0), 8), (requests("b", 0), 3)]));
    assert_eq!((total(&aggregate, "a"), total(&aggregate, "b")), (Some(18), Some(3)));
}

#[test]
fn after_a_hot_restart_nobody_saw_the_old_process_of_everything_is_new() {
    let mut aggregate = loaded(&["a"]);
    aggregate.ingest("e1", hot(200, 4, &[(requests("a", 0), 9)]));
    assert_eq!(total(&aggregate, "a"), Some(9));
}

#[test]
fn what_the_old_process_still_counts_while_it_drains_is_counted_by_its_heir() {
    let mut aggregate = loaded(&["a"]);
    aggregate.ingest("e1", hot(100, 0, &[(requests("a", 0), 13)]));
    aggregate.ingest("e1", hot(200, 1, &[(requests("a", 0), 3)]));
    aggregate.ingest("e1", hot(100, 0, &[(requests("a", 0), 14)]));
    aggregate.ingest("e1", hot(200, 1, &[(requests("a", 0), 4)]));
    assert_eq!(total(&aggregate, "a"), Some(14));
    // Another one that was simply started is nobody's predecessor.
    aggregate.ingest("e1", hot(300, 0, &[(requests("a", 0), 2)]));
    assert_eq!(total(&aggregate, "a"), Some(16));
}
