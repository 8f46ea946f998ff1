//! The bytes of a bucket of shared data: a version, then slots. The form is compact. A bucket is refused as a
//! whole unless every byte is understood, so that a foreign or damaged value can never look like "this payment
//! is new".
//!
//! ```text
//! bucket = version:1, slot*
//! slot   = key:16, tuple:4, state:1, ends:8, since_ms:8, life
//! life   =                                                               delivered
//!        | flags:1, epoch:4, fingerprint:32, [hold: holder:16, until:8], [before: holder:16],
//!          terms: offer, route, asset:20, amount:32, pay_to:20, flow:1,
//!          call, transaction                                             any other state
//! offer, route, call, transaction = length:4, bytes
//! ```
//!
//! A delivered payment needs only its key.

use std::sync::Arc;

use super::{Fingerprint, Hold, Holder, KeyDigest, Record, Slot, State, Terms, Trust};
use crate::evm::{Address, Amount};
use crate::terms::Flow;

/// First byte of a written bucket. Shared data outlives the code that wrote it.
const VERSION: u8 = 3;

const REDEEMED: u8 = 1;
const VOUCHED: u8 = 2;
const WAITS: u8 = 4;
const PROVEN: u8 = 8;
const BEFORE: u8 = 16;

/// Reads a bucket. Empty bytes are an empty bucket; `None` for anything not written by [`encode`].
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Slot>> {
    let Some((version, mut rest)) = bytes.split_first() else {
        return Some(Vec::new());
    };
    if *version != VERSION {
        return None;
    }
    let mut slots = Vec::new();
    while !rest.is_empty() {
        slots.push(read_slot(&mut rest)?);
    }
    Some(slots)
}

/// Writes a bucket.
pub(super) fn encode(slots: &[Slot]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for Slot { key, tuple, record } in slots {
        out.extend_from_slice(&key.0);
        out.extend_from_slice(&tuple.to_be_bytes());
        out.push(code_of(&record.state));
        out.extend_from_slice(&record.ends.to_be_bytes());
        out.extend_from_slice(&record.since_ms.to_be_bytes());
        if record.state != State::Delivered {
            write_life(&mut out, record);
        }
    }
    out
}

fn write_life(out: &mut Vec<u8>, record: &Record) {
    let (trust, waits, hold) = match record.state {
        State::Reserved { hold, trust } => (trust, false, Some(hold)),
        State::Settling { hold, waits } => (Trust::Claimed, waits, Some(hold)),
        State::Owed { hold } => (Trust::Claimed, false, hold),
        State::Unknown | State::Delivered => (Trust::Claimed, false, None),
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(record.redeemed, REDEEMED)
            | flag(trust == Trust::Proven, PROVEN)
            | flag(trust == Trust::Vouched, VOUCHED)
            | flag(waits, WAITS)
            | flag(record.before.is_some(), BEFORE),
    );
    out.extend_from_slice(&record.epoch.to_be_bytes());
    out.extend_from_slice(&record.fingerprint.map_or([0; 32], |fingerprint| fingerprint.0));
    if let Some(hold) = hold {
        out.extend_from_slice(&hold.holder.0);
        out.extend_from_slice(&hold.until_ms.to_be_bytes());
    }
    out.extend(record.before.iter().flat_map(|before| before.0));
    let Terms { offer, route, asset, amount, pay_to, flow } = &record.terms;
    write_bytes(out, offer.as_bytes());
    write_bytes(out, route.as_bytes());
    out.extend_from_slice(&asset.0);
    out.extend_from_slice(&amount.to_be_bytes());
    out.extend_from_slice(&pay_to.0);
    out.push(u8::from(*flow == Flow::Upfront));
    write_bytes(out, &record.call);
    write_bytes(out, record.transaction.as_deref().unwrap_or_default().as_bytes());
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // A text longer than 4 GB does not fit into a guest's memory.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

const fn code_of(state: &State) -> u8 {
    match state {
        State::Reserved { .. } => 1,
        State::Settling { .. } => 2,
        State::Unknown => 3,
        State::Owed { hold: None } => 4,
        State::Owed { hold: Some(_) } => 5,
        State::Delivered => 6,
    }
}

fn read_slot(rest: &mut &[u8]) -> Option<Slot> {
    let key = KeyDigest(take(rest)?);
    let tuple = u32::from_be_bytes(take(rest)?);
    let code = u8::from_be_bytes(take(rest)?);
    let ends = u64::from_be_bytes(take(rest)?);
    let since_ms = u64::from_be_bytes(take(rest)?);
    let record = if code == 6 { delivered(ends, since_ms) } else { read_life(rest, code, ends, since_ms)? };
    Some(Slot { key, tuple, record })
}

fn read_life(rest: &mut &[u8], code: u8, ends: u64, since_ms: u64) -> Option<Record> {
    let flags = u8::from_be_bytes(take(rest)?);
    let epoch = u32::from_be_bytes(take(rest)?);
    let fingerprint = Some(Fingerprint(take(rest)?)).filter(|fingerprint| fingerprint.0 != [0; 32]);
    let state = match code {
        1 => State::Reserved {
            hold: read_hold(rest)?,
            trust: match (flags & PROVEN, flags & VOUCHED) {
                (_, VOUCHED) => Trust::Vouched,
                (PROVEN, _) => Trust::Proven,
                _ => Trust::Claimed,
            },
        },
        2 => State::Settling { hold: read_hold(rest)?, waits: flags & WAITS != 0 },
        3 => State::Unknown,
        4 => State::Owed { hold: None },
        5 => State::Owed { hold: Some(read_hold(rest)?) },
        _ => return None,
    };
    let before = if flags & BEFORE == 0 { None } else { Some(Holder(take(rest)?)) };
    let terms = Terms {
        offer: read_text(rest)?,
        route: read_text(rest)?,
        asset: Address(take(rest)?),
        amount: Amount::from_be_bytes(take(rest)?),
        pay_to: Address(take(rest)?),
        flow: match u8::from_be_bytes(take(rest)?) {
            0 => Flow::Authorization,
            1 => Flow::Upfront,
            _ => return None,
        },
    };
    let call = Arc::from(read_bytes(rest)?);
    let transaction = Some(read_text(rest)?).filter(|text| !text.is_empty());
    let redeemed = flags & REDEEMED != 0;
    Some(Record { fingerprint, terms, call, ends, epoch, redeemed, before, transaction, since_ms, state })
}

fn delivered(ends: u64, since_ms: u64) -> Record {
    Record {
        fingerprint: None,
        terms: Terms {
            offer: String::new(),
            route: String::new(),
            asset: Address([0; 20]),
            amount: Amount::from_u64(0),
            pay_to: Address([0; 20]),
            flow: Flow::Authorization,
        },
        call: Arc::default(),
        ends,
        epoch: 0,
        redeemed: false,
        before: None,
        transaction: None,
        since_ms,
        state: State::Delivered,
    }
}

fn read_hold(rest: &mut &[u8]) -> Option<Hold> {
    Some(Hold { holder: Holder(take(rest)?), until_ms: u64::from_be_bytes(take(rest)?) })
}

fn read_text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(read_bytes(rest)?.to_vec()).ok()
}

fn read_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{HOLDER, record_in, states};
    use super::*;

    fn slots() -> Vec<Slot> {
        let records = states().into_iter().map(|state| record_in(state, 3));
        let mut slots: Vec<_> =
            records.map(|record| Slot { key: KeyDigest([7; 16]), tuple: u32::MAX, record }).collect();
        slots.last_mut().unwrap().record = delivered(5, 6);
        slots
    }

    #[test]
    fn every_state_survives_the_round_trip() {
        let slots = slots();
        assert!(slots.iter().any(|slot| slot.record.state == State::Delivered));
        assert_eq!(decode(&encode(&slots)), Some(slots));
    }

    #[test]
    fn a_delivered_payment_costs_37_bytes() {
        let slot = Slot { key: KeyDigest([7; 16]), tuple: 1, record: delivered(5, 6) };
        assert_eq!(encode(&[slot]).len(), 1 + 37);
    }

    #[test]
    fn cut_extended_and_foreign_bytes_are_unreadable() {
        let hold = Some(Hold { holder: HOLDER, until_ms: 9 });
        let slot = Slot { key: KeyDigest([7; 16]), tuple: 1, record: record_in(State::Owed { hold }, 1) };
        let good = encode(&[slot]);
        assert!(decode(&good).is_some());
        for end in 2..good.len() {
            assert_eq!(decode(&good[..end]), None, "{end}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(decode(&longer), None);
        let mut older = good;
        older[0] = 1;
        assert_eq!(decode(&older), None);
        assert_eq!(decode(b"garbage"), None);
        assert_eq!(decode(b""), Some(Vec::new()));
    }
}
