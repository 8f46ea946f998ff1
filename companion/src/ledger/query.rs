//! Looking things up: for people, and for what adds up.

use std::collections::BTreeMap;

use farebox_core::evm::Amount;
use ruint::aliases::U256;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::Row;

use super::store::{Query, signed, unsigned};
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
    /// The facilitator that settles it, once there is one.
    pub facilitator: Option<String>,
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

/// Written out twice because a statement has to be a constant: a part of it that came from elsewhere could be
/// anything. An empty text asks for nothing.
macro_rules! narrowed {
    ($what:literal, $end:literal) => {
        concat!(
            $what,
            " AND ($1 = '' OR offer_namespace = $1) AND ($2 = '' OR offer_name = $2) \
              AND ($3 = '' OR payer = $3) AND ($4 = '' OR state = $4) AND ($5 = '' OR nonce = $5) \
              AND reserved_at >= $6 AND reserved_at < $7",
            $end
        )
    };
}

const LIST: &str = narrowed!(
    "SELECT network, contract, payer, nonce, state, holder, offer_namespace, offer_name, asset_symbol, \
     generation, asset, amount, pay_to, transaction_hash, reason, facilitator, reserved_at, verified_at, settling_at, \
     ended_at FROM payments WHERE 1 = 1",
    " ORDER BY reserved_at DESC LIMIT $8"
);
const TOTALS: &str = narrowed!(
    "SELECT network, asset, asset_symbol, amount, COUNT(*) AS payments FROM payments WHERE state = 'settled'",
    " GROUP BY network, asset, asset_symbol, amount"
);

// === impl Ledger ===

impl Ledger {
    /// Payments by filter, the newest first.
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Entry>, LedgerError> {
        let rows = filter
            .bind(sqlx::query(LIST))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.connection().await?)
            .await?;
        Ok(rows.iter().map(Entry::read).collect::<Result<_, _>>()?)
    }

    /// One payment, for tests.
    #[cfg(test)]
    pub(crate) async fn find(&self, key: &PaymentKey) -> Result<Option<Entry>, LedgerError> {
        let filter =
            Filter { nonce: Some(key.nonce.to_string()), payer: Some(key.payer.to_string()), ..Filter::default() };
        let found = self.list(&filter, u32::MAX).await?;
        Ok(found.into_iter().find(|entry| entry.network == key.network.as_str()))
    }

    /// What was settled, by asset. Amounts exceed what databases add up, so they are added up here.
    pub async fn totals(&self, filter: &Filter) -> Result<Vec<Total>, LedgerError> {
        let rows = filter.bind(sqlx::query(TOTALS)).fetch_all(&mut *self.connection().await?).await?;
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
}

// === impl Filter ===

impl Filter {
    /// Binds the seven places of `narrowed!`.
    fn bind(&self, query: Query<'static>) -> Query<'static> {
        let offer = self.offer.clone().unwrap_or_default();
        let (namespace, name) = offer
            .split_once('/')
            .map_or_else(|| (String::new(), offer.clone()), |(a, b)| (a.to_owned(), b.to_owned()));
        let lower = |text: &Option<String>| text.clone().unwrap_or_default().to_ascii_lowercase();
        let (from, to) = self.between.unwrap_or((0, u64::MAX));
        query
            .bind(namespace)
            .bind(name)
            .bind(lower(&self.payer))
            .bind(self.state.clone().unwrap_or_default())
            .bind(lower(&self.nonce))
            .bind(signed(from))
            .bind(signed(to))
    }
}

// === impl Entry ===

impl Entry {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let time = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(unsigned));
        Ok(Self {
            state: row.try_get("state")?,
            network: row.try_get("network")?,
            asset: row.try_get("asset")?,
            asset_symbol: row.try_get("asset_symbol")?,
            amount: row.try_get("amount")?,
            payer: row.try_get("payer")?,
            pay_to: row.try_get("pay_to")?,
            nonce: row.try_get("nonce")?,
            offer_namespace: row.try_get("offer_namespace")?,
            offer_name: row.try_get("offer_name")?,
            transaction: row.try_get("transaction_hash")?,
            reason: row.try_get("reason")?,
            facilitator: row.try_get("facilitator")?,
            source: row.try_get("holder")?,
            generation: unsigned(row.try_get("generation")?),
            reserved_at: unsigned(row.try_get("reserved_at")?),
            verified_at: time("verified_at")?,
            settling_at: time("settling_at")?,
            ended_at: time("ended_at")?,
        })
    }
}
