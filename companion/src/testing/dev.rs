//! The development facilitator in process, and calls it accepts.

use std::net::SocketAddr;
use std::time::Duration;

use farebox_core::evm::{
    Address, Amount, Authorization, B256, Domain, Network, TransferMethod, asset_by_symbol, domain_separator,
    to_hex, transfer_with_authorization_hash, typed_data_digest,
};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::facilitator::dev::{self, Connection, CuttableListener, Facilitator};

/// A running facilitator and a client of it.
pub(crate) struct Dev {
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
}

impl Dev {
    pub(crate) async fn start(failures: &[&str]) -> Self {
        Self::start_with(Amount::from_u64(1_000_000), failures).await
    }

    pub(crate) async fn start_with(balance: Amount, failures: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failures: Vec<_> = failures.iter().map(|text| dev::parse_failure(text).unwrap()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = dev::router(Facilitator::new(balance, failures));
        let app = app.into_make_service_with_connect_info::<Connection>();
        tokio::spawn(async move { axum::serve(CuttableListener(listener), app).await });
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(5))
            .no_proxy()
            .build()
            .unwrap();
        Self { address, client }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<(u16, String), reqwest::Error> {
        let url = format!("http://{}{path}", self.address);
        let response = self.client.post(url).body(body.to_string()).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.post(path, body).await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("http://{}{path}", self.address)).send().await.unwrap();
        assert_eq!(response.headers()["x-farebox-development"], "this facilitator moves no money");
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    pub(crate) async fn fail(&self, what: Value) {
        assert_eq!(self.post_json("/dev/fail", &what).await, (200, json!({ "ok": true })));
    }

    pub(crate) async fn settled(&self) -> usize {
        self.get("/dev/record").await["settled"].as_array().unwrap().len()
    }
}

/// The body of a call for a v2 payment of `amount` atomic USDC on Base Sepolia.
pub(crate) fn payment_call(amount: u64, nonce: u8, pay_to: &str) -> Value {
    signed_call(amount, nonce, pay_to, 4_102_444_800, json!({ "name": "USDC", "version": "2" }))
}

/// The same for a route that is paid upfront, which takes no payment that lives for long.
pub(crate) fn upfront_call(amount: u64, nonce: u8, pay_to: &str) -> Value {
    let ends = crate::state::unix_seconds() + 600;
    let extra = json!({ "name": "USDC", "version": "2", "paymentFlow": "upfront" });
    signed_call(amount, nonce, pay_to, ends, extra)
}

fn signed_call(amount: u64, nonce: u8, pay_to: &str, ends: u64, extra: Value) -> Value {
    let network = Network::from_caip2("eip155:84532").unwrap();
    let usdc = asset_by_symbol(&network, "USDC").unwrap();
    assert_eq!(usdc.transfer_method, TransferMethod::Eip3009);
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let point = key.verifying_key().to_sec1_point(false);
    let hash = farebox_core::evm::keccak256(&point.as_bytes()[1..]);
    let signed = Authorization {
        from: Address(*hash.last_chunk().unwrap()),
        to: Address::parse(pay_to).unwrap(),
        value: Amount::from_u64(amount),
        valid_after: Amount::from_u64(0),
        valid_before: Amount::from_u64(ends),
        nonce: B256([nonce; 32]),
    };
    let domain = Domain {
        name: usdc.eip712_name,
        version: usdc.eip712_version,
        network: &network,
        verifying_contract: usdc.address,
    };
    let digest = typed_data_digest(&domain_separator(&domain), &transfer_with_authorization_hash(&signed));
    let (signature, recovery) = key.sign_prehash_recoverable(&digest.0);
    let mut bytes = signature.to_bytes().to_vec();
    bytes.push(27 + recovery.to_byte());
    let requirements = json!({
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": amount.to_string(),
        "asset": usdc.address,
        "payTo": pay_to,
        "maxTimeoutSeconds": 60,
        "extra": extra,
    });
    json!({
        "x402Version": 2,
        "paymentPayload": {
            "x402Version": 2,
            "accepted": requirements,
            "payload": {
                "signature": to_hex(&bytes),
                "authorization": {
                    "from": signed.from,
                    "to": signed.to,
                    "value": signed.value,
                    "validAfter": signed.valid_after,
                    "validBefore": signed.valid_before,
                    "nonce": signed.nonce.to_string(),
                },
            },
        },
        "paymentRequirements": requirements,
    })
}
