//! Balances and used authorizations, only in memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use farebox_core::evm::{Address, Amount, Network, keccak256, to_hex};
use farebox_core::payment::PaymentKey;
use serde::Serialize;

use crate::judge::Transfer;

/// For how long an identical repeat of a settled payment gets the first answer again.
const REPEAT_WINDOW: Duration = Duration::from_secs(5 * 60);

/// Balances and used nonces.
#[derive(Debug)]
pub(crate) struct Ledger {
    initial: Amount,
    /// (network, asset, owner) → atomic units, if they differ from the initial balance.
    balances: BTreeMap<(Network, Address, Address), Amount>,
    settled: BTreeMap<PaymentKey, Settled>,
}

#[derive(Debug, Clone)]
struct Settled {
    transfer: Transfer,
    transaction: String,
    at: Instant,
}

/// A balance as `/dev/record` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Balance {
    network: String,
    asset: Address,
    owner: Address,
    amount: Amount,
}

/// A settled payment as `/dev/record` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettledPayment {
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
    pub(crate) const fn new(initial: Amount) -> Self {
        Self { initial, balances: BTreeMap::new(), settled: BTreeMap::new() }
    }

    /// Forgets everything but the initial balance.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.initial);
    }

    /// Refuses what a chain would refuse: a used nonce, or too little money.
    pub(crate) fn check(&self, transfer: &Transfer) -> Result<(), &'static str> {
        if self.settled.contains_key(&transfer.key) {
            return Err(transfer.nonce_used_code());
        }
        if self.balance(transfer, transfer.key.payer) < transfer.amount {
            return Err("insufficient_funds");
        }
        Ok(())
    }

    /// Moves the amount and marks the nonce as used. For a while an identical repeat gets the first
    /// transaction again, as with real facilitators. Any other payment with a used nonce is refused.
    pub(crate) fn settle(&mut self, transfer: &Transfer) -> Result<String, &'static str> {
        if let Some(settled) = self.settled.get(&transfer.key)
            && settled.transfer.signature == transfer.signature
            && settled.at.elapsed() < REPEAT_WINDOW
        {
            return Ok(settled.transaction.clone());
        }
        self.check(transfer)?;
        let left = self.balance(transfer, transfer.key.payer).0.saturating_sub(transfer.amount.0);
        self.set_balance(transfer, transfer.key.payer, Amount(left));
        let gained = self.balance(transfer, transfer.pay_to).0.saturating_add(transfer.amount.0);
        self.set_balance(transfer, transfer.pay_to, Amount(gained));
        let transaction = transaction_of(transfer);
        self.settled.insert(
            transfer.key.clone(),
            Settled { transfer: transfer.clone(), transaction: transaction.clone(), at: Instant::now() },
        );
        Ok(transaction)
    }

    pub(crate) fn balances(&self) -> Vec<Balance> {
        self.balances
            .iter()
            .map(|((network, asset, owner), amount)| Balance {
                network: network.to_string(),
                asset: *asset,
                owner: *owner,
                amount: *amount,
            })
            .collect()
    }

    pub(crate) fn settled(&self) -> Vec<SettledPayment> {
        self.settled
            .iter()
            .map(|(key, Settled { transfer, transaction, .. })| SettledPayment {
                network: key.network.to_string(),
                asset: transfer.asset,
                payer: key.payer,
                pay_to: transfer.pay_to,
                amount: transfer.amount,
                nonce: key.nonce.to_string(),
                transaction: transaction.clone(),
            })
            .collect()
    }

    fn balance(&self, transfer: &Transfer, owner: Address) -> Amount {
        let key = (transfer.key.network.clone(), transfer.asset, owner);
        self.balances.get(&key).copied().unwrap_or(self.initial)
    }

    fn set_balance(&mut self, transfer: &Transfer, owner: Address, amount: Amount) {
        self.balances.insert((transfer.key.network.clone(), transfer.asset, owner), amount);
    }
}

/// A made-up transaction hash, the same for the same payment.
pub(crate) fn transaction_of(transfer: &Transfer) -> String {
    let mut bytes = b"farebox development transaction".to_vec();
    let PaymentKey { network, contract, payer, nonce } = &transfer.key;
    bytes.extend_from_slice(network.as_str().as_bytes());
    bytes.extend_from_slice(&contract.0);
    bytes.extend_from_slice(&payer.0);
    bytes.extend_from_slice(&nonce.0);
    bytes.extend_from_slice(&transfer.signature);
    to_hex(&keccak256(&bytes))
}
