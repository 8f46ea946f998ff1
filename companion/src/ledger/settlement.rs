//! Who settles the payments of a ledger: the relay, whose payments are here, or the proxies, which keep them in memory. A
//! payment that one of them took the other would take again, so only an operator changes it. What proxies took is never
//! known here.

use std::time::Duration;

use clap::ValueEnum;
use sqlx::{AnyConnection, Row};

use super::store::{signed, unsigned};
use super::{Ledger, LedgerError};
use crate::clock::http_date;
use crate::settings::{MAX_CLOCK_SKEW, Settlement};

/// Payments that a change of the settlement forgets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AtStake {
    /// In use, or of unknown outcome.
    pub open: u64,
    /// Charged, and not answered.
    pub owed: u64,
    /// When the last authorization of a charged payment ends, Unix seconds.
    pub until: Option<u64>,
    /// Proxies may have settled by themselves.
    pub unknown: bool,
    /// The ledger lacks what was written last: see [`Ledger::went_back`].
    pub lost: Option<String>,
}

/// How often a companion looks who settles, and stops if it is others.
pub const LOOKED_AT: Duration = Duration::from_secs(1);
/// When every companion has looked.
const SEEN_WITHIN: Duration = Duration::from_secs(3);

// === impl Ledger ===

impl Ledger {
    /// Makes sure that payments are settled by `ours`, which the first companion of a ledger decides.
    pub async fn is_settled_by(&self, ours: Settlement) -> Result<(), LedgerError> {
        let decide = async |connection: &mut AnyConnection| {
            // Only the relay has payments in a ledger.
            let sql = "INSERT INTO settlement (id, mode) \
                       VALUES (1, CASE WHEN EXISTS (SELECT 1 FROM payments) THEN 'relay' ELSE $1 END) \
                       ON CONFLICT (id) DO NOTHING";
            sqlx::query(sql).bind(ours.to_string()).execute(connection).await
        };
        self.durably(decide).await?;
        match self.settlement().await? {
            Some(theirs) if theirs != ours => Err(LedgerError::Settlement { url: self.url(), theirs, ours }),
            _ => Ok(()),
        }
    }

    /// Has payments settled by `to` from now on. If a payment would be forgotten by that, it changes nothing and says which,
    /// unless it is to `forget`.
    pub async fn change_settlement(&self, to: Settlement, forget: bool) -> Result<AtStake, LedgerError> {
        let Some(from) = self.settlement().await?.filter(|from| *from != to) else {
            return Ok(AtStake::default());
        };
        if forget {
            self.write_settlement(to).await?;
            return Ok(AtStake::default());
        }
        let at_stake = self.at_stake(from).await?;
        if at_stake != AtStake::default() {
            return Ok(at_stake);
        }
        self.write_settlement(to).await?;
        // A companion that still runs may have taken payments until it saw that.
        tokio::time::sleep(SEEN_WITHIN).await;
        let at_stake = self.at_stake(from).await?;
        if at_stake != AtStake::default() {
            self.write_settlement(from).await?;
        }
        Ok(at_stake)
    }

    /// Who settles. `None` before the first companion.
    pub async fn settlement(&self) -> Result<Option<Settlement>, LedgerError> {
        let sql = "SELECT mode FROM settlement WHERE id = 1";
        let row = sqlx::query(sql).fetch_optional(&mut *self.connection().await?).await?;
        let Some(row) = row else { return Ok(None) };
        let mode: &str = row.try_get(0)?;
        Settlement::from_str(mode, false).map(Some).map_err(|_| LedgerError::Unreadable {
            url: self.url(),
            cause: format!("`{mode}` is no settlement"),
        })
    }

    /// What another settlement than `from` would not know.
    async fn at_stake(&self, from: Settlement) -> Result<AtStake, LedgerError> {
        // Sees whether the database went back.
        self.counters().await?;
        let mut at_stake = match from {
            Settlement::Relay => {
                let ends_after = (self.now_ms().await? / 1000).saturating_sub(MAX_CLOCK_SKEW);
                of_payments(&mut *self.connection().await?, ends_after).await?
            }
            Settlement::Direct => AtStake { unknown: true, ..AtStake::default() },
        };
        at_stake.lost = self.went_back();
        Ok(at_stake)
    }

    async fn write_settlement(&self, mode: Settlement) -> Result<(), LedgerError> {
        let write = async |connection: &mut AnyConnection| {
            let sql = "UPDATE settlement SET mode = $1 WHERE id = 1";
            sqlx::query(sql).bind(mode.to_string()).execute(connection).await
        };
        self.durably(write).await.map(drop)
    }
}

/// What the relay's payments are. Authorizations count that end at this time or later, Unix seconds.
async fn of_payments(connection: &mut AnyConnection, ends_after: u64) -> Result<AtStake, sqlx::Error> {
    let row = sqlx::query(
        "SELECT COUNT(CASE WHEN state NOT IN ('owed', 'delivered') THEN 1 END), \
           COUNT(CASE WHEN state = 'owed' THEN 1 END), \
           MAX(CASE WHEN ends_s >= $1 THEN ends_s END) \
         FROM payments WHERE state <> 'refused'",
    )
    .bind(signed(ends_after))
    .fetch_one(connection)
    .await?;
    Ok(AtStake {
        open: unsigned(row.try_get(0)?),
        owed: unsigned(row.try_get(1)?),
        until: row.try_get::<Option<i64>, _>(2)?.map(unsigned),
        ..AtStake::default()
    })
}

// === impl AtStake ===

impl std::fmt::Display for AtStake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if self.open > 0 {
            parts.push(format!("in use or of unknown outcome: {}", self.open));
        }
        if self.owed > 0 {
            parts.push(format!("charged and not answered: {}", self.owed));
        }
        if let Some(until) = self.until {
            parts.push(format!("the last authorization of a charged payment ends on {}", http_date(until)));
        }
        if self.unknown {
            parts.push(
                "no ledger has the payments that proxies settled: stop the proxies and wait until every \
                 authorization they took has ended, which takes filter.replayHorizonSeconds at most"
                    .to_owned(),
            );
        }
        parts.extend(self.lost.clone());
        f.write_str(&parts.join("; "))
    }
}
