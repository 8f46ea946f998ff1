//! Looking things up: for people, and for what adds up.

use std::collections::BTreeMap;

use farebox_core::evm::Amount;
use ruint::aliases::U256;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, QueryBuilder, Row};

use super::settle::read_key;
use super::store::{signed, unsigned};
use super::{Ledger, LedgerError, PaymentKey};

/// Which payments; everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// `offer_namespace/offer_name`, or the name alone.
    pub offer: Option<String>,
    /// Address, any case.
    pub payer: Option<String>,
    /// One of the states of the ledger.
    pub state: Option<String>,
    /// 32 bytes as hex, any case.
    pub nonce: Option<String>,
    /// First and last instant of the reservation, Unix milliseconds, the last one excluded.
    pub between: Option<(u64, u64)>,
}

/// One payment, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Where in its life it is.
    pub state: String,
    /// CAIP-2 id.
    pub network: String,
    /// Token contract.
    pub asset: String,
    /// Its symbol.
    pub asset_symbol: String,
    /// Atomic units, decimal.
    pub amount: String,
    /// Who pays.
    pub payer: String,
    /// Who is paid.
    pub pay_to: String,
    /// 32 bytes.
    pub nonce: String,
    /// Offer.
    pub offer_namespace: String,
    /// Offer.
    pub offer_name: String,
    /// Transaction, if one is known.
    pub transaction: Option<String>,
    /// Why it was refused, or why its outcome is not known.
    pub reason: Option<String>,
    /// The proxy that brought it.
    pub source: String,
    /// Generation of the rules it was sold under.
    pub generation: u64,
    /// Unix milliseconds, as are the three below.
    pub reserved_at: u64,
    /// When the facilitator vouched for it.
    pub verified_at: Option<u64>,
    /// When settling began.
    pub settling_at: Option<u64>,
    /// When its outcome was known.
    pub ended_at: Option<u64>,
}

/// Settled money of one asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Total {
    /// CAIP-2 id.
    pub network: String,
    /// Token contract.
    pub asset: String,
    /// Its symbol.
    pub asset_symbol: String,
    /// How many payments.
    pub payments: u64,
    /// Atomic units, decimal.
    pub amount: String,
}

const COLUMNS: &str = "SELECT network, contract, payer, nonce, state, holder, offer_namespace, offer_name, \
    asset_symbol, generation, asset, amount, pay_to, transaction_hash, reason, reserved_at, verified_at, \
    settling_at, ended_at FROM payments WHERE 1 = 1";

// === impl Ledger ===

impl Ledger {
    /// Payments by filter, the newest first.
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Entry>, LedgerError> {
        let mut query = QueryBuilder::new(COLUMNS);
        filter.narrow(&mut query);
        query.push(" ORDER BY reserved_at DESC LIMIT ").push_bind(i64::from(limit));
        let rows = query.build().fetch_all(self.pool()).await?;
        Ok(rows.iter().map(Entry::read).collect::<Result<_, _>>()?)
    }

    /// One payment.
    pub async fn find(&self, key: &PaymentKey) -> Result<Option<Entry>, LedgerError> {
        let mut query = QueryBuilder::new(COLUMNS);
        query.push(" AND network = ").push_bind(&key.network);
        query.push(" AND contract = ").push_bind(&key.contract);
        query.push(" AND payer = ").push_bind(&key.payer);
        query.push(" AND nonce = ").push_bind(&key.nonce);
        let row = query.build().fetch_optional(self.pool()).await?;
        Ok(row.as_ref().map(Entry::read).transpose()?)
    }

    /// What was settled, by asset. Amounts exceed what databases add up, so they are added up here.
    pub async fn totals(&self, filter: &Filter) -> Result<Vec<Total>, LedgerError> {
        let mut query = QueryBuilder::new(
            "SELECT network, asset, asset_symbol, amount, COUNT(*) AS payments FROM payments \
             WHERE state = 'settled'",
        );
        filter.narrow(&mut query);
        query.push(" GROUP BY network, asset, asset_symbol, amount");
        let rows = query.build().fetch_all(self.pool()).await?;
        let mut sums: BTreeMap<(String, String, String), (u64, U256)> = BTreeMap::new();
        for row in rows {
            let key = (row.try_get("network")?, row.try_get("asset")?, row.try_get("asset_symbol")?);
            let payments = unsigned(row.try_get("payments")?);
            let amount = Amount::parse(row.try_get("amount")?).unwrap_or_default();
            let sum = sums.entry(key).or_default();
            sum.0 += payments;
            sum.1 = sum.1.saturating_add(amount.0.saturating_mul(U256::from(payments)));
        }
        let total = |((network, asset, asset_symbol), (payments, amount)): ((_, _, _), (u64, U256))| Total {
            network,
            asset,
            asset_symbol,
            payments,
            amount: amount.to_string(),
        };
        Ok(sums.into_iter().map(total).collect())
    }

    /// Whether the database can be written to: what readiness asks.
    pub async fn check(&self) -> Result<(), LedgerError> {
        self.durably(async |transaction| {
            let connection: &mut AnyConnection = transaction;
            sqlx::query("UPDATE counters SET value = value WHERE companion = ''").execute(connection).await?;
            Ok(())
        })
        .await
    }
}

// === impl Filter ===

impl Filter {
    fn narrow(&self, query: &mut QueryBuilder<sqlx::Any>) {
        if let Some(offer) = &self.offer {
            if let Some((namespace, name)) = offer.split_once('/') {
                query.push(" AND offer_namespace = ").push_bind(namespace.to_owned());
                query.push(" AND offer_name = ").push_bind(name.to_owned());
            } else {
                query.push(" AND offer_name = ").push_bind(offer.clone());
            }
        }
        if let Some(payer) = &self.payer {
            query.push(" AND payer = ").push_bind(payer.to_ascii_lowercase());
        }
        if let Some(nonce) = &self.nonce {
            query.push(" AND nonce = ").push_bind(nonce.to_ascii_lowercase());
        }
        if let Some(state) = &self.state {
            query.push(" AND state = ").push_bind(state.clone());
        }
        if let Some((from, to)) = self.between {
            query.push(" AND reserved_at >= ").push_bind(signed(from));
            query.push(" AND reserved_at < ").push_bind(signed(to));
        }
    }
}

// === impl Entry ===

impl Entry {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let time = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(unsigned));
        let PaymentKey { network, payer, nonce, .. } = read_key(row)?;
        Ok(Self {
            state: row.try_get("state")?,
            network,
            asset: row.try_get("asset")?,
            asset_symbol: row.try_get("asset_symbol")?,
            amount: row.try_get("amount")?,
            payer,
            pay_to: row.try_get("pay_to")?,
            nonce,
            offer_namespace: row.try_get("offer_namespace")?,
            offer_name: row.try_get("offer_name")?,
            transaction: row.try_get("transaction_hash")?,
            reason: row.try_get("reason")?,
            source: row.try_get("holder")?,
            generation: unsigned(row.try_get("generation")?),
            reserved_at: unsigned(row.try_get("reserved_at")?),
            verified_at: time("verified_at")?,
            settling_at: time("settling_at")?,
            ended_at: time("ended_at")?,
        })
    }
}
