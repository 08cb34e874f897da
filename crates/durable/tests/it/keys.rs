//! Idempotency keys: the same before and after a crash, and no two things have the same.

use std::collections::BTreeSet;

use flowstone_core::{Action, AsyncFlow, NodeExt, Retry};
use flowstone_durable::{Reader, Runs, Status};

use crate::common::{Count, Folder, Gate, Ledger, failure, soon, until, work};

/// Pauses, then works in a node, a batch and children; each waits at the gate once it has written down its key.
fn flow(ledger: &Ledger, gate: &Gate) -> AsyncFlow<Count> {
    let node = |ledger: &Ledger, gate: &Gate| {
        let (ledger, gate) = (ledger.clone(), gate.clone());
        work(
            move |cx| {
                let (ledger, gate) = (ledger.clone(), gate.clone());
                async move {
                    ledger.add(cx.idempotency_key());
                    if cx.attempt() == 0 {
                        return Err(failure("once"));
                    }
                    gate.pass().await;
                    Ok(1)
                }
            },
            |count: &mut Count, one| {
                count.n += one as u32;
                Action::from("")
            },
        )
        .retry(Retry::attempts(2))
    };
    let mut inner = AsyncFlow::builder("inner");
    let first = inner.add("first", node(ledger, &open()));
    let second = inner.add("second", node(ledger, gate));
    inner.start(first);
    inner.route(first >> second);
    let inner = inner.build().unwrap();

    let mut flow = AsyncFlow::builder("keys");
    let one = flow.add("one", node(ledger, &open()));
    let ask = flow.add("ask", Continue);
    let two = flow.add("two", node(ledger, gate));
    let join = |count: &mut Count, ended: Vec<Count>| count.n += ended.iter().map(|child| child.n).sum::<u32>();
    let each = inner.batch(|_: &Count| vec![Count::default(); 3], join).parallel(3).journaled();
    let each = flow.add("each", each);
    flow.start(one);
    flow.route(one >> ask);
    flow.route(ask >> two >> each);
    flow.build().unwrap()
}

fn open() -> Gate {
    let gate = Gate::closed();
    gate.open();
    gate
}

struct Continue;

impl flowstone_core::Ask<Count> for Continue {
    type Question = ();
    type Answer = ();
    type Action = ();

    fn ask(&self, _: &Count) -> flowstone_core::Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut Count, (): ()) -> flowstone_core::Result<()> {
        Ok(())
    }
}

/// The keys of a run that is never stopped.
async fn undisturbed() -> BTreeSet<String> {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), flow(&ledger, &open())).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Paused);
    run.answer("ask", ()).await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().state.n, 8);
    let keys: Vec<_> = ledger.take();
    assert_eq!(keys.len(), 16, "each twice, since each fails once: {keys:?}");
    keys.into_iter().collect()
}

#[tokio::test]
async fn keys_are_the_same_before_and_after_a_restart_and_a_pause() {
    let wanted = undisturbed().await;
    assert_eq!(wanted.len(), 8);
    let (folder, ledger, shut) = (Folder::new(), Ledger::default(), Gate::closed());

    // Stopped while paused, then in `two`, then in the second visits of the children.
    let runs = Runs::open(folder.store(), flow(&ledger, &shut)).await.unwrap();
    runs.start("r", Count::default()).await.unwrap().settled().await.unwrap();
    runs.store().close().await;

    let runs = Runs::open(folder.store(), flow(&ledger, &shut)).await.unwrap();
    runs.answer("r", "ask", ()).await.unwrap();
    until("two", async || ledger.count("r:2:two") == 2).await;
    runs.store().close().await;

    let runs = Runs::open(folder.store(), flow(&ledger, &open())).await.unwrap();
    runs.resume_all().await.unwrap();
    soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap();

    assert_eq!(ledger.count("r:2:two"), 4, "made again with the same key");
    assert_eq!(ledger.take().into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[tokio::test]
async fn keys_of_children_are_the_same_after_a_restart_in_their_middle() {
    let wanted = undisturbed().await;
    let (folder, ledger, shut) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), flow(&ledger, &shut)).await.unwrap();
    let run = runs.start("r", Count::default()).await.unwrap();
    run.settled().await.unwrap();
    run.answer("ask", ()).await.unwrap();
    until("two", async || ledger.count("r:2:two") == 2).await;
    // Lets `two` pass, and what comes after it wait: a new gate for the rest.
    runs.store().close().await;
    let half = Gate::closed();
    half.open_for(1);
    let runs = Runs::open(folder.store(), flow(&ledger, &half)).await.unwrap();
    runs.resume_all().await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    let steps = || reader.children("r").unwrap().iter().map(|child| child.step).sum::<u64>();
    until("the children", async || steps() == 3 && ledger.len() >= 2 + 4 + 6 + 6).await;
    runs.store().close().await;

    let runs = Runs::open(folder.store(), flow(&ledger, &open())).await.unwrap();
    runs.resume_all().await.unwrap();
    soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap();

    assert_eq!(ledger.take().into_iter().collect::<BTreeSet<_>>(), wanted);
}
