//! Spools: how far each was read. Its lines are reports, counted in the transaction that says so.

use std::collections::BTreeMap;

use farebox_core::evm::{from_hex, keccak256, to_hex};
use farebox_core::metrics::{Counted, MetricSeries};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::report::apply;
use super::store::{signed, unsigned};
use super::{Ledger, LedgerError};

/// What the names of a companion's spools as reporters begin with.
const REPORTER: &str = "spool ";

/// How long a file is known after it was read, milliseconds: no backup is that old.
const KEPT_MS: u64 = 400 * 24 * 60 * 60 * 1_000;

/// The right of one run of a companion to read its spools.
#[derive(Debug, Clone)]
pub struct SpoolsOf {
    ledger: Ledger,
    /// Names the run.
    run: String,
}

/// A file, wherever it is: what its first line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMark([u8; 16]);

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolFile {
    /// Who read it last.
    pub companion: String,
    /// As which of its spools.
    pub spool: String,
    /// How far.
    pub read_to: u64,
}

/// How far a spool was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The file; `None` if none is being read.
    pub file: Option<FileMark>,
    /// Where its next line begins.
    pub read_to: u64,
    /// It is read to its end and may be removed.
    pub retired: bool,
    /// The highest generation a writer said it starts with; 0 if none did.
    pub generation: u64,
    /// Lines that writers could not write.
    pub lost: u64,
    /// Lines that could not be read.
    pub malformed: u64,
    /// The number of its last report.
    pub sequence: u64,
}

// === impl FileMark ===

impl FileMark {
    /// Of a file that begins with this line.
    pub fn of(line: &[u8]) -> Self {
        Self(*keccak256(line).first_chunk().unwrap_or(&[0; 16]))
    }

    fn read(text: &str) -> Option<Self> {
        from_hex(text)?.try_into().ok().map(Self)
    }
}

impl std::fmt::Display for FileMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

// === impl Ledger ===

impl Ledger {
    /// How far this companion's spools were read, by name.
    pub async fn spools(&self) -> Result<BTreeMap<String, Checkpoint>, LedgerError> {
        let rows = sqlx::query(
            "SELECT spools.spool, file, read_to, retired, generation, lost, malformed, \
               COALESCE(reporters.sequence, 0) AS sequence \
             FROM spools LEFT JOIN reporters ON reporters.reporter = $2 || spools.spool \
             WHERE spools.companion = $1",
        )
        .bind(self.companion())
        .bind(reporter(self.companion(), ""))
        .fetch_all(&mut *self.connection().await?)
        .await?;
        let read = |row: &AnyRow| Ok((row.try_get("spool")?, checkpoint(row)?));
        Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
    }
}

// === impl SpoolsOf ===

impl SpoolsOf {
    /// Of all runs of a companion only the one that asked last may read its spools: two that read files of one name
    /// would take one for the other.
    pub async fn take_over(ledger: &Ledger) -> Result<Self, LedgerError> {
        let run = new_run();
        let forgotten = ledger.now_ms().await?.saturating_sub(KEPT_MS);
        ledger
            .durably(async |connection| {
                let sql = "INSERT INTO spool_readers (companion, run) VALUES ($1, $2) \
                           ON CONFLICT (companion) DO UPDATE SET run = excluded.run";
                sqlx::query(sql).bind(ledger.companion()).bind(&run).execute(&mut *connection).await?;
                sqlx::query("DELETE FROM spool_files WHERE read_at < $1")
                    .bind(signed(forgotten))
                    .execute(connection)
                    .await
            })
            .await?;
        Ok(Self { ledger: ledger.clone(), run })
    }

    /// Fails if another run has taken over.
    pub async fn check(&self) -> Result<(), LedgerError> {
        let companion = self.ledger.companion();
        let ours = sqlx::query("SELECT 1 FROM spool_readers WHERE companion = $1 AND run = $2")
            .bind(companion)
            .bind(&self.run)
            .fetch_optional(&mut *self.ledger.connection().await?)
            .await?;
        ours.map(|_| ()).ok_or_else(|| LedgerError::Superseded { companion: companion.to_owned() })
    }

    /// Counts lines of a spool, and writes down how far it was read by that: both or neither. Returns when it is on disk,
    /// as a file is removed on the strength of it. `false`, and nothing is written, if another report has this number: then
    /// it is counted, and the ledger knows how far.
    pub async fn save_spool(
        &self,
        spool: &str,
        at: &Checkpoint,
        changes: BTreeMap<MetricSeries, u64>,
    ) -> Result<bool, LedgerError> {
        let file = at.file.map(|file| file.to_string()).unwrap_or_default();
        let reporter = reporter(self.ledger.companion(), spool);
        let report = Counted { reporter, sequence: at.sequence, changes, malformed: 0 };
        let now = self.ledger.now_ms().await?;
        self.durably(async |companion, connection| {
            if !report.changes.is_empty() && !apply(&self.ledger, connection, &report, now).await? {
                return Ok(false);
            }
            sqlx::query(
                "INSERT INTO spools (companion, spool, file, read_to, retired, generation, lost, malformed) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (companion, spool) DO UPDATE SET file = excluded.file, \
                 read_to = excluded.read_to, retired = excluded.retired, generation = excluded.generation, lost = excluded.lost, \
                 malformed = excluded.malformed",
            )
            .bind(companion)
            .bind(spool)
            .bind(&file)
            .bind(signed(at.read_to))
            .bind(i64::from(at.retired))
            .bind(signed(at.generation))
            .bind(signed(at.lost))
            .bind(signed(at.malformed))
            .execute(&mut *connection)
            .await?;
            if at.file.is_some() {
                sqlx::query(
                    "INSERT INTO spool_files (file, companion, spool, read_to, read_at) \
                     VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT (file) DO UPDATE SET companion = excluded.companion, \
                     spool = excluded.spool, read_at = excluded.read_at, read_to = \
                       CASE WHEN excluded.read_to > spool_files.read_to THEN excluded.read_to \
                       ELSE spool_files.read_to END",
                )
                .bind(&file)
                .bind(companion)
                .bind(spool)
                .bind(signed(at.read_to))
                .bind(signed(now))
                .execute(connection)
                .await?;
            }
            Ok(true)
        })
        .await
    }

    /// Runs `step`, with the companion's name, in a transaction that is on disk when this returns; not if another run
    /// has taken over.
    async fn durably<T: Send>(
        &self,
        step: impl AsyncFnOnce(&str, &mut AnyConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, LedgerError> {
        let companion = self.ledger.companion();
        let stepped = self
            .ledger
            .durably(async |connection| {
                // Locks the row: whoever takes over waits for the end of this.
                let ours =
                    sqlx::query("UPDATE spool_readers SET run = run WHERE companion = $1 AND run = $2")
                        .bind(companion)
                        .bind(&self.run)
                        .execute(&mut *connection)
                        .await?;
                if ours.rows_affected() == 0 {
                    return Ok(None);
                }
                step(companion, connection).await.map(Some)
            })
            .await?;
        stepped.ok_or_else(|| LedgerError::Superseded { companion: companion.to_owned() })
    }

    /// What is known of a file; `None` if nobody has read it.
    pub async fn file(&self, file: FileMark) -> Result<Option<SpoolFile>, LedgerError> {
        let row = sqlx::query("SELECT companion, spool, read_to FROM spool_files WHERE file = $1")
            .bind(file.to_string())
            .fetch_optional(&mut *self.ledger.connection().await?)
            .await?;
        let read = |row: AnyRow| -> Result<SpoolFile, sqlx::Error> {
            Ok(SpoolFile {
                companion: row.try_get("companion")?,
                spool: row.try_get("spool")?,
                read_to: unsigned(row.try_get("read_to")?),
            })
        };
        Ok(row.map(read).transpose()?)
    }

    /// The companion whose spools are read.
    pub fn companion(&self) -> &str {
        self.ledger.companion()
    }

    /// How far a spool was read.
    pub async fn spool(&self, name: &str) -> Result<Checkpoint, LedgerError> {
        Ok(self.ledger.spools().await?.remove(name).unwrap_or_default())
    }
}

/// A spool as a reporter.
fn reporter(companion: &str, spool: &str) -> String {
    [REPORTER, companion, "/", spool].concat()
}

/// A name no other run has.
pub(crate) fn new_run() -> String {
    use std::hash::{BuildHasher, RandomState};

    let now = crate::clock::unix_millis();
    format!("{now}-{:016x}", RandomState::new().hash_one((now, std::process::id())))
}

fn checkpoint(row: &AnyRow) -> Result<Checkpoint, sqlx::Error> {
    Ok(Checkpoint {
        file: FileMark::read(row.try_get("file")?),
        read_to: unsigned(row.try_get("read_to")?),
        retired: row.try_get::<i64, _>("retired")? != 0,
        generation: unsigned(row.try_get("generation")?),
        lost: unsigned(row.try_get("lost")?),
        malformed: unsigned(row.try_get("malformed")?),
        sequence: unsigned(row.try_get("sequence")?),
    })
}
