//! Limits of time for an attempt and for a visit (SEMANTICS row 32).

use std::{sync::Arc, time::Duration};

use crate::common::{Alive, Count, alone, async_items, awaiting, blocking, ended, items, ms, rest, secs};
use flowstone_core::{AsyncFlow, Context, NodeExt, Result, Retry, RunError, TimedOut};
use tokio::{sync::Notify, time::Instant};

/// An `exec` that never ends.
fn hangs(alive: &Alive) -> impl Fn(Context) -> std::pin::Pin<Box<dyn Future<Output = Result<u32>> + Send>> + use<> {
    let alive = alive.clone();
    move |_| {
        let life = alive.begin();
        Box::pin(async move {
            std::future::pending::<()>().await;
            life.finish();
            Ok(0)
        })
    }
}

/// The limit that an error of a run says was passed, and the number of attempts.
fn timed_out(error: RunError) -> (TimedOut, u32) {
    let RunError::Node { source, attempts, .. } = error else { panic!("{error}") };
    (*source.downcast_ref().expect("the source is a timeout"), attempts)
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped_and_fails() {
    let alive = Alive::default();
    let flow = alone(awaiting(hangs(&alive)).timeout(secs(3)));

    let before = Instant::now();
    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    assert_eq!(timed_out(error), (TimedOut::Attempt(secs(3)), 1));
    assert_eq!(before.elapsed().as_secs(), 3);
    assert_eq!((alive.begun(), alive.finished(), alive.now()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_in_time_succeeds() {
    let flow = alone(awaiting(|_| rest(ms(2_990))).timeout(secs(3)));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [()]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_counts_and_is_tried_again() {
    let node = awaiting(|cx| async move {
        if cx.attempt() < 2 {
            std::future::pending::<()>().await;
        }
        Ok(cx.attempt())
    });
    let flow = alone(node.timeout(secs(3)).retry(Retry::attempts(3).fixed(secs(1))));

    let before = Instant::now();
    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [2]);
    assert_eq!(before.elapsed().as_secs(), 3 + 1 + 3 + 1);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_the_whole_limit() {
    let alive = Alive::default();
    let flow = alone(awaiting(hangs(&alive)).timeout(secs(3)).retry(Retry::attempts(4)));

    let before = Instant::now();
    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    assert_eq!(timed_out(error), (TimedOut::Attempt(secs(3)), 4));
    assert_eq!(before.elapsed().as_secs(), 12);
    assert_eq!((alive.begun(), alive.most()), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn the_fallback_follows_the_last_timeout() {
    let alive = Alive::default();
    let node = awaiting(hangs(&alive)).or(|error, cx| {
        assert!(error.downcast_ref::<TimedOut>().is_some());
        Ok(40 + cx.attempt())
    });
    let flow = alone(node.timeout(secs(3)).retry(Retry::attempts(2)));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [41]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_visit_holds_for_attempts_and_waits_together() {
    let alive = Alive::default();
    let retry = Retry::attempts(9).fixed(secs(3));
    let flow = alone(awaiting(hangs(&alive)).timeout(secs(2)).total_timeout(secs(6)).retry(retry));

    let before = Instant::now();
    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    // 2 s for the first attempt, 3 s of waiting, 1 s left for the second.
    assert_eq!(timed_out(error), (TimedOut::Visit(secs(6)), 2));
    assert_eq!(before.elapsed().as_secs(), 6);
    assert_eq!(alive.now(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_time_of_a_visit_is_not_begun() {
    let alive = Alive::default();
    let retry = Retry::attempts(9).fixed(secs(3));
    let flow = alone(awaiting(hangs(&alive)).timeout(secs(2)).total_timeout(secs(9)).retry(retry));

    let before = Instant::now();
    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    assert_eq!(timed_out(error), (TimedOut::Attempt(secs(2)), 2));
    assert_eq!(before.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_follows_when_the_time_of_a_visit_is_over() {
    let alive = Alive::default();
    let node = awaiting(hangs(&alive)).or(|_, _| Ok(9));
    let flow = alone(node.total_timeout(secs(5)).retry(Retry::attempts(3)));

    let before = Instant::now();
    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [9]);
    assert_eq!((before.elapsed().as_secs(), alive.begun()), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn each_item_has_the_limit_of_an_attempt() {
    let node = async_items(3, |item, cx| async move {
        if item == 1 && cx.attempt() == 0 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(secs(2)).await;
        Ok(cx.attempt())
    });
    let flow: AsyncFlow<Vec<u32>> = alone(node.timeout(secs(3)).retry(Retry::attempts(2)));

    let before = Instant::now();
    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [0, 1, 0]);
    assert_eq!(before.elapsed().as_secs(), 2 + 3 + 2 + 2);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_visit_holds_for_all_items_together() {
    let node = || {
        async_items(5, |item, _| async move {
            tokio::time::sleep(secs(4)).await;
            Ok(item)
        })
    };
    let flows: [AsyncFlow<Vec<Result<usize>>>; 3] = [
        alone(node().total_timeout(secs(10))),
        alone(node().parallel(2).total_timeout(secs(6))),
        alone(node().parallel(2).spawned().total_timeout(secs(6))),
    ];

    let mut seen = vec![];
    for flow in flows {
        let before = Instant::now();
        let mut state = vec![];
        ended(flow.run_async(&mut state).await);
        let done: Vec<_> = state.into_iter().filter_map(Result::ok).collect();
        seen.push((done, before.elapsed().as_secs()));
    }

    assert_eq!(seen, [(vec![0, 1], 10), (vec![0, 1], 6), (vec![0, 1], 6)]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_the_clock_is_none() {
    let node = awaiting(|_| rest(secs(100)));
    let flow = alone(node.timeout(Duration::MAX).total_timeout(Duration::MAX).retry(Retry::attempts(2)));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [()]);
}

/// A blocking `exec` that runs until it is told to stop.
fn until_told(alive: &Alive, begun: &Arc<Notify>) -> impl Fn(&Context) -> Result<u32> + use<> {
    let (alive, begun) = (alive.clone(), Arc::clone(begun));
    move |cx| {
        let life = alive.begin();
        begun.notify_one();
        while !cx.cancelled() {
            std::thread::yield_now();
        }
        life.finish();
        Ok(1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocking_attempt_that_times_out_is_told_and_waited_for_before_the_next() {
    let (alive, begun) = (Alive::default(), Arc::new(Notify::new()));
    let flow = alone(blocking(until_told(&alive, &begun)).timeout(secs(3)).retry(Retry::attempts(2)));

    let mut state = vec![];
    let time_passes = async {
        for _ in 0..2 {
            begun.notified().await;
            tokio::time::advance(secs(4)).await;
        }
    };
    let (result, ()) = tokio::join!(flow.run_async(&mut state), time_passes);

    assert_eq!(timed_out(result.unwrap_err()), (TimedOut::Attempt(secs(3)), 2));
    assert_eq!((alive.begun(), alive.finished(), alive.most(), alive.now()), (2, 2, 1, 0));
    assert!(state.is_empty(), "the result of an attempt that timed out is discarded");
}

#[tokio::test(start_paused = true)]
async fn the_attempt_after_a_blocking_one_that_timed_out_is_not_told_to_stop() {
    let begun = Arc::new(Notify::new());
    let note = Arc::clone(&begun);
    let node = blocking(move |cx| {
        if cx.attempt() == 0 {
            note.notify_one();
            while !cx.cancelled() {
                std::thread::yield_now();
            }
        }
        Ok(cx.cancelled())
    });
    let flow = alone(node.timeout(secs(3)).retry(Retry::attempts(2)));

    let mut state = vec![];
    let time_passes = async {
        begun.notified().await;
        tokio::time::advance(secs(4)).await;
    };
    let (result, ()) = tokio::join!(flow.run_async(&mut state), time_passes);

    ended(result);
    assert_eq!(state, [false]);
}

#[tokio::test(start_paused = true)]
async fn blocking_items_that_time_out_are_told_and_waited_for() {
    let (alive, begun) = (Alive::default(), Arc::new(Notify::new()));
    let hang = until_told(&alive, &begun);
    let flow: AsyncFlow<Vec<Result<u32>>> = alone(items(2, move |_, cx| hang(cx)).parallel(2).timeout(secs(3)));

    let mut state = vec![];
    let time_passes = async {
        while alive.now() < 2 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(secs(4)).await;
    };
    let (result, ()) = tokio::join!(flow.run_async(&mut state), time_passes);

    ended(result);
    assert!(state.iter().all(|outcome| outcome.as_ref().unwrap_err().downcast_ref::<TimedOut>().is_some()));
    assert_eq!((state.len(), alive.finished(), alive.now()), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_limit_does_not_hold_for_the_fallback() {
    let ran = Count::default();
    let counted = ran.clone();
    let alive = Alive::default();
    let node = awaiting(hangs(&alive)).or(move |_, _| {
        counted.up();
        Ok(3)
    });
    let flow = alone(node.timeout(Duration::ZERO).total_timeout(Duration::ZERO));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!((state, ran.get()), (vec![3], 1));
}
