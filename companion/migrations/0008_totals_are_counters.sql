-- Totals are the counters of all companions added up: nothing else is added up or saved. Whoever tells a report to another
-- companion is known there too.
DROP TABLE totals;
DROP TABLE reporters;
CREATE TABLE reporters (
    reporter   TEXT   NOT NULL PRIMARY KEY,
    -- The number of its last report that is counted.
    sequence   BIGINT NOT NULL,
    -- When that was, Unix milliseconds.
    heard_at   BIGINT NOT NULL
);
CREATE INDEX counters_by_series ON counters (series);

-- The run of each companion that may read its spools.
CREATE TABLE spool_readers (
    companion  TEXT   NOT NULL PRIMARY KEY,
    run        TEXT   NOT NULL
);

-- No proxy needs a new VM to forget a counter.
ALTER TABLE published_rules DROP COLUMN swept;
