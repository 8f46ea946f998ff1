//! Who owns what, and which authorizations were used. In memory, and nowhere else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use farebox_core::evm::{Address, Amount, B256, keccak256, to_hex};
use serde::Serialize;

use super::judge::Transfer;

/// How long an identical repeat of a settled payment gets the first answer again.
const REPEAT_WINDOW: Duration = Duration::from_secs(5 * 60);

/// Balances and used nonces.
#[derive(Debug)]
pub(super) struct Ledger {
    initial: Amount,
    /// (CAIP-2 network, asset, owner) → atomic units, where they differ from the start.
    balances: BTreeMap<(String, Address, Address), Amount>,
    settled: BTreeMap<Nonce, Settled>,
}

/// What can be used once: (CAIP-2 network, token or Permit2 contract, payer, nonce).
type Nonce = (String, Address, Address, B256);

#[derive(Debug, Clone)]
struct Settled {
    transfer: Transfer,
    transaction: String,
    at: Instant,
}

/// A balance as `/dev/record` shows it.
#[derive(Debug, Serialize)]
pub(super) struct Balance {
    network: String,
    asset: Address,
    owner: Address,
    amount: Amount,
}

/// A settled payment as `/dev/record` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SettledPayment {
    network: String,
    asset: Address,
    payer: Address,
    pay_to: Address,
    amount: Amount,
    nonce: String,
    transaction: String,
}

// === impl Ledger ===

impl Ledger {
    pub(super) const fn new(initial: Amount) -> Self {
        Self { initial, balances: BTreeMap::new(), settled: BTreeMap::new() }
    }

    /// Forgets everything but the balance everybody starts with.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.initial);
    }

    /// What would be refused on chain: a used nonce, too little money.
    pub(super) fn check(&self, transfer: &Transfer) -> Result<(), &'static str> {
        if self.settled.contains_key(&nonce_of(transfer)) {
            return Err(transfer.nonce_used_code());
        }
        if self.balance(transfer, transfer.payer) < transfer.amount {
            return Err("insufficient_funds");
        }
        Ok(())
    }

    /// Moves the amount and uses the nonce up. An identical repeat gets the first transaction again for
    /// a while, as real facilitators do it; anything else with a used nonce is refused.
    pub(super) fn settle(&mut self, transfer: &Transfer) -> Result<String, &'static str> {
        if let Some(settled) = self.settled.get(&nonce_of(transfer))
            && settled.transfer.signature == transfer.signature
            && settled.at.elapsed() < REPEAT_WINDOW
        {
            return Ok(settled.transaction.clone());
        }
        self.check(transfer)?;
        let left = self.balance(transfer, transfer.payer).0.saturating_sub(transfer.amount.0);
        self.set_balance(transfer, transfer.payer, Amount(left));
        let gained = self.balance(transfer, transfer.pay_to).0.saturating_add(transfer.amount.0);
        self.set_balance(transfer, transfer.pay_to, Amount(gained));
        let transaction = transaction_of(transfer);
        self.settled.insert(
            nonce_of(transfer),
            Settled { transfer: transfer.clone(), transaction: transaction.clone(), at: Instant::now() },
        );
        Ok(transaction)
    }

    pub(super) fn balances(&self) -> Vec<Balance> {
        self.balances
            .iter()
            .map(|((network, asset, owner), amount)| Balance {
                network: network.clone(),
                asset: *asset,
                owner: *owner,
                amount: *amount,
            })
            .collect()
    }

    pub(super) fn settled(&self) -> Vec<SettledPayment> {
        self.settled
            .values()
            .map(|Settled { transfer, transaction, .. }| SettledPayment {
                network: transfer.network.to_string(),
                asset: transfer.asset,
                payer: transfer.payer,
                pay_to: transfer.pay_to,
                amount: transfer.amount,
                nonce: transfer.nonce.to_string(),
                transaction: transaction.clone(),
            })
            .collect()
    }

    fn balance(&self, transfer: &Transfer, owner: Address) -> Amount {
        let key = (transfer.network.to_string(), transfer.asset, owner);
        self.balances.get(&key).copied().unwrap_or(self.initial)
    }

    fn set_balance(&mut self, transfer: &Transfer, owner: Address, amount: Amount) {
        self.balances.insert((transfer.network.to_string(), transfer.asset, owner), amount);
    }
}

/// A made-up transaction hash, the same for the same payment.
pub(super) fn transaction_of(transfer: &Transfer) -> String {
    let mut bytes = b"farebox development transaction".to_vec();
    bytes.extend_from_slice(transfer.network.as_str().as_bytes());
    bytes.extend_from_slice(&transfer.contract.0);
    bytes.extend_from_slice(&transfer.payer.0);
    bytes.extend_from_slice(&transfer.nonce.0);
    bytes.extend_from_slice(&transfer.signature);
    to_hex(&keccak256(&bytes))
}

fn nonce_of(transfer: &Transfer) -> Nonce {
    (transfer.network.to_string(), transfer.contract, transfer.payer, transfer.nonce)
}
