//! Stepping payments.

use std::time::Duration;

use farebox_core::payment::{Event, PaymentKey, Resolution};
use futures_util::future::join_all;
use sqlx::Row;
use sqlx::any::AnyRow;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::batch::Wanted;
use super::row::read_key;
use super::sql::MOST;
use super::store::{signed, unsigned};
use super::writer::Message;
use super::{Ledger, LedgerError, Sale, Stepped};

// === impl Ledger ===

impl Ledger {
    /// Steps a payment; returns once the step is on disk. `sale` is for claims, and for the end of a settle call,
    /// which may have to make a record. `facilitator` is written down if there is none yet and the step changes
    /// the record: who vouched, or the first candidate of a call. The ledger finds the twin of a claim itself.
    ///
    /// A step that is given up is taken nevertheless, and so may be one that failed because the database fell silent:
    /// its next step tells.
    pub async fn step(
        &self,
        key: &PaymentKey,
        event: Event,
        sale: Option<&Sale>,
        facilitator: Option<&str>,
    ) -> Result<Stepped, LedgerError> {
        let (reply, told) = oneshot::channel();
        self.send(Message::Step(wanted(key, event, sale, facilitator), Some(reply)))?;
        told.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Steps a payment without waiting. The order per key is kept; a failure is logged, and the step tried again.
    pub fn note(&self, key: &PaymentKey, event: Event, facilitator: Option<&str>) {
        let wanted = wanted(key, event, None, facilitator);
        if let Err(error) = self.send(Message::Step(wanted, None)) {
            error!(?key, "a step is lost: {error}");
        }
    }

    /// Keys the reconciliation has to look at now, oldest first: see [`farebox_core::payment::due`].
    pub async fn due(&self, limit: u32) -> Result<Vec<PaymentKey>, LedgerError> {
        let now = signed(self.now_ms().await?);
        let rows = sqlx::query(
            "SELECT network, contract, payer, nonce FROM payments \
             WHERE look_at <= $1 AND due <= $1 ORDER BY due LIMIT $2",
        )
        .bind(now)
        .bind(i64::from(limit))
        .fetch_all(&mut *self.connection().await?)
        .await?;
        Ok(self.keys(&rows))
    }

    /// Removes what is over, in bounded batches. Returns how many rows.
    pub async fn sweep(&self) -> Result<u64, LedgerError> {
        let mut gone = 0;
        loop {
            let some = self.sweep_refused().await? + self.sweep_records().await?;
            if some == 0 {
                return Ok(gone);
            }
            gone += some;
        }
    }

    /// What an operator found out about a payment.
    pub async fn resolve(&self, key: &PaymentKey, resolution: Resolution) -> Result<Stepped, LedgerError> {
        self.step(key, Event::Resolve(resolution), None, None).await
    }

    /// How long whoever is at work on a payment still holds it.
    pub async fn held_for(&self, key: &PaymentKey) -> Result<Duration, LedgerError> {
        let now = self.now_ms().await?;
        let select = "SELECT hold_until FROM payments \
                      WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4";
        let row = super::sql::bind_key(sqlx::query(select), Some(key));
        let row = row.fetch_optional(&mut *self.connection().await?).await?;
        let until: Option<i64> = row.map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(Duration::from_millis(until.map_or(0, unsigned).saturating_sub(now)))
    }

    /// Rows that are no records: they go when their window has closed.
    async fn sweep_refused(&self) -> Result<u64, LedgerError> {
        let now = signed(self.now_ms().await?);
        let select = "SELECT network, contract, payer, nonce FROM payments \
                      WHERE look_at < $1 AND state = 'refused' LIMIT $2";
        let limit = signed(MOST as u64);
        let rows =
            sqlx::query(select).bind(now).bind(limit).fetch_all(&mut *self.connection().await?).await?;
        let keys = self.keys(&rows);
        if keys.is_empty() {
            return Ok(0);
        }
        self.durably(async |connection| {
            let mut gone = 0;
            for key in &keys {
                // One that was claimed meanwhile is a record again.
                let deleted = sqlx::query(
                    "DELETE FROM payments WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
                     AND state = 'refused'",
                );
                gone +=
                    super::sql::bind_key(deleted, Some(key)).execute(&mut *connection).await?.rows_affected();
            }
            Ok(gone)
        })
        .await
    }

    /// Records the machine may let go of. It decides.
    async fn sweep_records(&self) -> Result<u64, LedgerError> {
        let now = self.now_ms().await?;
        let retention = self.options().retention;
        let old = now.saturating_sub(u64::try_from(retention.as_millis()).unwrap_or(u64::MAX));
        let rows = sqlx::query(
            "SELECT network, contract, payer, nonce FROM payments \
             WHERE (reserved_at < $1 AND since < $1 AND ends_s < $3 AND state IN ('unknown', 'owed', 'delivered')) \
                OR (look_at <= $2 AND hold_until <= $2 AND (state IN ('claimed', 'reserved') \
                    OR state = 'verified' AND (ends_s < $3 OR since < $1))) LIMIT $4",
        )
        .bind(signed(old))
        .bind(signed(now))
        .bind(signed(now / 1000))
        .bind(signed(MOST as u64))
        .fetch_all(&mut *self.connection().await?)
        .await?;
        let keys = self.keys(&rows);
        let event = Event::Sweep { retention: retention.as_secs() };
        let steps = keys.iter().map(|key| self.step(key, event.clone(), None, None));
        let mut gone = 0;
        for stepped in join_all(steps).await {
            match stepped {
                Ok(stepped) => gone += u64::from(stepped.freed),
                Err(error @ LedgerError::Unreadable { .. }) => warn!("{error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// The record of a key, for tests.
    #[cfg(test)]
    pub(crate) async fn record(
        &self,
        key: &PaymentKey,
    ) -> Result<Option<farebox_core::payment::Record>, LedgerError> {
        let loaded = super::sql::load(&mut *self.connection().await?, &[key], self.is_file()).await?;
        Ok(loaded.into_iter().find_map(|(_, loaded)| match loaded.unwrap() {
            super::row::Loaded::Live(row) => Some(row.record),
            super::row::Loaded::Refused => None,
        }))
    }

    /// Keys that can be read.
    fn keys(&self, rows: &[AnyRow]) -> Vec<PaymentKey> {
        let read = |row: &AnyRow| match read_key(row, 0) {
            Ok(key) => Some(key),
            Err(cause) => {
                warn!("{}", LedgerError::Unreadable { url: self.url(), cause });
                None
            }
        };
        rows.iter().filter_map(read).collect()
    }
}

fn wanted(key: &PaymentKey, event: Event, sale: Option<&Sale>, facilitator: Option<&str>) -> Box<Wanted> {
    Box::new(Wanted {
        key: key.clone(),
        event,
        sale: sale.cloned(),
        facilitator: facilitator.map(str::to_owned),
    })
}
