//! Records for tests.

use std::sync::Arc;

use super::{Fingerprint, Hold, Holder, Record, State, Terms, Trust};
use crate::evm::{Address, Amount};
use crate::terms::Flow;

/// The holder of the records of [`states`].
pub(super) const HOLDER: Holder = Holder([1; 16]);

/// The terms of the records.
pub(super) fn terms() -> Terms {
    Terms {
        offer: "shop/llm".to_owned(),
        route: "/v1/*".to_owned(),
        asset: Address([0xa; 20]),
        amount: Amount::from_u64(1_000),
        pay_to: Address([0xb; 20]),
        flow: Flow::Authorization,
    }
}

/// Every state, held until 1,000 ms.
pub(super) fn states() -> Vec<State> {
    let hold = Hold { holder: HOLDER, until_ms: 1_000 };
    vec![
        State::Reserved { hold, trust: Trust::Proven },
        State::Reserved { hold, trust: Trust::Vouched },
        State::Settling { hold, waits: true },
        State::Settling { hold, waits: false },
        State::Unknown,
        State::Owed { hold: None },
        State::Owed { hold: Some(hold) },
        State::Delivered,
    ]
}

/// A payment in this state after this many settle calls.
pub(super) fn record_in(state: State, epoch: u32) -> Record {
    Record {
        fingerprint: Some(Fingerprint([0xf; 32])),
        terms: terms(),
        call: Arc::from(&b"call"[..]),
        ends: 600,
        epoch,
        redeemed: false,
        before: None,
        transaction: Some("0x1".to_owned()),
        since_ms: 100,
        state,
    }
}
