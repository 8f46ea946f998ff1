use super::*;
use std::collections::BTreeMap;

const LIMITS: Limits = Limits { records: 8, settling_ms: 150_000 };
const ROUTE: Binding = Binding { route: 1, tuple: 77 };
const OTHER: Binding = Binding { route: 2, tuple: 77 };
/// Unix seconds at which the records of these tests expire.
const END: u64 = 2_000;

fn at(seconds: u64) -> Now {
    Now { unix_ms: seconds * 1000 }
}
fn key(n: u8) -> ReplayKey {
    ReplayKey([n; 16])
}
fn ask(n: u8) -> Reserve {
    Reserve { key: key(n), binding: ROUTE, keep_until: END }
}
/// A bucket in a test: what a shell keeps.
#[derive(Default, Clone)]
struct Bucket(Vec<u8>);
impl Bucket {
    fn reserve(&mut self, request: &Reserve, now: Now) -> (Reservation, Vec<Expired>) {
        let claim = reserve(&self.0, request, &LIMITS, now);
        if let Some(write) = claim.write {
            self.0 = write;
        }
        (claim.reservation, claim.expired)
    }
    fn ask(&mut self, n: u8, seconds: u64) -> Reservation {
        self.reserve(&ask(n), at(seconds)).0
    }
    fn apply(&mut self, n: u8, change: KeyChange, seconds: u64) -> Vec<Expired> {
        let Some((bytes, expired)) = apply(&self.0, &key(n), &change, at(seconds)) else {
            return Vec::new();
        };
        self.0 = bytes;
        expired
    }
}
fn tx() -> String {
    format!("0x{}", "c4".repeat(32))
}

#[test]
fn a_new_key_is_ours_and_then_in_flight_until_freed() {
    let mut b = Bucket::default();
    assert_eq!(b.ask(1, 10), Reservation::Fresh);
    assert_eq!(b.ask(1, 11), Reservation::InFlight);
    assert_eq!(b.ask(2, 11), Reservation::Fresh);
    b.apply(1, KeyChange::Free, 12);
    assert_eq!(b.ask(1, 13), Reservation::Fresh);
}

#[test]
fn two_racing_claims_never_both_win() {
    let mut b = Bucket::default();
    for prepare in
        [None, Some(KeyChange::Owed { transaction: tx() }), Some(KeyChange::Unknown { transaction: None })]
    {
        if let Some(change) = prepare {
            b.apply(1, change, 10);
        }
        let first = reserve(&b.0, &ask(1), &LIMITS, at(10));
        let second = reserve(&b.0, &ask(1), &LIMITS, at(10));
        assert_eq!(first, second);
        // Compare-and-swap lets one of them write; the other reads again.
        b.0 = first.write.unwrap();
        assert_eq!(b.ask(1, 10), Reservation::InFlight);
    }
}

#[test]
fn a_delivered_payment_is_used_up() {
    let mut b = Bucket::default();
    assert_eq!(b.ask(1, 10), Reservation::Fresh);
    b.apply(1, KeyChange::Settling, 11);
    b.apply(1, KeyChange::Delivering { transaction: tx() }, 12);
    assert_eq!(b.ask(1, 13), Reservation::InFlight);
    b.apply(1, KeyChange::Delivered, 14);
    assert_eq!(b.ask(1, 15), Reservation::Delivered);
    assert_eq!(b.ask(1, END), Reservation::Delivered);
}

#[test]
fn a_key_is_bound_to_its_route_in_every_state() {
    let elsewhere = Reserve { binding: OTHER, ..ask(1) };
    let changes = [
        KeyChange::Settling,
        KeyChange::Delivering { transaction: tx() },
        KeyChange::Owed { transaction: tx() },
        KeyChange::Delivered,
        KeyChange::Unknown { transaction: None },
    ];
    let mut b = Bucket::default();
    assert_eq!(b.ask(1, 10), Reservation::Fresh);
    assert_eq!(b.reserve(&elsewhere, at(10)).0, Reservation::OtherRoute);
    for change in changes {
        b.apply(1, change.clone(), 10);
        assert_eq!(b.reserve(&elsewhere, at(1_000)).0, Reservation::OtherRoute, "{change:?}");
    }
}

#[test]
fn an_owed_service_is_redeemed_by_one_request_at_a_time() {
    let mut b = Bucket::default();
    b.ask(1, 10);
    b.apply(1, KeyChange::Owed { transaction: tx() }, 11);
    assert_eq!(b.ask(1, 12), Reservation::Redeem { transaction: tx() });
    assert_eq!(b.ask(1, 12), Reservation::InFlight);
    b.apply(1, KeyChange::Owed { transaction: tx() }, 13);
    assert_eq!(b.ask(1, 14), Reservation::Redeem { transaction: tx() });
    b.apply(1, KeyChange::Delivered, 15);
    assert_eq!(b.ask(1, 16), Reservation::Delivered);
}

#[test]
fn an_unknown_outcome_is_repeated_by_one_request_at_a_time_and_keeps_its_transaction() {
    let mut b = Bucket::default();
    b.ask(1, 10);
    b.apply(1, KeyChange::Settling, 10);
    b.apply(1, KeyChange::Unknown { transaction: Some("0xabc".into()) }, 11);
    let unresolved = Reservation::Unresolved { transaction: Some("0xabc".into()), first_seen: false };
    assert_eq!(b.ask(1, 12), unresolved);
    assert_eq!(b.ask(1, 12), Reservation::InFlight);
    b.apply(1, KeyChange::Settling, 13);
    b.apply(1, KeyChange::Unknown { transaction: None }, 14);
    assert_eq!(b.ask(1, 15), unresolved);
}

#[test]
fn a_settle_that_never_came_back_becomes_unknown_and_is_reported_once() {
    let mut b = Bucket::default();
    b.ask(1, 10);
    b.apply(1, KeyChange::Settling, 10);
    assert_eq!(b.ask(1, 10 + 149), Reservation::InFlight);
    assert_eq!(b.ask(1, 10 + 150), Reservation::Unresolved { transaction: None, first_seen: true });
    assert_eq!(b.ask(1, 10 + 151), Reservation::InFlight);
    // The repeat died as well: unknown again, but already counted.
    assert_eq!(b.ask(1, 10 + 300), Reservation::Unresolved { transaction: None, first_seen: false });
}

#[test]
fn a_clock_that_steps_back_changes_nothing() {
    let mut b = Bucket::default();
    b.ask(1, 1_000);
    b.apply(1, KeyChange::Settling, 1_000);
    assert_eq!(b.ask(1, 5), Reservation::InFlight);
}

#[test]
fn a_full_bucket_refuses_new_keys_and_still_answers_old_ones() {
    let mut b = Bucket::default();
    for n in 0..8 {
        assert_eq!(b.ask(n, 10), Reservation::Fresh);
        b.apply(n, KeyChange::Delivered, 10);
    }
    assert_eq!(b.ask(9, 11), Reservation::Full);
    assert_eq!(b.ask(3, 11), Reservation::Delivered);
    b.apply(3, KeyChange::Free, 11);
    assert_eq!(b.ask(9, 11), Reservation::Fresh);
    // Expired records make room by themselves.
    assert_eq!(b.reserve(&Reserve { keep_until: END + 100, ..ask(10) }, at(END + 1)).0, Reservation::Fresh);
}

#[test]
fn an_expired_unknown_is_reported_to_whoever_writes_next() {
    let gone = vec![Expired { tuple: 77, first_seen: false }];
    let mut b = Bucket::default();
    b.ask(1, 10);
    b.apply(1, KeyChange::Unknown { transaction: None }, 11);
    assert_eq!(sweep(&b.0, at(END)), None);
    let (swept, expired) = sweep(&b.0, at(END + 1)).unwrap();
    assert_eq!(expired, gone);
    assert_eq!(sweep(&swept, at(END + 1)), None);
    let (reservation, expired) = b.clone().reserve(&ask(2), at(END + 1));
    assert_eq!((reservation, expired), (Reservation::Fresh, gone));
    b.ask(3, 20);
    let expired = b.apply(3, KeyChange::Settling, END + 2);
    assert_eq!(expired, vec![Expired { tuple: 77, first_seen: false }]);
}

#[test]
fn a_settle_left_by_a_crash_is_reported_when_it_expires_unseen() {
    let mut b = Bucket::default();
    b.ask(1, 10);
    b.apply(1, KeyChange::Settling, 10);
    assert_eq!(sweep(&b.0, at(END + 3_600)), None);
    let (_, expired) = sweep(&b.0, at(END + 3_601)).unwrap();
    assert_eq!(expired, vec![Expired { tuple: 77, first_seen: true }]);
}

#[test]
fn a_request_that_outlasts_its_authorization_still_finds_its_record() {
    let mut b = Bucket::default();
    b.ask(1, 10);
    b.apply(1, KeyChange::Settling, END + 100);
    b.ask(2, END + 101);
    // The question is opened after its end, so it is reported as expired in the same write.
    let expired = b.apply(1, KeyChange::Unknown { transaction: None }, END + 102);
    assert_eq!(expired, vec![Expired { tuple: 77, first_seen: false }]);
}

#[test]
fn unreadable_bytes_are_never_a_fresh_key_and_never_overwritten() {
    for bytes in [&b"\x02"[..], b"\x01x", b"hello", &[1; 40], &[0]] {
        let claim = reserve(bytes, &ask(1), &LIMITS, at(10));
        assert_eq!(claim, Claim { reservation: Reservation::Unavailable, write: None, expired: vec![] });
        assert_eq!(apply(bytes, &key(1), &KeyChange::Free, at(10)), None);
        assert_eq!(sweep(bytes, at(10)), None);
    }
}

#[test]
fn random_bytes_never_panic_and_never_lose_a_record() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut b = Bucket::default();
    for n in 0..5 {
        b.ask(n, 10);
        b.apply(n, KeyChange::Owed { transaction: "0xfeed".into() }, 10);
    }
    for _ in 0..20_000 {
        let mut bytes = b.0.clone();
        let place = next() as usize % bytes.len();
        match next() % 3 {
            0 => bytes[place] ^= next() as u8,
            1 => bytes.truncate(place),
            _ => bytes.insert(place, next() as u8),
        }
        if let Some(write) = reserve(&bytes, &ask(1), &LIMITS, at(10)).write {
            assert!(decode(&write).is_some());
        }
        let _ = sweep(&bytes, at(next() % 5_000));
    }
}

/// What a key is in the reference model.
#[derive(Debug, Clone, PartialEq)]
enum Model {
    Reserved,
    Settling { since: u64, counted: bool, tx: Option<String> },
    Delivering(String),
    Owed(String),
    Delivered,
    Unknown(Option<String>),
}

#[test]
fn the_table_agrees_with_a_reference_model_over_many_random_steps() {
    let mut seed = 0xfa2e_b0c5_u64;
    let mut next = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    for _ in 0..200 {
        let mut b = Bucket::default();
        let mut model: BTreeMap<u8, (Model, u32, u64)> = BTreeMap::new();
        let (mut expected_expired, mut expired) = (0, 0);
        let mut now = 1_000_u64;
        for _ in 0..120 {
            now += next(60);
            let gone = |model: &mut BTreeMap<u8, (Model, u32, u64)>, now: u64| {
                let mut open = 0;
                model.retain(|_, (m, _, keep)| {
                    let flying = matches!(m, Model::Reserved | Model::Settling { .. } | Model::Delivering(_));
                    let live = now <= *keep + if flying { 3_600 } else { 0 };
                    open += usize::from(!live && matches!(m, Model::Unknown(_) | Model::Settling { .. }));
                    live
                });
                open
            };
            let n = next(12) as u8;
            let transaction = format!("0x{:x}", next(1 << 40));
            if next(2) == 0 {
                let route = 1 + next(8) as u32 / 7;
                let keep = now + 100 + next(2_000);
                let request = Reserve { key: key(n), binding: Binding { route, tuple: 0 }, keep_until: keep };
                let (got, fell_off) = b.reserve(&request, at(now));
                let mut after = model.clone();
                let open = gone(&mut after, now);
                let expect = match after.get(&n).cloned() {
                    None if after.len() >= LIMITS.records => Reservation::Full,
                    None => {
                        after.insert(n, (Model::Reserved, route, keep));
                        Reservation::Fresh
                    }
                    Some((_, bound, _)) if bound != route => Reservation::OtherRoute,
                    Some((state, bound, keep)) => match state {
                        Model::Reserved | Model::Delivering(_) => Reservation::InFlight,
                        Model::Settling { since, .. } if now - since < 150 => Reservation::InFlight,
                        Model::Delivered => Reservation::Delivered,
                        Model::Owed(transaction) => {
                            after.insert(n, (Model::Delivering(transaction.clone()), bound, keep));
                            Reservation::Redeem { transaction }
                        }
                        Model::Settling { tx, counted, .. } => {
                            after.insert(
                                n,
                                (Model::Settling { since: now, counted: true, tx: tx.clone() }, bound, keep),
                            );
                            Reservation::Unresolved { transaction: tx, first_seen: !counted }
                        }
                        Model::Unknown(tx) => {
                            after.insert(
                                n,
                                (Model::Settling { since: now, counted: true, tx: tx.clone() }, bound, keep),
                            );
                            Reservation::Unresolved { transaction: tx, first_seen: false }
                        }
                    },
                };
                assert_eq!(got, expect);
                let wrote = matches!(
                    expect,
                    Reservation::Fresh | Reservation::Redeem { .. } | Reservation::Unresolved { .. }
                );
                if wrote {
                    model = after;
                    expected_expired += open;
                    expired += fell_off.len();
                }
            } else if let Some((state, route, keep)) = model.get(&n).cloned() {
                let counted = matches!(state, Model::Unknown(_) | Model::Settling { counted: true, .. });
                let (change, new) = match next(6) {
                    0 => (KeyChange::Free, None),
                    1 => {
                        let tx = match &state {
                            Model::Unknown(tx) | Model::Settling { tx, .. } => tx.clone(),
                            Model::Delivering(tx) | Model::Owed(tx) => Some(tx.clone()),
                            _ => None,
                        };
                        (KeyChange::Settling, Some(Model::Settling { since: now, counted, tx }))
                    }
                    2 => (
                        KeyChange::Delivering { transaction: transaction.clone() },
                        Some(Model::Delivering(transaction)),
                    ),
                    3 => (KeyChange::Delivered, Some(Model::Delivered)),
                    4 => {
                        (KeyChange::Owed { transaction: transaction.clone() }, Some(Model::Owed(transaction)))
                    }
                    _ => (
                        KeyChange::Unknown { transaction: Some(transaction.clone()) },
                        Some(Model::Unknown(Some(transaction))),
                    ),
                };
                expired += b.apply(n, change, now).len();
                match new {
                    None => model.remove(&n),
                    Some(m) => model.insert(n, (m, route, keep)),
                };
                expected_expired += gone(&mut model, now);
            }
            let stored = decode(&b.0).unwrap();
            assert_eq!(stored.len(), model.len());
            assert!(stored.len() <= LIMITS.records);
            assert_eq!(expired, expected_expired);
        }
    }
}
