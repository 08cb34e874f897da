//! Runs in a store: one after the other, many at once, and read back.
//!
//! The limit is the bare store: the rows that a run of ours wrote, the same bytes, into the same tables, by a prepared
//! insert, with as many rows in a commit as are waiting for one. The state is a chat of 50 messages of 200 characters,
//! in which a counter changes.

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use flowstone::{
    Action, AsyncFlow, END, Flow,
    durable::{Runs, Store},
    step,
};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{runtime, sure};
use crate::measure::{done, wrote};

/// The number of runs that are under way at once.
const RUNS: usize = 1_000;

/// The number of messages in a state: 300 bytes, and 12 KB.
const SHORT: usize = 1;
const LONG: usize = 50;

#[derive(Clone, Serialize, Deserialize)]
struct Chat {
    messages: Vec<Message>,
    turns: usize,
    of: usize,
}

#[derive(Clone, Serialize, Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// Returns a chat of this many messages of 200 characters, no two of them the same.
fn chat(messages: usize, turns: usize) -> Chat {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letter = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        char::from(b"etaoin shrdlucmfwypvbgkqjxz"[(random % 27) as usize])
    };
    let message = |number: usize| Message {
        role: ["user", "assistant"][number % 2].to_owned(),
        content: (0..200).map(|_| letter()).collect(),
    };
    Chat { messages: (0..messages).map(message).collect(), turns: 0, of: turns }
}

/// A loop that counts.
fn counting() -> Flow<Chat> {
    let mut flow = Flow::builder("chat");
    let turn = flow.add("turn", |chat: &mut Chat| {
        chat.turns += 1;
        Action::from(if chat.turns < chat.of { "again" } else { "done" })
    });
    flow.start(turn);
    flow.route(turn - "again" >> turn);
    flow.route(turn - "done" >> END);
    sure(flow.build())
}

/// One run of n visits: each waits for the disk.
pub(super) fn chain(n: usize) {
    let folder = sure(tempfile::tempdir());
    let path = folder.path().join("chain.db");
    drive(&path, 1, n, LONG);
    wrote(size(&path));
}

/// A thousand runs at once, of n visits together, with a state of one message.
pub(super) fn many(n: usize) {
    all(n, SHORT);
}

/// The same with the whole chat.
pub(super) fn many_chats(n: usize) {
    all(n, LONG);
}

fn all(n: usize, messages: usize) {
    let folder = sure(tempfile::tempdir());
    let path = folder.path().join("many.db");
    let runs = RUNS.min(n);
    drive(&path, runs, n / runs, messages);
    wrote(size(&path));
}

fn drive(path: &Path, runs: usize, visits: usize, messages: usize) {
    runtime().block_on(async {
        let store = sure(Store::open(path).await);
        let all = sure(store.runs(counting()).await);
        let tasks: Vec<_> = (0..runs)
            .map(|run| {
                let all = all.clone();
                tokio::spawn(async move {
                    let run = sure(all.start(format!("run-{run}"), chat(messages, visits)).await);
                    sure(sure(run.finished().await).ended()).state.turns
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(sure(task.await), visits);
        }
        store.close().await;
    });
}

/// A row of the table of visits.
#[derive(Clone)]
struct Row {
    node: Option<String>,
    action: Option<String>,
    next: Option<String>,
    size: i64,
    kind: i64,
    base: Option<i64>,
    body: Option<Vec<u8>>,
}

/// Returns the rows that one of our runs of this many visits writes.
fn rows(visits: usize, messages: usize) -> Arc<Vec<Row>> {
    let folder = sure(tempfile::tempdir());
    let path = folder.path().join("rows.db");
    drive(&path, 1, visits, messages);
    let db = sure(Connection::open(path));
    let mut select = sure(db.prepare("SELECT node, action, next, size, kind, base, body FROM visits ORDER BY seq"));
    let rows = select.query_map([], |row| {
        Ok(Row {
            node: row.get(0)?,
            action: row.get(1)?,
            next: row.get(2)?,
            size: row.get(3)?,
            kind: row.get(4)?,
            base: row.get(5)?,
            body: row.get(6)?,
        })
    });
    Arc::new(sure(sure(rows).collect::<rusqlite::Result<Vec<_>>>()))
}

/// The rows of a run of a thousand visits, made once.
fn known_rows(visits: usize, messages: usize) -> Arc<Vec<Row>> {
    static KNOWN: [OnceLock<Arc<Vec<Row>>>; 2] = [OnceLock::new(), OnceLock::new()];
    let known = KNOWN[usize::from(messages == LONG)].get_or_init(|| rows(1_000, messages));
    assert!(visits < known.len(), "the limit has rows for {} visits", known.len() - 1);
    Arc::clone(known)
}

/// An empty store, with our tables.
fn bare(path: &Path) -> Connection {
    let db = sure(Connection::open(path));
    sure(db.pragma_update(None, "auto_vacuum", "INCREMENTAL"));
    sure(db.pragma_update(None, "journal_mode", "WAL"));
    sure(db.pragma_update(None, "synchronous", "FULL"));
    sure(db.execute_batch(include_str!("../../../crates/durable/src/disk/schema/1.sql")));
    db
}

fn insert(db: &Connection, run: i64, seq: i64, row: &Row) {
    let mut insert = sure(db.prepare_cached(
        "INSERT INTO visits (run, seq, node, action, next, started_at, took_us, attempts, size, kind, base, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    ));
    let (now, took) = (1_700_000_000_000_i64, 5);
    let values =
        params![run, seq, row.node, row.action, row.next, now, took, 1, row.size, row.kind, row.base, row.body];
    sure(insert.execute(values));
}

pub(super) fn chain_limit(n: usize) {
    let rows = known_rows(n, LONG);
    let folder = sure(tempfile::tempdir());
    let path = folder.path().join("limit.db");
    let db = bare(&path);
    for (seq, row) in rows.iter().take(n + 1).enumerate() {
        sure(db.execute_batch("BEGIN IMMEDIATE"));
        insert(&db, 1, seq as i64, row);
        sure(db.execute_batch("COMMIT"));
    }
    close(db);
    wrote(size(&path));
}

pub(super) fn many_limit(n: usize) {
    all_bare(n, SHORT);
}

pub(super) fn many_chats_limit(n: usize) {
    all_bare(n, LONG);
}

fn all_bare(n: usize, messages: usize) {
    let runs = RUNS.min(n);
    let visits = n / runs;
    let rows = known_rows(visits, messages);
    let folder = sure(tempfile::tempdir());
    let path = folder.path().join("limit.db");
    let db = bare(&path);
    let (queue, jobs) = mpsc::channel::<(i64, i64, Row, oneshot::Sender<()>)>();
    let writer = std::thread::spawn(move || {
        while let Ok(first) = jobs.recv() {
            sure(db.execute_batch("BEGIN IMMEDIATE"));
            let mut told = Vec::new();
            for (run, seq, row, tell) in std::iter::once(first).chain(jobs.try_iter().take(511)) {
                insert(&db, run, seq, &row);
                told.push(tell);
            }
            sure(db.execute_batch("COMMIT"));
            told.into_iter().for_each(|tell| sure(tell.send(())));
        }
        close(db);
    });
    runtime().block_on(async {
        let tasks: Vec<_> = (0..runs as i64)
            .map(|run| {
                let (rows, queue) = (Arc::clone(&rows), queue.clone());
                tokio::spawn(async move {
                    for (seq, row) in rows.iter().take(visits + 1).enumerate() {
                        let (tell, told) = oneshot::channel();
                        sure(queue.send((run, seq as i64, row.clone(), tell)).map_err(|_| "the writer ended"));
                        sure(told.await);
                    }
                })
            })
            .collect();
        for task in tasks {
            sure(task.await);
        }
    });
    drop(queue);
    sure(writer.join().map_err(|_| "the writer panicked"));
    wrote(size(&path));
}

fn close(db: Connection) {
    sure(db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    drop(db);
}

fn size(path: &Path) -> u64 {
    sure(std::fs::metadata(path)).len()
}

/// A flow whose first visit counts itself and never ends, so that a store of such runs stays as it is.
fn waiting(begun: &Arc<AtomicUsize>) -> AsyncFlow<Chat> {
    let begun = Arc::clone(begun);
    let mut flow = AsyncFlow::builder("waiting");
    let wait = flow.add(
        "wait",
        step(
            |_: &Chat| (),
            move |()| {
                begun.fetch_add(1, Ordering::Relaxed);
                async { std::future::pending::<flowstone::Result<()>>().await }
            },
            |_: &mut Chat, (), ()| (),
        ),
    );
    flow.start(wait);
    sure(flow.build())
}

/// A store of n runs that were left before their first visit, made once.
fn left(n: usize) -> Arc<TempDir> {
    static LEFT: std::sync::Mutex<Vec<(usize, Arc<TempDir>)>> = std::sync::Mutex::new(Vec::new());
    let mut known = sure(LEFT.lock());
    if let Some((_, folder)) = known.iter().find(|(size, _)| *size == n) {
        return Arc::clone(folder);
    }
    let folder = Arc::new(sure(tempfile::tempdir()));
    runtime().block_on(async {
        let runs = sure(Runs::open(folder.path().join("left.db"), waiting(&Arc::default())).await);
        let all: Vec<_> = (0..n)
            .map(|run| {
                let runs = runs.clone();
                tokio::spawn(async move { sure(runs.start(format!("run-{run}"), chat(1, 0)).await) })
            })
            .collect();
        for run in all {
            sure(run.await);
        }
        runs.store().close().await;
    });
    known.push((n, Arc::clone(&folder)));
    folder
}

/// Reads n runs back, each to its first visit.
pub(super) fn resume(n: usize) {
    let (folder, begun) = (left(n), Arc::new(AtomicUsize::new(0)));
    runtime().block_on(async {
        let runs = sure(Runs::open(folder.path().join("left.db"), waiting(&begun)).await);
        assert_eq!(sure(runs.resume_all().await).runs.len(), n);
        while begun.load(Ordering::Relaxed) < n {
            tokio::task::yield_now().await;
        }
        done();
        runs.store().close().await;
    });
}

/// Reads the rows of n runs, decodes their states, and starts a task for each.
pub(super) fn resume_limit(n: usize) {
    let (folder, begun) = (left(n), Arc::new(AtomicUsize::new(0)));
    runtime().block_on(async {
        let db = sure(Connection::open(folder.path().join("left.db")));
        let mut select = sure(
            db.prepare("SELECT id, next, size FROM runs JOIN visits USING (run) WHERE status = 0 ORDER BY runs.run"),
        );
        let mut read = sure(select.query([]));
        let state = sure(serde_json::to_vec(&chat(1, 0)));
        while let Some(row) = sure(read.next()) {
            let (id, next): (String, String) = (sure(row.get(0)), sure(row.get(1)));
            let chat: Chat = sure(serde_json::from_slice(&state));
            let begun = Arc::clone(&begun);
            tokio::spawn(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
                drop((id, next, chat));
            });
        }
        while begun.load(Ordering::Relaxed) < n {
            tokio::task::yield_now().await;
        }
        done();
    });
}
