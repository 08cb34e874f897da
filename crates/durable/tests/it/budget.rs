//! Budgets of runs that are kept: they hold across processes, and a larger one lets the run go on.

use flowstone_core::{AsyncFlow, Budget, Usd};
use flowstone_durable::{Finished, FlowOptions, RunFailure, Runs, Status, Store};

use crate::{
    common::{Count, Folder, Gate, soon, until},
    usage::{calls, spending},
};

async fn open(folder: &Folder, flow: AsyncFlow<Count>, budget: Budget) -> Runs<Count> {
    let store = Store::open(folder.store()).await.unwrap();
    store.runs_with(flow, FlowOptions::new().budget(budget)).await.unwrap()
}

fn free() -> AsyncFlow<Count> {
    spending(|_| async { Ok(()) })
}

#[tokio::test]
async fn a_budget_holds_across_processes_and_a_larger_one_lets_the_run_go_on() {
    let (folder, gate) = (Folder::new(), Gate::closed());
    let flow = || {
        let gate = gate.clone();
        spending(move |_| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(())
            }
        })
    };
    let three = Budget::new().calls(3);
    let runs = open(&folder, flow(), three).await;
    let run = runs.start("r", Count::to(10)).await.unwrap();
    gate.open_for(2);
    until("two visits", async || run.info().await.unwrap().step == 3).await;
    runs.store().close().await;

    // The third call was under way, and is counted; the visit needs another.
    gate.open();
    let runs = open(&folder, flow(), three).await;
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    let Ok(Finished::Failed(RunFailure { node, message, .. })) = soon("the end", run.finished()).await else {
        panic!("it fails")
    };
    assert_eq!(node, "ask");
    assert!(message.ends_with("the run's budget of 3 calls is used up"), "{message}");
    let failure = run.info().await.unwrap().error.unwrap();
    assert!(failure.terminal && failure.attempts == 1, "{failure:?}");
    assert_eq!((run.state().await.unwrap().n, run.usage().await.unwrap()), (2, calls(3)));

    // The same budget is as used up as before.
    run.retry_failed().await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Failed);
    runs.store().close().await;

    let runs = open(&folder, flow(), Budget::new().calls(11)).await;
    let run = runs.retry_failed("r").await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 10);
    assert_eq!(run.usage().await.unwrap(), calls(11));
}

#[tokio::test]
async fn tokens_and_money_of_earlier_processes_count() {
    for (budget, made) in [(Budget::new().tokens(330), 3), (Budget::new().cost(Usd::nanos(4_000_000)), 2)] {
        let folder = Folder::new();
        let runs = open(&folder, free(), Budget::new().calls(1)).await;
        runs.start("r", Count::to(10)).await.unwrap().finished().await.unwrap().ended().unwrap_err();
        runs.store().close().await;

        let runs = open(&folder, free(), budget).await;
        let run = runs.retry_failed("r").await.unwrap();

        assert_eq!(run.settled().await.unwrap(), Status::Failed);
        assert_eq!(run.usage().await.unwrap(), calls(made));
    }
}

#[tokio::test]
async fn each_run_has_its_own() {
    let folder = Folder::new();
    let runs = open(&folder, free(), Budget::new().calls(2)).await;

    for id in ["a", "b"] {
        assert_eq!(runs.start(id, Count::to(2)).await.unwrap().settled().await.unwrap(), Status::Ended);
    }
    // A fork begins at nothing.
    let fork = runs.fork("a", 1, "fork", |_| {}).await.unwrap();
    assert_eq!(fork.settled().await.unwrap(), Status::Ended);
}

#[tokio::test]
async fn children_share_the_budget_of_their_run_also_those_that_ended_before() {
    let folder = Folder::new();
    let flow = |child: AsyncFlow<Count>| {
        let mut flow = AsyncFlow::builder("parent");
        let fork = |count: &Count| vec![Count::to(count.of); 4];
        let each = flow.add("each", child.batch(fork, |_: &mut Count, _| ()).parallel(4).journaled());
        flow.start(each);
        flow.build().unwrap()
    };
    let runs = open(&folder, flow(free()), Budget::new().calls(5)).await;
    let run = runs.start("r", Count::to(3)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap_err();
    assert_eq!(run.usage().await.unwrap(), calls(5));
    runs.store().close().await;

    let runs = open(&folder, flow(free()), Budget::new().calls(12)).await;
    let run = runs.retry_failed("r").await.unwrap();

    soon("the end", run.finished()).await.unwrap().ended().unwrap();
    assert_eq!(run.usage().await.unwrap(), calls(12));
}
