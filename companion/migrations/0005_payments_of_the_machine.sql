-- A payment as the machine of its life knows it: what was signed, what it was taken for, who holds it, and how many
-- settle calls were begun. One schema for SQLite and PostgreSQL: text and 64-bit integers only. Times are Unix
-- milliseconds unless they end in _s. Amounts are decimal text, as they exceed 64 bits. Hex is lower case.

CREATE TABLE payments_of_the_machine (
    -- The key of a payment: what a chain lets be used once.
    network           TEXT   NOT NULL,
    contract          TEXT   NOT NULL,
    payer             TEXT   NOT NULL,
    nonce             TEXT   NOT NULL,
    -- A refused payment is no record any more: its row is for the books alone.
    state             TEXT   NOT NULL
        CHECK (state IN ('claimed', 'reserved', 'verified', 'settling', 'unknown', 'owed', 'delivered', 'refused')),
    -- What was signed. NULL in rows of a ledger that did not know it: nothing is served or settled for those.
    fingerprint       TEXT,
    -- What it was taken for.
    offer_namespace   TEXT   NOT NULL,
    offer_name        TEXT   NOT NULL,
    route             TEXT   NOT NULL,
    asset             TEXT   NOT NULL,
    amount            TEXT   NOT NULL,
    pay_to            TEXT   NOT NULL,
    flow              TEXT   NOT NULL,
    -- The body of its settle calls, while one may still be made.
    call_body         TEXT,
    -- When the authorization ends.
    ends_s            BIGINT NOT NULL,
    -- Which request may go on with it, and until when no other may.
    holder            TEXT,
    hold_until        BIGINT,
    -- 1 while a buyer waits for the settle call under way.
    waits             BIGINT NOT NULL,
    -- How many settle calls were begun.
    epoch             BIGINT NOT NULL,
    -- 1 once an owed answer was fetched.
    redeemed          BIGINT NOT NULL,
    transaction_hash  TEXT,
    -- When it last changed; of a refused one, when its window closes.
    since             BIGINT NOT NULL,
    -- When the reconciliation has to look at it; NULL if never.
    due               BIGINT,
    -- The facilitator that settles it, and no other.
    facilitator       TEXT,
    -- For people: why it was refused, or why its outcome is not known.
    reason            TEXT,
    -- Names the purchase, where the buyer did.
    identifier        TEXT,
    -- What it is counted under, and by whom.
    asset_symbol      TEXT   NOT NULL,
    born              BIGINT NOT NULL,
    generation        BIGINT NOT NULL,
    proxy             TEXT   NOT NULL,
    companion         TEXT   NOT NULL,
    reserved_at       BIGINT NOT NULL,
    verified_at       BIGINT,
    settling_at       BIGINT,
    ended_at          BIGINT,
    -- The nonce comes first, since people look for it alone.
    PRIMARY KEY (nonce, payer, contract, network)
);

-- Reservations of before are over: their holders do not know their names. A settlement under way becomes one whose
-- lease is over, and so does one that was given up: the reconciliation makes their recorded call again, and counts
-- them as open then. What was open already is counted, and had one call at least.
INSERT INTO payments_of_the_machine
SELECT network, contract, payer, nonce,
       CASE state WHEN 'settled' THEN CASE answered WHEN 1 THEN 'delivered' ELSE 'owed' END
                  WHEN 'expired' THEN 'settling' ELSE state END,
       NULL, offer_namespace, offer_name, '', asset, amount, pay_to, 'authorization',
       CASE WHEN state IN ('settling', 'unknown', 'expired') THEN call_body END,
       ends_s,
       CASE WHEN state IN ('settling', 'expired') THEN '0x00000000000000000000000000000000' END,
       CASE WHEN state IN ('settling', 'expired') THEN 0 END,
       0,
       CASE WHEN state = 'refused' THEN 1 ELSE 1 + counted_open END,
       0,
       transaction_hash,
       CASE state WHEN 'refused' THEN ends_s * 1000
                  ELSE COALESCE(ended_at, settling_at, verified_at, reserved_at) END,
       CASE WHEN state IN ('settling', 'unknown', 'expired') THEN 0 END,
       facilitator, reason, NULL, asset_symbol, born, generation, holder, companion,
       reserved_at, verified_at, settling_at, ended_at
FROM payments
WHERE state NOT IN ('reserved', 'verified');

DROP TABLE payments;
ALTER TABLE payments_of_the_machine RENAME TO payments;

CREATE INDEX payments_by_state ON payments (state, since);
CREATE INDEX payments_due ON payments (due) WHERE due IS NOT NULL;
CREATE INDEX payments_by_payer ON payments (payer, identifier);
CREATE INDEX payments_by_offer ON payments (offer_namespace, offer_name, reserved_at);
CREATE INDEX payments_by_time ON payments (reserved_at);
