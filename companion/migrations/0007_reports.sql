-- What was counted comes in reports, each of which is counted once, in `counters`: the gateway's, and the lines of a spool.
CREATE TABLE reporters (
    companion  TEXT   NOT NULL,
    reporter   TEXT   NOT NULL,
    -- The number of its last report that is counted.
    sequence   BIGINT NOT NULL,
    -- When that was, Unix milliseconds.
    heard_at   BIGINT NOT NULL,
    PRIMARY KEY (companion, reporter)
);

-- What spools counted before is in the saved totals of its companion.
DROP TABLE spool_counters;
