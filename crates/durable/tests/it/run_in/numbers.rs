//! A visit and an item have one child: another takes a number of its own, and one that cannot be told apart is refused.

use flowstone_core::{Action, AsyncFlow, NodeExt, Retry, RunError};
use flowstone_durable::{NotEnded, Reader, Runs, StoreOptions};

use super::{Second, child};
use crate::common::{Count, Folder, Ledger, items, numbers, soon, work};

#[tokio::test]
async fn a_visit_may_have_several_children_under_numbers_of_their_own() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let inner = child(&ledger, &Second::Nothing);
    let both = work(
        move |cx| {
            let inner = inner.clone();
            async move {
                let run = |n| {
                    let (inner, cx) = (inner.clone(), cx.clone().with_item(n));
                    async move { inner.run_in(Count { n: n as u32 * 10, of: 0 }, &cx).await }
                };
                let (first, second) = tokio::join!(run(1), run(2));
                Ok(u64::from(first?.0.n + second?.0.n))
            }
        },
        |count: &mut Count, n| {
            count.n = n as u32;
            Action::DEFAULT
        },
    );
    let runs = Runs::open(folder.store(), alone!(both)).await.unwrap();

    let run = runs.start("r", Count::default()).await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.n, 13 + 23);
    let children = Reader::open(folder.store()).unwrap().children("r").unwrap();
    assert_eq!(children.iter().map(|child| child.item.unwrap()).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_second_child_under_one_number_fails_the_run() {
    for other in ["state", "flow", "at once"] {
        let (folder, ledger) = (Folder::new(), Ledger::default());
        let inner = child(&ledger, &Second::Nothing);
        let mut another = AsyncFlow::<Count>::builder("another");
        let only = another.add("only", |_: &mut Count| ());
        another.start(only);
        let another = another.build().unwrap();
        let twice = items(move |cx| {
            let (inner, another) = (inner.clone(), another.clone());
            async move {
                match other {
                    "state" => {
                        inner.run_in(Count::to(1), &cx).await?;
                        inner.run_in(Count::to(2), &cx).await?;
                    }
                    "flow" => {
                        inner.run_in(Count::default(), &cx).await?;
                        another.run_in(Count::default(), &cx).await?;
                    }
                    _ => {
                        let run = || inner.run_in(Count::default(), &cx);
                        let (first, second) = tokio::join!(run(), run());
                        first?;
                        second?;
                    }
                }
                Ok(0)
            }
        });
        let runs = Runs::open(folder.store(), alone!(twice.retry(Retry::attempts(3)))).await.unwrap();

        let run = runs.start("r", numbers(1)).await.unwrap();
        let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();

        let NotEnded::Failed { message, .. } = &error else { panic!("{other}: {error:?}") };
        assert!(message.contains("runs more than one flow as its number 0"), "{message}");
    }
}

#[tokio::test]
async fn a_state_of_a_child_that_is_too_large_is_the_fault_of_its_run() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let inner = child(&ledger, &Second::Nothing);
    let store = StoreOptions::new().max_state(20).open(folder.store()).await.unwrap();
    let large = work(
        move |cx| {
            let inner = inner.clone();
            async move {
                let error = inner.run_in(Count { n: 0, of: 1_000_000_000 }, &cx).await.unwrap_err();
                assert!(matches!(error.downcast_ref(), Some(RunError::Journal { .. })), "{error:?}");
                Err(error)
            }
        },
        |_: &mut Count, _| Action::DEFAULT,
    );
    let runs = store.runs(alone!(large)).await.unwrap();

    let run = runs.start("r", Count::default()).await.unwrap();
    let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();

    let NotEnded::Failed { message, .. } = &error else { panic!("{error:?}") };
    assert!(message.contains("bytes, more than the 20"), "{message}");
}
