//! Several flows in one store, and going on with what an earlier process left.

use flowstone_core::AsyncFlow;
use flowstone_durable::{DriveError, FlowOptions, ReadError, Reader, Runs, Status, Store};
use serde::{Deserialize, Serialize};

use crate::common::{Count, Folder, Gate, Invoice, Ledger, approving, counting, gated, soon};

#[tokio::test]
async fn runs_of_several_flows_live_in_one_store() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let counts = store.runs(counting(&ledger)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();

    let count = counts.start("a", Count::to(2)).await.unwrap();
    let approval = approvals.start("b", Invoice::default()).await.unwrap();
    approval.settled().await.unwrap();
    approval.answer("ask", true).await.unwrap();

    assert_eq!(count.finished().await.unwrap().ended().unwrap().state.n, 2);
    assert!(approval.finished().await.unwrap().ended().unwrap().state.posted);
    let flows = Reader::open(folder.store()).unwrap().flows().unwrap();
    assert_eq!(flows.iter().map(|flow| flow.name.as_str()).collect::<Vec<_>>(), ["count", "approve"]);
    assert!(flows[0].mermaid.starts_with("flowchart") && flows[0].dot.starts_with("digraph"));
}

#[tokio::test]
async fn resume_all_goes_on_with_the_runs_of_all_registered_flows() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let store = Store::open(folder.store()).await.unwrap();
    let gates = store.runs(gated(&ledger, &gate)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    for id in ["a", "b"] {
        gates.start(id, Count::to(2)).await.unwrap();
    }
    approvals.start("c", Invoice::default()).await.unwrap().settled().await.unwrap();
    store.close().await;

    gate.open();
    let store = Store::open(folder.store()).await.unwrap();
    let gates = store.runs(gated(&ledger, &gate)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    let resumed = store.resume_all().await.unwrap();

    // A run that is parked is not gone on with: it waits for its answer.
    assert_eq!(resumed.runs.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(resumed.refused.is_empty());
    for id in ["a", "b"] {
        assert_eq!(gates.get(id).await.unwrap().finished().await.unwrap().ended().unwrap().state.n, 2);
    }
    assert_eq!(approvals.get("c").await.unwrap().info().await.unwrap().status, Status::Paused);
    assert!(store.resume_all().await.unwrap().runs.is_empty());
}

#[tokio::test]
async fn runs_of_a_flow_that_is_not_registered_stay_as_they_are() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    runs.start("r", Count::to(2)).await.unwrap();
    runs.store().close().await;

    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let resumed = runs.store().resume_all().await.unwrap();

    assert!(resumed.runs.is_empty());
    let info = Reader::open(folder.store()).unwrap().run("r").unwrap();
    assert_eq!(info.status, Status::Running);
    assert!(matches!(runs.get("r").await, Err(ReadError::OtherFlow { .. })));
}

#[tokio::test]
async fn a_run_whose_node_is_gone_is_refused_and_stays() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    crate::common::until("the node", async || ledger.len() > 0).await;
    assert_eq!(run.info().await.unwrap().step, 1);
    runs.store().close().await;

    let mut flow = AsyncFlow::builder("gated");
    let other = flow.add("other", |count: &mut Count| count.n += 1);
    flow.start(other);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();

    assert!(resumed.runs.is_empty());
    let [error @ DriveError::Restore { run, step: 1, .. }] = &resumed.refused[..] else { panic!("{resumed:?}") };
    assert_eq!(run.as_str(), "r");
    let cause = std::error::Error::source(error).unwrap().to_string();
    assert!(cause.contains("`gated`") && cause.contains("no node `wait`") && cause.contains("other"), "{cause}");
    assert_eq!(runs.get("r").await.unwrap().info().await.unwrap().status, Status::Running);
    runs.store().close().await;

    // Under the flow as it was, it goes on.
    gate.open();
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    assert_eq!(runs.resume_all().await.unwrap().runs.len(), 1);
    assert_eq!(runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap().state.n, 2);
}

/// As `Count`, but that `of` is now a list of names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Named {
    n: u32,
    of: Vec<Name>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Name {
    name: String,
}

fn gated_names() -> AsyncFlow<Named> {
    let mut flow = AsyncFlow::builder("gated");
    let wait = flow.add("wait", |named: &mut Named| named.n += 1);
    flow.start(wait);
    flow.build().unwrap()
}

/// Leaves a run at the node `wait`, of a flow over `Count`.
async fn leave(folder: &Folder) {
    let (ledger, gate) = (Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    runs.start("r", Count::to(2)).await.unwrap();
    crate::common::until("the node", async || ledger.len() > 0).await;
    runs.store().close().await;
}

#[tokio::test]
async fn a_run_whose_state_does_not_decode_is_refused_with_the_place_in_the_json() {
    let folder = Folder::new();
    leave(&folder).await;

    let runs = Runs::open(folder.store(), gated_names()).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();
    let state = runs.state("r").await.unwrap_err();

    let [error @ DriveError::Restore { .. }] = &resumed.refused[..] else { panic!("{resumed:?}") };
    let why = "(`FlowOptions::version` migrates states, `FlowOptions::rename` names nodes that have moved)";
    assert_eq!(error.to_string(), format!("run `r` cannot go on from step 1 {why}"));
    let cause = std::error::Error::source(error).unwrap();
    assert_eq!(cause.to_string(), "the state of flow `gated` does not decode at `of`");
    assert!(matches!(&state, ReadError::Decode { path, .. } if path == "of"), "{state:?}");
    // Asking one by one tells the same, and changes nothing.
    let run = runs.get("r").await.unwrap();
    run.resume();
    assert!(matches!(soon("the refusal", run.finished()).await, Err(DriveError::Restore { .. })));
    assert_eq!(run.info().await.unwrap().status, Status::Running);
    assert_eq!(run.state_at(1).await.unwrap(), serde_json::json!({ "n": 1, "of": 2 }));
}

#[tokio::test]
async fn a_run_of_an_older_version_without_migrate_is_refused() {
    let folder = Folder::new();
    leave(&folder).await;

    let store = Store::open(folder.store()).await.unwrap();
    let failing = FlowOptions::new().version(3, |version, _| Err(format!("no way from {version}").into()));
    let runs = store.runs_with(gated_names(), failing).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();

    let [error @ DriveError::Read(ReadError::Migrate { found: 0, wanted: 3, .. })] = &resumed.refused[..] else {
        panic!("{resumed:?}")
    };
    assert_eq!(std::error::Error::source(error).unwrap().to_string(), "no way from 0");
}

#[tokio::test]
async fn the_fingerprint_is_that_of_the_flow_with_which_a_run_last_went_on() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    leave(&folder).await;
    let reader = Reader::open(folder.store()).unwrap();
    let before = reader.run("r").unwrap().fingerprint;

    let mut flow = AsyncFlow::builder("gated");
    let wait = flow.add("wait", |count: &mut Count| count.n += 10);
    let more = flow.add("more", |count: &mut Count| count.n += 100);
    flow.start(wait);
    flow.route(wait >> more);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    runs.resume_all().await.unwrap();
    let ended = runs.get("r").await.unwrap().finished().await.unwrap().ended().unwrap();
    let after = reader.run("r").unwrap().fingerprint;
    runs.store().close().await;

    assert_eq!(ended.state.n, 111);
    assert_ne!(before, after);
    let flows = reader.flows().unwrap();
    assert_eq!(flows.iter().map(|flow| &flow.fingerprint).collect::<Vec<_>>(), [&before, &after]);
    // The same flow, built again, is the same version.
    drop(Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap());
    assert_eq!(reader.flows().unwrap().len(), 2);
}

/// A package in the build may ask serde_json to keep the order of keys: the version of a flow does not depend on it.
#[tokio::test]
async fn a_flow_has_the_same_fingerprint_in_every_build() {
    let folder = Folder::new();
    let mut flow = AsyncFlow::builder("pinned");
    let first = flow.add("first", |count: &mut Count| count.n += 1);
    let second = flow.add("second", |count: &mut Count| count.n += 1);
    flow.start(first);
    flow.route(first >> second);

    drop(Runs::open(folder.store(), flow.build().unwrap()).await.unwrap());

    let flows = Reader::open(folder.store()).unwrap().flows().unwrap();
    assert_eq!(flows[0].fingerprint, "b0eacd60859b4272");
}
