-- Where unmatched paths do not pass under these rules, one place a line. A companion that starts with a file of which a part
-- is written knows by it what was sold.
ALTER TABLE published_rules ADD COLUMN protected TEXT NOT NULL DEFAULT '';
