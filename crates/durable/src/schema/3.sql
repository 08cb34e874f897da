-- key: what the idempotency keys of its visits begin with; none of a run that an older version started, whose keys begin with its id.
-- item_key: of a child, what tells its item from the others of its batch, whatever their order.
-- refused: why the program that drives the store cannot go on with it, until one can.
-- resumes: how often the visit under way was begun again after its process had died; resumed_seq: the step that the visit
-- will be; resumed_kept: how many items it had kept when it was begun last, since a visit that gets further is no danger.
-- slept_at: by the store's clock, when the sleep began that ends at wake_at. A paused run has a wake_at, too, if its question
-- expires then.
ALTER TABLE runs ADD COLUMN key TEXT;
ALTER TABLE runs ADD COLUMN item_key BLOB;
ALTER TABLE runs ADD COLUMN refused TEXT;
ALTER TABLE runs ADD COLUMN resumes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN resumed_seq INTEGER;
ALTER TABLE runs ADD COLUMN resumed_kept INTEGER;
ALTER TABLE runs ADD COLUMN slept_at INTEGER;

-- By flow, so that sleepers of flows that are not registered are not walked over.
DROP INDEX runs_by_wake;
CREATE INDEX runs_by_wake ON runs (flow, wake_at) WHERE wake_at IS NOT NULL;

-- expired_at: when the question expired before an answer came.
ALTER TABLE pauses ADD COLUMN expires_at INTEGER;
ALTER TABLE pauses ADD COLUMN expired_at INTEGER;

-- item_key: what tells the item from the others of its batch. wait_ms: the length of the wait that ends at wake_at.
ALTER TABLE items ADD COLUMN item_key BLOB;
ALTER TABLE items ADD COLUMN wait_ms INTEGER;

-- A visit under way as a whole; gone when it is committed. items: how many its batch has. ends_at: when the time of the visit
-- is over, and left_ms how much of it was left when that was written.
CREATE TABLE under_way (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    items INTEGER,
    ends_at INTEGER,
    left_ms INTEGER,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- clean: whether the process that drove the store last closed it.
-- log: a random number for each time that the log began anew, and log_before the one before it: a main file has one of both.
ALTER TABLE owner ADD COLUMN clean INTEGER NOT NULL DEFAULT 0;
ALTER TABLE owner ADD COLUMN log INTEGER NOT NULL DEFAULT 0;
ALTER TABLE owner ADD COLUMN log_before INTEGER NOT NULL DEFAULT 0;

CREATE INDEX inbox_by_run ON inbox (run);

-- Runs that are deleted, and no runs any more, but have rows in other tables that are yet to be deleted.
CREATE TABLE deleting (
    run INTEGER PRIMARY KEY
) STRICT;
