//! Options and payments for tests of this crate, and the wallet that signs them: by default with the publicly known
//! first development key of Anvil.
//!
//! All other tests sign with the wallet of the testkit. The unit tests of this crate cannot use the testkit for two
//! reasons: the testkit depends on the crate without `cfg(test)`, whose types are different types, and the testkit does
//! not compile to WebAssembly, where other tests of the core run too.

use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

use super::{CheckPolicy, Payment, Refused, Signed, authenticate, encode_base64, judge};
use crate::evm::{
    Address, Amount, Authorization, B256, Domain, EXACT_PROXY, PermitAuthorization, TransferMethod,
    asset_by_symbol, chain_by_name, domain_separator, from_hex, keccak256, permit_witness_transfer_from_hash,
    permit2_domain_separator, to_hex, transfer_with_authorization_hash, typed_data_digest, v1_name,
};
use crate::terms::{Extra, Flow, PaymentOption};

/// The signer's address.
pub(crate) const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// Recipient of every option.
pub(crate) const PAY_TO: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
/// The clock of the tests, Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;

/// One key, and what it signs.
pub(crate) struct Wallet {
    key: SigningKey,
    pub(crate) address: Address,
}

/// 1000 atomic units of a registry asset.
pub(crate) fn option(chain: &str, symbol: &str) -> PaymentOption {
    let network = chain_by_name(chain).unwrap();
    let asset = asset_by_symbol(&network, symbol).unwrap();
    PaymentOption {
        tuple: 0,
        v1_network: v1_name(&network).map(str::to_owned),
        network,
        v1_kind: false,
        amount: Amount::from_u64(1000),
        asset: asset.address,
        decimals: asset.decimals,
        pay_to: Address::parse(PAY_TO).unwrap(),
        max_timeout_seconds: 60,
        flow: Flow::Authorization,
        transfer_method: asset.transfer_method,
        eip712_name: asset.eip712_name.to_owned(),
        eip712_version: asset.eip712_version.to_owned(),
        gas_sponsoring: asset.gas_sponsoring,
        extra: Extra::default(),
    }
}

/// 0.001 USDC on Base Sepolia.
pub(crate) fn usdc() -> PaymentOption {
    option("base-sepolia", "USDC")
}

/// A payment of the option as JSON, v2, valid from 0 until an hour after [`NOW`].
pub(crate) fn v2(option: &PaymentOption) -> Value {
    json!({
        "x402Version": 2,
        "resource": { "url": "https://api.example.com/x" },
        "accepted": accepted(option),
        "payload": payload(option),
    })
}

/// The same payment as v1.
pub(crate) fn v1(option: &PaymentOption) -> Value {
    json!({
        "x402Version": 1,
        "scheme": "exact",
        "network": option.v1_network,
        "payload": payload(option),
    })
}

/// Decodes a payment the way a request brings it.
pub(crate) fn decode(payment: &Value) -> Payment {
    let header = encode_base64(payment.to_string().as_bytes());
    Payment::decode(header.as_bytes(), false, 48 * 1024).unwrap()
}

/// Every check of a new payment, in the order of a request.
pub(crate) fn check(
    payment: &Payment,
    option: &PaymentOption,
    policy: &CheckPolicy,
    now: u64,
) -> Result<Signed, Refused> {
    judge(payment, option, policy, now)?;
    authenticate(payment, option, policy)
}

/// The `payload` member, signed by [`PAYER`].
pub(crate) fn payload(option: &PaymentOption) -> Value {
    let key = from_hex(KEY).unwrap().try_into().unwrap();
    Wallet::of(&key).payload(option, B256([7; 32]), NOW + 3600)
}

/// The member `accepted` of a v2 payment.
pub(crate) fn accepted(option: &PaymentOption) -> Value {
    let mut extra = json!({ "name": option.eip712_name, "version": option.eip712_version });
    if option.flow == Flow::Upfront {
        extra["paymentFlow"] = json!(option.flow);
    }
    json!({
        "scheme": "exact",
        "network": option.network,
        "amount": option.amount,
        "asset": option.asset,
        "payTo": option.pay_to,
        "maxTimeoutSeconds": option.max_timeout_seconds,
        "extra": extra,
    })
}

/// One reply of a facilitator, from `tests/facilitator_replies.json`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordedReply {
    /// The implementation that gives the reply.
    pub(crate) by: String,
    /// `run`: the implementation's own code gave the reply, with a simulated chain. `read`: taken from its source or
    /// pages.
    pub(crate) how: String,
    /// What happened.
    pub(crate) what: String,
    /// `verify` or `settle`.
    pub(crate) call: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// A text, or the JSON.
    pub(crate) body: Value,
    /// Whether the chain took a transaction of this call.
    #[serde(default)]
    pub(crate) taken: bool,
    /// The expected meaning.
    pub(crate) reads: String,
}

impl RecordedReply {
    /// The body on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned).into_bytes()
    }
}

/// All of them. Recorded from npm `@x402/evm` 2.27.0 with viem, from PyPI `x402` 2.25.0 with web3, and read in
/// x402-rs 2.0.2, the pages and the published reasons of CDP (crate `cdp-sdk` 0.7.0), the pages of Circle and the
/// specification.
pub(crate) fn recorded_replies() -> Vec<RecordedReply> {
    serde_json::from_str(include_str!("../../tests/facilitator_replies.json")).unwrap()
}

// === impl Wallet ===

impl Wallet {
    pub(crate) fn of(key: &[u8; 32]) -> Self {
        let key = SigningKey::from_slice(key).unwrap();
        let point = key.verifying_key().to_sec1_point(false);
        let hash = keccak256(&point.as_bytes()[1..]);
        Self { key, address: Address(*hash.last_chunk().unwrap()) }
    }

    /// The `payload` member of a payment with the terms of the option, valid from 0 until `end` (Unix seconds).
    pub(crate) fn payload(&self, option: &PaymentOption, nonce: B256, end: u64) -> Value {
        let (begin, end) = (Amount::from_u64(0), Amount::from_u64(end));
        match option.transfer_method {
            TransferMethod::Eip3009 => {
                let signed = Authorization {
                    from: self.address,
                    to: option.pay_to,
                    value: option.amount,
                    valid_after: begin,
                    valid_before: end,
                    nonce,
                };
                let separator = domain_separator(&Domain {
                    name: &option.eip712_name,
                    version: &option.eip712_version,
                    network: &option.network,
                    verifying_contract: option.asset,
                });
                json!({
                    "signature": self.sign(&separator, &transfer_with_authorization_hash(&signed)),
                    "authorization": {
                        "from": signed.from,
                        "to": signed.to,
                        "value": signed.value,
                        "validAfter": signed.valid_after,
                        "validBefore": signed.valid_before,
                        "nonce": signed.nonce.to_string(),
                    },
                })
            }
            TransferMethod::Permit2 => {
                let signed = PermitAuthorization {
                    from: self.address,
                    token: option.asset,
                    amount: option.amount,
                    spender: EXACT_PROXY,
                    nonce: Amount::from_u64(u64::from(nonce.0[0])),
                    deadline: end,
                    witness_to: option.pay_to,
                    witness_valid_after: begin,
                };
                let separator = permit2_domain_separator(&option.network);
                json!({
                    "signature": self.sign(&separator, &permit_witness_transfer_from_hash(&signed)),
                    "permit2Authorization": {
                        "permitted": { "token": signed.token, "amount": signed.amount },
                        "from": signed.from,
                        "spender": signed.spender,
                        "nonce": signed.nonce,
                        "deadline": signed.deadline,
                        "witness": { "to": signed.witness_to, "validAfter": signed.witness_valid_after },
                    },
                })
            }
        }
    }

    /// r ‖ s ‖ v with v 27 or 28, as 0x-hex.
    fn sign(&self, separator: &B256, hash: &B256) -> String {
        let digest = typed_data_digest(separator, hash);
        let (signature, recovery) = self.key.sign_prehash_recoverable(&digest.0);
        to_hex(&[&signature.to_bytes()[..], &[27 + recovery.to_byte()]].concat())
    }
}
