//! Opening a database, and the two ways to write to it.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use farebox_core::metrics::{HostSeries, decode_host_name, host_name};
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::pool::PoolConnection;
use sqlx::{AnyConnection, AnyPool, Connection, Executor, Row, Transaction};

use super::place::{connect, creating, file_of, look_at, without_password};
use super::{LedgerError, LedgerOptions};

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
    pub async fn open(url: &str, companion: &str, _options: LedgerOptions) -> Result<Self, LedgerError> {
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

/// Databases have no unsigned integers.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
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
