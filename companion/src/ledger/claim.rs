//! Reserving a payment before anything is done for it.

use std::time::Duration;

use farebox_core::metrics::{HostSeries, LateResult, TupleCounter};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::settle::read_tuple;
use super::store::{after, claiming, of_payment, signed, unsigned};
use super::{Claim, Ledger, LedgerError, PaymentKey, Reservation};

/// A row as far as a decision needs it.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) state: String,
    pub(super) holder: String,
    pub(super) answered: bool,
    pub(super) transaction: Option<String>,
}

// === impl Ledger ===

impl Ledger {
    /// Reserves a payment for a holder. A holder's own reservation is renewed, since it is the one who knows
    /// that its earlier use is over; another's only once its lease has ended.
    pub async fn reserve(
        &self,
        claim: &Claim,
        now_ms: u64,
        lease: Duration,
    ) -> Result<Reservation, LedgerError> {
        let until = after(now_ms, lease);
        let taken = claiming(
            "INSERT INTO payments (network, contract, payer, nonce, state, holder, lease_until, \
               offer_namespace, offer_name, asset_symbol, born, generation, asset, amount, pay_to, ends_s, \
               companion, reserved_at, attempt) \
             VALUES ($1, $2, $3, $4, 'reserved', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
             ON CONFLICT (network, contract, payer, nonce) DO UPDATE SET state = 'reserved', \
               holder = excluded.holder, attempt = excluded.attempt, lease_until = excluded.lease_until, \
               offer_namespace = excluded.offer_namespace, offer_name = excluded.offer_name, \
               asset_symbol = excluded.asset_symbol, born = excluded.born, generation = excluded.generation, \
               asset = excluded.asset, amount = excluded.amount, pay_to = excluded.pay_to, \
               ends_s = excluded.ends_s, companion = excluded.companion, reserved_at = excluded.reserved_at, \
               facilitator = NULL, verified_at = NULL, settling_at = NULL, ended_at = NULL, reason = NULL, \
               transaction_hash = NULL, call_body = NULL, attempts = 0, next_attempt = NULL \
             WHERE payments.state = 'refused' OR (payments.state IN ('reserved', 'verified') \
               AND (payments.holder = excluded.holder OR payments.lease_until < excluded.reserved_at))",
            claim,
            self.companion(),
            now_ms,
            until,
        )
        .bind(&claim.attempt)
        .execute(&mut *self.connection().await?)
        .await?;
        if taken.rows_affected() > 0 {
            return Ok(Reservation::Fresh);
        }
        if self.take_over_unanswered(claim, now_ms, until).await? {
            return Ok(Reservation::Redeem);
        }
        let standing = self.standing(&claim.key).await?;
        Ok(match standing {
            // Released between the two statements: the buyer tries again.
            None => Reservation::InFlight,
            Some(Standing { state, transaction, .. }) => match state.as_str() {
                "settled" => Reservation::Used,
                "unknown" | "expired" => Reservation::Unknown { transaction },
                _ => Reservation::InFlight,
            },
        })
    }

    /// Makes a settled payment nobody was told of this holder's, unless another is being served for it.
    async fn take_over_unanswered(
        &self,
        claim: &Claim,
        now_ms: u64,
        until: i64,
    ) -> Result<bool, LedgerError> {
        let taken = of_payment(
            "UPDATE payments SET holder = $5, attempt = $6, lease_until = $7 \
             WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
               AND state = 'settled' AND answered = 0 AND (holder = $5 OR lease_until < $8)",
            &claim.key,
        )
        .bind(&claim.holder)
        .bind(&claim.attempt)
        .bind(until)
        .bind(signed(now_ms))
        .execute(&mut *self.connection().await?)
        .await?;
        Ok(taken.rows_affected() > 0)
    }

    /// The facilitator vouched for it, and will be the one that settles it.
    pub async fn verified(&self, claim: &Claim, facilitator: &str, now_ms: u64) -> Result<(), LedgerError> {
        of_payment(
            "UPDATE payments SET state = 'verified', facilitator = $7, verified_at = $8 \
             WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
               AND holder = $5 AND attempt = $6 AND state = 'reserved'",
            &claim.key,
        )
        .bind(&claim.holder)
        .bind(&claim.attempt)
        .bind(facilitator)
        .bind(signed(now_ms))
        .execute(&mut *self.connection().await?)
        .await?;
        Ok(())
    }

    /// Nothing came of a reservation: the payment is as good as unseen, and one that is owed an answer may be
    /// taken over by anybody. What is being settled is settled, for nobody: it is owed an answer then, as is what
    /// was settled for somebody who had left. What another holder or another use of this one reserved stays.
    pub async fn release(&self, claim: &Claim) -> Result<(), LedgerError> {
        for statement in [
            "DELETE FROM payments WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
               AND holder = $5 AND attempt = $6 AND state IN ('reserved', 'verified')",
            "UPDATE payments SET lease_until = 0 \
             WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
               AND holder = $5 AND attempt = $6 AND state = 'settled' AND answered = 0",
            // The end of the settlement reads this.
            "UPDATE payments SET answered = -1 \
             WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
               AND holder = $5 AND attempt = $6 AND state = 'settling'",
        ] {
            let released = of_payment(statement, &claim.key)
                .bind(&claim.holder)
                .bind(&claim.attempt)
                .execute(&mut *self.connection().await?)
                .await?;
            if released.rows_affected() > 0 {
                return Ok(());
            }
        }
        self.durably(async |transaction| {
            let row = of_payment(
                "UPDATE payments SET answered = 0, lease_until = 0 \
                 WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
                   AND holder = $5 AND attempt = $6 AND state = 'settled' AND answered = 1 \
                 RETURNING offer_namespace, offer_name, asset_symbol, born, network",
                &claim.key,
            )
            .bind(&claim.holder)
            .bind(&claim.attempt)
            .fetch_optional(&mut **transaction)
            .await?;
            let Some(row) = row else { return Ok(()) };
            let late = TupleCounter::ResolvedLate(LateResult::Settled);
            self.count(transaction, &HostSeries::Tuple(read_tuple(&row)?, late)).await
        })
        .await
    }

    /// Removes reservations whose lease ended long ago and whose authorization cannot be used any more: nothing
    /// ever came of them. Returns how many.
    pub async fn forget_abandoned(&self, now_ms: u64) -> Result<u64, LedgerError> {
        let gone = sqlx::query(
            "DELETE FROM payments WHERE state IN ('reserved', 'verified') AND lease_until < $1 AND ends_s < $2",
        )
        .bind(signed(now_ms))
        .bind(signed(now_ms / 1000))
        .execute(&mut *self.connection().await?)
        .await?;
        Ok(gone.rows_affected())
    }

    pub(super) async fn standing(&self, key: &PaymentKey) -> Result<Option<Standing>, LedgerError> {
        let row = of_payment(
            "SELECT state, holder, answered, transaction_hash FROM payments \
             WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4",
            key,
        )
        .fetch_optional(&mut *self.connection().await?)
        .await?;
        Ok(row.as_ref().map(Standing::read).transpose()?)
    }
}

// === impl Standing ===

impl Standing {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            state: row.try_get("state")?,
            holder: row.try_get("holder")?,
            answered: unsigned(row.try_get("answered")?) == 1,
            transaction: row.try_get("transaction_hash")?,
        })
    }
}
