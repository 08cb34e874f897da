//! Starting runs: ids, and what an id that is taken means.

use flowstone_core::{Action, AsyncFlow, RunId};
use flowstone_durable::{AnswerError, ChangeError, Error, Filter, KeepError, ReadError, Runs, StartError, Store};

use crate::common::{Count, Folder, Gate, Invoice, Ledger, approving, counting, gated, rows, soon};

#[tokio::test]
async fn the_same_id_and_flow_give_the_same_run_while_it_is_driven() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();

    let first = runs.start("r", Count::to(1)).await.unwrap();
    let second = runs.start("r", Count::to(2)).await.unwrap();
    gate.open();

    assert_eq!(
        soon("end", first.finished()).await.unwrap().ended().unwrap(),
        soon("end", second.finished()).await.unwrap().ended().unwrap()
    );
    assert_eq!(ledger.count("passed"), 1);
    assert_eq!(runs.list(&Filter::new()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_start_one_run_at_once_one_starts_it() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    let starts = (0..50).map(|_| {
        let runs = runs.clone();
        tokio::spawn(async move {
            runs.start("r", Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap().state
        })
    });
    for start in starts.collect::<Vec<_>>() {
        assert_eq!(start.await.unwrap().n, 3);
    }

    assert_eq!(ledger.len(), 3);
}

#[tokio::test]
async fn another_flow_under_the_id_is_an_error() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let store = Store::open(folder.store()).await.unwrap();
    let counts = store.runs(counting(&ledger)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    counts.start("r", Count::to(1)).await.unwrap();

    let error = approvals.start("r", Invoice::default()).await.unwrap_err();

    assert!(matches!(&error, StartError::OtherFlow { found, wanted, .. } if found == "count" && wanted == "approve"));
    assert_eq!(error.to_string(), "run `r` belongs to flow `count`, not to flow `approve`");
    assert!(matches!(approvals.get("r").await, Err(ReadError::OtherFlow { .. })));
}

#[tokio::test]
async fn an_id_is_neither_empty_nor_long() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    let empty = runs.start("", Count::to(1)).await.unwrap_err();
    let long = runs.start("x".repeat(10 << 20), Count::to(1)).await.unwrap_err();
    let longest = runs.start("é".repeat(512), Count::to(1)).await.unwrap();

    assert!(matches!(empty, StartError::BadId { length: 0, most: 1024, .. }));
    assert!(matches!(long, StartError::BadId { length: 10_485_760, most: 1024, .. }));
    assert_eq!(longest.finished().await.unwrap().ended().unwrap().state.n, 1);
    assert_eq!(rows(&folder.store()), [("runs", 1), ("visits", 2)]);
}

#[tokio::test]
async fn to_ask_for_an_id_of_ten_megabytes_is_an_error_of_one_line() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    runs.start("r", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();

    for error in [
        runs.get("x".repeat(10 << 20)).await.unwrap_err().into(),
        runs.fork("r", 0, "x".repeat(10 << 20), |_| {}).await.unwrap_err(),
    ] {
        assert!(error.to_string().len() < 4096, "a message of {} bytes", error.to_string().len());
    }
}

#[tokio::test]
async fn an_id_may_hold_anything_that_text_may() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    for id in ["a b", "'; DROP TABLE runs; --", "\u{1f980}\n\t", "a:0:batch[1]", "%", "../x"] {
        runs.start(id, Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
        assert_eq!(runs.get(id).await.unwrap().id(), &RunId::from(id));
    }

    assert_eq!(runs.list(&Filter::new()).await.unwrap().len(), 6);
}

#[tokio::test]
async fn an_unknown_run_is_an_error() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();

    let errors = [
        runs.get("r").await.unwrap_err().into(),
        runs.state("r").await.unwrap_err().into(),
        runs.cancel("r").await.unwrap_err().into(),
        runs.retry_failed("r").await.unwrap_err().into(),
        runs.delete("r").await.unwrap_err().into(),
        runs.answer("r", "n", 1).await.unwrap_err().into(),
        runs.fork("r", 0, "s", |_| {}).await.unwrap_err().into(),
    ];

    for error in errors {
        let read = match &error {
            Error::Read(read) | Error::Change(ChangeError::Read(read)) | Error::Answer(AnswerError::Read(read)) => read,
            other => panic!("{other:?}"),
        };
        assert!(matches!(read, ReadError::UnknownRun { run, .. } if run.as_str() == "r"), "{error:?}");
    }
    assert_eq!(rows(&folder.store()), []);
}

#[tokio::test]
async fn a_state_that_is_no_json_is_refused_before_anything_is_written() {
    /// JSON has no keys that are lists.
    type Unwritable = std::collections::BTreeMap<Vec<u8>, u8>;
    let folder = Folder::new();
    let mut flow = AsyncFlow::<Unwritable>::builder("unwritable");
    let node = flow.add("node", |_: &mut Unwritable| Action::from("done"));
    flow.start(node);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();

    let error = runs.start("r", Unwritable::from([(vec![1], 1)])).await.unwrap_err();

    assert!(matches!(error, StartError::Keep(KeepError::Unstorable { .. })), "{error:?}");
    assert_eq!(rows(&folder.store()), []);
}
