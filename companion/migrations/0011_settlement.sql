-- Who settles the payments: what one knows of a payment the other does not, so the change is an operator's decision. A
-- ledger with payments settled by the relay.
CREATE TABLE settlement (
    id   BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    mode TEXT   NOT NULL CHECK (mode IN ('relay', 'direct'))
);

INSERT INTO settlement SELECT 1, 'relay' WHERE EXISTS (SELECT 1 FROM payments);
