-- Each version of a flow that runs in this store, with its pictures.
CREATE TABLE flows (
    flow INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    graph TEXT NOT NULL,
    mermaid TEXT NOT NULL,
    dot TEXT NOT NULL,
    UNIQUE (name, fingerprint)
) STRICT;

-- status: 0 running, 1 paused, 2 sleeping, 3 ended, 4 failed, 5 cancelled.
-- parent: the run whose visit and item a child belongs to. origin: the run and the step that this one is a fork of.
CREATE TABLE runs (
    run INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    flow INTEGER NOT NULL REFERENCES flows,
    status INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    wake_at INTEGER,
    action TEXT,
    error TEXT,
    parent INTEGER,
    parent_seq INTEGER,
    item INTEGER,
    origin INTEGER,
    origin_seq INTEGER
) STRICT;
CREATE INDEX runs_by_status ON runs (flow, status, run) WHERE parent IS NULL;
CREATE INDEX runs_by_wake ON runs (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent, parent_seq, item) WHERE parent IS NOT NULL;

-- kind: what body is: 0 the same state as before, 1 the whole state, 2 a change to the state before.
-- base: the step whose state this one changes; none for a whole one. size: of the state, as JSON.
-- version: of a whole state, as its flow numbers it.
CREATE TABLE visits (
    visit INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    node TEXT,
    action TEXT,
    next TEXT,
    started_at INTEGER NOT NULL,
    took_us INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    retries TEXT,
    recorded INTEGER,
    recalled INTEGER,
    version INTEGER,
    size INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    base INTEGER,
    body BLOB
) STRICT;
CREATE UNIQUE INDEX visits_by_run ON visits (run, seq);

CREATE TABLE pauses (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    node TEXT NOT NULL,
    question TEXT NOT NULL,
    schema TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    answer TEXT,
    answered_at INTEGER,
    refused TEXT,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- item: -1 stands for the node itself. output: an item's, as JSON. attempt, wake_at: a wait before an attempt.
CREATE TABLE items (
    row INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    item INTEGER NOT NULL,
    output BLOB,
    attempt INTEGER,
    wake_at INTEGER
) STRICT;
CREATE UNIQUE INDEX items_by_run ON items (run, seq, item);

CREATE TABLE owner (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    since INTEGER NOT NULL
) STRICT;
INSERT INTO owner VALUES (1, 0, 0, 0);

CREATE TABLE inbox (
    request INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    what TEXT NOT NULL,
    sent_at INTEGER NOT NULL
) STRICT;
