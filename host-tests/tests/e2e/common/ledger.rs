//! Payments in the ledger.

use farebox_testkit::stack::Stack;
use serde_json::Value;

/// Waits until the ledger has a payment in a state, because the ledger gets the end of a request a
/// moment later.
pub(crate) async fn in_ledger(stack: &Stack, nonce: &str, state: &str) -> Value {
    let of = |stack: &Stack| {
        let mut entries = stack.ledger().expect("the ledger can be read");
        entries.retain(|entry| entry["nonce"] == nonce);
        assert!(entries.len() < 2, "a payment is in the ledger once: {entries:?}");
        entries.pop()
    };
    let has = async |stack: &Stack| of(stack).is_some_and(|entry| entry["state"] == state);
    let what = format!("the ledger has the payment as {state}");
    if let Err(error) = stack.until(&what, has).await {
        panic!("{error:#}: {:?}", of(stack));
    }
    of(stack).expect("it is there")
}
