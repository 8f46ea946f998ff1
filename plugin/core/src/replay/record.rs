//! The bytes of a bucket: a version, then records. Compact, and refused whole unless every byte is
//! accounted for, so that a foreign or torn value can never look like "this payment is new".
//!
//! ```text
//! bucket = version:1, record*
//! record = key:16, state:1, route:4, tuple:4, keep_until:8, since_ms:8, transaction
//! transaction = 255, 32 bytes (0x-hex of 64 lower-case digits) | length:1, text
//! ```

use super::{Binding, ReplayKey};

/// First byte of a written bucket. Shared data outlives the code that wrote it: a later version has to
/// read this one, or every payment in flight over an update would be refused.
const VERSION: u8 = 1;
/// Marks a transaction hash kept as 32 bytes.
const PACKED: u8 = 255;
/// Longest transaction text kept as it is.
const MAX_TEXT: usize = 200;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Held by a request that has not begun to settle.
    Reserved,
    /// A settle call is out.
    Settling,
    /// Settled or claimed for redemption, on its way to the client.
    Delivering,
    /// Settled, not served.
    Owed,
    /// Settled and served.
    Delivered,
    /// Nobody knows; counted as unresolved.
    Unknown,
    /// A settle call repeats an earlier one that is counted as unresolved.
    Resettling,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: ReplayKey,
    pub(super) state: State,
    pub(super) binding: Binding,
    /// Unix seconds.
    pub(super) keep_until: u64,
    /// When a settle call left; 0 in states without one.
    pub(super) since_ms: u64,
    /// Never `Some("")`.
    pub(super) transaction: Option<String>,
}

/// Reads a bucket. Empty bytes are an empty bucket; `None` for anything not written by [`encode`].
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Record>> {
    let Some((version, mut rest)) = bytes.split_first() else {
        return Some(Vec::new());
    };
    if *version != VERSION {
        return None;
    }
    let mut records = Vec::new();
    while !rest.is_empty() {
        records.push(read_record(&mut rest)?);
    }
    Some(records)
}

/// Writes a bucket.
pub(super) fn encode(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + records.len() * 74);
    out.push(VERSION);
    for record in records {
        out.extend_from_slice(&record.key.0);
        out.push(record.state.code());
        out.extend_from_slice(&record.binding.route.to_be_bytes());
        out.extend_from_slice(&record.binding.tuple.to_be_bytes());
        out.extend_from_slice(&record.keep_until.to_be_bytes());
        out.extend_from_slice(&record.since_ms.to_be_bytes());
        write_transaction(&mut out, record.transaction.as_deref().unwrap_or_default());
    }
    out
}

/// A transaction as a record keeps it: `None` for an empty text, over-long text cut.
pub(super) fn keepable(transaction: &str) -> Option<String> {
    let mut end = transaction.len().min(MAX_TEXT);
    while !transaction.is_char_boundary(end) {
        end -= 1;
    }
    transaction.get(..end).filter(|t| !t.is_empty()).map(str::to_owned)
}

fn read_record(rest: &mut &[u8]) -> Option<Record> {
    Some(Record {
        key: ReplayKey(take(rest)?),
        state: State::from_code(u8::from_be_bytes(take(rest)?))?,
        binding: Binding { route: u32::from_be_bytes(take(rest)?), tuple: u32::from_be_bytes(take(rest)?) },
        keep_until: u64::from_be_bytes(take(rest)?),
        since_ms: u64::from_be_bytes(take(rest)?),
        transaction: read_transaction(rest)?,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn write_transaction(out: &mut Vec<u8>, text: &str) {
    if let Some(packed) = pack_hash(text) {
        out.push(PACKED);
        out.extend_from_slice(&packed);
    } else if let Some(length) = u8::try_from(text.len()).ok().filter(|l| *l < PACKED) {
        out.push(length);
        out.extend_from_slice(text.as_bytes());
    } else {
        out.push(0);
    }
}

/// `None`: unreadable; `Some(None)`: no transaction.
fn read_transaction(rest: &mut &[u8]) -> Option<Option<String>> {
    let [length] = take(rest)?;
    if length == PACKED {
        let hash: [u8; 32] = take(rest)?;
        return Some(Some(crate::evm::B256(hash).to_string()));
    }
    let (text, tail) = rest.split_at_checked(usize::from(length))?;
    *rest = tail;
    let text = core::str::from_utf8(text).ok()?;
    Some(keepable(text))
}

/// The 32 bytes of a hash, only if they print as exactly this text again.
fn pack_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("0x").filter(|d| d.len() == 64)?;
    let lower = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if lower { crate::evm::B256::parse(text).ok().map(|b| b.0) } else { None }
}

// === impl State ===

impl State {
    const fn code(self) -> u8 {
        match self {
            Self::Reserved => 1,
            Self::Settling => 2,
            Self::Delivering => 3,
            Self::Owed => 4,
            Self::Delivered => 5,
            Self::Unknown => 6,
            Self::Resettling => 7,
        }
    }
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Reserved,
            2 => Self::Settling,
            3 => Self::Delivering,
            4 => Self::Owed,
            5 => Self::Delivered,
            6 => Self::Unknown,
            7 => Self::Resettling,
            _ => return None,
        })
    }
    /// Whether a request is at work on the key.
    pub(super) const fn in_flight(self) -> bool {
        matches!(self, Self::Reserved | Self::Settling | Self::Delivering | Self::Resettling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: State, transaction: Option<&str>) -> Record {
        Record {
            key: ReplayKey([7; 16]),
            state,
            binding: Binding { route: 1, tuple: u32::MAX },
            keep_until: u64::MAX,
            since_ms: 5,
            transaction: transaction.map(Into::into),
        }
    }

    #[test]
    fn every_state_and_transaction_form_survives_the_round_trip() {
        let hash = format!("0x{}", "ab".repeat(32));
        let upper = format!("0x{}", "AB".repeat(32));
        let long = "x".repeat(MAX_TEXT);
        let records: Vec<_> = (1..=7)
            .filter_map(State::from_code)
            .flat_map(|s| {
                [None, Some("0x1"), Some(&*hash), Some(&*upper), Some(&*long), Some("é")]
                    .map(|t| record(s, t))
            })
            .collect();
        assert_eq!(records.len(), 42);
        assert_eq!(decode(&encode(&records)), Some(records));
    }

    #[test]
    fn a_transaction_hash_costs_32_bytes() {
        let hash = format!("0x{}", "ab".repeat(32));
        let bytes = encode(&[record(State::Owed, Some(&hash))]);
        assert_eq!(bytes.len(), 1 + 16 + 1 + 8 + 16 + 33);
    }

    #[test]
    fn transactions_are_bounded_and_never_empty() {
        assert_eq!(keepable(""), None);
        assert_eq!(keepable(&"x".repeat(500)).map(|t| t.len()), Some(MAX_TEXT));
        assert_eq!(keepable(&"é".repeat(150)).map(|t| t.len()), Some(MAX_TEXT));
        assert_eq!(keepable(&format!("x{}", "é".repeat(150))).map(|t| t.len()), Some(MAX_TEXT - 1));
    }

    #[test]
    fn cut_extended_and_foreign_bytes_are_unreadable() {
        let good = encode(&[record(State::Unknown, Some("0x1")), record(State::Reserved, None)]);
        assert_eq!(decode(&good).map(|r| r.len()), Some(2));
        for end in 1..good.len() {
            let readable = decode(&good[..end]).is_some();
            assert_eq!(readable, end == 1 || end == good.len() - 42, "{end}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(decode(&longer), None);
        let mut newer = good;
        newer[0] = 2;
        assert_eq!(decode(&newer), None);
        assert_eq!(decode(b"garbage"), None);
        assert_eq!(decode(b""), Some(Vec::new()));
    }
}
