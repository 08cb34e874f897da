//! Waits between attempts, and which errors are tried again (SEMANTICS row 3; LESSONS rows 7, 20, 21).
//!
//! Sync waits are read from a manual clock, async ones from tokio's paused clock; the two have to agree.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{Count, alone, alone_sync, async_items, awaiting, blocking, ms, secs};
use flowstone_core::{AsyncFlow, Flow, ManualClock, NodeError, NodeExt, Result, Retry, RunError, RunOptions};
use tokio::time::Instant;

type MakeError = fn(u32) -> NodeError;

const BROKEN: MakeError = |attempt| format!("attempt {attempt} broke").into();

/// The waits of a sync node that always fails.
fn sync_waits(retry: Retry, error: MakeError, options: RunOptions) -> Vec<Duration> {
    let flow: Flow<Vec<u32>> = alone_sync(blocking(move |cx| Err(error(cx.attempt()))).retry(retry));
    let clock = Arc::new(ManualClock::default());

    flow.run_with(&mut vec![], &options.clock(clock.clone())).unwrap_err();
    clock.sleeps()
}

/// The times between the attempts of an async node that always fails, and from the last one to the end of the run.
async fn async_waits(retry: Retry, error: MakeError, options: RunOptions) -> Vec<Duration> {
    let begun = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&begun);
    let node = awaiting(move |cx| {
        note.lock().unwrap().push(Instant::now());
        async move { Result::<u32>::Err(error(cx.attempt())) }
    });
    let flow: AsyncFlow<Vec<u32>> = alone(node.retry(retry));

    flow.run_async_with(&mut vec![], &options).await.unwrap_err();
    let mut begun = begun.lock().unwrap().clone();
    begun.push(Instant::now());
    begun.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// The waits in milliseconds, which the sync and the async kind agree about; there is none after the last attempt.
async fn waits(retry: Retry, error: MakeError) -> Vec<u128> {
    let sync = sync_waits(retry.clone(), error, RunOptions::new());
    let mut awaited = async_waits(retry, error, RunOptions::new()).await;

    assert_eq!(awaited.pop(), Some(Duration::ZERO), "a wait after the last attempt");
    let in_ms = |waits: Vec<Duration>| waits.into_iter().map(|wait| wait.as_millis()).collect::<Vec<_>>();
    let (sync, awaited) = (in_ms(sync), in_ms(awaited));
    if !awaited.iter().all(|wait| *wait == 0) || !sync.is_empty() {
        assert_eq!(sync, awaited, "sync and async waits differ");
    }
    awaited
}

#[tokio::test(start_paused = true)]
async fn attempts_alone_do_not_wait() {
    assert_eq!(waits(Retry::attempts(4), BROKEN).await, [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn one_attempt_never_waits() {
    assert_eq!(waits(Retry::attempts(1).fixed(secs(5)), BROKEN).await, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn fixed_waits_are_the_same() {
    assert_eq!(waits(Retry::attempts(4).fixed(ms(250)), BROKEN).await, [250, 250, 250]);
}

#[tokio::test(start_paused = true)]
async fn exponential_waits_double() {
    assert_eq!(waits(Retry::attempts(5).exponential(ms(100)), BROKEN).await, [100, 200, 400, 800]);
}

#[tokio::test(start_paused = true)]
async fn exponential_waits_stop_at_the_maximum() {
    let retry = Retry::attempts(6).exponential(ms(100)).max_wait(ms(350));

    assert_eq!(waits(retry, BROKEN).await, [100, 200, 350, 350, 350]);
}

#[tokio::test(start_paused = true)]
async fn exponential_waits_stop_at_a_minute_unless_told_otherwise() {
    let retry = Retry::attempts(5).exponential(secs(20));

    assert_eq!(waits(retry, BROKEN).await, [20_000, 40_000, 60_000, 60_000]);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_wait_above_a_minute_is_meant() {
    assert_eq!(waits(Retry::attempts(2).fixed(secs(300)), BROKEN).await, [300_000]);
}

#[tokio::test(start_paused = true)]
async fn a_maximum_below_a_fixed_wait_bounds_it() {
    assert_eq!(waits(Retry::attempts(2).fixed(secs(9)).max_wait(secs(2)), BROKEN).await, [2_000]);
}

#[test]
fn the_wait_after_any_attempt_can_be_computed() {
    let retry = Retry::attempts(u32::MAX).exponential(Duration::MAX);

    assert_eq!(retry.wait_after(u32::MAX), Retry::MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_where_it_is_longer() {
    let error: MakeError = |attempt| NodeError::new("busy").with_retry_after(secs(u64::from(attempt) * 2));

    assert_eq!(waits(Retry::attempts(5).fixed(secs(3)), error).await, [3_000, 3_000, 4_000, 6_000]);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_without_a_wait_of_ones_own() {
    let error: MakeError = |_| NodeError::new("busy").with_retry_after(secs(7));

    assert_eq!(waits(Retry::attempts(3), error).await, [7_000, 7_000]);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_not_bounded_by_the_maximum() {
    let error: MakeError = |_| NodeError::new("busy").with_retry_after(secs(500));

    assert_eq!(waits(Retry::attempts(2).exponential(secs(1)).max_wait(secs(2)), error).await, [500_000]);
}

const FOR_EVER: MakeError = |_| NodeError::new("busy").with_retry_after(Duration::MAX);

#[test]
fn a_huge_retry_after_does_not_panic() {
    let waits = sync_waits(Retry::attempts(2).jitter(), FOR_EVER, RunOptions::new());

    assert_eq!(waits, [Duration::MAX]);
}

#[test]
fn a_huge_retry_after_ends_with_the_deadline_of_a_sync_run() {
    let flow: Flow<Vec<u32>> = alone_sync(blocking(|_| Err(FOR_EVER(0))).retry(Retry::attempts(2)));
    let options = RunOptions::new().clock(Arc::new(ManualClock::default())).deadline(secs(1));

    let error = flow.run_with(&mut vec![], &options).unwrap_err();

    assert!(matches!(error, RunError::DeadlineExceeded { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_huge_retry_after_ends_with_the_deadline_of_an_async_run() {
    let waits = async_waits(Retry::attempts(2), FOR_EVER, RunOptions::new().deadline(secs(3600))).await;

    assert_eq!(waits.iter().map(Duration::as_secs).collect::<Vec<_>>(), [3600]);
}

#[tokio::test(start_paused = true)]
async fn a_huge_retry_after_that_would_outlast_the_visit_is_not_begun() {
    let flow: AsyncFlow<Vec<u32>> =
        alone(awaiting(|_| async { Err(FOR_EVER(0)) }).retry(Retry::attempts(2)).total_timeout(secs(60)));

    let before = Instant::now();
    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    assert!(matches!(error, RunError::Node { attempts: 1, .. }), "{error}");
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_a_wait_between_its_half_and_its_whole() {
    for seed in 0..50 {
        let retry = Retry::attempts(6).exponential(secs(2)).jitter();

        let sync = sync_waits(retry.clone(), BROKEN, RunOptions::new().seed(seed));
        let awaited = async_waits(retry.clone(), BROKEN, RunOptions::new().seed(seed)).await;

        for (attempt, wait) in (0..).zip(&sync) {
            let whole = retry.wait_after(attempt);
            assert!((whole / 2..=whole).contains(wait), "seed {seed}, attempt {attempt}: {wait:?} of {whole:?}");
        }
        for (sync, awaited) in sync.iter().zip(&awaited) {
            assert!((*sync..*sync + ms(1)).contains(awaited), "seed {seed}: {sync:?} and {awaited:?}");
        }
    }
}

#[test]
fn jitter_follows_from_the_seed() {
    let retry = || Retry::attempts(6).fixed(secs(2)).jitter();

    let one = sync_waits(retry(), BROKEN, RunOptions::new().seed(1));
    let again = sync_waits(retry(), BROKEN, RunOptions::new().seed(1));
    let other = sync_waits(retry(), BROKEN, RunOptions::new().seed(2));

    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
fn jitter_differs_from_attempt_to_attempt_and_from_run_to_run() {
    let retry = || Retry::attempts(6).fixed(secs(2)).jitter();

    let mut all = sync_waits(retry(), BROKEN, RunOptions::new());
    all.extend(sync_waits(retry(), BROKEN, RunOptions::new()));

    all.sort();
    all.dedup();
    assert_eq!(all.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn jitter_differs_from_item_to_item() {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&waits);
    let node = async_items(50, move |_, cx| {
        let note = Arc::clone(&note);
        async move {
            if cx.attempt() == 0 {
                return Err("first".into());
            }
            note.lock().unwrap().push(Instant::now());
            Ok(())
        }
    });
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(50).retry(Retry::attempts(2).fixed(secs(60)).jitter()));

    flow.run_async_with(&mut vec![], &RunOptions::new().seed(3)).await.unwrap();

    let mut waits = waits.lock().unwrap().clone();
    waits.dedup();
    assert!(waits.len() > 40, "{} different waits of 50", waits.len());
}

#[test]
fn only_errors_that_the_policy_asks_for_are_tried_again() {
    let retry = Retry::attempts(9).retry_if(|error| error.to_string() != "attempt 2 broke").fixed(secs(1));

    assert_eq!(sync_waits(retry, BROKEN, RunOptions::new()), [secs(1); 2]);
}

#[tokio::test(start_paused = true)]
async fn only_errors_that_the_policy_asks_for_are_tried_again_by_an_async_node() {
    let retry = Retry::attempts(9).retry_if(|error| error.to_string() != "attempt 2 broke");

    assert_eq!(async_waits(retry, BROKEN, RunOptions::new()).await.len(), 3);
}

#[test]
fn the_policy_sees_the_type_of_an_error() {
    let retry = Retry::attempts(9).retry_if(|error| error.downcast_ref::<std::num::ParseIntError>().is_some());
    let error: MakeError = |attempt| if attempt < 2 { "x".parse::<u32>().unwrap_err().into() } else { "other".into() };

    assert_eq!(sync_waits(retry.fixed(secs(1)), error, RunOptions::new()), [secs(1); 2]);
}

#[test]
fn a_terminal_error_is_not_tried_again_and_the_policy_is_not_asked() {
    let asked = Count::default();
    let count = asked.clone();
    let calls = Count::default();
    let counted = calls.clone();
    let node = blocking(move |_| {
        counted.up();
        Result::<u32>::Err(NodeError::terminal("no use").with_retry_after(secs(1)))
    });
    let retry = Retry::attempts(5).retry_if(move |_| {
        count.up();
        true
    });

    let error = alone_sync(node.retry(retry)).run(&mut vec![]).unwrap_err();

    assert!(matches!(error, RunError::Node { attempts: 1, .. }), "{error}");
    assert_eq!((calls.get(), asked.get()), (1, 0));
}

#[tokio::test]
async fn a_terminal_error_has_its_fallback() {
    let node =
        || blocking(|_| Err(NodeError::terminal("no use"))).or(|error, cx| Ok(format!("{error} {}", cx.attempt())));

    let mut states = [vec![], vec![]];
    alone_sync(node().retry(Retry::attempts(5))).run(&mut states[0]).unwrap();
    alone(node().retry(Retry::attempts(5))).run_async(&mut states[1]).await.unwrap();

    assert_eq!(states, [["no use 0"], ["no use 0"]]);
}
