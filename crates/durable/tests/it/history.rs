//! History: every step with what happened in it, the state at any of them, and forks from them.

use std::time::{Duration, SystemTime};

use flowstone_core::{Action, AsyncFlow, NodeExt, NodePath, Retry};
use flowstone_durable::{
    ChangeError, KeepError, ReadError, Reader, Requests, Run, Runs, StartError, Status, StoreOptions,
};
use serde_json::{Value, json};

use crate::common::{
    Count, Folder, Invoice, Ledger, Numbers, approving, counting, doubling, failure, numbers, soon, work,
};

#[tokio::test]
async fn a_step_has_node_action_attempts_times_and_sizes() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let before = SystemTime::now() - Duration::from_millis(1);
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    let steps = run.steps(0, 100).await.unwrap();

    let told = steps
        .iter()
        .map(|step| (step.step, step.node.as_ref().map(NodePath::as_str), step.action.as_ref().map(Action::as_str)));
    let told: Vec<_> = told.collect();
    assert_eq!(told, [(0, None, None), (1, Some("add"), Some("again")), (2, Some("add"), Some("done"))]);
    assert_eq!(
        steps.iter().map(|step| step.next.as_ref().map(NodePath::as_str)).collect::<Vec<_>>(),
        [Some("add"), Some("add"), None]
    );
    assert_eq!(steps.iter().map(|step| step.attempts).collect::<Vec<_>>(), [0, 1, 1]);
    assert!(steps.iter().all(|step| step.state_size == r#"{"n":0,"of":2}"#.len() as u64));
    assert!(steps.iter().all(|step| step.stored_size > 0 && step.stored_size < 30), "{steps:?}");
    assert!(steps.iter().all(|step| step.started_at > before && step.started_at <= SystemTime::now()));
    assert!(steps.iter().all(|step| step.took < Duration::from_secs(60) && step.items.is_none()));
    assert_eq!(run.steps(1, 1).await.unwrap(), steps[1..2]);
    assert!(run.steps(3, 100).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_step_keeps_the_errors_of_attempts_that_were_retried() {
    let folder = Folder::new();
    let mut flow = AsyncFlow::builder("retried");
    let node = work(
        |cx| async move { if cx.attempt() < 2 { Err(failure(&format!("no {}", cx.attempt()))) } else { Ok(0) } },
        |_: &mut u8, _| Action::from(""),
    );
    let node = flow.add("node", node.retry(Retry::attempts(3).fixed(Duration::from_millis(3))));
    flow.start(node);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("r", 0).await.unwrap();
    soon("the end", run.finished()).await.unwrap().ended().unwrap();

    let step = run.steps(1, 1).await.unwrap().remove(0);

    assert_eq!(step.attempts, 3);
    let retries: Vec<_> = step.retries.iter().map(|retry| (retry.item, retry.attempt, retry.error.as_str())).collect();
    assert_eq!(retries, [(None, 0, "no 0"), (None, 1, "no 1")]);
    assert_eq!(step.retries[0].wait, Duration::from_millis(3));
    assert!(step.took >= Duration::from_millis(6));
}

#[tokio::test]
async fn a_step_of_a_journaled_batch_counts_its_items_and_attempts() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), doubling(&ledger, usize::MAX)).await.unwrap();
    let run = runs.start("r", numbers(30)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    let step = run.steps(1, 1).await.unwrap().remove(0);

    let items = step.items.unwrap();
    assert_eq!((items.recorded, items.recalled, step.attempts), (30, 0, 30));
}

/// A state that grows, shrinks, and stays as it is, in fifty visits; its first number counts them.
fn growing() -> AsyncFlow<Numbers> {
    let mut flow = AsyncFlow::builder("grow");
    let grow = flow.add("grow", |state: &mut Numbers| {
        state.numbers[0] += 1;
        let n = state.numbers[0];
        match n % 5 {
            0 | 1 => state.numbers.push(n * n * 1_000_003),
            2 => state.doubled.extend(0..n),
            3 => drop(state.doubled.pop()),
            _ => state.numbers.insert(1, n),
        }
        if n % 11 == 3 {
            state.doubled.clear();
        }
        Action::from(if n < 50 { "again" } else { "done" })
    });
    flow.start(grow);
    flow.route(grow - "again" >> grow);
    flow.route(grow - "done" >> flowstone_core::END);
    flow.build().unwrap()
}

#[tokio::test]
async fn the_state_at_every_step_is_what_a_run_in_memory_had() {
    // In memory, one visit at a time.
    let flow = growing();
    let mut running = flow.execution(numbers(1), &flowstone_core::RunOptions::new());
    let mut states: Vec<Value> = vec![serde_json::to_value(running.state()).unwrap()];
    loop {
        let visit = flowstone_core::driver::Execution::visit(&mut running).await.unwrap();
        states.push(serde_json::to_value(running.state()).unwrap());
        if matches!(visit, flowstone_core::driver::Visit::End { .. }) {
            break;
        }
    }
    assert!(states.len() > 40);

    for full_every in [0, 1, 7, 1000] {
        let folder = Folder::new();
        let store = StoreOptions::new().full_every(full_every).open(folder.store()).await.unwrap();
        let run = store.runs(growing()).await.unwrap().start("r", numbers(1)).await.unwrap();
        soon("the end", run.finished()).await.unwrap().ended().unwrap();
        for (step, state) in states.iter().enumerate() {
            assert_eq!(run.state_at(step as u64).await.unwrap(), *state, "step {step} of {full_every}");
        }
        let (from, to) = (states.len() as u64 / 3, states.len() as u64 - 1);
        let patch: json_patch::Patch = serde_json::from_value(run.diff(from, to).await.unwrap()).unwrap();
        let mut patched = states[from as usize].clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(patched, states[to as usize]);
        assert_eq!(run.diff(from, from).await.unwrap(), json!([]));
        store.close().await;
    }
}

#[tokio::test]
async fn an_unknown_step_is_an_error_that_names_the_last() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    let errors = [
        run.state_at(3).await.unwrap_err().into(),
        run.diff(0, 3).await.unwrap_err().into(),
        runs.fork("r", 3, "s", |_| {}).await.unwrap_err(),
        run.state_at(u64::MAX).await.unwrap_err().into(),
    ];

    assert_eq!(errors[0].to_string(), "run `r` has no step 3; its last is 2");
    assert!(
        errors.iter().all(|error| matches!(error, ChangeError::Read(ReadError::UnknownStep { last: 2, .. }))),
        "{errors:?}"
    );
}

async fn counted(folder: &Folder, ledger: &Ledger) -> (Runs<Count>, Run<Count>) {
    let runs = Runs::open(folder.store(), counting(ledger)).await.unwrap();
    let run = runs.start("r", Count::to(5)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();
    ledger.take();
    (runs, run)
}

#[tokio::test]
async fn a_fork_goes_on_from_a_step_with_its_state_edited() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (runs, run) = counted(&folder, &ledger).await;

    let fork = runs.fork("r", 3, "s", |state| state["of"] = 7.into()).await.unwrap();
    let ended = soon("the end", fork.finished()).await.unwrap().ended().unwrap();

    assert_eq!(ended.state, Count { n: 7, of: 7 });
    assert_eq!(ledger.take(), ["add 3", "add 4", "add 5", "add 6"]);
    let info = fork.info().await.unwrap();
    assert_eq!((info.origin, info.step, info.parent), (Some(("r".into(), 3)), 4, None));
    assert_eq!(fork.state_at(0).await.unwrap(), json!({ "n": 3, "of": 7 }));
    // The run that it was made of stays as it was.
    assert_eq!(run.state().await.unwrap(), Count { n: 5, of: 5 });
    runs.delete("r").await.unwrap();
    assert_eq!(fork.info().await.unwrap().origin, None);
}

#[tokio::test]
async fn a_fork_of_the_last_step_of_a_run_that_ended_is_an_error() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (runs, _) = counted(&folder, &ledger).await;

    let error = runs.fork("r", 5, "s", |_| {}).await.unwrap_err();

    assert!(matches!(error, ChangeError::AtEnd { step: 5, .. }), "{error:?}");
    assert!(matches!(runs.get("s").await, Err(ReadError::UnknownRun { .. })));
}

#[tokio::test]
async fn a_fork_takes_an_id_that_is_free_and_fits() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (runs, _) = counted(&folder, &ledger).await;

    assert!(matches!(runs.fork("r", 1, "r", |_| {}).await, Err(ChangeError::Start(StartError::Taken { .. }))));
    assert!(matches!(runs.fork("r", 1, "", |_| {}).await, Err(ChangeError::Start(StartError::BadId { .. }))));
    assert!(matches!(runs.fork("x", 1, "s", |_| {}).await, Err(ChangeError::Read(ReadError::UnknownRun { .. }))));
}

#[tokio::test]
async fn a_fork_whose_edit_does_not_decode_is_a_typed_error() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (runs, _) = counted(&folder, &ledger).await;

    let error = runs.fork("r", 1, "s", |state| state["of"] = "many".into()).await.unwrap_err();

    let causes = format!("{error:?}");
    assert!(
        matches!(error, ChangeError::Read(ReadError::Decode { .. }) | ChangeError::Drive(_)) && causes.contains("of"),
        "{causes}"
    );
}

#[tokio::test]
async fn a_fork_that_is_larger_than_the_store_allows_is_refused() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let store = StoreOptions::new().max_state(1000).open(folder.store()).await.unwrap();
    let runs = store.runs(counting(&ledger)).await.unwrap();
    runs.start("r", Count::to(2)).await.unwrap().finished().await.unwrap().ended().unwrap();

    let error = runs.fork("r", 1, "s", |state| state["more"] = "x".repeat(2000).into()).await.unwrap_err();

    assert!(matches!(error, ChangeError::Keep(KeepError::StateTooLarge { most: 1000, .. })), "{error:?}");
}

#[tokio::test]
async fn runs_in_any_status_are_forked() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let run = runs.start("r", Invoice { amount: 1, ..Invoice::default() }).await.unwrap();
    run.settled().await.unwrap();

    let of_paused = runs.fork("r", 0, "s", |state| state["amount"] = 2.into()).await.unwrap();
    assert_eq!(soon("it asks, too", of_paused.settled()).await.unwrap(), Status::Paused);
    assert_eq!(of_paused.questions().await.unwrap()[0].question, "post 2?");
    run.cancel().await.unwrap();
    let of_cancelled = runs.fork("r", 0, "t", |_| {}).await.unwrap();
    soon("it asks, too", of_cancelled.settled()).await.unwrap();
    of_cancelled.answer("ask", true).await.unwrap();

    assert!(of_cancelled.finished().await.unwrap().ended().unwrap().state.posted);
    assert_eq!(run.info().await.unwrap().status, Status::Cancelled);
    assert_eq!(of_paused.info().await.unwrap().status, Status::Paused);
}

#[tokio::test]
async fn a_fork_from_beside_is_gone_on_with() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let (runs, _) = counted(&folder, &ledger).await;
    let path = folder.store();

    let fork = move || Requests::open(path).unwrap().fork("r", 4, "s", |state| state["n"] = 0.into()).unwrap();
    tokio::task::spawn_blocking(fork).await.unwrap();

    let fork = runs.get("s").await.unwrap();
    assert_eq!(soon("the end", fork.finished()).await.unwrap().ended().unwrap().state, Count { n: 5, of: 5 });
    assert_eq!(Reader::open(folder.store()).unwrap().run("s").unwrap().step, 5);
}
