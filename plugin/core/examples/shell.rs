//! The smallest shell around the core. A shell passes events to the core and carries out its turns. In a real proxy,
//! requests come from buyers, and upstream and relay are other servers. Here all three are values in this file.
//!
//! `cargo run -p farebox-core --example shell`

use std::convert::Infallible;
use std::sync::Arc;

use farebox_core::Now;
use farebox_core::exchange::{
    Arrival, Call, HeaderEdits, Next, Note, Reply, RequestHead, ResponseHead, ResponseOrigin, Transport,
    begin,
};
use farebox_core::metrics::Stamp;
use farebox_core::payment::Holder;
use farebox_core::protocol::{CallEnd, Operation, RelayReply, encode_base64};
use farebox_core::rules::RuleSet;

/// The rules, as the companion pushes them: one route for 0.01 USDC on Base Sepolia.
const RULES: &str = r#"{"format": 1, "generation": 1, "hash": "", "settings": {}, "protected": ["/premium-data"],
    "facilitator": {"cluster": "farebox", "authority": "relay", "pathPrefix": "", "verifyTimeoutMs": 5000,
        "settleTimeoutMs": 60000, "ready": true, "relay": true},
    "tuples": [{"offerNamespace": "shop", "offerName": "data", "chain": "eip155:84532", "assetSymbol": "USDC", "born": 1}],
    "routes": [{"pattern": "/premium-data", "gate": "paid", "offerNamespace": "shop", "offerName": "data", "options": [{
        "tuple": 0, "network": "eip155:84532", "v1Network": "base-sepolia", "amount": "10000", "decimals": 6,
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "maxTimeoutSeconds": 60, "transferMethod": "eip3009", "eip712Name": "USDC", "eip712Version": "2"}]}]}"#;

/// The payment of the x402 specification, signed for this price. It is valid for about a minute around [`NOW`].
const PAYMENT: &str = r#"{"x402Version": 2, "accepted": {"scheme": "exact", "network": "eip155:84532", "amount": "10000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"}},
    "payload": {"authorization": {"from": "0x857b06519E91e3A54538791bDbb0E22373e36b66",
        "to": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "value": "10000", "validAfter": "1740672089",
        "validBefore": "1740672154", "nonce": "0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480"},
    "signature": "0x2d6a7588d6acca505cbf0d9a4a227e0c52c6c34008c8e8986a1283259764173608a2ce6496642e377d6da8dbbf5836e9bd15092f9ecab05ded3d6293af148b571c"}}"#;

/// The time. The core reads no clock, so the shell passes the time.
const NOW: Now = Now { unix_ms: 1_740_672_100_000 };

fn main() {
    let rules = Arc::new(RuleSet::from_json(RULES.as_bytes()).unwrap());
    let refused = request(&rules, None).unwrap_err();
    println!("{} {:#?}\n{}\n", refused.status, refused.headers, String::from_utf8_lossy(&refused.body));
    let receipts = request(&rules, Some(&encode_base64(PAYMENT.as_bytes()))).unwrap();
    println!("200 {:#?}", receipts.set);
}

/// Carries one request out: the receipt headers of a paid answer, or the reply in its place.
fn request(rules: &Arc<RuleSet>, payment: Option<&str>) -> Result<HeaderEdits, Reply> {
    let mut headers: Vec<(&str, &[u8])> = vec![
        (":method", b"GET"),
        (":path", b"/premium-data"),
        (":authority", b"shop"),
        (":scheme", b"https"),
    ];
    headers.extend(payment.map(|payment| ("payment-signature", payment.as_bytes())));
    let head = RequestHead { headers: &headers, transport: Transport::default() };
    // A real shell draws the holder at random, because it must not be guessed.
    let arrival = Arrival { now: NOW, holder: Holder([7; 16]) };
    let Ok(mut turn) = begin(rules, &head, || Ok::<_, Infallible>(arrival));
    loop {
        carry_out(rules, &turn.stamps, &turn.notes);
        turn = match turn.next {
            Next::Reply(reply) => return Err(reply),
            Next::Call(calling) => {
                let said = relay(calling.call());
                calling.answered(CallEnd::Reply { status: said.status(), body: &said.body() }, NOW)
            }
            // The request goes to the upstream with these edits, and the upstream answers.
            Next::Serve(_edits, upstream) => {
                let origin = ResponseOrigin::Upstream;
                upstream.response(&ResponseHead { status: 200, headers: &[], origin }, NOW)
            }
            // The response goes to the buyer with these edits, and arrives.
            Next::Release(receipts, delivering) => {
                if let Some(delivering) = delivering {
                    let end = delivering.ended(false, NOW);
                    carry_out(rules, &end.stamps, &end.notes);
                }
                return Ok(receipts);
            }
            Next::Forward(..) | Next::Step(_) => panic!("these rules have no free route, and a relay"),
        };
    }
}

/// Carries out the first parts of a turn. A real shell counts stamps and reports the counts once a second, and posts
/// notes to the relay until the relay has them.
fn carry_out(rules: &RuleSet, stamps: &[Stamp], notes: &[Note]) {
    for stamp in stamps.iter().filter(|stamp| stamp.is_counted_under(rules)) {
        println!("count {stamp:?}");
    }
    let mut body = Vec::new();
    notes.iter().filter_map(Note::ending).for_each(|ending| ending.write(&mut body));
    if !body.is_empty() {
        println!("POST /over {}", String::from_utf8_lossy(&body));
    }
}

/// The companion's relay, which would ask the facilitator.
fn relay(call: &Call) -> RelayReply {
    println!("POST /{} {}", call.operation.name(), String::from_utf8_lossy(&call.body));
    match call.operation {
        Operation::Verify => RelayReply::Valid,
        Operation::Settle => RelayReply::Settled { transaction: format!("0x{:064x}", 1) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unpaid_request_gets_the_price_and_the_paid_one_its_answer() {
        let rules = Arc::new(RuleSet::from_json(RULES.as_bytes()).unwrap());
        let refused = request(&rules, None).unwrap_err();
        assert_eq!(refused.status, 402);
        assert!(refused.headers.iter().any(|(name, _)| name == "payment-required"), "{refused:?}");
        let receipts = request(&rules, Some(&encode_base64(PAYMENT.as_bytes()))).unwrap();
        assert!(receipts.set.iter().any(|(name, _)| name == "payment-response"), "{receipts:?}");
        main();
    }
}
