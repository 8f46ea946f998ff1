//! One batch in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use farebox_core::evm::{Address, keccak256, to_hex};
use farebox_core::payment::{Event, Leases, PaymentKey, State};
use sqlx::{AnyConnection, Connection, Executor, Row as _};
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use tracing::error;

use super::batch::{Batch, Wanted};
use super::row::{Loaded, Row};
use super::sql::{self, Begun, MARK, MOST};
use super::store::{Place, Shared, unsigned};
use super::{Clock, LedgerError, Sale, Stepped};

/// Writes batches, on a connection of its own.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) place: Place,
    pub(super) companion: String,
    pub(super) leases: Leases,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Option<AnyConnection>,
    /// The file that was opened first, and no other.
    pub(super) file: Option<(u64, u64)>,
    /// What was being committed when the connection was lost.
    pub(super) in_doubt: Option<Committed>,
    pub(super) recent: Recent,
}

/// Rows of payments at work, as this connection left them in a file: they need not be read again unless another has
/// written to it since. A server has several companions, so there they are read.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Of the file.
    version: u64,
    rows: HashMap<PaymentKey, Row>,
    /// The mark of the last batch.
    mark: Option<u64>,
    /// Gauges, as they were last raised to.
    raised: BTreeMap<String, u64>,
}

/// What was committed. Everybody can see it, and it may not be on disk yet.
#[derive(Debug, Clone)]
pub(super) struct Committed {
    /// The mark of its batch, if anything changed.
    pub(super) mark: Option<u64>,
    /// What came of each step.
    pub(super) stepped: Vec<Result<Stepped, LedgerError>>,
}

/// Why a batch was not committed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another companion was quicker.
    InTheWay(LedgerError),
    /// The connection cannot be used.
    Lost(LedgerError),
    /// The database refused it.
    Failed(LedgerError),
}

/// Unique violation, serialization failure, deadlock.
const IN_THE_WAY: [&str; 3] = ["23505", "40001", "40P01"];
/// Most rows that are remembered.
const MOST_RECENT: usize = 4_096;
/// How long a connection may take to close.
const CLOSING: Duration = Duration::from_secs(1);
/// More than a page of SQLite.
const PROBE_BYTES: usize = 5_000;

// === impl Committer ===

impl Committer {
    /// Commits all of these steps, so that everybody sees them. After an error the connection may be in any state.
    pub(super) async fn commit(&mut self, steps: &[Wanted]) -> Result<Committed, Fault> {
        let _turn = self.turns().await;
        let keys: BTreeSet<&PaymentKey> = steps.iter().map(|step| &step.key).collect();
        let (remembered, others): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| self.recent.rows.contains_key(key));
        // SQLite begins and loads on one way to the thread that has its connection.
        let (first, rest) = others.split_at(if self.place.sqlite { others.len().min(MOST) } else { 0 });
        let (now_ms, Begun { told: version, mut loaded }) = self.begin(first).await?;
        let (shared, place) = (Arc::clone(&self.shared), self.place.clone());
        let Some(connection) = &mut self.connection else { return Err(Fault::Lost(LedgerError::Closed)) };
        let mut batch = Batch::new(&self.companion, self.leases, now_ms);
        if !place.sqlite {
            lock_purchases(connection, steps).await?;
        }
        self.recent.is_of(version);
        let mut missing = rest.to_vec();
        for key in remembered {
            match self.recent.rows.remove(key) {
                Some(row) => batch.loaded(key.clone(), Loaded::Live(Box::new(row))),
                None => missing.push(key),
            }
        }
        missing.sort_unstable();
        loaded.extend(sql::load(connection, &missing, place.sqlite).await?);
        let mut unreadable = Vec::new();
        for (key, loaded) in loaded {
            match loaded {
                Ok(loaded) => batch.loaded(key, loaded),
                Err(cause) => unreadable.push((key, cause)),
            }
        }
        for (payer, identifier) in steps.iter().filter_map(purchase_of) {
            batch.loaded_by_name(sql::of_purchase(connection, payer, identifier).await?);
        }
        let step = |wanted: &Wanted| match unreadable.iter().find(|(key, _)| *key == wanted.key) {
            Some((_, cause)) => Err(LedgerError::Unreadable { url: place.shown(), cause: cause.clone() }),
            None => Ok(batch.step(wanted)),
        };
        let stepped: Vec<_> = steps.iter().map(step).collect();
        let changes = batch.changes();
        let mut committed = Committed { mark: None, stepped };
        if changes.is_empty() && batch.counters().is_empty() {
            connection.execute("ROLLBACK").await?;
        } else {
            let risen =
                batch.successes().iter().filter(|(name, value)| self.recent.raised.get(*name) < Some(value));
            let (companion, counters) = (&self.companion, batch.counters());
            // Where the mark that follows is known, SQLite commits on the same way.
            committed.mark = self.recent.mark.map(|mark| mark + 1);
            self.in_doubt = committed.mark.map(|_| committed.clone());
            let ends = place.sqlite.then_some(committed.mark.is_some());
            let mark = sql::write(connection, companion, &changes, risen, counters, ends).await?;
            shared.look_at_mark(&place, mark.saturating_sub(1), shared.seen.load(Ordering::Acquire));
            if committed.mark.is_none() {
                committed.mark = Some(mark);
                self.in_doubt = Some(committed.clone());
                connection.execute("COMMIT").await?;
            }
            self.in_doubt = None;
            self.recent.mark = place.sqlite.then_some(mark);
        }
        for (key, text) in batch.contradictions() {
            let [payer, nonce] = [&key.payer.0[..], &key.nonce.0].map(to_hex);
            error!(network = key.network.as_str(), payer, nonce, "the ledger is contradicted: {text}");
        }
        self.recent.raised.extend(batch.successes().clone());
        if place.sqlite {
            self.recent.keep(batch.into_rows());
        }
        Ok(committed)
    }

    /// What was in doubt, if it was committed after all; nothing if it was not. An error if nobody can tell.
    pub(super) async fn arrived(&mut self) -> Result<Option<Committed>, Fault> {
        let Some(committed) = self.in_doubt.take() else { return Ok(None) };
        let _turn = self.turns().await;
        self.begin(&[]).await?;
        let Some(connection) = &mut self.connection else { return Err(Fault::Lost(LedgerError::Closed)) };
        // Waits for the end of a transaction that is still at work on the row.
        let lock = if self.place.sqlite { "" } else { " FOR UPDATE" };
        let sql = format!("SELECT value FROM counters WHERE companion = $1 AND series = $2{lock}");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&self.companion).bind(MARK);
        let row = row.fetch_optional(&mut *connection).await?;
        let found = row.map_or(Ok(0), |row| row.try_get(0)).map(unsigned)?;
        connection.execute("ROLLBACK").await?;
        Ok((Some(found) == committed.mark).then_some(committed))
    }

    /// Takes up room and gives it back: a full disk is noticed by nothing less.
    pub(super) async fn probe(&mut self) -> Result<(), LedgerError> {
        let _turn = self.turns().await;
        self.begin(&[]).await.map_err(Fault::into_error)?;
        let Some(connection) = &mut self.connection else { return Err(LedgerError::Closed) };
        sqlx::query("INSERT INTO probes (companion, filler) VALUES ($1, $2)")
            .bind(&self.companion)
            .bind("0".repeat(PROBE_BYTES))
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM probes WHERE companion = $1")
            .bind(&self.companion)
            .execute(&mut *connection)
            .await?;
        connection.execute("COMMIT").await?;
        Ok(())
    }

    /// Closes the connection, and with it whatever transaction it has.
    pub(super) async fn disconnect(&mut self) {
        self.recent = Recent::default();
        if let Some(connection) = self.connection.take() {
            let _ = timeout(CLOSING, connection.close()).await;
        }
    }

    /// Notes that the last write failed.
    pub(super) fn failed(&self) {
        self.shared.works.store(false, Ordering::Release);
    }

    /// That there was no answer.
    pub(super) fn silent(&self, patience: Duration) -> LedgerError {
        self.place.unreachable(format!("it does not answer within {patience:?}"))
    }

    /// SQLite has one writer at a time: ours take turns, where others would try again and again.
    fn turns(&self) -> impl Future<Output = Option<OwnedMutexGuard<()>>> + use<> {
        let turns = self.place.sqlite.then(|| Arc::clone(&self.shared.turns));
        async move {
            match turns {
                Some(turns) => Some(turns.lock_owned().await),
                None => None,
            }
        }
    }

    /// Begins a transaction, and in a file loads these keys. Tells the time, Unix milliseconds.
    async fn begin(&mut self, keys: &[&PaymentKey]) -> Result<(u64, Begun), Fault> {
        if self.file.is_some() && self.file != self.place.file() {
            // A backup was put in its place: what is written to the file that is open is in no book, and what was
            // written ahead of it would be taken for changes of the backup.
            return Err(Fault::Failed(LedgerError::Replaced { url: self.place.shown() }));
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connection = none.insert(self.place.connect_to_write().await.map_err(Fault::Lost)?);
                self.file = self.file.or_else(|| self.place.file());
                connection
            }
        };
        let begun = if keys.is_empty() {
            Begun { told: self.place.begin(connection).await?, loaded: Vec::new() }
        } else {
            sql::begin_and_load(connection, keys).await?
        };
        let own = if self.place.sqlite { crate::clock::unix_millis() } else { begun.told };
        Ok((self.clock.set_to().unwrap_or(own), begun))
    }
}

// === impl Recent ===

impl Recent {
    /// Forgets what may be otherwise in this version.
    fn is_of(&mut self, version: u64) {
        if self.version != version {
            self.rows.clear();
            self.mark = None;
            self.version = version;
        }
    }

    /// Remembers payments at work. What is delivered has no next step.
    fn keep(&mut self, rows: impl Iterator<Item = (PaymentKey, Row)>) {
        if self.rows.len() > MOST_RECENT {
            self.rows.clear();
        }
        self.rows.extend(rows.filter(|(_, row)| !row.refused && row.record.state != State::Delivered));
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn into_error(self) -> LedgerError {
        match self {
            Self::InTheWay(error) | Self::Lost(error) | Self::Failed(error) => error,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let Some(of_database) = error.as_database_error() else { return Self::Lost(error.into()) };
        let code = of_database.code().unwrap_or_default().into_owned();
        if IN_THE_WAY.contains(&code.as_str()) {
            return Self::InTheWay(error.into());
        }
        // The server is stopping, or was told to end the connection.
        if code.starts_with("57P") { Self::Lost(error.into()) } else { Self::Failed(error.into()) }
    }
}

/// The purchase a claim names, and who makes it.
fn purchase_of(wanted: &Wanted) -> Option<(&Address, &str)> {
    let Wanted { key, event: Event::Claim(_), sale: Some(Sale { identifier, .. }), .. } = wanted else {
        return None;
    };
    Some((&key.payer, identifier.as_deref()?))
}

/// Claims of one purchase wait for each other, since a row that is not there yet cannot be locked.
async fn lock_purchases(connection: &mut AnyConnection, steps: &[Wanted]) -> Result<(), sqlx::Error> {
    let purchases = steps.iter().filter_map(purchase_of);
    let locks: BTreeSet<i64> = purchases.map(|(payer, identifier)| lock_of(payer, identifier)).collect();
    for lock in locks {
        sqlx::query("SELECT CAST(pg_advisory_xact_lock($1) AS TEXT)")
            .bind(lock)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn lock_of(payer: &Address, identifier: &str) -> i64 {
    let hash = keccak256(&[&payer.0[..], identifier.as_bytes()].concat());
    let [a, b, c, d, e, f, g, h, ..] = hash;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}
