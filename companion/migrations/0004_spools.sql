-- How far each spool was read, and what was counted in it, which are written together: a line is in both or in
-- neither. A spool is a file that a proxy appends to and that is replaced when it has grown.
CREATE TABLE spools (
    companion   TEXT   NOT NULL,
    spool       TEXT   NOT NULL,
    -- The file; all zero if the next one found is to be read from its beginning.
    device      BIGINT NOT NULL,
    inode       BIGINT NOT NULL,
    created     BIGINT NOT NULL,
    read_to     BIGINT NOT NULL,
    -- 1 once it is read to its end and may be removed.
    retired     BIGINT NOT NULL,
    -- The highest generation a writer said it starts with.
    generation  BIGINT NOT NULL,
    -- Lines that writers could not write, and lines that could not be read.
    lost        BIGINT NOT NULL,
    malformed   BIGINT NOT NULL,
    PRIMARY KEY (companion, spool)
);

CREATE TABLE spool_counters (
    companion   TEXT   NOT NULL,
    spool       TEXT   NOT NULL,
    series      TEXT   NOT NULL,
    value       BIGINT NOT NULL,
    PRIMARY KEY (companion, spool, series)
);
