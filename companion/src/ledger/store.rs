//! Opening a database, and the two ways to write to it.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farebox_core::metrics::{HostSeries, decode_host_name, host_name};
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::pool::PoolConnection;
use sqlx::{AnyConnection, AnyPool, Connection, Executor, Row, Transaction};
use tokio::time::timeout;

use super::{Claim, PaymentKey};

/// Why the ledger cannot do what it was asked to. The text names the database and, where there is one, the fix.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be opened.
    #[error("the ledger {url} cannot be opened: {cause}")]
    Open {
        /// Without a password.
        url: String,
        /// What the database says.
        cause: String,
    },
    /// Its schema is not one this version knows.
    #[error(
        "the ledger {url} has a schema this version does not know ({cause}); use the version of farebox that wrote it, or a newer one"
    )]
    Schema {
        /// Without a password.
        url: String,
        /// What does not fit.
        cause: String,
    },
    /// It was there when it was opened, and is not now.
    #[error("the ledger {url} cannot be reached: {cause}")]
    Unreachable {
        /// Without a password.
        url: String,
        /// What the database says.
        cause: String,
    },
    /// The saved totals cannot be taken up. Nothing is overwritten.
    #[error(
        "the ledger {url} holds totals of the companion `{companion}` that cannot be taken up: {cause}; use the version of farebox that wrote them, or begin new totals with DELETE FROM totals WHERE companion = '{companion}'"
    )]
    Totals {
        /// Without a password.
        url: String,
        /// See [`crate::settings::RelaySettings::companion`].
        companion: String,
        /// What does not fit.
        cause: String,
    },
    /// Another run of the companion has begun, and saves the totals.
    #[error(
        "another companion of the name `{companion}` has taken over this ledger; stop one of them, or give them different names (relay.companion)"
    )]
    Superseded {
        /// See [`crate::settings::RelaySettings::companion`].
        companion: String,
    },
    /// A statement failed: disk full, connection lost, file damaged.
    #[error("the ledger failed: {0}")]
    Failed(#[from] sqlx::Error),
}

/// A database that holds the payments.
#[derive(Clone)]
pub struct Ledger {
    pool: AnyPool,
    /// With the password.
    url: String,
    sqlite: bool,
    /// Names this companion's counters and totals.
    companion: String,
}

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// How long a statement waits for a connection, and a connection for a lock.
/// Less than a proxy waits, so that it is told why.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long finding out why there is no connection may take.
const CAUSE_PATIENCE: Duration = Duration::from_secs(1);
const POSTGRES_CONNECTIONS: u32 = 16;

// === impl Ledger ===

impl Ledger {
    /// Opens `url` (`sqlite:FILE` or `postgres://…`), creating file and schema where they are missing.
    /// `companion` names this companion among those that share the database, and must stay the same.
    pub async fn open(url: &str, companion: &str) -> Result<Self, LedgerError> {
        install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        let shown = without_password(url);
        let failed = |cause: &dyn Display| LedgerError::Open { url: shown.clone(), cause: cause.to_string() };
        if !sqlite && !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
            return Err(failed(&"it must start with sqlite: or postgres://"));
        }
        if let Some(path) = file_of(url) {
            look_at(&path).map_err(|cause| failed(&cause))?;
        }
        let full = creating(url);
        // Not by the pool, which goes on trying and does not tell why.
        let mut first = connect(&full, PATIENCE).await.map_err(|cause| failed(&cause))?;
        prepare(&mut first, sqlite).await.map_err(|error| failed(&error))?;
        MIGRATIONS.run(&mut first).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => failed(&error),
            error => LedgerError::Schema { url: shown.clone(), cause: error.to_string() },
        })?;
        first.close().await?;
        // SQLite has one writer at a time: one connection queues where several would collide.
        let pool = AnyPoolOptions::new()
            .max_connections(if sqlite { 1 } else { POSTGRES_CONNECTIONS })
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| Box::pin(prepare(connection, sqlite)))
            .connect_lazy(&full)
            .map_err(|error| failed(&error))?;
        Ok(Self { pool, url: url.to_owned(), sqlite, companion: companion.to_owned() })
    }

    /// The URL of a SQLite file.
    pub fn file_url(path: &Path) -> String {
        format!("sqlite:{}", path.display())
    }

    /// Waits for what is under way and closes.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Its URL without a password.
    pub fn url(&self) -> String {
        without_password(&self.url)
    }

    /// A connection to make statements on.
    pub(crate) async fn connection(&self) -> Result<PoolConnection<sqlx::Any>, LedgerError> {
        match self.pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => {
                let tried = connect(&creating(&self.url), CAUSE_PATIENCE).await;
                let cause = tried.map_or_else(|cause| cause, |_| "every connection is busy".to_owned());
                Err(LedgerError::Unreachable { url: self.url(), cause })
            }
            acquired => Ok(acquired?),
        }
    }

    pub(super) fn companion(&self) -> &str {
        &self.companion
    }

    /// Runs `step` in a transaction that is on disk when this returns. A reservation may be lost with the
    /// machine's power, since the chain refuses a second use anyway; what is about to move money may not.
    pub(super) async fn durably<T: Send>(
        &self,
        step: impl AsyncFnOnce(&mut Transaction<'_, sqlx::Any>) -> Result<T, sqlx::Error>,
    ) -> Result<T, LedgerError> {
        let mut connection = self.connection().await?;
        if self.sqlite {
            connection.execute("PRAGMA synchronous = FULL").await?;
        }
        let result = in_transaction(&mut connection, step).await;
        if self.sqlite {
            connection.execute("PRAGMA synchronous = NORMAL").await?;
        }
        Ok(result?)
    }

    /// This companion's counters, for the aggregate. Names it cannot read are left out.
    pub async fn counters(&self) -> Result<Vec<(HostSeries, u64)>, LedgerError> {
        let rows = sqlx::query("SELECT series, value FROM counters WHERE companion = $1")
            .bind(&self.companion)
            .fetch_all(&mut *self.connection().await?)
            .await?;
        let read = |row: &sqlx::any::AnyRow| {
            let series = decode_host_name(row.try_get::<&str, _>("series").ok()?)?;
            Some((series, u64::try_from(row.try_get::<i64, _>("value").ok()?).ok()?))
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    /// Adds one to a counter.
    pub(super) async fn count(
        &self,
        connection: &mut AnyConnection,
        series: &HostSeries,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO counters (companion, series, value) VALUES ($1, $2, 1) \
             ON CONFLICT (companion, series) DO UPDATE SET value = counters.value + 1",
        )
        .bind(&self.companion)
        .bind(host_name(series))
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Raises a gauge that only ever rises.
    pub(super) async fn raise(
        &self,
        connection: &mut AnyConnection,
        series: &HostSeries,
        value: u64,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO counters (companion, series, value) VALUES ($1, $2, $3) \
             ON CONFLICT (companion, series) DO UPDATE SET value = excluded.value \
             WHERE counters.value < excluded.value",
        )
        .bind(&self.companion)
        .bind(host_name(series))
        .bind(signed(value))
        .execute(connection)
        .await?;
        Ok(())
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { companion, .. } = self;
        f.debug_struct("Ledger")
            .field("url", &self.url())
            .field("companion", companion)
            .finish_non_exhaustive()
    }
}

async fn in_transaction<T>(
    connection: &mut AnyConnection,
    step: impl AsyncFnOnce(&mut Transaction<'_, sqlx::Any>) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let result = step(&mut transaction).await?;
    transaction.commit().await?;
    Ok(result)
}

/// A statement of this database.
pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

/// A statement about one payment: `$1` to `$4` are its key.
pub(super) fn of_payment<'q>(sql: &'static str, key: &'q PaymentKey) -> Query<'q> {
    sqlx::query(sql).bind(&key.network).bind(&key.contract).bind(&key.payer).bind(&key.nonce)
}

/// A statement that makes a payment a holder's: `$1` to `$17` are the key, the holder, until when, what is
/// bought, by way of whom, and now.
pub(super) fn claiming<'q>(
    sql: &'static str,
    claim: &'q Claim,
    companion: &'q str,
    now_ms: u64,
    until: i64,
) -> Query<'q> {
    of_payment(sql, &claim.key)
        .bind(&claim.holder)
        .bind(until)
        .bind(&claim.tuple.offer_namespace)
        .bind(&claim.tuple.offer_name)
        .bind(&claim.tuple.asset_symbol)
        .bind(signed(claim.tuple.born))
        .bind(signed(claim.generation))
        .bind(&claim.asset)
        .bind(&claim.amount)
        .bind(&claim.pay_to)
        .bind(signed(claim.ends))
        .bind(companion)
        .bind(signed(now_ms))
}

/// The end of a lease that begins now.
pub(super) fn after(now_ms: u64, lease: Duration) -> i64 {
    signed(now_ms.saturating_add(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)))
}

/// Databases have no unsigned integers.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A SQLite file that is missing is made, unless the URL says otherwise.
fn creating(url: &str) -> String {
    let says_how = !url.starts_with("sqlite:") || url.contains('?');
    if says_how { url.to_owned() } else { format!("{url}?mode=rwc") }
}

/// Tries once.
async fn connect(url: &str, patience: Duration) -> Result<AnyConnection, String> {
    match timeout(patience, AnyConnection::connect(url)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it does not answer within {patience:?}")),
    }
}

/// What every connection needs before it is used.
async fn prepare(connection: &mut AnyConnection, sqlite: bool) -> Result<(), sqlx::Error> {
    if sqlite {
        connection.execute("PRAGMA busy_timeout = 5000").await?;
        connection.execute("PRAGMA journal_mode = WAL").await?;
        connection.execute("PRAGMA synchronous = NORMAL").await?;
    }
    Ok(())
}

/// The file of a SQLite URL.
pub(crate) fn file_of(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Some(PathBuf::from(path.split('?').next().unwrap_or(path)))
}

/// Says what SQLite does not: what is wrong with a path.
fn look_at(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err("it is a folder; name a file in it".to_owned());
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(format!("there is no folder {}; make it", folder.display()))
        }
        _ => Ok(()),
    }
}

/// `scheme://user:password@host/database?password=…` without password and parameters.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold a question mark, but then the host is after it.
    let place = if parameters.contains('@') { rest } else { place };
    match place.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}@{}", host.split('?').next().unwrap_or(host))
        }
        None => format!("{scheme}://{place}"),
    }
}
