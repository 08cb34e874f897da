//! A run that is dropped before its end: what it started stops (LESSONS rows 2, 17).

use std::{future::pending, sync::Arc};

use crate::common::{Alive, Count, alone, async_items, awaiting, blocking, named, secs};
use flowstone_core::{AsyncFlow, NodeExt, RunOptions};
use futures_util::poll;
use tokio::{sync::Notify, task::yield_now, time::sleep};

#[tokio::test(start_paused = true)]
async fn dropping_a_run_drops_its_exec() {
    let alive = Alive::default();
    let begun = alive.clone();
    let flow: AsyncFlow<Vec<()>> = alone(awaiting(move |_| {
        let life = begun.begin();
        async move {
            pending::<()>().await;
            life.finish();
            Ok(())
        }
    }));

    let mut state = vec![];
    {
        let mut run = std::pin::pin!(flow.run_async(&mut state));
        assert!(poll!(run.as_mut()).is_pending());
        assert_eq!(alive.now(), 1);
    }

    assert_eq!((alive.now(), alive.finished(), state.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_run_drops_all_parallel_items_and_children() {
    let (alive, effects) = (Alive::default(), Count::default());
    let (begun, effect) = (alive.clone(), effects.clone());
    let items = async_items(10, move |_, _| {
        let (life, effect) = (begun.begin(), effect.clone());
        async move {
            sleep(secs(1)).await;
            effect.up();
            life.finish();
            Ok(())
        }
    });
    let child: AsyncFlow<Vec<()>> = named("child", items.parallel(5));
    let flow = alone(child.batch(|_: &()| vec![vec![]; 4], |(): &mut (), _| ()).parallel(3));

    let mut state = ();
    {
        let mut run = Box::pin(flow.run_async(&mut state));
        while alive.now() < 15 {
            assert!(poll!(run.as_mut()).is_pending());
        }
        drop(run);
    }

    assert_eq!((alive.now(), effects.get()), (0, 0));
    sleep(secs(60)).await;
    assert_eq!((alive.begun(), effects.get()), (15, 0));
}

#[tokio::test]
async fn dropping_a_run_tells_a_blocking_exec() {
    for options in [None, Some(RunOptions::new().id("r1"))] {
        let (alive, begun) = (Alive::default(), Arc::new(Notify::new()));
        let (living, note) = (alive.clone(), Arc::clone(&begun));
        let flow = alone(blocking(move |cx| {
            let life = living.begin();
            note.notify_one();
            while !cx.cancelled() {
                std::thread::yield_now();
            }
            life.finish();
            Ok(1)
        }));

        let mut state = vec![];
        let run = async {
            match &options {
                None => flow.run_async(&mut state).await,
                Some(options) => flow.run_async_with(&mut state, options).await,
            }
        };
        tokio::select! {
            biased;
            _ = run => panic!("the run ended"),
            () = begun.notified() => {}
        }

        // It was told: otherwise this would go on for ever.
        while alive.now() > 0 {
            yield_now().await;
        }
        assert_eq!((alive.finished(), state.len()), (1, 0));
    }
}

#[test]
fn a_blocking_exec_that_waits_for_a_thread_never_begins_when_its_run_is_dropped() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let calls = Count::default();
    let counted = calls.clone();
    let flow = alone(blocking(move |_| Ok(counted.up())));

    runtime.block_on(async {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let other = tokio::task::spawn_blocking(move || held.recv());
        let mut state = vec![];
        {
            let mut run = std::pin::pin!(flow.run_async(&mut state));
            assert!(poll!(run.as_mut()).is_pending());
        }
        drop(release);
        other.await.unwrap().unwrap_err();
    });
    drop(runtime); // runs what is left in the pool

    assert_eq!(calls.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_leaves_the_state_to_the_caller_with_what_was_written() {
    let mut flow = AsyncFlow::builder("two");
    let write = flow.add("write", |state: &mut Vec<u32>| state.push(1));
    let wait = flow.add("wait", awaiting(|_| pending()));
    flow.start(write);
    flow.route(write >> wait);
    let flow = flow.build().unwrap();

    let mut state = vec![];
    let timed_out = tokio::time::timeout(secs(1), flow.run_async(&mut state)).await.is_err();

    assert!(timed_out);
    assert_eq!(state, [1]);
}
