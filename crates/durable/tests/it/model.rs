//! Random flows × random kills: a durable run ends as one in memory does, in trace and state.
//!
//! A flow is a graph of nodes over one state. What a node does follows from its number and the state alone, so that a
//! run in memory is the model. A kill is a copy of the store's files at a random moment of its writer: what is resumed
//! is exactly what a process that was killed there would find.

mod flow;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use flowstone_core::{Outcome, RunOptions};
use flowstone_durable::{AnswerError, Durability, Reader, Run, Runs, Status, StoreOptions};
use proptest::prelude::*;

use self::flow::{Deeds, Graph, Tape};
use crate::common::{Folder, soon};

/// The trace of a run: node and action of each visit.
type Trace = Vec<(String, String)>;

/// The end of a run.
#[derive(Debug, PartialEq)]
struct Ended {
    trace: Trace,
    state: Tape,
    /// The last action, or the node that failed.
    how: Result<String, String>,
}

/// Runs it in memory, and answers what it asks.
async fn in_memory(graph: &Graph) -> Ended {
    let (flow, trace) = (graph.build(&Deeds::default()), Arc::new(Mutex::new(Trace::new())));
    let into = Arc::clone(&trace);
    let options = RunOptions::new().id("r").listen(move |event: &flowstone_core::Event| {
        if let (flowstone_core::EventKind::VisitEnded { action }, Some(node)) = (&event.kind, &event.node)
            && !node.as_str().contains('[')
        {
            into.lock().unwrap().push((node.to_string(), action.to_string()));
        }
    });
    let mut state = Tape::default();
    let mut outcome = flow.run_async_with(&mut state, &options).await;
    while let Ok(Outcome::Paused(pause)) = outcome {
        let answer = answer(pause.question());
        outcome = flow.resume_with(&mut state, pause, answer, &options).await;
    }
    let how = match outcome {
        Ok(Outcome::Ended(action)) => Ok(action.to_string()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.node().to_string()),
    };
    let trace = std::mem::take(&mut *trace.lock().unwrap());
    Ended { trace, state, how }
}

/// The answer follows from the question.
fn answer(question: &serde_json::Value) -> u64 {
    question.as_u64().unwrap() * 7 + 1
}

/// Lets a durable run go on to its end, and answers what it asks.
async fn to_its_end(run: &Run<Tape>) -> Ended {
    loop {
        match soon("the run settles", run.settled()).await.unwrap() {
            Status::Paused => {
                let question = run.questions().await.unwrap().pop().unwrap();
                let answered = run.answer_question(&question, answer(&question.question)).await;
                assert!(matches!(answered, Ok(()) | Err(AnswerError::AlreadyAnswered { .. })), "{answered:?}");
            }
            Status::Sleeping => panic!("nothing sleeps for long"),
            _ => break,
        }
    }
    let info = run.info().await.unwrap();
    let steps = run.steps(1, usize::MAX).await.unwrap();
    let trace = steps.into_iter().map(|step| (step.node.unwrap().to_string(), step.action.unwrap().to_string()));
    let how = match info.error {
        Some(failure) => Err(failure.node.to_string()),
        None => Ok(info.action.unwrap().to_string()),
    };
    Ended { trace: trace.collect(), state: run.state().await.unwrap(), how }
}

/// Copies the store's files at a moment of its writer, counted over all its moments.
struct Crash {
    from: PathBuf,
    to: PathBuf,
    at: usize,
    moments: AtomicUsize,
}

impl Crash {
    fn moment(&self) {
        if self.moments.fetch_add(1, Ordering::Relaxed) == self.at {
            copy(&self.from, &self.to);
        }
    }
}

/// The files as a killed process leaves them. The index of the log is not copied: a crash of the system loses it, too.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    if log(from).exists() {
        std::fs::copy(log(from), log(to)).unwrap();
    }
}

/// Drives the run in a store, from its start if it has none yet, and takes an image at a moment.
async fn drive(graph: &Graph, path: &Path, crash: Option<Arc<Crash>>, behind: usize) -> (Ended, Vec<String>) {
    let deeds = Deeds::default();
    let mut options = StoreOptions::new().full_every(3);
    if behind > 0 {
        options = options.durability(Durability::Behind(behind));
    }
    if let Some(crash) = crash {
        options = options.on_write(move |_| crash.moment());
    }
    let store = options.open(path).await.unwrap();
    let runs: Runs<Tape> = store.runs(graph.build(&deeds)).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();
    assert!(resumed.refused.is_empty(), "{resumed:?}");
    let run = runs.start("r", Tape::default()).await.unwrap();
    let ended = to_its_end(&run).await;
    store.close().await;
    (ended, deeds.take())
}

/// The visits and items that an image has, as deeds: none of them may be done again.
fn committed(path: &Path) -> Vec<String> {
    // Read from a copy, since to read a log makes an index of it.
    let look = path.with_extension("look");
    copy(path, &look);
    let Ok(reader) = Reader::open(&look) else { return Vec::new() };
    let Ok(steps) = reader.steps("r", 1, usize::MAX) else { return Vec::new() };
    let mut deeds: Vec<_> =
        steps.iter().map(|step| format!("{} {}", step.step - 1, step.node.as_ref().unwrap())).collect();
    drop(reader);
    let db = rusqlite::Connection::open(&look).unwrap();
    let mut items = db.prepare("SELECT seq - 1, item FROM items WHERE output IS NOT NULL").unwrap();
    let items = items.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap();
    deeds.extend(items.map(|item| item.map(|(visit, item)| format!("{visit} item {item}")).unwrap()));
    deeds
}

async fn check(graph: &Graph, kills: &[usize], behind: usize) {
    let wanted = in_memory(graph).await;
    let folder = Folder::new();
    let mut path = folder.store();
    let never = Arc::new(Crash { from: path.clone(), to: path.clone(), at: usize::MAX, moments: AtomicUsize::new(0) });
    assert_eq!(drive(graph, &folder.file("whole.db"), Some(Arc::clone(&never)), behind).await.0, wanted);
    let moments = never.moments.load(Ordering::Relaxed);
    for (nth, kill) in kills.iter().enumerate() {
        let to = folder.file(&format!("killed-{nth}.db"));
        // Later runs have less to do.
        let at = kill * moments / 1000 / (nth + 1);
        let crash = Arc::new(Crash { from: path.clone(), to: to.clone(), at, moments: AtomicUsize::new(0) });
        let (ended, _) = drive(graph, &path, Some(crash), behind).await;
        assert_eq!(ended, wanted, "kill {nth}, before it");
        if !to.exists() {
            continue;
        }
        path = to;
    }
    let before = committed(&path);
    let (ended, done) = drive(graph, &path, None, behind).await;

    assert_eq!(ended, wanted, "after the kills");
    for deed in before {
        assert!(!done.contains(&deed), "`{deed}` was committed, and is done again: {done:?}");
    }
    let db = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// As many cases as `PROPTEST_CASES` says, or few.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { ProptestConfig { cases: 60, ..config } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_durable_run_that_is_killed_anywhere_ends_as_one_in_memory(
        graph in flow::graphs(),
        kills in prop::collection::vec(0_usize..1000, 1..4),
        behind in 0_usize..3,
    ) {
        block_on(check(&graph, &kills, behind));
    }
}
