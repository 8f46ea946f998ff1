-- What each companion has added up of its proxies, so that totals go on where it ended. A row is one fact; it
-- is written when that changes and deleted when nothing needs it any more. Numbers exceed 64 bits: they are
-- text, as `value` says it for each kind.
CREATE TABLE totals (
    companion  TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    -- The proxy and which of its processes, where the fact is about one; else '' and 0.
    source     TEXT   NOT NULL,
    life       BIGINT NOT NULL,
    name       TEXT   NOT NULL,
    value      TEXT   NOT NULL,
    PRIMARY KEY (companion, kind, source, life, name)
);
