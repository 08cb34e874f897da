//! Items that are tasks of their own, for work that computes (SEMANTICS row 30; LESSONS row 2).

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{Arc, Mutex},
};

use crate::common::{Alive, Meeting, alone, async_items, ended, secs};
use flowstone_core::{AsyncFlow, NodeExt, Phase, Result, RunError, RunOptions};
use tokio::task::yield_now;

#[tokio::test]
async fn each_item_is_a_task() {
    let tasks = Arc::new(Mutex::new(BTreeSet::new()));
    let note = Arc::clone(&tasks);
    let node = async_items(20, move |_, _| {
        note.lock().unwrap().insert(tokio::task::id().to_string());
        async { Ok(()) }
    });
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(4).spawned());

    ended(flow.run_async(&mut vec![]).await);

    assert_eq!(tasks.lock().unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn items_compute_on_several_threads_at_once() {
    let meeting = Meeting::of(2);
    let node = async_items(2, move |_, _| {
        let meeting = meeting.clone();
        async move { Ok(meeting.met()) }
    });
    let flow = alone(node.parallel(2).spawned());

    let mut state: Vec<bool> = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [true, true], "one thread had both items");
}

#[tokio::test]
async fn items_that_are_not_spawned_share_the_task_of_the_run() {
    let threads = Arc::new(Mutex::new(BTreeSet::new()));
    let note = Arc::clone(&threads);
    let node = async_items(20, move |_, _| {
        note.lock().unwrap().insert(tokio::task::id().to_string());
        async { Ok(()) }
    });
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(4));

    let own = tokio::spawn(async move {
        ended(flow.run_async(&mut vec![]).await);
        tokio::task::id().to_string()
    });

    let own = own.await.unwrap();
    assert!(threads.lock().unwrap().iter().eq([&own]));
}

/// A batch of items that never end, apart from one.
fn hanging(alive: &Alive, fails: Option<usize>) -> AsyncFlow<Vec<()>> {
    let alive = alive.clone();
    let node = async_items(10, move |item, _| {
        let life = alive.begin();
        async move {
            yield_now().await;
            if fails == Some(item) {
                return Err("broke".into());
            }
            pending::<()>().await;
            life.finish();
            Ok(())
        }
    });
    alone(node.parallel(5).spawned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_cancels_the_other_items_and_awaits_them() {
    for _ in 0..50 {
        let alive = Alive::default();
        let flow = hanging(&alive, Some(3));

        let error = flow.run_async(&mut vec![]).await.unwrap_err();

        assert!(matches!(error, RunError::Node { item: Some(3), .. }), "{error}");
        assert_eq!((alive.now(), alive.finished()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_awaits_its_items() {
    for _ in 0..50 {
        let alive = Alive::default();
        let flow = hanging(&alive, None);
        let token = flowstone_core::CancellationToken::new();
        let options = RunOptions::new().cancel(token.clone());

        let run = async { flow.run_async_with(&mut vec![], &options).await.unwrap_err() };
        let cancel = async {
            while alive.begun() < 5 {
                yield_now().await;
            }
            token.cancel();
        };
        let (error, ()) = tokio::join!(run, cancel);

        assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
        assert_eq!((alive.now(), alive.finished()), (0, 0));
    }
}

#[tokio::test]
async fn dropping_the_run_cancels_its_items() {
    let alive = Alive::default();
    let flow = hanging(&alive, None);

    let mut state = vec![];
    {
        let mut run = std::pin::pin!(flow.run_async(&mut state));
        while alive.begun() < 5 {
            assert!(futures_util::poll!(run.as_mut()).is_pending());
            yield_now().await;
        }
    }
    // An aborted task is taken down by the runtime when it comes to it.
    yield_now().await;

    assert_eq!((alive.now(), alive.begun(), alive.finished()), (0, 5, 0));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_times_out_is_dropped() {
    let alive = Alive::default();
    let begun = alive.clone();
    let node = async_items(4, move |_, _| {
        let life = begun.begin();
        async move {
            pending::<()>().await;
            life.finish();
            Ok(())
        }
    });
    let flow: AsyncFlow<Vec<Result<()>>> = alone(node.parallel(4).spawned().timeout(secs(3)));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!((state.len(), alive.begun(), alive.now()), (4, 4, 0));
}

#[tokio::test]
async fn a_panic_of_a_spawned_item_is_its_error_and_takes_the_others_along() {
    let alive = Alive::default();
    let begun = alive.clone();
    let node = async_items(5, move |item, _| {
        let life = begun.begin();
        async move {
            yield_now().await;
            assert_ne!(item, 2, "two is wrong");
            pending::<()>().await;
            life.finish();
            Ok(())
        }
    });
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(5).spawned());

    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    let RunError::Node { item: Some(2), phase: Phase::Exec, source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("two is wrong"), "{source}");
    assert_eq!(alive.now(), 0);
}
