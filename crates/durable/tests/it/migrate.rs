//! Changed flows: states of older versions are migrated, nodes that are called otherwise are found.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use flowstone_core::{Action, Ask, AsyncFlow, Result};
use flowstone_durable::{FlowOptions, Reader, Requests, Runs, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::{Folder, Gate, Ledger, soon, until, work};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Old {
    name: String,
    n: u64,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct New {
    names: Vec<String>,
    n: u64,
}

fn old(ledger: &Ledger) -> AsyncFlow<Old> {
    let (ledger, gate) = (ledger.clone(), Gate::closed());
    let mut flow = AsyncFlow::builder("greet");
    let count = flow.add("count", |old: &mut Old| old.n += 1);
    let stays = work(
        move |_| {
            let (ledger, gate) = (ledger.clone(), gate.clone());
            async move {
                ledger.add("stays");
                gate.pass().await;
                Ok(0)
            }
        },
        |_: &mut Old, _| Action::from(""),
    );
    let stays = flow.add("say", stays);
    flow.start(count);
    flow.route(count >> stays);
    flow.build().unwrap()
}

/// The node `say` is called `greet`, and waits at the gate; then there is one more.
fn new(gate: &Gate) -> AsyncFlow<New> {
    let gate = gate.clone();
    let mut flow = AsyncFlow::builder("greet");
    let greet = work(
        move |_| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(10)
            }
        },
        |new: &mut New, ten| {
            new.n += ten;
            Action::from("")
        },
    );
    let first = flow.add("greet", |new: &mut New| new.n += 100);
    let greet = flow.add("then", greet);
    flow.start(first);
    flow.route(first >> greet);
    flow.build().unwrap()
}

fn options(ledger: &Ledger) -> FlowOptions {
    let ledger = ledger.clone();
    let migrate = move |version: u32, mut state: Value| {
        ledger.add(format!("from {version}"));
        state["names"] = json!([state["name"].take()]);
        state.as_object_mut().unwrap().remove("name");
        Ok(state)
    };
    FlowOptions::new().version(1, migrate).rename("say", "greet")
}

async fn leave(folder: &Folder) {
    let ledger = Ledger::default();
    let runs = Runs::open(folder.store(), old(&ledger)).await.unwrap();
    runs.start("r", Old { name: "Ada".into(), n: 0 }).await.unwrap();
    until("the node", async || ledger.len() > 0).await;
    runs.store().close().await;
}

fn versions(folder: &Folder) -> Vec<(i64, Option<i64>)> {
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    let mut select = db.prepare("SELECT seq, version FROM visits ORDER BY seq").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

#[tokio::test]
async fn a_run_of_an_older_version_is_migrated_and_its_node_renamed() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    leave(&folder).await;
    gate.open();

    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(new(&gate), options(&ledger)).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();

    assert!(resumed.refused.is_empty());
    assert_eq!(ended.state, New { names: vec!["Ada".into()], n: 111 });
    assert_eq!(ledger.take(), ["from 0"]);
    // The first state of the new version is a whole one, that says which version it has.
    assert_eq!(versions(&folder)[..3], [(0, Some(0)), (1, None), (2, Some(1))]);
    assert_eq!(run.steps(2, 1).await.unwrap()[0].node.as_ref().unwrap(), "greet");
}

#[tokio::test]
async fn states_of_older_versions_stay_readable() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    leave(&folder).await;
    gate.open();
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(new(&gate), options(&ledger)).await.unwrap();
    runs.resume_all().await.unwrap();
    runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap();

    let reader = Reader::open(folder.store()).unwrap();

    assert_eq!(reader.state("r", Some(0)).unwrap(), json!({ "name": "Ada", "n": 0 }));
    assert_eq!(reader.state("r", Some(1)).unwrap(), json!({ "name": "Ada", "n": 1 }));
    assert_eq!(reader.state("r", Some(2)).unwrap(), json!({ "names": ["Ada"], "n": 101 }));
    assert_eq!(reader.state("r", None).unwrap(), json!({ "names": ["Ada"], "n": 111 }));
    assert!(reader.diff("r", 1, 2).unwrap().as_array().unwrap().len() >= 2);
}

#[tokio::test]
async fn a_run_that_was_migrated_is_not_migrated_again() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    leave(&folder).await;

    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(new(&gate), options(&ledger)).await.unwrap();
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    until("the step", async || run.info().await.unwrap().step == 2).await;
    store.close().await;
    gate.open();
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(new(&gate), options(&ledger)).await.unwrap();
    runs.resume_all().await.unwrap();

    assert_eq!(runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap().state.n, 111);
    assert_eq!(ledger.take(), ["from 0"]);
}

#[tokio::test]
async fn a_stop_between_migration_and_first_commit_migrates_again() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    leave(&folder).await;
    gate.open();

    for _ in 0..3 {
        // Its run goes on in a node that waits, so that nothing is committed.
        let (shut, migrated) = (Gate::closed(), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&migrated);
        let to_other = FlowOptions::new().version(1, move |_, mut state: Value| {
            seen.store(true, Ordering::Relaxed);
            state["names"] = json!([]);
            Ok(state)
        });
        let store = Store::open(folder.store()).await.unwrap();
        let runs = store.runs_with(new(&shut), to_other.rename("say", "then")).await.unwrap();
        runs.resume_all().await.unwrap();
        until("it is migrated", async || migrated.load(Ordering::Relaxed)).await;
        store.close().await;
    }
    assert_eq!(versions(&folder), [(0, Some(0)), (1, None)]);

    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(new(&gate), options(&ledger)).await.unwrap();
    runs.resume_all().await.unwrap();
    let ended = runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap();
    assert_eq!(ended.state, New { names: vec!["Ada".into()], n: 111 });
}

#[tokio::test]
async fn a_fork_of_a_step_of_an_older_version_is_migrated() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    leave(&folder).await;
    gate.open();
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(new(&gate), options(&ledger)).await.unwrap();
    runs.resume_all().await.unwrap();
    runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap();

    let fork = runs.fork("r", 1, "s", |state| state["names"][0] = "Grace".into()).await.unwrap();

    assert_eq!(fork.finished().await.unwrap().ended().unwrap().state, New { names: vec!["Grace".into()], n: 111 });
}

struct Which;

impl Ask<u64> for Which {
    type Question = &'static str;
    type Answer = u64;
    type Action = ();

    fn ask(&self, _: &u64) -> Result<&'static str> {
        Ok("which?")
    }

    fn post(&self, state: &mut u64, answer: u64) -> Result<()> {
        *state = answer;
        Ok(())
    }
}

fn asking(node: &str) -> AsyncFlow<u64> {
    let mut flow = AsyncFlow::builder("ask");
    let which = flow.add(node, Which);
    flow.start(which);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_question_of_a_node_that_was_renamed_is_answered() {
    let folder = Folder::new();
    for (id, direct) in [("direct", true), ("beside", false)] {
        let runs = Runs::open(folder.store(), asking("old")).await.unwrap();
        runs.start(id, 0).await.unwrap().settled().await.unwrap();
        runs.store().close().await;

        let store = Store::open(folder.store()).await.unwrap();
        let runs = store.runs_with(asking("new"), FlowOptions::new().rename("old", "new")).await.unwrap();
        let run = runs.get(id).await.unwrap();
        let node = run.questions().await.unwrap()[0].node.clone();
        if direct {
            run.answer(node, 7).await.unwrap();
        } else {
            let path = folder.store();
            let answered = move || Requests::open(path).unwrap().answer(id, node, serde_json::json!(7)).unwrap();
            tokio::task::spawn_blocking(answered).await.unwrap();
        }

        assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 7);
        store.close().await;
    }
}

#[tokio::test]
async fn a_question_is_answered_under_all_names_that_its_node_had_and_has() {
    let folder = Folder::new();
    for (n, name) in ["old", "middle", "new"].into_iter().enumerate() {
        for beside in [false, true] {
            let id = format!("{name} {beside}");
            let runs = Runs::open(folder.store(), asking("old")).await.unwrap();
            runs.start(&*id, 0).await.unwrap().settled().await.unwrap();
            runs.store().close().await;

            let store = Store::open(folder.store()).await.unwrap();
            let options = FlowOptions::new().rename("old", "middle").rename("middle", "new");
            let runs = store.runs_with(asking("new"), options).await.unwrap();
            let run = runs.get(&*id).await.unwrap();
            if beside {
                let mut requests = Requests::open(folder.store()).unwrap();
                assert!(requests.answer(&*id, "other", json!(n)).is_err());
                requests.answer(&*id, name, json!(n)).unwrap();
            } else {
                assert!(run.answer("other", n).await.is_err());
                run.answer(name, n).await.unwrap();
            }

            assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, n as u64);
            store.close().await;
        }
    }
}

#[tokio::test]
async fn what_is_read_as_its_type_is_migrated_and_what_is_read_as_json_is_not() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let finishing = |ledger: &Ledger| {
        let ledger = ledger.clone();
        let mut flow = AsyncFlow::builder("greet");
        let count = flow.add("count", move |old: &mut Old| {
            ledger.add("count");
            old.n += 1;
        });
        flow.start(count);
        flow.build().unwrap()
    };
    let runs = Runs::open(folder.store(), finishing(&ledger)).await.unwrap();
    runs.start("r", Old { name: "Ada".into(), n: 0 }).await.unwrap().finished().await.unwrap().ended().unwrap();
    runs.store().close().await;

    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(new(&gate), options(&ledger)).await.unwrap();
    let run = runs.get("r").await.unwrap();

    let wanted = || New { names: vec!["Ada".into()], n: 1 };
    assert_eq!(run.finished().await.unwrap().ended().unwrap().state, wanted());
    assert_eq!((run.state().await.unwrap(), runs.state("r").await.unwrap()), (wanted(), wanted()));
    assert_eq!(
        runs.start("r", New::default()).await.unwrap().finished().await.unwrap().ended().unwrap().state,
        wanted()
    );
    assert_eq!(run.state_at(1).await.unwrap(), json!({ "name": "Ada", "n": 1 }));
    let diff = run.diff(0, 1).await.unwrap();
    assert_eq!(diff, json!([{ "op": "replace", "path": "/n", "value": 1 }]));
    // A migrate that fails is a typed error here, too.
    let failing = FlowOptions::new().version(2, |_, _| Err("no way".into()));
    let runs = store.runs_with(new(&gate), failing).await.unwrap();
    let error = runs.get("r").await.unwrap().finished().await.unwrap_err();
    assert!(
        matches!(
            error,
            flowstone_durable::DriveError::Read(flowstone_durable::ReadError::Migrate { found: 0, wanted: 2, .. })
        ),
        "{error:?}"
    );
}
