use super::*;
use crate::testing::standing;

const NOW: u64 = 1_790_000_000;

/// A VM of `e0` reports at a second.
fn hear(proxies: &mut Proxies, standing: &Standing, at: u64) -> u64 {
    let standing = Standing { unix_ms: at * 1_000, ..standing.clone() };
    proxies.heard("e0", &standing, 0, at * 1_000)
}

fn first(proxies: &Proxies) -> &ProxyState {
    proxies.iter().next().unwrap()
}

#[test]
fn a_push_is_confirmed_once_every_vm_enforces_it() {
    let mut proxies = Proxies::default();
    hear(&mut proxies, &standing("main", 8), NOW);
    hear(&mut proxies, &standing("worker", 8), NOW);
    assert_eq!((first(&proxies).push(), first(&proxies).confirmed()), (PushState::Idle, Some(8)));
    proxies.pushing(9, NOW);
    assert_eq!(first(&proxies).push(), PushState::Pending);
    hear(&mut proxies, &standing("main", 9), NOW + 1);
    assert_eq!((first(&proxies).push(), first(&proxies).confirmed()), (PushState::Pending, Some(8)));
    hear(&mut proxies, &standing("worker", 9), NOW + 1);
    assert_eq!((first(&proxies).push(), first(&proxies).confirmed()), (PushState::Confirmed, Some(9)));
    // A proxy that joins now has to take the push, too.
    proxies.heard("e1", &standing("other", 0), 0, NOW * 1_000);
    assert_eq!(proxies.iter().nth(1).unwrap().push(), PushState::Pending);
}

#[test]
fn a_vm_that_is_silent_beside_others_is_gone() {
    let mut proxies = Proxies::default();
    proxies.pushing(9, NOW);
    hear(&mut proxies, &standing("old", 8), NOW);
    hear(&mut proxies, &standing("new", 9), NOW + 5);
    assert_eq!(first(&proxies).push(), PushState::Pending, "it may be busy");
    hear(&mut proxies, &standing("new", 9), NOW + 6);
    assert_eq!((first(&proxies).push(), first(&proxies).vms().count()), (PushState::Confirmed, 1));
}

#[test]
fn a_refused_push_says_why_until_the_next_is_enforced() {
    let mut proxies = Proxies::default();
    hear(&mut proxies, &standing("a", 8), NOW);
    proxies.pushing(9, NOW);
    let refusing = Standing { refusal: "format is 9".to_owned(), ..standing("a", 8) };
    hear(&mut proxies, &refusing, NOW + 1);
    assert_eq!(first(&proxies).push(), PushState::Refused);
    hear(&mut proxies, &refusing, NOW + 60);
    assert_eq!(first(&proxies).trouble(NOW + 60), None, "it sells by its last good rules");
    proxies.pushing(10, NOW + 61);
    hear(&mut proxies, &standing("a", 10), NOW + 62);
    assert_eq!((first(&proxies).push(), first(&proxies).refusal.as_str()), (PushState::Confirmed, ""));
    // A refusal of another configuration is shown, and changes nothing.
    let refusing = Standing { refusal: "no rules".to_owned(), ..standing("a", 10) };
    hear(&mut proxies, &refusing, NOW + 63);
    assert_eq!(
        (first(&proxies).push(), first(&proxies).refusal.as_str()),
        (PushState::Confirmed, "no rules")
    );
}

#[test]
fn a_silent_proxy_is_down_after_ten_seconds_and_forgotten_after_ten_minutes() {
    let mut proxies = Proxies::default();
    hear(&mut proxies, &standing("a", 8), NOW);
    let at = |proxies: &mut Proxies, now| {
        proxies.watch(now);
        proxies
            .iter()
            .next()
            .map(|proxy| (proxy.is_up(now), proxy.is_connected(now), proxy.reaches_relay(now)))
    };
    assert_eq!(at(&mut proxies, NOW + 10), Some((true, true, Some(true))));
    assert_eq!(at(&mut proxies, NOW + 11), Some((false, true, None)));
    assert_eq!(at(&mut proxies, NOW + 61), Some((false, false, None)));
    assert_eq!(at(&mut proxies, NOW + 601), None);
}

#[test]
fn payments_the_companion_never_heard_of_speak_against_it_until_the_next_report_without_one() {
    let mut proxies = Proxies::default();
    let hear = |proxies: &mut Proxies, unheard, at: u64| {
        proxies.heard("e0", &standing("a", 8), unheard, at * 1_000);
        (first(proxies).reaches_relay(at), first(proxies).trouble(at))
    };
    for at in (0..=12).step_by(2) {
        assert_eq!(hear(&mut proxies, 0, NOW + at), (Some(true), None));
    }
    let (reaches, trouble) = hear(&mut proxies, 2, NOW + 14);
    assert_eq!(reaches, Some(false));
    assert!(trouble.unwrap().starts_with("got no answer from the companion's relay"));
    assert_eq!(hear(&mut proxies, 0, NOW + 16), (Some(true), None));
}

#[test]
fn payments_that_failed_before_the_companion_began_or_while_it_was_away_are_history() {
    let mut proxies = Proxies::default();
    for at in [NOW, NOW + 2, NOW + 60] {
        proxies.heard("e0", &standing("a", 8), 1, at * 1_000);
        assert_eq!((first(&proxies).reaches_relay(at), first(&proxies).trouble(at)), (Some(true), None));
    }
}

#[test]
fn a_proxy_that_is_silent_is_named_with_how_long_and_what_to_look_at() {
    let mut proxies = Proxies::default();
    hear(&mut proxies, &standing("a", 8), NOW);
    assert_eq!(first(&proxies).trouble(NOW + 10), None);
    for at in [11, 33, 300] {
        let trouble = first(&proxies).sells_nothing(NOW + at).unwrap();
        assert!(
            trouble.starts_with(&format!("has not been heard for {at} s: see whether it runs")),
            "{trouble}"
        );
    }
}

#[test]
fn a_proxy_that_goes_on_by_old_rules_is_named_though_it_sells() {
    let mut proxies = Proxies::default();
    proxies.pushing(8, NOW);
    hear(&mut proxies, &standing("a", 8), NOW + 1);
    proxies.pushing(9, NOW + 100);
    // The proxy is behind since the first push that it did not take.
    proxies.pushing(10, NOW + 110);
    let at = |proxies: &mut Proxies, at| {
        hear(proxies, &standing("a", 8), at);
        (first(proxies).trouble(at), first(proxies).sells_nothing(at))
    };
    assert_eq!(at(&mut proxies, NOW + 115), (None, None));
    let (trouble, nothing) = at(&mut proxies, NOW + 116);
    let trouble = trouble.unwrap();
    assert!(trouble.starts_with("enforces generation 8 and has not taken generation 10, "), "{trouble}");
    assert!(trouble.contains("Envoy's log") && trouble.contains("envoy.wasm"), "{trouble}");
    assert_eq!(nothing, None);
    hear(&mut proxies, &standing("a", 10), NOW + 117);
    assert_eq!(first(&proxies).trouble(NOW + 117), None);
}

#[test]
fn reports_that_were_lost_are_counted_once_for_each_vm() {
    let mut proxies = Proxies::default();
    let lost = |lost| Standing { lost, ..standing("a", 8) };
    let counted: Vec<u64> = [3, 3, 5].map(|n| hear(&mut proxies, &lost(n), NOW)).into();
    assert_eq!(counted, [3, 0, 2]);
    assert_eq!(hear(&mut proxies, &Standing { lost: 1, ..standing("b", 8) }, NOW), 1);
}

#[test]
fn two_processes_of_one_name_are_told_apart_while_both_report() {
    let mut proxies = Proxies::default();
    hear(&mut proxies, &standing("a", 8), NOW);
    hear(&mut proxies, &Standing { process: "q".to_owned(), ..standing("b", 8) }, NOW + 4);
    assert_eq!(proxies.processes(NOW + 4).len(), 2);
    assert_eq!(proxies.processes(NOW + 6).len(), 1);
}

#[test]
fn names_are_printable_and_their_number_is_bounded() {
    let mut proxies = Proxies::default();
    for id in ["", "a b\n", &"x".repeat(100)] {
        proxies.heard(id, &standing("a", 8), 0, NOW * 1_000);
    }
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.name.as_str()).collect();
    assert_eq!(names, ["a?b?", "unnamed", &"x".repeat(63)]);
    for number in 0..2 * MAX_PROXIES {
        proxies.heard(&format!("e{number}"), &standing("a", 8), 0, NOW * 1_000);
    }
    assert_eq!(proxies.iter().count(), MAX_PROXIES + 1);
}
