//! The generations of published rules, agreed upon by all companions of a database.

use std::collections::BTreeMap;

use farebox_core::metrics::{parse_tuple_text, tuple_text};
use farebox_core::terms::Tuple;
use sqlx::Row;

use super::store::{signed, unsigned};
use super::{Ledger, LedgerError};

/// Rules as they were published by whichever companion was first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRules {
    /// See [`farebox_core::rules::PushedRules::generation`].
    pub generation: u64,
    /// Content hash of the push.
    pub hash: String,
    /// When each tuple (`born` 0 in the key) was born.
    pub births: BTreeMap<Tuple, u64>,
    /// See [`farebox_core::rules::PushedRules::protected`].
    pub protected: Vec<String>,
}

// === impl Ledger ===

impl Ledger {
    /// What was published last.
    pub async fn latest_rules(&self) -> Result<Option<PublishedRules>, LedgerError> {
        let row = sqlx::query(
            "SELECT generation, hash, births, protected FROM published_rules ORDER BY generation DESC LIMIT 1",
        )
        .fetch_optional(&mut *self.connection().await?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let births = row.try_get::<&str, _>("births")?.lines().filter_map(parse_tuple_text);
        Ok(Some(PublishedRules {
            generation: unsigned(row.try_get("generation")?),
            hash: row.try_get("hash")?,
            births: births.map(|tuple| (Tuple { born: 0, ..tuple.clone() }, tuple.born)).collect(),
            protected: row.try_get::<&str, _>("protected")?.lines().map(str::to_owned).collect(),
        }))
    }

    /// Generation and hash of what was published last. To be asked often: unlike all of it, they are short.
    pub async fn latest_generation(&self) -> Result<Option<(u64, String)>, LedgerError> {
        let row =
            sqlx::query("SELECT generation, hash FROM published_rules ORDER BY generation DESC LIMIT 1")
                .fetch_optional(&mut *self.connection().await?)
                .await?;
        let read = |row: sqlx::any::AnyRow| -> Result<_, sqlx::Error> {
            Ok((unsigned(row.try_get("generation")?), row.try_get("hash")?))
        };
        Ok(row.map(read).transpose()?)
    }

    /// Publishes rules after those of generation `previous` (0 before the first). Whether they are what follows:
    /// of two companions that publish at once, one finds that it has to look again.
    pub async fn publish_rules(&self, rules: &PublishedRules, previous: u64) -> Result<bool, LedgerError> {
        let births =
            rules.births.iter().map(|(tuple, born)| tuple_text(&Tuple { born: *born, ..tuple.clone() }));
        let written = sqlx::query(
            "INSERT INTO published_rules (generation, previous, hash, births, protected, companion) \
             SELECT $1, $2, $3, $4, $5, $6 \
             WHERE $2 = (SELECT COALESCE(MAX(generation), 0) FROM published_rules) ON CONFLICT DO NOTHING",
        )
        .bind(signed(rules.generation))
        .bind(signed(previous))
        .bind(&rules.hash)
        .bind(births.collect::<Vec<_>>().join("\n"))
        .bind(rules.protected.join("\n"))
        .bind(self.companion())
        .execute(&mut *self.connection().await?)
        .await?;
        if written.rows_affected() == 0 {
            return Ok(false);
        }
        // Nobody asks for older ones, and each names every series that was alive.
        sqlx::query("DELETE FROM published_rules WHERE generation < $1")
            .bind(signed(previous))
            .execute(&mut *self.connection().await?)
            .await?;
        Ok(true)
    }
}
