//! Settling: from the moment money may move until everybody knows whether it did.

use std::time::Duration;

use farebox_core::evm::Amount;
use farebox_core::metrics::{HostSeries, LateResult, TupleCounter, UnchargedReason};
use farebox_core::rules::Tuple;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::claim::Standing;
use super::store::{after, claiming, of_payment, signed, unsigned};
use super::{Begun, Claim, Ledger, LedgerError, Outcome, PaymentKey};

/// A payment of unknown outcome whose facilitator is to be asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Which.
    pub key: PaymentKey,
    /// The call to repeat, as it was made.
    pub call_body: String,
    /// Unix seconds at which the authorization ends.
    pub ends: u64,
    /// How often it was asked, this time included.
    pub attempts: u64,
}

/// Nobody plans further ahead. What is due later was written down under a clock that has been set back since,
/// and is due now.
const HORIZON: Duration = Duration::from_secs(3600);

/// What counting an outcome needs.
struct Counted {
    tuple: Tuple,
    amount: String,
    /// It is counted as unresolved.
    open: bool,
    /// Somebody heard of it.
    told: bool,
}

// === impl Ledger ===

impl Ledger {
    /// Takes the right to call the facilitator, and writes down the call before it is made. `lease` bounds the
    /// call: after it the outcome counts as unknown whoever made it.
    pub async fn begin_settlement(
        &self,
        claim: &Claim,
        call_body: &str,
        now_ms: u64,
        lease: Duration,
    ) -> Result<Begun, LedgerError> {
        let until = after(now_ms, lease);
        let begun = self
            .durably(async |transaction| {
                if take(transaction, claim, self.companion(), call_body, now_ms, until).await? {
                    return Ok(Some(Begun::Call { again: false }));
                }
                if take_again(transaction, claim, now_ms, until).await? {
                    return Ok(Some(Begun::Call { again: true }));
                }
                let redeemed = self.redeem(transaction, claim, now_ms, until).await?;
                Ok(redeemed.map(|transaction| Begun::Settled { transaction }))
            })
            .await?;
        if let Some(begun) = begun {
            return Ok(begun);
        }
        let standing = self.standing(&claim.key).await?;
        Ok(match standing {
            None => Begun::InFlight,
            Some(Standing { state, holder, answered, transaction }) => {
                let own = holder == claim.holder;
                match (state.as_str(), own, transaction) {
                    // The reply was sent and did not arrive: the holder asks for it again.
                    ("settled", true, Some(transaction)) if answered => Begun::Settled { transaction },
                    ("settled" | "expired" | "unknown", ..) => Begun::Used,
                    ("settling", true, _) => Begun::Joined,
                    _ => Begun::InFlight,
                }
            }
        })
    }

    /// The facilitator that settles a payment which is being settled: the one on record, which is never replaced,
    /// or else `first`, which is on disk when this returns. `None` if there is neither, or no such payment.
    pub async fn settles_at(
        &self,
        key: &PaymentKey,
        first: Option<&str>,
    ) -> Result<Option<String>, LedgerError> {
        let recorded = of_payment(
            "SELECT facilitator FROM payments \
             WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4",
            key,
        )
        .fetch_optional(&mut *self.connection().await?)
        .await?;
        let recorded = recorded.map(|row| row.try_get::<Option<String>, _>("facilitator")).transpose()?;
        match (recorded.flatten(), first) {
            (None, Some(first)) => self.durably(async |chosen| choose(chosen, key, first).await).await,
            (recorded, _) => Ok(recorded),
        }
    }

    /// Writes down how a settlement ended, and counts it. `told` says that somebody waits for it. Nothing
    /// happens to a payment that is not being settled. An unknown one is asked about again at `next_attempt_ms`.
    pub async fn finish(
        &self,
        key: &PaymentKey,
        outcome: &Outcome,
        told: bool,
        now_ms: u64,
        next_attempt_ms: u64,
    ) -> Result<(), LedgerError> {
        self.durably(async |transaction| {
            let Some(counted) = end(transaction, key, outcome, told, now_ms, next_attempt_ms).await? else {
                return Ok(());
            };
            let tuple = || counted.tuple.clone();
            let mut counters = Vec::new();
            let settled = matches!(outcome, Outcome::Settled { .. });
            match outcome {
                Outcome::Unknown { .. } if counted.open => {}
                Outcome::Unknown { .. } => counters.push(TupleCounter::UnresolvedOpened),
                _ if counted.open => counters.push(TupleCounter::UnresolvedClosed),
                _ => {}
            }
            match outcome {
                Outcome::Settled { .. } if !counted.told => {
                    counters.push(TupleCounter::ResolvedLate(LateResult::Settled));
                }
                Outcome::Refused { .. } if !counted.told && counted.open => {
                    counters.push(TupleCounter::ResolvedLate(LateResult::Refused));
                }
                Outcome::Expired => counters.push(TupleCounter::ResolvedLate(LateResult::Expired)),
                _ => {}
            }
            for counter in counters {
                self.count(transaction, &HostSeries::Tuple(tuple(), counter)).await?;
            }
            if settled {
                let amount = Amount::parse(&counted.amount).unwrap_or_default();
                self.count(transaction, &HostSeries::Charged(tuple(), amount)).await?;
                self.raise(transaction, &HostSeries::LastSuccess(tuple()), now_ms / 1000).await?;
            }
            Ok(())
        })
        .await
    }

    /// Settlements nobody is making any more: those whose lease ended and, at a start, those of this
    /// companion's earlier life.
    pub async fn orphans(&self, now_ms: u64, at_start: bool) -> Result<Vec<PaymentKey>, LedgerError> {
        let rows = sqlx::query(
            "SELECT network, contract, payer, nonce FROM payments \
             WHERE state = 'settling' AND (lease_until < $1 OR lease_until > $4 OR ($2 = 1 AND companion = $3))",
        )
        .bind(signed(now_ms))
        .bind(i64::from(at_start))
        .bind(self.companion())
        .bind(after(now_ms, HORIZON))
        .fetch_all(&mut *self.connection().await?)
        .await?;
        Ok(rows.iter().map(read_key).collect::<Result<_, _>>()?)
    }

    /// Payments of unknown outcome that are due. Each is this companion's to ask about until `lease` ends.
    pub async fn due(&self, now_ms: u64, lease: Duration, limit: u32) -> Result<Vec<Open>, LedgerError> {
        let until = after(now_ms, lease);
        let rows = sqlx::query(
            "UPDATE payments SET next_attempt = $2, attempts = attempts + 1 WHERE state = 'unknown' \
               AND (next_attempt <= $1 OR next_attempt > $4) AND (network, contract, payer, nonce) IN ( \
                 SELECT network, contract, payer, nonce FROM payments \
                 WHERE state = 'unknown' AND (next_attempt <= $1 OR next_attempt > $4) ORDER BY next_attempt LIMIT $3) \
             RETURNING network, contract, payer, nonce, call_body, ends_s, attempts",
        )
        .bind(signed(now_ms))
        .bind(until)
        .bind(i64::from(limit))
        .bind(after(now_ms, HORIZON))
        .fetch_all(&mut *self.connection().await?)
        .await?;
        let open = |row: &AnyRow| {
            Ok(Open {
                key: read_key(row)?,
                call_body: row.try_get::<Option<String>, _>("call_body")?.unwrap_or_default(),
                ends: unsigned(row.try_get("ends_s")?),
                attempts: unsigned(row.try_get("attempts")?),
            })
        };
        Ok(rows.iter().map(open).collect::<Result<_, sqlx::Error>>()?)
    }

    /// The transaction of a settled payment nobody was told of, which is answered with it now.
    async fn redeem(
        &self,
        connection: &mut AnyConnection,
        claim: &Claim,
        now_ms: u64,
        until: i64,
    ) -> Result<Option<String>, sqlx::Error> {
        let row = of_payment(
            "UPDATE payments SET answered = 1, holder = $5, lease_until = $6, attempt = $8 \
             WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
               AND state = 'settled' AND answered = 0 AND (holder = $5 OR lease_until < $7) \
             RETURNING transaction_hash, offer_namespace, offer_name, asset_symbol, born, network",
            &claim.key,
        )
        .bind(&claim.holder)
        .bind(until)
        .bind(signed(now_ms))
        .bind(&claim.attempt)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let redeemed = TupleCounter::VerifiedUncharged(UnchargedReason::Redeemed);
        self.count(connection, &HostSeries::Tuple(read_tuple(&row)?, redeemed)).await?;
        Ok(Some(row.try_get::<Option<String>, _>("transaction_hash")?.unwrap_or_default()))
    }
}

/// Writes down who settles a payment, unless somebody else was quicker, and returns who does.
async fn choose(
    connection: &mut AnyConnection,
    key: &PaymentKey,
    first: &str,
) -> Result<Option<String>, sqlx::Error> {
    let row = of_payment(
        "UPDATE payments SET facilitator = COALESCE(facilitator, $5) \
         WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
           AND state IN ('settling', 'unknown') RETURNING facilitator",
        key,
    )
    .bind(first)
    .fetch_optional(connection)
    .await?;
    row.map(|row| row.try_get("facilitator")).transpose()
}

/// Takes a payment nothing was settled for.
async fn take(
    connection: &mut AnyConnection,
    claim: &Claim,
    companion: &str,
    call_body: &str,
    now_ms: u64,
    until: i64,
) -> Result<bool, sqlx::Error> {
    let taken = claiming(
        "INSERT INTO payments (network, contract, payer, nonce, state, holder, lease_until, \
           offer_namespace, offer_name, asset_symbol, born, generation, asset, amount, pay_to, ends_s, \
           companion, reserved_at, settling_at, call_body, attempt) \
         VALUES ($1, $2, $3, $4, 'settling', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17, $18, $19) \
         ON CONFLICT (network, contract, payer, nonce) DO UPDATE SET state = 'settling', \
           holder = excluded.holder, attempt = excluded.attempt, lease_until = excluded.lease_until, \
           offer_namespace = excluded.offer_namespace, offer_name = excluded.offer_name, \
           asset_symbol = excluded.asset_symbol, born = excluded.born, generation = excluded.generation, \
           asset = excluded.asset, amount = excluded.amount, pay_to = excluded.pay_to, \
           ends_s = excluded.ends_s, companion = excluded.companion, settling_at = excluded.settling_at, \
           facilitator = CASE WHEN payments.state = 'verified' THEN payments.facilitator END, \
           call_body = excluded.call_body, ended_at = NULL, reason = NULL, transaction_hash = NULL \
         WHERE payments.state = 'refused' OR (payments.state IN ('reserved', 'verified') \
           AND (payments.holder = excluded.holder OR payments.lease_until < excluded.settling_at))",
        claim,
        companion,
        now_ms,
        until,
    )
    .bind(call_body)
    .bind(&claim.attempt)
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Takes a payment of unknown outcome, for the offer it was first used for and no other.
async fn take_again(
    connection: &mut AnyConnection,
    claim: &Claim,
    now_ms: u64,
    until: i64,
) -> Result<bool, sqlx::Error> {
    let taken = of_payment(
        "UPDATE payments SET state = 'settling', holder = $5, lease_until = $6, settling_at = $7, attempt = $10 \
         WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 AND state = 'unknown' \
           AND offer_namespace = $8 AND offer_name = $9",
        &claim.key,
    )
    .bind(&claim.holder)
    .bind(until)
    .bind(signed(now_ms))
    .bind(&claim.tuple.offer_namespace)
    .bind(&claim.tuple.offer_name)
    .bind(&claim.attempt)
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Moves a payment to its end, or to unknown; `None` if it was not being settled.
async fn end(
    connection: &mut AnyConnection,
    key: &PaymentKey,
    outcome: &Outcome,
    told: bool,
    now_ms: u64,
    next_attempt_ms: u64,
) -> Result<Option<Counted>, sqlx::Error> {
    let (state, transaction, reason) = match outcome {
        Outcome::Settled { transaction } => ("settled", Some(transaction.as_str()), None),
        Outcome::Refused { reason } => ("refused", None, Some(reason.as_str())),
        Outcome::Unknown { transaction, reason } => {
            ("unknown", transaction.as_deref(), Some(reason.as_str()))
        }
        Outcome::Expired => ("expired", None, None),
    };
    let unknown = state == "unknown";
    let row = of_payment(
        "UPDATE payments SET state = $5, transaction_hash = COALESCE($6, transaction_hash), \
           reason = COALESCE($7, reason), \
           answered = CASE WHEN answered < 0 THEN 0 ELSE $8 END, next_attempt = $9, ended_at = $10, lease_until = 0 \
         WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4 \
           AND state IN ('settling', 'unknown') \
         RETURNING network, offer_namespace, offer_name, asset_symbol, born, amount, counted_open, answered",
        key,
    )
    .bind(state)
    .bind(transaction)
    .bind(reason)
    .bind(i64::from(told && state == "settled"))
    .bind(unknown.then(|| signed(next_attempt_ms)))
    .bind((!unknown).then(|| signed(now_ms)))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let counted = Counted {
        tuple: read_tuple(&row)?,
        amount: row.try_get("amount")?,
        open: unsigned(row.try_get("counted_open")?) == 1,
        told: told && (state != "settled" || unsigned(row.try_get("answered")?) == 1),
    };
    if counted.open != unknown {
        of_payment(
            "UPDATE payments SET counted_open = $5 \
             WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4",
            key,
        )
        .bind(i64::from(unknown))
        .execute(connection)
        .await?;
    }
    Ok(Some(counted))
}

pub(super) fn read_tuple(row: &AnyRow) -> Result<Tuple, sqlx::Error> {
    Ok(Tuple {
        offer_namespace: row.try_get("offer_namespace")?,
        offer_name: row.try_get("offer_name")?,
        chain: row.try_get("network")?,
        asset_symbol: row.try_get("asset_symbol")?,
        born: unsigned(row.try_get("born")?),
    })
}

pub(super) fn read_key(row: &AnyRow) -> Result<PaymentKey, sqlx::Error> {
    Ok(PaymentKey {
        network: row.try_get("network")?,
        contract: row.try_get("contract")?,
        payer: row.try_get("payer")?,
        nonce: row.try_get("nonce")?,
    })
}
