-- Which payments somebody has to look at, in a column that stays the same while a payment is sold: a row whose indexed
-- columns do not change is written once by PostgreSQL, and else once more for each index of its table.
--
-- While a payment is at work or open it is when that was reserved, of one that was refused when its row goes, and
-- nothing where only the retention ends it. What is over for long enough was reserved long ago.

ALTER TABLE payments ADD COLUMN look_at BIGINT;

UPDATE payments SET look_at = CASE state WHEN 'refused' THEN since ELSE reserved_at END
WHERE state IN ('claimed', 'reserved', 'verified', 'settling', 'unknown', 'refused');

DROP INDEX payments_by_state;
DROP INDEX payments_due;

CREATE INDEX payments_to_look_at ON payments (look_at) WHERE look_at IS NOT NULL;

-- Whose hold lapsed before another fetched what it is owed: only who held a payment says that its answer was whole.
ALTER TABLE payments ADD COLUMN holder_before TEXT;
