//! The results of the payments: a check that every result occurs often enough.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::protocol::decode_base64;
use serde_json::Value;

use super::purchase::Purchase;
use super::spoil;
use crate::component::{Answer, Decision, Flow, Payment};

/// Every refusal that can be made without a facilitator, once rules are loaded. The codes `invalid_scheme` and
/// `invalid_network` cannot be among them: such a payment already matches no requirement.
const REFUSALS: &[&str] = &[
    "400 ambiguous_path",
    "400 insecure_transport: a payment needs a secure transport",
    "400 invalid_payment_header: the header is repeated",
    "400 invalid_payment_header: the payment header does not hold a JSON object",
    "400 invalid_payment_header: the payment header has N bytes, the limit is N",
    "400 invalid_payment_header: the payment header is not standard base64",
    "400 invalid_payment_header: the payment is incomplete",
    "400 invalid_payment_header: unsupported x402Version",
    "402 no_matching_requirement: no matching payment requirements",
    "402 payment_invalid: invalid_exact_evm_payload_authorization_valid_after",
    "402 payment_invalid: invalid_exact_evm_payload_authorization_valid_before",
    "402 payment_invalid: invalid_exact_evm_payload_authorization_value_mismatch",
    "402 payment_invalid: invalid_exact_evm_payload_recipient_mismatch",
    "402 payment_invalid: invalid_exact_evm_payload_signature",
    "402 payment_invalid: invalid_exact_evm_payload_undeployed_smart_wallet",
    "402 payment_invalid: invalid_payload",
    "402 payment_invalid: invalid_payment_requirements",
    "402 payment_invalid: invalid_permit2_recipient_mismatch",
    "402 payment_invalid: invalid_permit2_signature",
    "402 payment_invalid: invalid_permit2_spender",
    "402 payment_invalid: permit2_amount_mismatch",
    "402 payment_invalid: permit2_deadline_expired",
    "402 payment_invalid: permit2_not_yet_valid",
    "402 payment_invalid: permit2_token_mismatch",
    "402 payment_invalid: the authorization must end within N seconds from now",
    "402 payment_invalid: unsupported_payload_type",
    "403 auth_gate_unsupported",
    "403 protected_prefix",
    "403 route_misconfigured",
    "404 unmatched",
    "501 upgrade_unsupported",
    "503 facilitator_not_ready",
];

/// Every way to pay that is offered: protocol version, network, and how the asset moves.
const FORMS: &[&str] = &[
    "v1 eip155:8453 eip3009",
    "v1 eip155:84532 eip3009",
    "v2 eip155:137 eip3009",
    "v2 eip155:4326 permit2",
    "v2 eip155:8453 eip3009",
    "v2 eip155:84532 eip3009",
    "v2 eip155:84532 permit2",
];

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    forwarded: u64,
    challenged: u64,
    /// Preflights, which are neither priced nor passed on.
    preflights: u64,
    authorized: u64,
    upfront: u64,
    /// Payments that are refused unless they are known.
    unless_known: u64,
    /// Refusals by their text, including those "unless known". Refusals of HEAD requests have no text and are under
    /// the empty text.
    refused: BTreeMap<String, u64>,
    /// Payments taken, by their form.
    forms: BTreeMap<String, u64>,
    /// Purchases, by their fault.
    kinds: BTreeMap<&'static str, u64>,
    keys: BTreeSet<Vec<u8>>,
}

// === impl Tally ===

impl Tally {
    pub(super) fn count(&mut self, purchase: Purchase, decision: Decision) {
        *self.kinds.entry(purchase.what).or_default() += 1;
        match decision {
            Decision::Forward(_) => self.forwarded += 1,
            Decision::Pay(Payment { unless_known: Some(answer), .. }) => {
                self.unless_known += 1;
                *self.refused.entry(refusal(&answer).expect("it says why")).or_default() += 1;
            }
            Decision::Pay(payment) => {
                match payment.flow {
                    Flow::Authorization => self.authorized += 1,
                    Flow::Upfront => self.upfront += 1,
                }
                self.keys.insert(payment.key);
                *self.forms.entry(purchase.form).or_default() += 1;
            }
            Decision::Reply(answer) if answer.status == 204 => self.preflights += 1,
            Decision::Reply(answer) => match refusal(&answer) {
                Some(told) => *self.refused.entry(told).or_default() += 1,
                None => self.challenged += 1,
            },
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        fn sum<K: Ord>(counts: &mut BTreeMap<K, u64>, others: BTreeMap<K, u64>) {
            others.into_iter().for_each(|(key, count)| *counts.entry(key).or_default() += count);
        }
        self.forwarded += other.forwarded;
        self.challenged += other.challenged;
        self.preflights += other.preflights;
        self.authorized += other.authorized;
        self.upfront += other.upfront;
        self.unless_known += other.unless_known;
        sum(&mut self.refused, other.refused);
        sum(&mut self.forms, other.forms);
        sum(&mut self.kinds, other.kinds);
        self.keys.extend(other.keys);
    }

    /// Panics if a result is too rare.
    pub(super) fn check(&self, payments: u64) {
        let (paid, refused) = (self.authorized + self.upfront, self.refused.values().sum::<u64>());
        assert_eq!(
            paid + refused + self.challenged + self.preflights + self.forwarded,
            payments,
            "{self:#?}"
        );
        assert!(paid >= 2_000 && refused >= 2_000, "{paid} paid and {refused} refused: {self:#?}");
        assert!(
            self.upfront >= 500
                && self.unless_known >= 500
                && self.challenged >= 100
                && self.preflights >= 50
                && self.forwarded >= 100,
            "{self:#?}"
        );
        assert_eq!(self.keys.len() as u64, paid, "each payment is another one");
        let told: Vec<_> = self.refused.keys().filter(|told| !told.is_empty()).collect();
        assert_eq!(told, REFUSALS, "every refusal there is, and none that is not known here");
        assert_eq!(self.forms.keys().collect::<Vec<_>>(), FORMS);
        assert!(self.forms.values().all(|count| *count >= 50), "{:#?}", self.forms);
        for (kind, _) in spoil::ALL {
            let count = self.kinds.get(kind).copied().unwrap_or_default();
            assert!(count >= 50, "{kind}: {count}");
        }
    }
}

/// The text of a refusal, with `N` for its numbers; `None` for a challenge to a request without a payment.
fn refusal(answer: &Answer) -> Option<String> {
    let header = answer.headers.iter().find(|(name, _)| name == "payment-required");
    let told: Value = match header {
        Some((_, value)) => serde_json::from_slice(&decode_base64(value.as_bytes()).unwrap()).unwrap(),
        None if answer.body.is_empty() => return Some(String::new()),
        None => serde_json::from_slice(&answer.body).unwrap(),
    };
    let failure = if header.is_some() { &told["extensions"]["paymentFailure"] } else { &told };
    let reason = failure["reason"].as_str()?;
    // A refusal for another reason than its payment is identified only by that reason.
    if !told["x402Version"].is_u64() {
        return Some(format!("{} {reason}", answer.status));
    }
    let message = told["error"].as_str().and_then(|error| error.split(": ").nth(1)).unwrap_or_default();
    let words = message.split(' ').map(|word| if word.parse::<u64>().is_ok() { "N" } else { word });
    Some(format!("{} {reason}: {}", answer.status, words.collect::<Vec<_>>().join(" ")))
}
