-- key: what the idempotency keys of its visits begin with; none of a run that an older version started, whose keys begin with its id.
-- item_key: of a child, what tells its item from the others of its batch, whatever their order.
-- refused: why the program that drives the store cannot go on with it, until one can. was: as JSON, what it was before another
-- process asked for it to go on, until it does; it is that again if it is refused.
-- resumes: how often the visit under way was begun again after its process had died; resumed_seq: the step that the visit
-- will be; resumed_kept: how much it had kept when it was begun last, since a visit that gets further is no danger.
-- epoch: of the driver that let it run, or counted it; none if somebody beside the driver did. queued_at: since when it waits
-- for its turn, if it does: nobody has begun it.
-- wake_tick: a sleep that ends at wake_at is also over when the owner's ticks have come so far, whatever the clock says. A
-- paused run has both, too, if its question expires then.
ALTER TABLE runs ADD COLUMN key TEXT;
ALTER TABLE runs ADD COLUMN item_key BLOB;
ALTER TABLE runs ADD COLUMN refused TEXT;
ALTER TABLE runs ADD COLUMN was TEXT;
ALTER TABLE runs ADD COLUMN resumes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN resumed_seq INTEGER;
ALTER TABLE runs ADD COLUMN resumed_kept INTEGER;
ALTER TABLE runs ADD COLUMN wake_tick INTEGER;
ALTER TABLE runs ADD COLUMN epoch INTEGER;
ALTER TABLE runs ADD COLUMN queued_at INTEGER;

-- By flow: those that wait for their turn, and those of them that have killed their process twice.
CREATE INDEX runs_by_turn ON runs (flow, queued_at) WHERE queued_at IS NOT NULL AND resumes < 2 AND refused IS NULL;
CREATE INDEX runs_by_deaths ON runs (flow, resumes, run) WHERE queued_at IS NOT NULL AND resumes >= 2 AND refused IS NULL;

-- By flow, so that sleepers of flows that are not registered are not walked over; and neither those that cannot go on.
DROP INDEX runs_by_wake;
CREATE INDEX runs_by_wake ON runs (flow, wake_at) WHERE wake_at IS NOT NULL AND refused IS NULL;
CREATE INDEX runs_by_tick ON runs (flow, wake_tick) WHERE wake_tick IS NOT NULL AND refused IS NULL;
CREATE INDEX runs_by_refused ON runs (flow, status, run) WHERE refused IS NOT NULL;

-- renamed: as JSON, pairs of names that a node had and has, as the program said that registered this version last.
ALTER TABLE flows ADD COLUMN renamed TEXT;

-- expires_at, expires_tick: when the question expires, by the clock or the owner's ticks. expired_at: when it did.
ALTER TABLE pauses ADD COLUMN expires_at INTEGER;
ALTER TABLE pauses ADD COLUMN expires_tick INTEGER;
ALTER TABLE pauses ADD COLUMN expired_at INTEGER;

-- version: that of the flow that asked; of older questions, that of the state.
ALTER TABLE pauses ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
UPDATE pauses SET version = coalesce((SELECT version FROM visits
    WHERE visits.run = pauses.run AND visits.seq < pauses.seq AND version IS NOT NULL ORDER BY visits.seq DESC LIMIT 1), 0);

-- item_key: what tells the item from the others of its batch; without one its number does. wait_ms: the length of the wait
-- that ends at wake_at. version: that of the flow when the output was kept.
ALTER TABLE items ADD COLUMN item_key BLOB;
ALTER TABLE items ADD COLUMN wait_ms INTEGER;
ALTER TABLE items ADD COLUMN version INTEGER;

-- A visit under way as a whole; gone when it is committed. items: how many its batch has. ends_at: when the time of the visit
-- is over, and left_ms how much of it was left when that was written. retried: whether it is tried again after it failed or
-- was cancelled, so that what it kept and cannot be read runs again.
CREATE TABLE under_way (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    items INTEGER,
    ends_at INTEGER,
    left_ms INTEGER,
    retried INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- clean: whether the process that drove the store last closed it. ticks: for how many milliseconds the store has been
-- driven, by clocks that nobody sets, as far as that was written down.
-- log: a random number for each time that the log began anew, and log_before the one before it: a main file has one of both.
ALTER TABLE owner ADD COLUMN clean INTEGER NOT NULL DEFAULT 0;
ALTER TABLE owner ADD COLUMN ticks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE owner ADD COLUMN log INTEGER NOT NULL DEFAULT 0;
ALTER TABLE owner ADD COLUMN log_before INTEGER NOT NULL DEFAULT 0;

CREATE INDEX inbox_by_run ON inbox (run);

-- Runs that are deleted, and no runs any more, but have rows in other tables that are yet to be deleted.
CREATE TABLE deleting (
    run INTEGER PRIMARY KEY
) STRICT;
