-- Which use of a payment by its holder reserved it, so that a release of one use cannot take away the next.
ALTER TABLE payments ADD COLUMN attempt TEXT NOT NULL DEFAULT '';
