//! Runs of flows that are not registered, and flows that have another name now.

use flowstone_core::{AsyncFlow, Sleep};
use flowstone_durable::{
    AnswerError, ChangeError, DriveError, Filter, FlowOptions, Prune, ReadError, Reader, Requests, Runs, StartError,
    Status, Store, WrongStatus,
};

use crate::common::{Count, Folder, Gate, Invoice, Ledger, approving, counting, gated, rows, soon, until};

/// Leaves runs that are at an end, parked and under way, of flows that the next program does not have.
async fn leave(folder: &Folder) {
    let (ledger, gate) = (Ledger::default(), Gate::closed());
    let store = Store::open(folder.store()).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    for id in ["paused", "ended"] {
        approvals.start(id, Invoice::default()).await.unwrap().settled().await.unwrap();
    }
    approvals.answer("ended", "ask", false).await.unwrap();
    approvals.get("ended").await.unwrap().finished().await.unwrap().ended().unwrap();
    let gates = store.runs(gated(&ledger, &gate)).await.unwrap();
    for id in ["running", "also running"] {
        gates.start(id, Count::to(2)).await.unwrap();
    }
    until("the node", async || ledger.count("waits") == 2).await;
    store.close().await;
}

#[tokio::test]
async fn runs_of_a_flow_that_is_not_registered_are_counted_cancelled_and_deleted() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    leave(&folder).await;
    let store = Store::open(folder.store()).await.unwrap();
    store.runs(counting(&ledger)).await.unwrap();

    let resumed = store.resume_all().await.unwrap();
    let waiting: Vec<_> = resumed.unregistered.iter().map(|flow| (flow.flow.as_str(), flow.runs)).collect();
    assert_eq!(waiting, [("approve", 1), ("gated", 2)]);
    assert!(resumed.runs.is_empty() && resumed.refused.is_empty());

    assert_eq!(store.info("running").await.unwrap().status, Status::Running);
    assert!(matches!(store.delete("running").await, Err(ChangeError::WrongStatus(WrongStatus { .. }))));
    for id in ["running", "paused"] {
        store.cancel(id).await.unwrap();
        assert_eq!(store.info(id).await.unwrap().status, Status::Cancelled);
        store.delete(id).await.unwrap();
        assert!(matches!(store.info(id).await, Err(ReadError::UnknownRun { .. })));
    }
    assert!(matches!(store.retry_failed("running").await, Err(ChangeError::Read(ReadError::UnknownRun { .. }))));
    store.cancel("also running").await.unwrap();
    assert!(matches!(
        store.retry_failed("also running").await,
        Err(ChangeError::Drive(DriveError::UnknownFlow { .. }))
    ));
    assert!(store.info("also running").await.unwrap().refused.is_some_and(|why| why.contains("`gated`")));
    assert_eq!(store.prune(&Prune::new()).await.unwrap().runs, 2);
    assert_eq!(rows(&folder.store()), []);
}

#[tokio::test]
async fn runs_of_a_flow_that_is_not_registered_are_cancelled_and_deleted_from_beside() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    leave(&folder).await;
    let store = Store::open(folder.store()).await.unwrap();
    store.runs(counting(&ledger)).await.unwrap();
    let mut requests = Requests::open(folder.store()).unwrap();
    let status = |id: &str| Reader::open(folder.store()).unwrap().run(id).unwrap().status;

    for id in ["running", "paused"] {
        requests.cancel(id).unwrap();
        until("it is cancelled", async || status(id) == Status::Cancelled).await;
        requests.delete(id).unwrap();
    }

    assert!(requests.reader().run("running").is_err());
    // The request is done, and does not stay.
    let inbox = async || !rows(&folder.store()).iter().any(|(table, _)| *table == "inbox");
    until("the inbox is empty", inbox).await;
    assert_eq!(requests.prune(&Prune::new().flow("approve")).unwrap().runs, 1);
}

#[tokio::test]
async fn an_answer_to_a_run_of_a_flow_that_is_not_registered_waits_for_it() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    leave(&folder).await;
    let store = Store::open(folder.store()).await.unwrap();
    let refused = store.answer("paused", "ask", true).await.unwrap_err();
    assert!(
        matches!(&refused, AnswerError::Drive(DriveError::UnknownFlow { flow, .. }) if flow == "approve"),
        "{refused:?}"
    );
    let mut requests = Requests::open(folder.store()).unwrap();
    requests.answer("paused", "ask", true).unwrap();
    store.resume_all().await.unwrap();

    let approvals = store.runs(approving(&ledger)).await.unwrap();

    let run = approvals.get("paused").await.unwrap();
    assert!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.posted);
}

/// Sleeps, or stands at a gate, under a name.
fn named(name: &str, ledger: &Ledger, gate: Option<&Gate>) -> AsyncFlow<Count> {
    let mut flow = AsyncFlow::builder(name);
    let add = |count: &mut Count| count.n += 1;
    match gate {
        None => {
            let (sleep, add) = (flow.add("sleep", Sleep::new(std::time::Duration::from_secs(3))), flow.add("add", add));
            flow.start(sleep);
            flow.route(sleep >> add);
        }
        Some(gate) => {
            let inner = flow.add("in", gated(ledger, gate));
            flow.start(inner);
        }
    }
    flow.build().unwrap()
}

#[tokio::test]
async fn a_flow_that_was_renamed_finds_its_runs_and_the_older_program_takes_back_what_has_not_gone_on() {
    let (folder, ledger, shut) = (Folder::new(), Ledger::default(), Gate::closed());
    let renamed = || FlowOptions::new().renamed_from("older").renamed_from("old");
    let flow_of = |id: &str| Reader::open(folder.store()).unwrap().run(id).unwrap().flow;
    let runs = Runs::open(folder.store(), named("old", &ledger, Some(&shut))).await.unwrap();
    runs.start("r", Count::default()).await.unwrap();
    until("the node", async || ledger.count("waits") == 1).await;
    runs.store().close().await;

    // It goes on, but makes no step: it is still that of the old name.
    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(named("new", &ledger, Some(&shut)), renamed()).await.unwrap();
    let resumed = runs.resume_all().await.unwrap();
    assert_eq!((resumed.runs.len(), resumed.refused.len(), resumed.unregistered.len()), (1, 0, 0));
    until("the node", async || ledger.count("waits") == 2).await;
    assert_eq!(runs.get("r").await.unwrap().id().as_str(), "r");
    assert_eq!(runs.list(&Filter::new()).await.unwrap().len(), 1);
    assert_eq!(runs.start("r", Count::default()).await.unwrap().info().await.unwrap().step, 1);
    assert!(store.resume_all().await.unwrap().unregistered.is_empty());
    store.close().await;
    assert_eq!(flow_of("r"), "old");

    let runs = Runs::open(folder.store(), named("old", &ledger, Some(&shut))).await.unwrap();
    assert_eq!(runs.resume_all().await.unwrap().runs, ["r"]);
    until("the node", async || ledger.count("waits") == 3).await;
    runs.store().close().await;

    let store = Store::open(folder.store()).await.unwrap();
    shut.open();
    let runs = store.runs_with(named("new", &ledger, Some(&shut)), renamed()).await.unwrap();
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 2);
    assert_eq!(flow_of("r"), "new");
    assert_eq!(runs.prune(&Prune::new()).await.unwrap().runs, 1);
}

#[tokio::test]
async fn an_id_that_a_run_has_is_taken_whatever_its_flow_is_called() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), named("old", &ledger, None)).await.unwrap();
    for id in ["r", "s"] {
        runs.start(id, Count::default()).await.unwrap().settled().await.unwrap();
    }
    runs.store().close().await;

    let store = Store::open(folder.store()).await.unwrap();
    let runs = store.runs_with(named("new", &ledger, None), FlowOptions::new().renamed_from("old")).await.unwrap();
    store.runs(counting(&ledger)).await.unwrap().start("of another", Count::default()).await.unwrap();

    for id in ["s", "of another"] {
        let here = runs.fork("r", 0, id, |_| ()).await.unwrap_err();
        assert!(matches!(&here, ChangeError::Start(StartError::Taken { run, .. }) if run.as_str() == id), "{here:?}");
        let beside = Requests::open(folder.store()).unwrap().fork("r", 0, id, |_| ()).unwrap_err();
        assert!(
            matches!(&beside, ChangeError::Start(StartError::Taken { run, .. }) if run.as_str() == id),
            "{beside:?}"
        );
    }
}

#[tokio::test]
async fn sleepers_and_forks_of_a_flow_that_was_renamed_go_on() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), named("old", &ledger, None)).await.unwrap();
    assert_eq!(runs.start("r", Count::default()).await.unwrap().settled().await.unwrap(), Status::Sleeping);
    runs.store().close().await;

    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    let store = flowstone_durable::StoreOptions::new().clock(move || later).open(folder.store()).await.unwrap();
    let runs = store.runs_with(named("new", &ledger, None), FlowOptions::new().renamed_from("old")).await.unwrap();

    assert_eq!(soon("it wakes", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap().state.n, 1);
    let fork = runs.fork("r", 0, "fork", |_| ()).await.unwrap();
    assert_eq!(fork.info().await.unwrap().flow, "new");
    // Another flow of the old name has its own runs.
    let own = store.runs(named("old", &ledger, None)).await.unwrap();
    own.start("own", Count::default()).await.unwrap();
    assert!(matches!(runs.get("own").await, Err(ReadError::OtherFlow { .. })));
    assert_eq!(own.list(&Filter::new()).await.unwrap().len(), 1);
}
