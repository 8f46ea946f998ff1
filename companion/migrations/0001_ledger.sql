-- One schema for SQLite and PostgreSQL: text and 64-bit integers only. Times are Unix milliseconds unless
-- they end in _s. Amounts are decimal text, as they exceed 64 bits. Hex is lower case.

CREATE TABLE payments (
    -- The key of a payment: what a chain lets be used once.
    network           TEXT   NOT NULL,
    contract          TEXT   NOT NULL,
    payer             TEXT   NOT NULL,
    nonce             TEXT   NOT NULL,
    state             TEXT   NOT NULL
        CHECK (state IN ('reserved', 'verified', 'settling', 'settled', 'refused', 'unknown', 'expired')),
    -- Who may go on with it, and until when nobody else may.
    holder            TEXT   NOT NULL,
    -- Which of the holder's uses it is, so that giving back one cannot take away the next.
    attempt           TEXT   NOT NULL DEFAULT '',
    lease_until       BIGINT NOT NULL,
    -- What is bought.
    offer_namespace   TEXT   NOT NULL,
    offer_name        TEXT   NOT NULL,
    asset_symbol      TEXT   NOT NULL,
    born              BIGINT NOT NULL,
    generation        BIGINT NOT NULL,
    asset             TEXT   NOT NULL,
    amount            TEXT   NOT NULL,
    pay_to            TEXT   NOT NULL,
    -- When the authorization ends, and with it every doubt.
    ends_s            BIGINT NOT NULL,
    -- What came of it.
    transaction_hash  TEXT,
    reason            TEXT,
    -- Whether the one who waited for the settlement was told: 1 if so. A settled payment nobody was told of
    -- still buys one answer.
    answered          BIGINT NOT NULL DEFAULT 0,
    -- Whether it is counted as unresolved now.
    counted_open      BIGINT NOT NULL DEFAULT 0,
    -- The facilitator that settles it. Once a call may have arrived there, nobody else is asked.
    facilitator       TEXT,
    -- The call to repeat while the outcome is unknown.
    call_body         TEXT,
    attempts          BIGINT NOT NULL DEFAULT 0,
    next_attempt      BIGINT,
    companion         TEXT   NOT NULL,
    reserved_at       BIGINT NOT NULL,
    verified_at       BIGINT,
    settling_at       BIGINT,
    ended_at          BIGINT,
    PRIMARY KEY (network, contract, payer, nonce)
);

CREATE INDEX payments_by_state ON payments (state, next_attempt);
CREATE INDEX payments_by_offer ON payments (offer_namespace, offer_name, reserved_at);

-- Cumulative counters of the money families, moved in the transaction of what they count.
CREATE TABLE counters (
    companion  TEXT   NOT NULL,
    series     TEXT   NOT NULL,
    value      BIGINT NOT NULL,
    PRIMARY KEY (companion, series)
);
