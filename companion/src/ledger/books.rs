//! The books: payments looked up by people and by what adds up. Whoever only reads opens the database read-only, and
//! leaves its schema as it is.

use std::collections::BTreeMap;

use farebox_core::evm::Amount;
use farebox_core::payment::PaymentKey;
use ruint::aliases::U256;
use serde::Serialize;
use sqlx::any::{AnyRow, install_default_drivers};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};

use super::migrations::MIGRATIONS;
use super::place::{file_of, without_password};
use super::row::key_of;
use super::store::{Place, Query, signed, unsigned};
use super::{Ledger, LedgerError};

/// A ledger that is read, and out of which what is over may be taken. Its schema is never touched.
pub struct Books {
    connection: AnyConnection,
    place: Place,
}

/// Which payments; everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// `offer_namespace/offer_name`, or the name alone.
    pub offer: Option<String>,
    /// Address, any case.
    pub payer: Option<String>,
    /// One of the states of the ledger, or `settled` for those in which money moved.
    pub state: Option<String>,
    /// 32 bytes as hex, any case.
    pub nonce: Option<String>,
    /// Hash of the transaction, any case.
    pub transaction: Option<String>,
    /// First and last instant of the reservation, Unix milliseconds, the last one excluded.
    pub between: Option<(u64, u64)>,
    /// Only what is over: delivered or refused, and with a window that closed before this, Unix seconds.
    pub over: Option<u64>,
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
    /// The route it was taken on; empty if it was sold by a version that did not write it down.
    pub route: String,
    /// Transaction, if one is known.
    pub transaction: Option<String>,
    /// Why it was refused, or why its outcome is not known.
    pub reason: Option<String>,
    /// The facilitator that settles it, once there is one.
    pub facilitator: Option<String>,
    /// How many settle calls were begun.
    pub calls: u64,
    /// Names the purchase, where the buyer did.
    pub identifier: Option<String>,
    /// The proxy that brought it.
    pub source: String,
    /// The companion that has it in its counters.
    pub companion: String,
    /// Generation of the rules it was sold under.
    pub generation: u64,
    /// The contract that consumes the nonce.
    pub contract: String,
    /// When the authorization ends, Unix seconds.
    pub ends: u64,
    /// Unix milliseconds, as are the three below.
    pub reserved_at: u64,
    /// When the facilitator vouched for it.
    pub verified_at: Option<u64>,
    /// When the last settle call began.
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

/// A value of a filter.
enum Bound {
    Text(String),
    Number(u64),
}

/// The columns of [`Entry::read`].
const ENTRY: &str = "network, contract, payer, nonce, state, asset, asset_symbol, amount, pay_to, offer_namespace, \
    offer_name, route, transaction_hash, reason, facilitator, epoch, identifier, proxy, companion, generation, ends_s, \
    reserved_at, verified_at, settling_at, ended_at";
/// Rows read, and deleted, at once.
const PAGE: usize = 200;

// === impl Books ===

impl Books {
    /// Opens a ledger to read it. Nothing is made or migrated.
    pub async fn read(url: &str) -> Result<Self, LedgerError> {
        install_default_drivers();
        let place = Place::of(url)?;
        if !place.sqlite {
            let mut connection = place.connect().await?;
            connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").await?;
            return Self { connection, place }.checked().await;
        }
        let file = file_of(url).unwrap_or_default();
        let read_only = format!("{}?mode=ro", Ledger::file_url(&file));
        let opened = Self::opened(&read_only).await;
        let log = [file.as_os_str().as_encoded_bytes(), b"-wal"].concat();
        let is_open_elsewhere = std::fs::metadata(String::from_utf8_lossy(&log).as_ref()).is_ok();
        match opened {
            // In a folder nobody may write to SQLite cannot even read a file that is written to.
            Err(LedgerError::Failed(_) | LedgerError::Unreachable { .. }) if !is_open_elsewhere => {
                Self::opened(&format!("{read_only}&immutable=1")).await
            }
            opened => opened,
        }
    }

    /// Opens a ledger to take out of it what is over.
    pub async fn clear(url: &str) -> Result<Self, LedgerError> {
        install_default_drivers();
        let place = Place::of(url)?;
        Self { connection: place.connect().await?, place }.checked().await
    }

    async fn opened(url: &str) -> Result<Self, LedgerError> {
        let place = Place::of(url)?;
        Self { connection: place.connect().await?, place }.checked().await
    }

    /// Whether its schema is this version's.
    async fn checked(mut self) -> Result<Self, LedgerError> {
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        let url = without_password(&self.place.shown());
        let row =
            sqlx::query("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&mut self.connection).await;
        let found = match row {
            Ok(row) => row.try_get::<Option<i64>, _>(0)?.unwrap_or(0),
            Err(error)
                if error
                    .as_database_error()
                    .is_some_and(|error| error.message().contains("_sqlx_migrations")) =>
            {
                0
            }
            Err(error) => return Err(error.into()),
        };
        match found.cmp(&known) {
            std::cmp::Ordering::Equal => Ok(self),
            std::cmp::Ordering::Less => Err(LedgerError::Older { url, found, known }),
            std::cmp::Ordering::Greater => {
                let cause = format!("schema {found}, this version reads {known}");
                Err(LedgerError::Schema { url, cause })
            }
        }
    }

    /// Payments by filter, the newest first.
    pub async fn list(&mut self, filter: &Filter, limit: u32) -> Result<Vec<Entry>, LedgerError> {
        Ok(list(&mut self.connection, filter, limit).await?)
    }

    /// What was settled, by asset.
    pub async fn totals(&mut self, filter: &Filter) -> Result<Vec<Total>, LedgerError> {
        Ok(totals(&mut self.connection, filter).await?)
    }

    /// The payments that follow the last one of `page` in time, at most so many that they fit in memory; the first
    /// ones after an empty page.
    pub async fn next_page(&mut self, filter: &Filter, page: &[Entry]) -> Result<Vec<Entry>, LedgerError> {
        let (mut conditions, mut bounds) = filter.conditions();
        if let Some(last) = page.last() {
            let first = bounds.len() + 1;
            let places = [0, 1, 2, 3, 4].map(|place| format!("${}", first + place)).join(", ");
            conditions.push_str(&format!(" AND (reserved_at, nonce, payer, contract, network) > ({places})"));
            let texts = [&last.nonce, &last.payer, &last.contract, &last.network];
            bounds.push(Bound::Number(last.reserved_at));
            bounds.extend(texts.map(|text| Bound::Text(text.clone())));
        }
        let sql = format!(
            "SELECT {ENTRY} FROM payments WHERE 1 = 1{conditions} \
             ORDER BY reserved_at, nonce, payer, contract, network LIMIT {PAGE}"
        );
        let rows = bind(sqlx::query(AssertSqlSafe(sql)), bounds).fetch_all(&mut self.connection).await?;
        Ok(rows.iter().map(Entry::read).collect::<Result<_, _>>()?)
    }

    /// Takes out payments that are over. Returns how many were.
    pub async fn delete(&mut self, page: &[Entry]) -> Result<u64, LedgerError> {
        let mut gone = 0;
        self.place.begin(&mut self.connection).await?;
        for entry in page {
            let deleted = sqlx::query(
                "DELETE FROM payments WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
                 AND state = $5 AND state IN ('delivered', 'refused')",
            );
            let key = [&entry.network, &entry.contract, &entry.payer, &entry.nonce, &entry.state];
            let deleted = key.into_iter().fold(deleted, |query, text| query.bind(text.as_str()));
            gone += deleted.execute(&mut self.connection).await?.rows_affected();
        }
        self.connection.execute("COMMIT").await?;
        Ok(gone)
    }

    /// Its URL without a password.
    pub fn url(&self) -> String {
        self.place.shown()
    }

    /// Closes it.
    pub async fn close(self) {
        // Nothing is open: whatever fails here has failed before.
        let _ = self.connection.close().await;
    }
}

// === impl Ledger ===

impl Ledger {
    /// Payments by filter, the newest first.
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Entry>, LedgerError> {
        Ok(list(&mut *self.connection().await?, filter, limit).await?)
    }

    /// What was settled, by asset.
    pub async fn totals(&self, filter: &Filter) -> Result<Vec<Total>, LedgerError> {
        Ok(totals(&mut *self.connection().await?, filter).await?)
    }

    /// One payment, for tests.
    #[cfg(test)]
    pub(crate) async fn find(&self, key: &PaymentKey) -> Result<Option<Entry>, LedgerError> {
        let filter = Filter { nonce: Some(key.nonce.to_string()), ..Filter::default() };
        let found = self.list(&filter, u32::MAX).await?;
        Ok(found.into_iter().find(|entry| entry.key().as_ref() == Some(key)))
    }
}

async fn list(
    connection: &mut AnyConnection,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Entry>, sqlx::Error> {
    let (conditions, bounds) = filter.conditions();
    let sql = format!(
        "SELECT {ENTRY} FROM payments WHERE 1 = 1{conditions} ORDER BY reserved_at DESC LIMIT {limit}"
    );
    let rows = bind(sqlx::query(AssertSqlSafe(sql)), bounds).fetch_all(connection).await?;
    rows.iter().map(Entry::read).collect()
}

/// Amounts exceed what databases add up, so they are added up here.
async fn totals(connection: &mut AnyConnection, filter: &Filter) -> Result<Vec<Total>, sqlx::Error> {
    let (conditions, bounds) = filter.conditions();
    let sql = format!(
        "SELECT network, asset, asset_symbol, amount, COUNT(*) AS payments FROM payments \
         WHERE state IN ('owed', 'delivered'){conditions} GROUP BY network, asset, asset_symbol, amount"
    );
    let rows = bind(sqlx::query(AssertSqlSafe(sql)), bounds).fetch_all(connection).await?;
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

fn bind(query: Query<'_>, bounds: Vec<Bound>) -> Query<'_> {
    bounds.into_iter().fold(query, |query, bound| match bound {
        Bound::Text(text) => query.bind(text),
        Bound::Number(number) => query.bind(signed(number)),
    })
}

// === impl Filter ===

impl Filter {
    /// What it asks for, and nothing more: a condition that always holds keeps an index from being used.
    fn conditions(&self) -> (String, Vec<Bound>) {
        let (mut text, mut bounds) = (String::new(), Vec::new());
        let mut ask = |condition: &str, bound: Bound| {
            bounds.push(bound);
            text.push_str(&format!(" AND {condition} ${}", bounds.len()));
        };
        if let Some(offer) = &self.offer {
            let (namespace, name) =
                offer.split_once('/').map_or((None, offer.as_str()), |(a, b)| (Some(a), b));
            if let Some(namespace) = namespace {
                ask("offer_namespace =", Bound::Text(namespace.to_owned()));
            }
            ask("offer_name =", Bound::Text(name.to_owned()));
        }
        if let Some(payer) = &self.payer {
            ask("payer =", Bound::Text(payer.to_ascii_lowercase()));
        }
        // Money moved for both, and which it is depends on the buyer.
        let is_settled = self.state.as_deref() == Some("settled");
        if let Some(state) = self.state.as_ref().filter(|_| !is_settled) {
            ask("state =", Bound::Text(state.clone()));
        }
        if let Some(nonce) = &self.nonce {
            ask("nonce =", Bound::Text(nonce.to_ascii_lowercase()));
        }
        if let Some(transaction) = &self.transaction {
            ask("lower(transaction_hash) =", Bound::Text(transaction.to_ascii_lowercase()));
        }
        if let Some((from, to)) = self.between {
            ask("reserved_at >=", Bound::Number(from));
            ask("reserved_at <", Bound::Number(to));
        }
        if let Some(now) = self.over {
            ask("state IN ('delivered', 'refused') AND ends_s <", Bound::Number(now));
        }
        if is_settled {
            text.push_str(" AND state IN ('owed', 'delivered')");
        }
        (text, bounds)
    }
}

// === impl Entry ===

impl Entry {
    /// Its key.
    pub fn key(&self) -> Option<PaymentKey> {
        key_of([&self.network, &self.contract, &self.payer, &self.nonce]).ok()
    }

    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let time = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(unsigned));
        Ok(Self {
            network: row.try_get("network")?,
            contract: row.try_get("contract")?,
            payer: row.try_get("payer")?,
            nonce: row.try_get("nonce")?,
            state: row.try_get("state")?,
            asset: row.try_get("asset")?,
            asset_symbol: row.try_get("asset_symbol")?,
            amount: row.try_get("amount")?,
            pay_to: row.try_get("pay_to")?,
            offer_namespace: row.try_get("offer_namespace")?,
            offer_name: row.try_get("offer_name")?,
            route: row.try_get("route")?,
            transaction: row.try_get("transaction_hash")?,
            reason: row.try_get("reason")?,
            facilitator: row.try_get("facilitator")?,
            calls: unsigned(row.try_get("epoch")?),
            identifier: row.try_get("identifier")?,
            source: row.try_get("proxy")?,
            companion: row.try_get("companion")?,
            generation: unsigned(row.try_get("generation")?),
            ends: unsigned(row.try_get("ends_s")?),
            reserved_at: unsigned(row.try_get("reserved_at")?),
            verified_at: time("verified_at")?,
            settling_at: time("settling_at")?,
            ended_at: time("ended_at")?,
        })
    }
}
