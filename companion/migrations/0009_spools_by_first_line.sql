-- A spool is known by its first line, which no other file has, and not by its place: so a file that is copied or put back
-- is known again. What was read before that begins anew.
ALTER TABLE spools ADD COLUMN file TEXT NOT NULL DEFAULT '';
ALTER TABLE spools DROP COLUMN device;
ALTER TABLE spools DROP COLUMN inode;
ALTER TABLE spools DROP COLUMN created;
UPDATE spools SET read_to = 0, retired = 0;

-- Every file that was read, also those that are gone.
CREATE TABLE spool_files (
    file       TEXT   NOT NULL PRIMARY KEY,
    -- Who read it last, and where.
    companion  TEXT   NOT NULL,
    spool      TEXT   NOT NULL,
    read_to    BIGINT NOT NULL,
    -- When that was, Unix milliseconds.
    read_at    BIGINT NOT NULL
);
