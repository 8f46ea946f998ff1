//! Opening a database, and what of it is shared by all who use it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::pool::PoolConnection;
use sqlx::{AnyConnection, AnyPool, Connection, Executor, Row};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::commit::{Committer, Recent};
use super::migrations::MIGRATIONS;
use super::place::{connect, creating, file_of, look_at, turn_to_migrate, without_password};
use super::witness::Witness;
use super::writer::{Message, Writer};
use super::{LedgerError, LedgerOptions};

/// A database that holds the payments.
#[derive(Clone)]
pub struct Ledger {
    place: Place,
    /// For everything but steps.
    pool: AnyPool,
    /// Where steps wait.
    queue: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
    witness: Arc<Witness>,
    /// Names this companion's counters.
    companion: String,
    options: LedgerOptions,
}

/// A database, and how to get there.
#[derive(Clone)]
pub(super) struct Place {
    /// With the password.
    url: String,
    pub(super) sqlite: bool,
}

/// What is known of the database, whoever found it out.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The mark of the last batch that is on disk.
    pub(super) seen: AtomicU64,
    /// The last write worked.
    pub(super) works: AtomicBool,
    /// The turns of those who write to a file.
    pub(super) turns: Arc<tokio::sync::Mutex<()>>,
    went_back: Mutex<Option<String>>,
    /// Series of reports that are known to grow no more.
    full: Mutex<BTreeSet<String>>,
    pub(super) flushing: tokio::sync::Mutex<()>,
}

/// A connection with a transaction that may be open. It is closed and not given back to the pool: who waits for a
/// transaction may leave at any await, and one left open would lock the database for everybody.
struct Transaction(Option<PoolConnection<sqlx::Any>>);

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// A statement of this database.
pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long another may migrate a file.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(10);
/// How long finding out why there is no connection may take.
const CAUSE_PATIENCE: Duration = Duration::from_secs(1);
/// Begins a transaction of a file, and tells its version.
pub(super) const BEGIN_FILE: &str = "BEGIN IMMEDIATE; PRAGMA data_version";
/// Beside the one that writes.
const CONNECTIONS: u32 = 4;

// === impl Ledger ===

impl Ledger {
    /// Opens `url` (`sqlite:FILE` or `postgres://…`), creating file and schema where they are missing.
    /// `companion` names this companion among those that share the database, and must stay the same.
    pub async fn open(url: &str, companion: &str, options: LedgerOptions) -> Result<Self, LedgerError> {
        install_default_drivers();
        let place = Place::of(url)?;
        let failed = |cause: &dyn Display| LedgerError::Open { url: place.shown(), cause: cause.to_string() };
        let _turn = match file_of(&place.url) {
            Some(file) => {
                Some(turn_to_migrate(&file, MIGRATION_PATIENCE).await.map_err(|error| failed(&error))?)
            }
            None => None,
        };
        // Not by the pool, which goes on trying and does not tell why.
        let mut first = connect(&place.url, PATIENCE).await.map_err(|cause| failed(&cause))?;
        place.prepare(&mut first).await.map_err(|error| failed(&error))?;
        if place.sqlite {
            first.execute("PRAGMA journal_mode = WAL").await.map_err(|error| failed(&error))?;
        }
        MIGRATIONS.run(&mut first).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => failed(&error),
            error => LedgerError::Schema { url: place.shown(), cause: error.to_string() },
        })?;
        first.close().await?;
        let witness = Arc::new(Witness::of(file_of(&place.url).as_deref(), companion));
        let shared = Arc::new(Shared { seen: AtomicU64::new(witness.mark()), ..Shared::default() });
        let preparing = place.clone();
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| {
                let place = preparing.clone();
                Box::pin(async move { place.prepare(connection).await })
            })
            .connect_lazy(&place.url)
            .map_err(|error| failed(&error))?;
        let (queue, waiting) = mpsc::unbounded_channel();
        let committer = Committer {
            place: place.clone(),
            companion: companion.to_owned(),
            leases: options.leases,
            clock: options.clock.clone(),
            shared: Arc::clone(&shared),
            connection: None,
            file: None,
            in_doubt: None,
            recent: Recent::default(),
        };
        tokio::spawn(Writer::new(waiting, committer).run());
        Ok(Self { place, pool, queue, shared, witness, companion: companion.to_owned(), options })
    }

    /// The URL of a SQLite file.
    pub fn file_url(path: &Path) -> String {
        format!("sqlite:{}", path.display())
    }

    /// Waits for what is under way and closes.
    pub async fn close(&self) {
        let (closed, closing) = oneshot::channel();
        if self.send(Message::Close(closed)).is_ok() {
            let _ = closing.await;
        }
        self.witness.remember(self.shared.seen.load(Ordering::Acquire));
        self.pool.close().await;
    }

    /// Its URL without a password.
    pub fn url(&self) -> String {
        self.place.shown()
    }

    /// That the database has been seen to go back: it was restored, or a server took over that had not got
    /// everything. What was committed last is not in it.
    pub fn went_back(&self) -> Option<String> {
        self.shared.went_back.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the database can be used: what readiness asks. Writes only if the last write failed,
    /// or there was none yet.
    pub async fn check(&self) -> Result<(), LedgerError> {
        self.witness.remember(self.shared.seen.load(Ordering::Acquire));
        if self.shared.works.load(Ordering::Acquire) {
            sqlx::query("SELECT 1").execute(&mut *self.connection().await?).await?;
            return Ok(());
        }
        let (reply, told) = oneshot::channel();
        self.send(Message::Probe(reply))?;
        told.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Whether it can be written: one that is locked or read-only can be opened.
    pub async fn takes_writes(&self) -> Result<(), LedgerError> {
        let nothing = async |connection: &mut AnyConnection| {
            let sql = "DELETE FROM probes WHERE companion = $1";
            sqlx::query(sql).bind(self.companion()).execute(connection).await
        };
        self.durably(nothing).await.map(drop)
    }

    /// A connection to make statements on.
    pub(crate) async fn connection(&self) -> Result<PoolConnection<sqlx::Any>, LedgerError> {
        match self.pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => {
                let tried = connect(&self.place.url, CAUSE_PATIENCE).await;
                let cause = tried.map_or_else(|cause| cause, |_| "every connection is busy".to_owned());
                Err(self.place.unreachable(cause))
            }
            Err(sqlx::Error::PoolClosed) => Err(LedgerError::Closed),
            acquired => Ok(acquired?),
        }
    }

    /// Runs `step` in a transaction that is on disk when this returns. One that fails, or that is given up in the
    /// middle, leaves nothing behind.
    pub(super) async fn durably<T: Send>(
        &self,
        step: impl AsyncFnOnce(&mut AnyConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, LedgerError> {
        let connection = self.connection().await?;
        let _turn = if self.place.sqlite { Some(self.shared.turns.lock().await) } else { None };
        let mut transaction = Transaction(Some(connection));
        let stepped = async {
            let connection = transaction.0.as_mut().ok_or(sqlx::Error::PoolClosed)?;
            self.place.begin(connection).await?;
            let result = step(connection).await?;
            connection.execute("COMMIT").await?;
            Ok(result)
        };
        let result = stepped.await.map_err(|error| LedgerError::Failed(Arc::new(error)))?;
        // It is over, so its connection goes back to the pool.
        transaction.0 = None;
        Ok(result)
    }

    pub(super) fn companion(&self) -> &str {
        &self.companion
    }

    /// The mark of the last batch that is on disk.
    pub(super) fn seen(&self) -> u64 {
        self.shared.seen.load(Ordering::Acquire)
    }

    /// See [`Shared::look_at_mark`].
    pub(super) fn look_at_mark(&self, found: u64, seen: u64) {
        self.shared.look_at_mark(&self.place, found, seen);
    }

    /// Counters of a report that can grow no more are named once.
    pub(super) fn are_full(&self, reporter: &str, series: Vec<String>) {
        let mut known = self.shared.full.lock().unwrap_or_else(PoisonError::into_inner);
        for series in series {
            if !known.contains(&series) {
                error!(
                    reporter,
                    series,
                    "a report brings a counter to 2^53, where it stays: no proxy counts that far, so look at whoever reports \
                     under this name; delete its row in the table `counters` of the ledger to count anew"
                );
                known.insert(series);
            }
        }
    }

    pub(super) const fn options(&self) -> &LedgerOptions {
        &self.options
    }

    pub(super) const fn is_file(&self) -> bool {
        self.place.sqlite
    }

    pub(super) fn send(&self, message: Message) -> Result<(), LedgerError> {
        self.queue.send(message).map_err(|_| LedgerError::Closed)
    }

    /// The time that counts, Unix milliseconds.
    pub(super) async fn now_ms(&self) -> Result<u64, LedgerError> {
        if let Some(set) = self.options.clock.set_to() {
            return Ok(set);
        }
        if self.place.sqlite {
            return Ok(crate::clock::unix_millis());
        }
        let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
        let row = sqlx::query(sql).fetch_one(&mut *self.connection().await?).await?;
        Ok(unsigned(row.try_get(0)?))
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

// === impl Place ===

impl Place {
    pub(super) fn of(url: &str) -> Result<Self, LedgerError> {
        let sqlite = url.starts_with("sqlite:");
        let failed = |cause: String| LedgerError::Open { url: without_password(url), cause };
        if !sqlite && !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
            return Err(failed("it must start with sqlite: or postgres://".to_owned()));
        }
        if let Some(path) = file_of(url) {
            look_at(&path).map_err(failed)?;
        }
        Ok(Self { url: creating(url), sqlite })
    }

    /// Without a password and parameters.
    pub(super) fn shown(&self) -> String {
        let url = without_password(&self.url);
        url.split('?').next().unwrap_or_default().to_owned()
    }

    pub(super) fn unreachable(&self, cause: String) -> LedgerError {
        LedgerError::Unreachable { url: self.shown(), cause }
    }

    /// Which file there is, by its device and number. `None` for a server.
    pub(super) fn file(&self) -> Option<(u64, u64)> {
        let file = std::fs::metadata(file_of(&self.url)?).ok()?;
        Some((file.dev(), file.ino()))
    }

    /// The file SQLite writes to first. `None` for a server.
    pub(super) fn wal(&self) -> Option<PathBuf> {
        let mut name = file_of(&self.url)?.into_os_string();
        name.push("-wal");
        Some(PathBuf::from(name))
    }

    /// A connection that is ready to be used, and whose commits wait for the disk.
    pub(super) async fn connect(&self) -> Result<AnyConnection, LedgerError> {
        let connected = connect(&self.url, PATIENCE).await;
        let mut connection = connected.map_err(|cause| self.unreachable(cause))?;
        self.prepare(&mut connection).await?;
        Ok(connection)
    }

    /// A connection for batches, whose commits do not wait: see [`super::flush`].
    pub(super) async fn connect_to_write(&self) -> Result<AnyConnection, LedgerError> {
        let mut connection = self.connect().await?;
        if self.sqlite {
            connection.execute("PRAGMA synchronous = NORMAL").await?;
            // A page that changes with every batch is copied into the file once for many of them.
            connection.execute("PRAGMA wal_autocheckpoint = 4000").await?;
            connection.execute("PRAGMA cache_size = -16000").await?;
            // The rows of a statement stand in a table of its own, which would be a file.
            connection.execute("PRAGMA temp_store = MEMORY").await?;
        } else {
            // The statements of many rows are long: planning them for their values takes longer than running them.
            connection
                .execute("SET synchronous_commit = off; SET plan_cache_mode = force_generic_plan")
                .await?;
        }
        Ok(connection)
    }

    /// What every connection needs before it is used.
    async fn prepare(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        if self.sqlite {
            // Less than a batch may take.
            connection.execute("PRAGMA busy_timeout = 2000").await?;
            connection.execute("PRAGMA synchronous = FULL").await?;
        } else {
            // What a companion held that fell silent is free again.
            connection
                .execute("SET idle_in_transaction_session_timeout = '10s'; SET synchronous_commit = on")
                .await?;
        }
        Ok(())
    }

    /// Begins a transaction. Tells the time of a server, Unix milliseconds, and of a
    /// file its version: another one for this connection after another has written to it.
    pub(super) async fn begin(&self, connection: &mut AnyConnection) -> Result<u64, sqlx::Error> {
        let sql = if self.sqlite {
            BEGIN_FILE
        } else {
            "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
        };
        let rows = sqlx::raw_sql(sql).fetch_all(connection).await?;
        Ok(unsigned(rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?))
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

// === impl Shared ===

impl Shared {
    /// Compares a mark that was found with one seen before it was looked for.
    pub(super) fn look_at_mark(&self, place: &Place, found: u64, seen: u64) {
        if found >= seen {
            return;
        }
        let text = format!(
            "the ledger {} went back: it holds {found} batches of this companion, and had {seen}. It was restored, or \
             a server took over that had not got everything; payments of the time between are in no book",
            place.shown()
        );
        let mut known = self.went_back.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            error!("{text}");
        }
        *known = Some(text);
        // What follows is measured from here.
        let _ = self.seen.compare_exchange(seen, found, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Databases have no unsigned integers.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
