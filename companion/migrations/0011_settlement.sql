-- Who settles the payments: what one knows of a payment the other does not, so the change is an operator's decision. The first
-- companion that starts writes its row.
CREATE TABLE settlement (
    id   BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    mode TEXT   NOT NULL CHECK (mode IN ('relay', 'direct'))
);
