//! What was committed gets to the disk: many batches at once, while the next are committed.
//!
//! A commit only makes a batch visible. SQLite writes it to the file beside the database, whose pages the system holds
//! until they are flushed; a server flushes everything before it with the first commit that waits for its disk, and
//! for its replicas where it is set up so.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::AnyConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::error;

use super::store::{Place, Shared};
use super::writer::Reply;
use super::{LedgerError, Stepped};

/// Answers that wait until a batch is on disk.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The mark of the batch. `None` if it changed nothing: what it saw may be another's, and not be on disk yet.
    pub(super) mark: Option<u64>,
    pub(super) answers: Vec<(Stepped, Reply)>,
    /// Who asks whether anything gets to the disk.
    pub(super) probes: Vec<oneshot::Sender<Result<(), LedgerError>>>,
}

/// Flushes.
#[derive(Debug)]
pub(super) struct Flusher {
    place: Place,
    companion: String,
    shared: Arc<Shared>,
    /// To a server.
    connection: Option<AnyConnection>,
    /// Of SQLite, with its number.
    wal: Option<(Arc<File>, u64)>,
}

/// How long a flush may take. Less than a proxy waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// The row whose commit waits for the disk: the name of no series.
const FLUSHES: &str = "flushes";

// === impl Flusher ===

impl Flusher {
    pub(super) fn new(place: Place, companion: &str, shared: Arc<Shared>) -> Self {
        Self { place, companion: companion.to_owned(), shared, connection: None, wal: None }
    }

    /// Flushes and answers until the writer ends.
    pub(super) async fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Pending>) {
        while let Some(first) = waiting.recv().await {
            let mut all = vec![first];
            while let Ok(more) = waiting.try_recv() {
                all.push(more);
            }
            let shared = Arc::clone(&self.shared);
            let turn = shared.flushing.lock().await;
            while let Ok(more) = waiting.try_recv() {
                all.push(more);
            }
            let result = self.flush(&all).await;
            drop(turn);
            if let Err(error) = &result {
                self.shared.works.store(false, Ordering::Release);
                error!("what was committed may not be on disk: {error}");
                self.connection = None;
                self.wal = None;
            }
            for pending in all {
                // Whoever asked may have left.
                for (stepped, reply) in pending.answers {
                    let _ = reply.send(result.clone().map(|()| stepped));
                }
                for probe in pending.probes {
                    let _ = probe.send(result.clone());
                }
            }
        }
    }

    /// Has everything on disk that these saw.
    async fn flush(&mut self, all: &[Pending]) -> Result<(), LedgerError> {
        let mark = all.iter().filter_map(|pending| pending.mark).max();
        let flushed = async {
            if self.place.sqlite {
                return self.flush_file().await;
            }
            match self.flush_server().await {
                // A connection that was open for long may have been cut.
                Err(_) => {
                    self.connection = None;
                    self.flush_server().await
                }
                flushed => flushed,
            }
        };
        match timeout(PATIENCE, flushed).await {
            Ok(flushed) => flushed?,
            Err(_) => return Err(self.place.unreachable(format!("it is not on disk within {PATIENCE:?}"))),
        }
        self.shared.works.store(true, Ordering::Release);
        self.shared.seen.fetch_max(mark.unwrap_or_default(), Ordering::AcqRel);
        Ok(())
    }

    /// SQLite flushes the file beside the database itself before it copies it into the database.
    async fn flush_file(&mut self) -> Result<(), LedgerError> {
        let path = self.place.wal().ok_or(LedgerError::Closed)?;
        let known = self.wal.take();
        let flushed = tokio::task::spawn_blocking(move || flush_wal(path, known)).await;
        let flushed = flushed.unwrap_or_else(|error| Err(io::Error::other(error)));
        self.wal = Some(flushed.map_err(sqlx::Error::Io)?);
        Ok(())
    }

    /// A transaction that has written something, and whose commit waits.
    async fn flush_server(&mut self) -> Result<(), LedgerError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.place.connect().await?),
        };
        sqlx::query(
            "INSERT INTO counters (companion, series, value) VALUES ($1, $2, 1) \
             ON CONFLICT (companion, series) DO UPDATE SET value = counters.value + 1",
        )
        .bind(&self.companion)
        .bind(FLUSHES)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Flushes the file at this path, which may be another one than before.
fn flush_wal(path: PathBuf, known: Option<(Arc<File>, u64)>) -> io::Result<(Arc<File>, u64)> {
    let number = std::fs::metadata(&path)?.ino();
    if let Some((file, _)) = known.filter(|(_, known)| *known == number) {
        file.sync_data()?;
        return Ok((file, number));
    }
    let file = File::open(&path)?;
    file.sync_all()?;
    // Its name, too.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| ".".as_ref()))?.sync_all()?;
    Ok((Arc::new(file), number))
}
