//! Random histories of one nonce with two authorizations, together with the true state of a chain.
//! The model in `farebox-model` tries every order in a small world; these histories are larger and
//! longer.

use super::*;

const PAYMENTS: usize = 2;
const HOLDERS: usize = 6;
/// When each authorization ends, milliseconds.
const ENDS: [u64; PAYMENTS] = [4_000, 9_000];

/// One settle call under way.
#[derive(Debug, Clone)]
struct Call {
    epoch: u32,
    holder: Holder,
    payment: usize,
}

/// The true state, independent of the record.
#[derive(Debug, Default)]
struct Truth {
    /// The payment whose money moved: one of the nonce at most.
    moved: Option<usize>,
    calls: Vec<Call>,
    /// Whether a call of this payment was made, so that its money may move until its window ends.
    called: [bool; PAYMENTS],
    vouched: [bool; PAYMENTS],
    redeemed: [u32; PAYMENTS],
    charged: [u32; PAYMENTS],
    whole: [bool; PAYMENTS],
    open: i32,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn holder_of(record: &Record) -> Option<Holder> {
    match record.state {
        Reserved { hold, .. } | Settling { hold, .. } | Owed { hold: Some(hold) } => Some(hold.holder),
        Unknown | Owed { hold: None } | Delivered => None,
    }
}

fn payment_of(fingerprint: Option<Fingerprint>) -> usize {
    usize::from(fingerprint.unwrap().0[0] - 1)
}

fn claim_of(payment: usize, holder: Holder, terms_of: usize, now_ms: u64) -> Claim {
    Claim {
        fingerprint: Fingerprint([payment as u8 + 1; 32]),
        terms: [terms(), other_terms()][terms_of].clone(),
        holder,
        call: Arc::from([payment as u8, holder.0[0]]),
        ends: ENDS[payment] / 1000,
        proven: true,
        only_known: now_ms >= ENDS[payment],
        can_settle: holder.0[0].is_multiple_of(2),
        twin: None,
    }
}

impl Truth {
    /// The machine trusts the refusal of a first call, so in this world the refusal is true: this
    /// call moves no money.
    fn refuse(&mut self, call: &Call) {
        if call.epoch == 1 && self.calls.iter().all(|other| other.payment != call.payment) {
            self.called[call.payment] = false;
        }
    }

    fn at_risk(&self, payment: usize, now_ms: u64) -> bool {
        match self.moved {
            Some(moved) => moved == payment && !self.whole[payment] && self.redeemed[payment] == 0,
            None => self.called[payment] && now_ms < ENDS[payment],
        }
    }

    /// Checks the answer, record and effects of a step.
    fn check(&mut self, before: Option<&Record>, event: &Event, step: &Step, now_ms: u64) {
        let count = |wanted: &Effect| step.effects.iter().filter(|effect| *effect == wanted).count();
        let open = |record: Option<&Record>| i32::from(record.is_some_and(Record::is_open));
        let after = step.record.as_ref();
        self.open += count(&Effect::Opened) as i32 - count(&Effect::Closed) as i32;
        assert_eq!(self.open, open(after), "the gauge is right");
        assert!(step.changed || after == before, "a step says when it changes the record");
        assert!(!step.effects.iter().any(|effect| matches!(effect, Effect::Contradicted(_))), "{step:?}");
        if count(&Effect::Charged) > 0 {
            let payment = payment_of(after.unwrap().fingerprint);
            self.charged[payment] += 1;
            assert_eq!((self.moved, self.charged[payment]), (Some(payment), 1), "charged once, for money");
        }
        if before.is_some_and(Record::is_charged) {
            let kept = after.map(|record| (record.fingerprint, record.is_charged()));
            let same = Some((before.unwrap().fingerprint, true));
            assert!(kept == same || matches!(event, Event::Sweep { .. }), "what is charged stays charged");
        }
        if let (Event::Over(_, End::Unsent), Answer::Noted) = (event, &step.answer)
            && let Some(record) = before.filter(|record| record.redeemed)
        {
            self.redeemed[payment_of(record.fingerprint)] -= 1;
        }
        let Event::Claim(claim) = event else { return };
        let payment = payment_of(Some(claim.fingerprint));
        if let Some(record) = before.filter(|record| record.fingerprint != Some(claim.fingerprint)) {
            let is_free = matches!(record.state, Reserved { hold, .. } if !hold.runs(now_ms));
            assert!(!step.changed || is_free, "another payment changes nothing");
        }
        match &step.answer {
            Answer::Used | Answer::New => {
                assert!(!self.at_risk(payment, now_ms), "no price while money may have moved or is owed");
            }
            Answer::Redeem { .. } => {
                self.redeemed[payment] += count(&Effect::Redeemed) as u32;
                let record = after.unwrap();
                assert!(!self.whole[payment] && self.redeemed[payment] <= 1);
                assert_eq!((self.moved, &record.terms), (Some(payment), &claim.terms));
            }
            Answer::Call { call, .. } => {
                assert_eq!(usize::from(call[0]), payment, "the recorded call, of this payment");
                assert!(claim.can_settle);
            }
            _ => {}
        }
    }
}

/// Plays one history. Returns how many of its events changed the record, and whether money moved.
fn play(seed: u64) -> (u32, bool) {
    let mut random = Random(seed | 1);
    let (mut record, mut truth, mut now_ms, mut changes) = (None::<Record>, Truth::default(), 0, 0);
    for _ in 0..120 {
        now_ms += [0, 0, 1, 20, 150, 700][random.below(6)];
        let stranger = Holder([random.below(HOLDERS) as u8 + 1; 16]);
        let holder = record.as_ref().and_then(holder_of).filter(|_| random.below(3) > 0).unwrap_or(stranger);
        let payment = random.below(PAYMENTS);
        let mut ended = None;
        let event = match random.below(11) {
            0..3 => Event::Claim(claim_of(payment, stranger, random.below(8) / 7, now_ms)),
            3 => Event::Verified(holder),
            4 => Event::Begin(holder),
            5 => Event::Over(holder, [End::Whole, End::Broken, End::Unsent][random.below(3)]),
            6 => Event::Ask(Holder([100 + random.below(50) as u8; 16])),
            7 => Event::Sweep { retention: 60 },
            // The chain moves the money of a call that was made, and of one payment only.
            8 => {
                let may = truth.moved.is_none() && truth.called[payment] && now_ms < ENDS[payment];
                truth.moved = if may { Some(payment) } else { truth.moved };
                continue;
            }
            _ if truth.calls.is_empty() => continue,
            _ => {
                let call = truth.calls.swap_remove(random.below(truth.calls.len()));
                let moved = truth.moved == Some(call.payment);
                let outcome = match random.below(3) {
                    0 if moved => Outcome::Settled { transaction: hash() },
                    1 if !moved || call.epoch > 1 => {
                        truth.refuse(&call);
                        Outcome::Refused { reason: "insufficient_funds".to_owned(), detail: None }
                    }
                    _ => Outcome::Unknown { transaction: None, reason: "timeout".to_owned() },
                };
                let claim = claim_of(call.payment, call.holder, 0, now_ms);
                let event = Event::Ended {
                    epoch: call.epoch,
                    holder: call.holder,
                    outcome,
                    claim: Some(Box::new(claim)),
                };
                ended = Some(call);
                event
            }
        };
        if let (Event::Verified(_), Some(record)) = (&event, &record)
            && holder_of(record) == Some(holder)
        {
            truth.vouched[payment_of(record.fingerprint)] = true;
        }
        let before = record.clone();
        let stepped = step(record, event.clone(), &LEASES, at(now_ms));
        truth.check(before.as_ref(), &event, &stepped, now_ms);
        if let (Answer::Call { epoch, .. }, Some(record)) = (&stepped.answer, &stepped.record) {
            let payment = payment_of(record.fingerprint);
            assert!(truth.vouched[payment], "nothing is settled that was not vouched for");
            let Settling { hold, .. } = record.state else { panic!("a call of {:?}", record.state) };
            assert!(!truth.calls.iter().any(|call| (call.payment, call.epoch) == (payment, *epoch)));
            truth.calls.push(Call { epoch: *epoch, holder: hold.holder, payment });
            truth.called[payment] = true;
        }
        if let (Event::Over(_, End::Whole), Answer::Noted, Some(record)) = (&event, &stepped.answer, &before)
            && record.is_charged()
        {
            truth.whole[payment_of(record.fingerprint)] = true;
        }
        if let (Some(call), Answer::Settled { .. }) = (ended, &stepped.answer) {
            let Some(Owed { hold: Some(hold) }) = stepped.record.as_ref().map(|record| record.state.clone())
            else {
                panic!("served without a hold")
            };
            assert_eq!((hold.holder, truth.moved), (call.holder, Some(call.payment)));
        }
        changes += u32::from(stepped.changed);
        record = stepped.record;
    }
    (changes, truth.moved.is_some())
}

#[test]
fn no_random_history_charges_twice_serves_twice_or_prices_what_may_be_charged() {
    let (mut changes, mut moved) = (0, 0);
    for seed in 1..10_000_u64 {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (changed, charged) = std::panic::catch_unwind(|| play(seed))
            .unwrap_or_else(|_| panic!("the history of seed {seed:#x}"));
        changes += changed;
        moved += u32::from(charged);
    }
    assert!(moved > 1_500 && changes > 100_000, "{moved} charged, {changes} changes");
}
