//! Spools: how far each was read, and what was counted in it.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::metrics::{HostSeries, decode_host_name, host_name};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::store::{signed, unsigned};
use super::{Ledger, LedgerError, TotalsOf};

/// A file, whatever its name is at the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileId {
    /// Of its file system.
    pub device: i64,
    /// Its number there, which another file gets when it is gone.
    pub inode: i64,
    /// When it was made, nanoseconds since 1970, where the file system knows: what tells those two apart.
    pub created: i64,
}

/// How far a spool was read, apart from its counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The file; `None` if the next one found is to be read from its beginning.
    pub file: Option<FileId>,
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
}

/// What is known of a spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spooled {
    /// See [`Checkpoint`].
    pub checkpoint: Checkpoint,
    /// Cumulative over every file the spool ever was.
    pub counters: BTreeMap<HostSeries, u64>,
}

// === impl FileId ===

impl FileId {
    /// Whether it is the same file. The number of a file system may be another after a restart of the machine,
    /// so it only decides where nothing better is known.
    pub fn is(self, other: Self) -> bool {
        let known = self.created != 0 && other.created != 0;
        self.inode == other.inode
            && if known { self.created == other.created } else { self.device == other.device }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Everything known of this companion's spools, by name.
    pub async fn spools(&self) -> Result<BTreeMap<String, Spooled>, LedgerError> {
        let mut spools = BTreeMap::new();
        let rows = sqlx::query(
            "SELECT spool, device, inode, created, read_to, retired, generation, lost, malformed \
             FROM spools WHERE companion = $1",
        )
        .bind(self.companion())
        .fetch_all(&mut *self.connection().await?)
        .await?;
        for row in &rows {
            let spooled = Spooled { checkpoint: checkpoint(row)?, counters: BTreeMap::new() };
            spools.insert(row.try_get("spool")?, spooled);
        }
        let rows = sqlx::query("SELECT spool, series, value FROM spool_counters WHERE companion = $1")
            .bind(self.companion())
            .fetch_all(&mut *self.connection().await?)
            .await?;
        for row in &rows {
            let Some(spooled) = spools.get_mut(row.try_get::<&str, _>("spool")?) else { continue };
            // A name of a later version is left alone.
            let Some(series) = decode_host_name(row.try_get("series")?) else { continue };
            spooled.counters.insert(series, unsigned(row.try_get("value")?));
        }
        Ok(spools)
    }
}

// === impl TotalsOf ===

impl TotalsOf {
    /// Writes a spool's checkpoint and those of its counters that changed, all or none. Returns when they are on
    /// disk: a file is removed on the strength of it.
    pub async fn save_spool(
        &self,
        spool: &str,
        at: &Checkpoint,
        changed: &BTreeMap<HostSeries, u64>,
    ) -> Result<(), LedgerError> {
        let file = at.file.unwrap_or_default();
        self.durably(async |companion, connection| {
            sqlx::query(
                "INSERT INTO spools (companion, spool, device, inode, created, read_to, retired, generation, \
                 lost, malformed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                 ON CONFLICT (companion, spool) DO UPDATE SET device = excluded.device, \
                 inode = excluded.inode, created = excluded.created, read_to = excluded.read_to, \
                 retired = excluded.retired, generation = excluded.generation, lost = excluded.lost, \
                 malformed = excluded.malformed",
            )
            .bind(companion)
            .bind(spool)
            .bind(file.device)
            .bind(file.inode)
            .bind(file.created)
            .bind(signed(at.read_to))
            .bind(i64::from(at.retired))
            .bind(signed(at.generation))
            .bind(signed(at.lost))
            .bind(signed(at.malformed))
            .execute(&mut *connection)
            .await?;
            for (series, value) in changed {
                sqlx::query(
                    "INSERT INTO spool_counters (companion, spool, series, value) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (companion, spool, series) DO UPDATE SET value = excluded.value",
                )
                .bind(companion)
                .bind(spool)
                .bind(host_name(series))
                .bind(signed(*value))
                .execute(&mut *connection)
                .await?;
            }
            Ok(())
        })
        .await
    }

    /// Deletes counters of a spool.
    pub async fn forget_spooled(&self, spool: &str, gone: &BTreeSet<HostSeries>) -> Result<(), LedgerError> {
        self.durably(async |companion, connection| {
            for series in gone {
                sqlx::query("DELETE FROM spool_counters WHERE companion = $1 AND spool = $2 AND series = $3")
                    .bind(companion)
                    .bind(spool)
                    .bind(host_name(series))
                    .execute(&mut *connection)
                    .await?;
            }
            Ok(())
        })
        .await
    }
}

fn checkpoint(row: &AnyRow) -> Result<Checkpoint, sqlx::Error> {
    let file = FileId {
        device: row.try_get("device")?,
        inode: row.try_get("inode")?,
        created: row.try_get("created")?,
    };
    Ok(Checkpoint {
        file: (file != FileId::default()).then_some(file),
        read_to: unsigned(row.try_get("read_to")?),
        retired: row.try_get::<i64, _>("retired")? != 0,
        generation: unsigned(row.try_get("generation")?),
        lost: unsigned(row.try_get("lost")?),
        malformed: unsigned(row.try_get("malformed")?),
    })
}
