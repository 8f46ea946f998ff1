//! A buyer for tests and demos: signs EIP-3009 and Permit2 payments for the offers of a challenge.
//!
//! It works on JSON values on purpose, because a test changes one member of a good payment, which a typed
//! client would not allow.

use farebox_core::evm::{
    Address, Amount, Authorization, B256, Domain, EXACT_PROXY, Network, PermitAuthorization, chain_by_name,
    domain_separator, keccak256, permit_witness_transfer_from_hash, permit2_domain_separator,
    transfer_with_authorization_hash, typed_data_digest,
};
use farebox_core::protocol::encode_base64;
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

/// The publicly known first development account of Anvil and Hardhat, which is worthless.
pub const DEVELOPMENT_KEY: [u8; 32] = [
    0xac, 0x09, 0x74, 0xbe, 0xc3, 0x9a, 0x17, 0xe3, 0x6b, 0xa4, 0xa6, 0xb4, 0xd2, 0x38, 0xff, 0x94, 0x4b,
    0xac, 0xb4, 0x78, 0xcb, 0xed, 0x5e, 0xfc, 0xae, 0x78, 0x4d, 0x7b, 0xf4, 0xf2, 0xff, 0x80,
];

/// A wallet with one key.
#[derive(Debug, Clone)]
pub struct Wallet {
    key: SigningKey,
    address: Address,
}

/// Times and nonce of one authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Unix seconds.
    pub valid_after: u64,
    /// Unix seconds.
    pub valid_before: u64,
    /// The nonce; two payments with the same one are the same payment.
    pub nonce: [u8; 32],
}

/// Why an offer cannot be paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayError {
    /// A member of the offer is missing or malformed.
    #[error("the offer has no usable `{0}`")]
    Offer(&'static str),
}

/// The terms of an offer that both ways to pay sign.
struct Terms {
    network: Network,
    amount: Amount,
    pay_to: Address,
    asset: Address,
}

impl Window {
    /// Valid from one minute ago for `seconds` from `now` (Unix seconds); the nonce is derived from `number`.
    pub fn numbered(number: u64, now: u64, seconds: u64) -> Self {
        Self {
            valid_after: now.saturating_sub(60),
            valid_before: now + seconds,
            nonce: keccak256(&number.to_be_bytes()),
        }
    }

    /// As `numbered`, with the clock and the randomness of the system.
    pub fn fresh(seconds: u64) -> Self {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).expect("the system gives no randomness");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("the clock is before 1970").as_secs();
        Self { nonce, ..Self::numbered(0, now, seconds) }
    }
}

// === impl Wallet ===

impl Wallet {
    /// The wallet of a private key.
    ///
    /// `None` for zero and for a number that is not below the order of the curve.
    pub fn from_key(private_key: &[u8; 32]) -> Option<Self> {
        let key = SigningKey::from_slice(private_key).ok()?;
        let point = key.verifying_key().to_sec1_point(false);
        let hash = keccak256(&point.as_bytes()[1..]);
        let mut address = [0; 20];
        address.copy_from_slice(&hash[12..]);
        Some(Self { key, address: Address(address) })
    }

    /// The wallet of [`DEVELOPMENT_KEY`].
    pub fn development() -> Self {
        Self::from_key(&DEVELOPMENT_KEY).expect("the development key is a valid key")
    }

    /// A wallet derived from a number: for tests that need several buyers.
    pub fn numbered(number: u64) -> Self {
        let seed = keccak256(&[b"farebox test payer".as_slice(), &number.to_be_bytes()].concat());
        Self::from_key(&seed).expect("a keccak hash is a valid key but for a chance of 2^-128")
    }

    /// Its address.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest: r ‖ s ‖ v with v 27 or 28.
    pub fn sign(&self, digest: &B256) -> [u8; 65] {
        let (signature, recovery) = self.key.sign_prehash_recoverable(&digest.0);
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + recovery.to_byte();
        bytes
    }

    /// The `payload` member (the signature and what was signed) for an entry of `accepts`, v1 or v2.
    pub fn payload(&self, offer: &Value, window: Window) -> Result<Value, PayError> {
        match offer["extra"]["assetTransferMethod"].as_str() {
            Some("permit2") => self.permit(&Terms::read(offer)?, window),
            _ => self.authorization(offer, &Terms::read(offer)?, window),
        }
    }

    fn authorization(&self, offer: &Value, terms: &Terms, window: Window) -> Result<Value, PayError> {
        let extra = |member: &'static str| offer["extra"][member].as_str().ok_or(PayError::Offer(member));
        let authorization = Authorization {
            from: self.address,
            to: terms.pay_to,
            value: terms.amount,
            valid_after: Amount::from_u64(window.valid_after),
            valid_before: Amount::from_u64(window.valid_before),
            nonce: B256(window.nonce),
        };
        let separator = domain_separator(&Domain {
            name: extra("name")?,
            version: extra("version")?,
            network: &terms.network,
            verifying_contract: terms.asset,
        });
        let digest = typed_data_digest(&separator, &transfer_with_authorization_hash(&authorization));
        Ok(json!({
            "signature": hex(&self.sign(&digest)),
            "authorization": {
                "from": authorization.from.to_string(),
                "to": authorization.to.to_string(),
                "value": authorization.value.0.to_string(),
                "validAfter": window.valid_after.to_string(),
                "validBefore": window.valid_before.to_string(),
                "nonce": hex(&window.nonce),
            },
        }))
    }

    fn permit(&self, terms: &Terms, window: Window) -> Result<Value, PayError> {
        // A Permit2 nonce can be any number; these bytes are enough.
        let [a, b, c, d, e, f, g, h, ..] = window.nonce;
        let permit = PermitAuthorization {
            from: self.address,
            token: terms.asset,
            amount: terms.amount,
            spender: EXACT_PROXY,
            nonce: Amount::from_u64(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            deadline: Amount::from_u64(window.valid_before),
            witness_to: terms.pay_to,
            witness_valid_after: Amount::from_u64(window.valid_after),
        };
        let separator = permit2_domain_separator(&terms.network);
        let digest = typed_data_digest(&separator, &permit_witness_transfer_from_hash(&permit));
        Ok(json!({
            "signature": hex(&self.sign(&digest)),
            "permit2Authorization": {
                "permitted": { "token": permit.token.to_string(), "amount": permit.amount.0.to_string() },
                "from": permit.from.to_string(),
                "spender": permit.spender.to_string(),
                "nonce": permit.nonce.0.to_string(),
                "deadline": window.valid_before.to_string(),
                "witness": {
                    "to": permit.witness_to.to_string(),
                    "validAfter": window.valid_after.to_string(),
                },
            },
        }))
    }

    /// A v2 payment of an entry of `accepts`.
    pub fn pay_v2(&self, offer: &Value, window: Window) -> Result<Value, PayError> {
        Ok(json!({ "x402Version": 2, "accepted": offer, "payload": self.payload(offer, window)? }))
    }

    /// A v1 payment of an entry of `accepts`. `network` is the v1 name (`base-sepolia`).
    pub fn pay_v1(&self, offer: &Value, network: &str, window: Window) -> Result<Value, PayError> {
        Ok(json!({
            "x402Version": 1,
            "scheme": "exact",
            "network": network,
            "payload": self.payload(offer, window)?,
        }))
    }
}

// === impl Terms ===

impl Terms {
    fn read(offer: &Value) -> Result<Self, PayError> {
        let text = |member: &'static str| offer[member].as_str().ok_or(PayError::Offer(member));
        let address = |member| Address::parse(text(member)?).map_err(|_| PayError::Offer(member));
        let amount = offer["amount"].as_str().or_else(|| offer["maxAmountRequired"].as_str());
        Ok(Self {
            network: chain_by_name(text("network")?).ok_or(PayError::Offer("network"))?,
            amount: amount.and_then(|v| Amount::parse(v).ok()).ok_or(PayError::Offer("amount"))?,
            pay_to: address("payTo")?,
            asset: address("asset")?,
        })
    }
}

/// The header value of a payment.
pub fn header_value(payment: &Value) -> String {
    encode_base64(payment.to_string().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use farebox_core::evm::recover;

    #[test]
    fn the_address_of_a_known_key_is_right() {
        let payer = Wallet::development();
        assert_eq!(payer.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    }

    #[test]
    fn a_signature_recovers_to_the_payer() {
        let payer = Wallet::numbered(1);
        let digest = B256(keccak256(b"anything"));
        let signature = payer.sign(&digest);
        let rs: [u8; 64] = signature[..64].try_into().unwrap();
        assert_eq!(recover(&digest, &rs, signature[64]), Some(payer.address()));
    }

    #[test]
    fn a_permit_is_signed_where_the_offer_asks_for_one() {
        let offer = json!({
            "network": "eip155:84532",
            "amount": "7000000000000000000",
            "asset": "0x0a09371a8b011d5110656ceBCc70603e53FD2c78",
            "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "extra": { "assetTransferMethod": "permit2" },
        });
        let payload = Wallet::numbered(1).payload(&offer, Window::numbered(1, 1_700_000_000, 60)).unwrap();
        let permit = &payload["permit2Authorization"];
        assert_eq!(permit["permitted"]["amount"], "7000000000000000000");
        assert_eq!(permit["witness"]["to"], offer["payTo"]);
        assert_eq!(permit["deadline"], "1700000060");
        assert!(payload.get("authorization").is_none());
    }

    #[test]
    fn an_offer_without_a_recipient_is_named() {
        let offer = json!({ "network": "eip155:84532", "amount": "1000", "extra": {} });
        let error = Wallet::numbered(1).pay_v2(&offer, Window::numbered(1, 1_700_000_000, 60)).unwrap_err();
        assert_eq!(error, PayError::Offer("payTo"));
    }
}
