-- Which rules went out under which generation. The latest decides: companions that share this database push
-- the same rules under the same number, with the same lives of their series.
CREATE TABLE published_rules (
    generation  BIGINT NOT NULL PRIMARY KEY,
    -- The generation before, 0 for the first: each has one successor, whoever is faster.
    previous    BIGINT NOT NULL UNIQUE,
    -- Of everything in the push but its numbers.
    hash        TEXT   NOT NULL,
    -- One tuple a line, with the generation in which its life began.
    births      TEXT   NOT NULL,
    -- The last generation that removed a series.
    swept       BIGINT NOT NULL,
    companion   TEXT   NOT NULL
);

-- Written and emptied to learn whether there is still room.
CREATE TABLE probes (
    companion  TEXT NOT NULL,
    filler     TEXT NOT NULL
);
