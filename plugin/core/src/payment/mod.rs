//! One payment's life: a pure machine, and the two forms in which its records are kept.
//!
//! [`step`] takes a record or none, an [`Event`] and the time; it gives an [`Answer`], the record that follows and
//! [`Effect`]s. It is the only place that decides about payments. A store loads a record, steps it and writes the
//! result, all in one atomic step of its own: the ledger in a transaction, Envoy's shared data under
//! compare-and-swap.
//!
//! A payment is what was signed ([`Fingerprint`]), taken for what it buys ([`Terms`]). Its key ([`PaymentKey`]) is
//! what the chain lets be used once. Two authorizations of one nonce have one key and two fingerprints: they are two
//! payments, and the record belongs to the first.
//!
//! The table. A *hold* is the right of one request to go on with a payment until its lease ends. `=` says that the
//! record stays as it is. Numbers are the statuses a buyer sees; – cannot happen, because a holder has one state.
//!
//! | event ↓ state → | none | reserved | settling | unknown | owed | owed, answer under way | delivered |
//! |---|---|---|---|---|---|---|---|
//! | claim, same fingerprint and terms | **reserved** | lease runs: 409 =; over: **reserved**, for the new holder | lease runs: 409 =; over: **settling**, epoch + 1 | **settling**, epoch + 1 | **owed, under way**: redeemed, no call, no charge | lease runs: 409 =; over: as owed if never redeemed, else 402 used | 402 used = |
//! | claim, same fingerprint, other terms | **reserved** | lease runs: 409, no price =; over: **reserved**, by its terms | 409, no price = | 503, no price = | 409, names what it was paid for = | 409, names what it was paid for = | 402 used = |
//! | claim, other fingerprint | **reserved** | lease runs: 409 =; over: **reserved**, the other payment | 409 = | 409 = | 402 used = | 402 used = | 402 used = |
//! | claim of a known payment only | new = | as a claim; 409 = also where the lease is over | as a claim | as a claim | as a claim | as a claim | as a claim |
//! | verified, by the holder | nothing held = | **reserved**, verified | = | = | = | = | = |
//! | settle begun, by the holder | nothing held = | verified: **settling**, epoch + 1; else nothing held = | begun already = | – | – | settled = | – |
//! | settle begun, by another | nothing held = | 409 = | 503, no price = | 503, no price = | 409 = | 409 = | 409 = |
//! | settled, any epoch | **owed**, contradiction | **owed**, contradiction | **owed**, or under way for a holder that waits | **owed** | = | = | = |
//! | refused, this epoch, nothing can have moved | = | = | first epoch: **none**; later: **unknown** | = | contradiction = | contradiction = | contradiction = |
//! | no answer, garbage, pending, this epoch | = | = | **unknown** | = | = | = | = |
//! | not sent, this epoch | = | = | first epoch: **none**; later: **unknown** | = | = | = | = |
//! | an outcome of another epoch, but settled | = | = | = | = | = | = | = |
//! | answer delivered whole, by the holder | = | **none** | waits no more | = | = | **delivered** | = |
//! | answer broke off or was never sent, by the holder | = | **none** | waits no more | = | = | never redeemed: **owed**; else **delivered** | = |
//! | another holder reports an end | = | = | = | = | = | = | = |
//! | asked about again, when it is due | = | = | lease over: **settling**, epoch + 1 | due: **settling**, epoch + 1 | = | = | = |
//! | an operator says: settled | = | **owed** | **owed** | **owed** | = | = | = |
//! | an operator says: refused | = | **none** | lease over: **none** | **none** | refused = | refused = | refused = |
//! | sweep | = | lease over, and not verified or window over: **none** | lease and retention over: **none**, never known | retention over: **none**, never known | retention over: **none** | retention over: **none** | retention over: **none** |
//!
//! A record of a ledger that knew no fingerprints has none: no claim has the same, so nothing is served or settled
//! for one.

mod bucket;
mod codec;
#[cfg(test)]
mod fixtures;
mod key;
mod machine;
mod record;
mod settlement;
mod words;

pub use bucket::{BUCKETS, Expired, Limits, Slot, Stepped, expired_stamps, records, step_in, sweep, tuple_hash};
pub use key::{KeyDigest, PaymentKey};
pub use machine::{Answer, Claim, Effect, End, Event, Leases, Outcome, Resolution, Step, Twin, due, step};
pub use record::{Fingerprint, Hold, Holder, Record, State, Terms};
pub use settlement::{Reading, Settlement};
