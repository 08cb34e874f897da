//! The time of a run as a whole, and the number of its visits (SEMANTICS rows 17, 32).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{future::pending, sync::Arc};

use crate::common::{Alive, Count, alone, alone_sync, awaiting, blocking, ended, rest, secs};
use flowstone_core::{AsyncFlow, Context, Flow, ManualClock, NodeExt, Retry, RunError, RunOptions};
use tokio::{sync::Notify, time::Instant};

#[tokio::test(start_paused = true)]
async fn an_async_run_ends_at_its_deadline_and_names_its_node() {
    let alive = Alive::default();
    let begun = alive.clone();
    let mut flow = AsyncFlow::builder("slow");
    let quick = flow.add("quick", awaiting(|_| rest(secs(3))));
    let slow = flow.add(
        "slow",
        awaiting(move |_| {
            let life = begun.begin();
            async move {
                pending::<()>().await;
                life.finish();
                Ok(())
            }
        })
        .or(|_, _| Ok(()))
        .retry(Retry::attempts(3)),
    );
    flow.start(quick);
    flow.route(quick >> slow);
    let flow = flow.build().unwrap();

    let before = Instant::now();
    let mut state = vec![];
    let error = flow.run_async_with(&mut state, &RunOptions::new().id("r1").deadline(secs(10))).await.unwrap_err();

    assert!(matches!(error, RunError::DeadlineExceeded { limit, .. } if limit == secs(10)));
    assert_eq!(error.to_string(), "run `r1`: not done within 10s; it was at node `slow`");
    assert_eq!(before.elapsed().as_secs(), 10);
    assert_eq!((state.len(), alive.finished(), alive.now()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_async_run_in_time_ends() {
    let flow = alone(awaiting(|_| rest(secs(9))));

    let mut state = vec![];
    ended(flow.run_async_with(&mut state, &RunOptions::new().deadline(secs(10))).await);

    assert_eq!(state, [()]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_an_async_run_ends_a_retry_wait() {
    let calls = Count::default();
    let counted = calls.clone();
    let node = awaiting(move |_| {
        counted.up();
        async { Err("broken".into()) }
    });
    let flow = alone(node.or(|_, _| Ok(1)).retry(Retry::attempts(9).fixed(secs(4))));

    let error = flow.run_async_with(&mut vec![], &RunOptions::new().deadline(secs(10))).await.unwrap_err();

    assert!(matches!(error, RunError::DeadlineExceeded { .. }), "{error}");
    assert_eq!(calls.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_blocking_exec_is_told_at_the_deadline_and_waited_for() {
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

    let options = RunOptions::new().deadline(secs(10));
    let mut state = vec![];
    let time_passes = async {
        begun.notified().await;
        tokio::time::advance(secs(11)).await;
    };
    let (result, ()) = tokio::join!(flow.run_async_with(&mut state, &options), time_passes);

    let error = result.unwrap_err();
    assert!(matches!(error, RunError::DeadlineExceeded { .. }), "{error}");
    assert_eq!((alive.finished(), alive.now(), state.len()), (1, 0, 0));
}

fn manual(seconds: u64) -> (RunOptions, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (RunOptions::new().id("r1").deadline(secs(seconds)).clock(clock.clone()), clock)
}

#[test]
fn a_sync_run_ends_at_its_deadline_during_a_retry_wait() {
    let calls = Count::default();
    let counted = calls.clone();
    let node = blocking(move |_| {
        counted.up();
        Err("broken".into())
    });
    let flow = alone_sync(node.or(|_, _| Ok(1)).retry(Retry::attempts(9).fixed(secs(4))));

    let (options, clock) = manual(10);
    let mut state = vec![];
    let error = flow.run_with(&mut state, &options).unwrap_err();

    assert_eq!(error.to_string(), "run `r1`: not done within 10s; it was at node `node`");
    assert_eq!((calls.get(), state.len()), (3, 0));
    assert_eq!(flowstone_core::Clock::now(&*clock), secs(10));
}

#[test]
fn a_sync_run_ends_at_its_deadline_before_its_next_visit() {
    let (options, clock) = manual(10);
    let mut flow = Flow::builder("two");
    let first = flow.add("first", move |n: &mut u32| {
        *n += 1;
        flowstone_core::Clock::sleep(&*clock, secs(11));
    });
    let second = flow.add("second", |n: &mut u32| *n += 10);
    flow.start(first);
    flow.route(first >> second);

    let mut n = 0;
    let error = flow.build().unwrap().run_with(&mut n, &options).unwrap_err();

    assert!(matches!(error, RunError::DeadlineExceeded { .. }), "{error}");
    assert_eq!((error.node().as_str(), n), ("second", 1));
}

#[test]
fn an_exec_that_fails_after_the_deadline_has_no_retry_and_no_fallback() {
    let (options, clock) = manual(10);
    let calls = Count::default();
    let counted = calls.clone();
    let node = blocking(move |cx: &Context| {
        counted.up();
        assert!(!cx.cancelled());
        flowstone_core::Clock::sleep(&*clock, secs(10));
        assert!(cx.cancelled());
        Err("broken".into())
    });

    let flow = alone_sync(node.or(|_, _| Ok(1)).retry(Retry::attempts(9)));
    let mut state = vec![];
    let error = flow.run_with(&mut state, &options).unwrap_err();

    assert!(matches!(error, RunError::DeadlineExceeded { .. }), "{error}");
    assert_eq!((calls.get(), state.len()), (1, 0));
}

#[test]
fn a_sync_run_in_time_waits_as_its_policy_says() {
    let node = blocking(|cx| if cx.attempt() < 2 { Err("not yet".into()) } else { Ok(7) });
    let flow = alone_sync(node.retry(Retry::attempts(3).fixed(secs(4))));

    let (options, clock) = manual(10);
    let mut state = vec![];
    ended(flow.run_with(&mut state, &options));

    assert_eq!(state, [7]);
    assert_eq!(flowstone_core::Clock::now(&*clock), secs(8));
}

/// Counts up for ever.
fn spin() -> AsyncFlow<u64> {
    let mut flow = AsyncFlow::builder("spin");
    let ping = flow.add("ping", |n: &mut u64| *n += 1);
    let pong = flow.add("pong", |n: &mut u64| *n += 1);
    flow.start(ping);
    flow.route(ping >> pong >> ping);
    flow.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_makes_no_more_visits_than_allowed_and_keeps_its_state() {
    let mut n = 0;
    let error = spin().run_async_with(&mut n, &RunOptions::new().id("r1").max_visits(7)).await.unwrap_err();

    assert!(matches!(error, RunError::TooManyVisits { limit: 7, .. }));
    assert_eq!(
        error.to_string(),
        "run `r1`: stopped before node `pong`: 7 visits were made, which is the most allowed"
    );
    assert_eq!(n, 7);
}

#[test]
fn a_run_may_make_exactly_as_many_visits_as_allowed() {
    let mut flow = Flow::builder("three");
    let nodes = ["a", "b", "c"].map(|name| flow.add(name, |n: &mut u64| *n += 1));
    flow.start(nodes[0]);
    flow.route(nodes[0] >> nodes[1] >> nodes[2]);
    let flow = flow.build().unwrap();

    let mut counts = [0; 2];
    ended(flow.run_with(&mut counts[0], &RunOptions::new().max_visits(3)));
    let error = flow.run_with(&mut counts[1], &RunOptions::new().max_visits(2)).unwrap_err();

    assert_eq!((counts, error.node().as_str()), ([3, 2], "c"));
}

#[tokio::test(start_paused = true)]
async fn the_visits_of_children_count() {
    let mut inner = AsyncFlow::builder("inner");
    let (a, b) = (inner.add("a", |_: &mut u32| ()), inner.add("b", |_: &mut u32| ()));
    inner.start(a);
    inner.route(a >> b);
    let each = inner.build().unwrap().batch(|n: &u32| vec![0; *n as usize], |_: &mut u32, _| ());
    let flow = alone(each.parallel(2));

    // One visit of the batch flow itself, two of each of three children.
    ended(flow.run_async_with(&mut 3, &RunOptions::new().max_visits(7)).await);
    let error = flow.run_async_with(&mut 3, &RunOptions::new().max_visits(6)).await.unwrap_err();

    assert!(matches!(error, RunError::TooManyVisits { .. }), "{error}");
}
