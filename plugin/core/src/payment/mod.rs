//! One payment's life: a pure state machine, and the encoding of its records in shared data.
//!
//! [`step`] takes a record or none, an [`Event`] and the time; it returns an [`Answer`], the next record and [`Effect`]s. Only [`step`] decides about payments. A store loads a record, steps it and writes the result, all in one atomic step of its own: the ledger in a transaction, Envoy's shared data under compare-and-swap.
//!
//! A payment is identified by the signed data ([`Fingerprint`]), and is taken for [`Terms`]. The chain accepts its key ([`PaymentKey`]) only once. Two authorizations of one nonce have one key and two fingerprints: they are two payments, and the record belongs to the first.
//!
//! A test compares this table with the code. A *hold* is the right of one request to use a payment until its lease ends; *under way* is an owed answer with a hold. In a cell, `;` separates cases, each with its condition before it. The next state is in bold. `=` means that the record does not change; before it is the answer: the
//! status for the buyer (only 402 asks for a payment), or the next step of a holder. `–` is "not held": nothing happens. `!` is a contradiction, which is logged as an error.
//!
//! A settle call is identified by its number (epoch) and its holder, because numbers begin again with each new record of a nonce. The next record decides the answer to the end of a call: "settled" only for the holder that has to serve.
//!
//! | event ↓ state → | none | reserved | settling | unknown | owed | under way | delivered |
//! |---|---|---|---|---|---|---|---|
//! | claim, same fingerprint and terms | **reserved** | lease runs: 409 =; over: **reserved**, for the new holder | lease runs: 409 =; over: **settling**, epoch + 1 | **settling**, epoch + 1 | **under way**, redeemed, without call or charge | lease runs: 409 =; over: **under way**, redeemed; over, and redeemed before: 402 = | 402 = |
//! | the same, by its holder once more | **reserved** | go on = | 409 = | **settling**, epoch + 1 | **under way**, redeemed, without call or charge | go on = | 402 = |
//! | the same, where no call can be made | **reserved** | lease runs: 409 =; over: **reserved** | lease runs: 409 =; over: 503 = | 503 = | **under way**, redeemed, without call or charge | lease runs: 409 =; over: **under way**, redeemed; over, and redeemed before: 402 = | 402 = |
//! | the same, of a known payment only | 402 = | 409 = | lease runs: 409 =; over: **settling**, epoch + 1 | **settling**, epoch + 1 | **under way**, redeemed, without call or charge | lease runs: 409 =; over: **under way**, redeemed; over, and redeemed before: 402 = | 402 = |
//! | the same, with a twin | twin = | lease runs: 409 =; over: twin = | lease runs: 409 =; over: **settling**, epoch + 1 | **settling**, epoch + 1 | **under way**, redeemed, without call or charge | lease runs: 409 =; over: **under way**, redeemed; over, and redeemed before: 402 = | 402 = |
//! | claim, same fingerprint, other terms | **reserved** | lease runs: 409 =; over: **reserved**, by its terms | 409 = | 503 = | 409, names what it was paid for = | 409, names what it was paid for = | 402 = |
//! | claim, other fingerprint | **reserved** | lease runs: 409 =; over: **reserved**, the other payment; unproven, and the other is proven: **reserved**, the other payment | 409 = | 409 = | 402 = | 402 = | 402 = |
//! | verified, by the holder | – | **reserved**, verified | – | – | – | – | – |
//! | verified, by another | – | – | – | – | – | – | – |
//! | settle begun, by the holder | – | verified: **settling**, epoch + 1; not: – | begun = | 503 = | 409 = | settled = | 409 = |
//! | settle begun, by another | – | 409 = | 503 = | 503 = | 409 = | 409 = | 409 = |
//! | settled, any call | **under way** !; without its claim: noted ! = | **owed** ! | its holder waits: **under way**; waits no more: **owed** | **owed** | 503 = | its holder's: settled =; another's: 409 = | 402 = |
//! | settled, another payment of the nonce | **under way** ! | **under way** !, the other payment | first call: **under way** !, the other payment; a later one: **under way** !, the other payment | **under way** !, the other payment | 402 ! = | 402 ! = | 402 ! = |
//! | refused by its call, nothing can have moved | noted = | 409 = | first call: **none**; a later one: **unknown** | 503 = | 503 ! = | settled ! = | 402 ! = |
//! | malformed, by its call | noted = | 409 = | first call: **none**; a later one: **unknown** | 503 = | 503 = | settled = | 402 = |
//! | no answer, garbage, pending, by its call | noted = | 409 = | first call: **unknown**; a later one: **unknown** | 503 = | 503 = | settled = | 402 = |
//! | not sent, by its call | noted = | 409 = | first call: **none**; a later one: **unknown** | 503 = | 503 = | settled = | 402 = |
//! | any but settled, by another call | noted = | 409 = | of another number: 503 =; of another holder: 503 = | 503 = | 503 = | 409 = | 402 = |
//! | answer delivered whole, by the holder | – | **none** | **settling**, waits no more; waits no more: – | – | – | **delivered**; redeemed: **delivered** | – |
//! | answer delivered whole, by one whose hold lapsed | – | – | – | – | **delivered** | **delivered** | – |
//! | answer broke off, by the holder | – | **none** | **settling**, waits no more; waits no more: – | – | – | **owed**; redeemed: **delivered** | – |
//! | answer was never sent, by the holder | – | **none** | **settling**, waits no more; waits no more: – | – | – | **owed**; redeemed: **owed**, as if it had not been fetched | – |
//! | answer was never sent, and the settlement not heard of, by the holder | – | **none** | **settling**, waits no more; waits no more: – | – | – | **owed**, late; redeemed: **owed**, as if it had not been fetched | – |
//! | not over yet, by the holder | – | **reserved**, for longer | – | – | – | **under way**, for longer | – |
//! | any end, by another | – | – | – | – | – | – | – |
//! | asked about again | – | – | lease runs: –; over: **settling**, epoch + 1; over, and asked often: **unknown** | not due: –; due: **settling**, epoch + 1; asked often: – | – | – | – |
//! | an operator says: settled | 402 = | **owed** | lease runs: 409 =; over, its holder waits: **under way**; over, waits no more: **owed** | **owed** | 402 = | 402 = | 402 = |
//! | an operator says: refused | 402 = | **none** | lease runs: 409 =; over: **none** | **none** | 402 = | 402 = | 402 = |
//! | sweep | noted = | lease runs: noted =; over: **none**; over, but verified: noted =; over, verified, window over: **none** | noted = | noted =; retention and window over: **none**, never known | noted =; retention and window over: **none** | noted =; retention and window over: **none** | noted =; retention and window over: **none** |
//!
//! A record of an older ledger has no fingerprint. No claim matches such a record, so nothing is served or settled for a claim. A call of such a record has no claim, so its end is only noted if the record is gone.
//!
//! A proven payment replaces an unproven reservation. Otherwise a stranger who knows a nonce could claim it with a signature that only the chain can check, and its owner could not pay. If no byte of an answer went out, the answer was not fetched, so the payment can still fetch it once.

mod bucket;
mod codec;
mod ending;
#[cfg(test)]
mod fixtures;
mod key;
mod machine;
mod record;
mod settlement;
mod words;

pub use bucket::{
    BUCKETS, Expired, Limits, Slot, Stepped, expired_stamps, records, step_in, sweep, tuple_hash,
};
pub use ending::Ending;
pub use key::{KeyDigest, PaymentKey};
pub use machine::{
    Answer, Claim, Effect, End, Event, GOES_ON_EVERY_MS, Leases, Outcome, Resolution, Step, Twin, due, step,
};
pub use record::{Fingerprint, Hold, Holder, Record, State, Terms, Trust};
pub use settlement::{Reading, Settlement};
