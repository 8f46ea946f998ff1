use super::super::fixtures::{record_in, states, terms};
use super::super::{Claim, End, Fingerprint, Holder, Outcome, State};
use super::*;
use std::sync::Arc;

const LEASES: Leases = Leases { hold_ms: 600_000, settle_ms: 150_000 };
const LIMITS: Limits = Limits { leases: LEASES, retention: 90_000, records: 8, bytes: 4_096 };
const TUPLE: u32 = 77;

fn at(seconds: u64) -> Now {
    Now { unix_ms: seconds * 1000 }
}
fn key(n: u8) -> KeyDigest {
    KeyDigest([n; 16])
}
fn claim(n: u8) -> Event {
    Event::Claim(Claim {
        fingerprint: Fingerprint([n; 32]),
        terms: terms(),
        holder: Holder([n; 16]),
        call: Arc::from(&b"call"[..]),
        ends: 2_000,
        proven: true,
        only_known: false,
        can_settle: true,
        twin: None,
    })
}
fn ended(n: u8, epoch: u32, outcome: Outcome) -> Event {
    let Event::Claim(claim) = claim(n) else { panic!("no claim") };
    Event::Ended { epoch, holder: Holder([n; 16]), outcome, claim: Some(Box::new(claim)) }
}
fn silence() -> Outcome {
    Outcome::Unknown { transaction: None, reason: String::new() }
}
fn settled() -> Outcome {
    Outcome::Settled { transaction: "0x1".to_owned() }
}
fn of(effect: Effect) -> Expired {
    Expired { tuple: TUPLE, effect }
}

/// A bucket as a shell keeps it.
#[derive(Default, Clone)]
struct Bucket(Vec<u8>);

impl Bucket {
    fn step(&mut self, n: u8, event: Event, seconds: u64) -> Stepped {
        let stepped = step_in(&self.0, key(n), TUPLE, event, &LIMITS, at(seconds));
        if let Some(bytes) = &stepped.write {
            self.0.clone_from(bytes);
        }
        stepped
    }
    fn answer(&mut self, n: u8, event: Event, seconds: u64) -> Option<Answer> {
        self.step(n, event, seconds).answer
    }
    /// Leaves a payment whose first settle call got no answer.
    fn leave_open(&mut self, n: u8, seconds: u64) {
        let holder = Holder([n; 16]);
        for event in [claim(n), Event::Verified(holder), Event::Begin(holder), ended(n, 1, silence())] {
            assert!(self.step(n, event, seconds).write.is_some());
        }
    }
    fn len(&self) -> usize {
        decode(&self.0).unwrap().len()
    }
}

#[test]
fn payments_of_one_bucket_do_not_touch_each_other() {
    let mut bucket = Bucket::default();
    assert_eq!(bucket.answer(1, claim(1), 10), Some(Answer::Reserved));
    assert_eq!(bucket.answer(2, claim(2), 10), Some(Answer::Reserved));
    let over = Event::Over(Holder([1; 16]), End::Unsent);
    assert_eq!(bucket.answer(2, over.clone(), 11), Some(Answer::NotHeld));
    assert_eq!(bucket.answer(1, over, 11), Some(Answer::Noted));
    assert_eq!(bucket.len(), 1);
    let second = decode(&bucket.0).unwrap().remove(0);
    assert_eq!((second.key, second.tuple), (key(2), TUPLE));
}

#[test]
fn of_two_racing_claims_one_is_written() {
    let mut bucket = Bucket::default();
    let first = step_in(&bucket.0, key(1), TUPLE, claim(1), &LIMITS, at(10));
    let second = step_in(&bucket.0, key(1), TUPLE, claim(2), &LIMITS, at(10));
    assert_eq!(first.answer, second.answer);
    // Compare-and-swap lets one of them write; the other reads again.
    bucket.0 = first.write.unwrap();
    assert_eq!(bucket.answer(1, claim(2), 10), Some(Answer::OtherPayment));
}

#[test]
fn what_changes_nothing_writes_nothing_and_still_says_what_is_strange() {
    let mut bucket = Bucket::default();
    bucket.leave_open(1, 10);
    bucket.step(1, ended(1, 1, settled()), 11);
    let refused = Outcome::Refused { reason: "insufficient_funds".to_owned(), detail: None };
    let stepped = bucket.step(1, ended(1, 1, refused), 12);
    assert_eq!(stepped.write, None);
    let text = "refused (insufficient_funds), though it is settled".to_owned();
    assert_eq!(stepped.effects, [of(Effect::Contradicted(text))]);
}

#[test]
fn a_full_bucket_refuses_new_payments_and_still_answers_old_ones() {
    let mut bucket = Bucket::default();
    for n in 0..8 {
        assert_eq!(bucket.answer(n, claim(n), 10), Some(Answer::Reserved));
    }
    let refused = Stepped { answer: None, write: None, effects: vec![] };
    assert_eq!(bucket.step(9, claim(9), 11), refused);
    assert_eq!(bucket.answer(3, claim(3), 11), Some(Answer::Reserved));
    assert_eq!(bucket.answer(3, claim(4), 11), Some(Answer::OtherPayment));
    // An event that leaves no record is answered.
    let Event::Claim(only_known) = claim(9) else { panic!("no claim") };
    let asked = Event::Claim(Claim { only_known: true, ..only_known });
    assert_eq!(bucket.answer(9, asked, 11), Some(Answer::New));
    bucket.step(3, Event::Over(Holder([3; 16]), End::Unsent), 11);
    assert_eq!(bucket.answer(9, claim(9), 11), Some(Answer::Reserved));
}

#[test]
fn payments_that_are_over_make_room_by_themselves() {
    let mut bucket = Bucket::default();
    for n in 0..8 {
        bucket.step(n, claim(n), 10);
    }
    assert_eq!(bucket.answer(9, claim(9), 609), None);
    assert_eq!(bucket.answer(9, claim(9), 610), Some(Answer::Reserved));
    assert_eq!(bucket.len(), 1);
}

#[test]
fn a_bucket_has_a_bound_in_bytes_that_only_new_payments_meet() {
    let mut bucket = Bucket::default();
    bucket.step(1, claim(1), 10);
    let tight = Limits { bytes: bucket.0.len() + 10, ..LIMITS };
    assert_eq!(step_in(&bucket.0, key(2), TUPLE, claim(2), &tight, at(10)).answer, None);
    let narrow = Limits { bytes: 10, ..LIMITS };
    let verified = step_in(&bucket.0, key(1), TUPLE, Event::Verified(Holder([1; 16])), &narrow, at(10));
    assert_eq!(verified.answer, Some(Answer::Noted));
}

#[test]
fn what_is_charged_finds_room_in_a_full_bucket() {
    let mut bucket = Bucket::default();
    for n in 0..8 {
        bucket.step(n, claim(n), 10);
    }
    let stepped = bucket.step(9, ended(9, 1, settled()), 11);
    assert_eq!(stepped.answer, Some(Answer::Settled { transaction: "0x1".to_owned() }));
    assert!(stepped.effects.contains(&of(Effect::Charged)));
    assert_eq!(bucket.len(), 9);
}

#[test]
fn unreadable_bytes_are_never_a_new_payment_and_never_overwritten() {
    let nothing = Stepped { answer: None, write: None, effects: vec![] };
    for bytes in [&b"\x01"[..], b"\x02x", b"hello", &[2; 40], &[0]] {
        for event in [claim(1), ended(1, 1, settled()), Event::Sweep { retention: 0 }] {
            assert_eq!(step_in(bytes, key(1), TUPLE, event, &LIMITS, at(10)), nothing);
        }
        assert_eq!(sweep(bytes, &LIMITS, at(u64::MAX / 1000)), None);
    }
}

#[test]
fn an_open_settlement_is_reported_by_the_next_step_that_writes() {
    let given_up = [of(Effect::Closed), of(Effect::NeverKnown)];
    let mut bucket = Bucket::default();
    bucket.leave_open(1, 10);
    assert_eq!(sweep(&bucket.0, &LIMITS, at(10 + 90_000)), None);
    let later = 10 + 90_000 + 1;
    let (swept, effects) = sweep(&bucket.0, &LIMITS, at(later)).unwrap();
    assert_eq!(effects, given_up);
    assert_eq!(sweep(&swept, &LIMITS, at(later)), None);
    // Only a step that writes reports the effect.
    let silent = bucket.clone().step(2, Event::Verified(Holder([2; 16])), later);
    assert_eq!((silent.write, silent.effects), (None, vec![]));
    let stepped = bucket.step(2, claim(2), later);
    assert_eq!((stepped.answer, stepped.effects), (Some(Answer::Reserved), given_up.to_vec()));
    assert_eq!(bucket.len(), 1);
}

#[test]
fn a_settle_call_that_never_came_back_is_kept_and_opened_once_by_the_next() {
    let mut bucket = Bucket::default();
    let holder = Holder([1; 16]);
    for event in [claim(1), Event::Verified(holder), Event::Begin(holder)] {
        bucket.step(1, event, 10);
    }
    assert_eq!(sweep(&bucket.0, &LIMITS, at(1_000_000)), None);
    assert_eq!(bucket.answer(1, claim(1), 10 + 149), Some(Answer::InFlight));
    let again = bucket.step(1, claim(1), 10 + 150);
    assert!(matches!(again.answer, Some(Answer::Call { epoch: 2, .. })), "{:?}", again.answer);
    assert_eq!(again.effects, [of(Effect::Opened)]);
    // The repeat got no answer either; the payment is counted already.
    let third = bucket.step(1, claim(1), 10 + 300);
    assert!(matches!(third.answer, Some(Answer::Call { epoch: 3, .. })), "{:?}", third.answer);
    assert_eq!(third.effects, []);
}

#[test]
fn a_clock_that_steps_back_ends_no_lease() {
    let mut bucket = Bucket::default();
    bucket.step(1, claim(1), 1_000_000);
    assert_eq!(bucket.answer(1, claim(2), 5), Some(Answer::OtherPayment));
    assert_eq!(sweep(&bucket.0, &LIMITS, at(5)), None);
}

#[test]
fn effects_are_counted_under_the_tuple_the_payment_was_taken_for() {
    let mut bucket = Bucket::default();
    bucket.leave_open(1, 10);
    let stepped = step_in(&bucket.0, key(1), TUPLE + 1, ended(1, 1, settled()), &LIMITS, at(11));
    let expected = [Effect::Charged, Effect::Closed, Effect::SettledLate].map(of);
    assert_eq!(stepped.effects, expected);
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
    let slot = |(n, state)| Slot { key: key(n), tuple: TUPLE, record: record_in(state, 2) };
    let good = encode(&(1..).zip(states()).map(slot).collect::<Vec<_>>());
    let roomy = Limits { records: 64, bytes: 65_536, ..LIMITS };
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        let place = next() as usize % bytes.len();
        match next() % 3 {
            0 => bytes[place] ^= next() as u8,
            1 => bytes.truncate(place),
            _ => bytes.insert(place, next() as u8),
        }
        let stepped = step_in(&bytes, key(200), TUPLE, claim(200), &roomy, at(0));
        assert_eq!(stepped.answer.is_some(), decode(&bytes).is_some());
        if let Some(write) = stepped.write {
            assert!(decode(&write).is_some());
        }
        let _ = sweep(&bytes, &LIMITS, at(next() % 5_000));
    }
}

#[test]
fn a_bucket_is_a_map_of_machines() {
    let mut seed = 0xfa2e_b0c5_u64;
    let mut next = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    let roomy = Limits { records: 64, bytes: 65_536, ..LIMITS };
    let forget = |record: &Record| match record.state {
        // A bucket keeps nothing else of a delivered payment.
        State::Delivered => (State::Delivered, record.ends, record.since_ms, None),
        _ => (record.state.clone(), record.ends, record.since_ms, Some(record.clone())),
    };
    for _ in 0..100 {
        let mut bytes = Vec::new();
        let mut records = std::collections::BTreeMap::<u8, Record>::new();
        let mut now = 1_000;
        for _ in 0..100 {
            now += [1, 200, 700, 100_000][next(4) as usize] * next(2);
            let n = 1 + next(6) as u8;
            let holder = Holder([1 + next(6) as u8; 16]);
            let outcome = [settled(), silence(), Outcome::NotSent][next(3) as usize].clone();
            let event = match next(6) {
                0 | 1 => claim(n),
                2 => Event::Verified(holder),
                3 => Event::Begin(holder),
                4 => ended(n, 1 + next(2) as u32, outcome),
                _ => Event::Over(holder, [End::Whole, End::Broken][next(2) as usize]),
            };
            let stepped = step_in(&bytes, key(n), TUPLE, event.clone(), &roomy, at(now));
            let sweep = Event::Sweep { retention: LIMITS.retention };
            records.retain(|_, record| {
                step(Some(record.clone()), sweep.clone(), &LEASES, at(now)).record.is_some()
            });
            let expected = step(records.remove(&n), event, &LEASES, at(now));
            assert_eq!(stepped.answer, Some(expected.answer));
            assert_eq!(stepped.write.is_some(), expected.changed);
            records.extend(expected.record.map(|record| (n, record)));
            if let Some(write) = stepped.write {
                bytes = write;
                let mut kept: Vec<_> = decode(&bytes).unwrap();
                kept.sort_by_key(|slot| slot.key);
                let kept: Vec<_> = kept.iter().map(|slot| (slot.key, forget(&slot.record))).collect();
                let expected: Vec<_> = records.iter().map(|(n, record)| (key(*n), forget(record))).collect();
                assert_eq!(kept, expected);
            }
        }
    }
}
