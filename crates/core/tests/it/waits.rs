//! Waits between attempts that a journal keeps: a later process waits for the rest, and goes on counting attempts.

use std::time::Duration;

use crate::common::{Count, Kept, Log, alone, alone_sync, async_items, awaiting, blocking, ended, named, secs};
use flowstone_core::{
    AsyncFlow, CancellationToken, Context, Flow, NodeError, NodeExt, Result, Retry, RunError, RunOptions,
};
use tokio::time::{Instant, sleep, timeout};

/// A node that notes its attempts, and succeeds in attempt number 2.
fn third_time_lucky(attempts: &Log) -> impl Fn(&Context) -> Result<u32> + Clone + Send + Sync + 'static {
    let attempts = attempts.clone();
    move |cx| {
        attempts.push(cx.attempt().to_string());
        if cx.attempt() < 2 { Err("down".into()) } else { Ok(7) }
    }
}

/// Drives a run for so long, and then drops it.
async fn drive_for(kept: &Kept, flow: &AsyncFlow<Vec<u32>>, time: Duration) {
    let mut run = flow.execution(vec![], &RunOptions::new());
    assert!(timeout(time, kept.drive(&mut run)).await.is_err(), "it still waits");
}

#[tokio::test(start_paused = true)]
async fn a_later_process_waits_for_the_rest_and_makes_the_attempt_that_was_next() {
    for sync in [false, true] {
        let attempts = Log::default();
        let exec = third_time_lucky(&attempts);
        let retry = Retry::attempts(3).fixed(secs(100));
        let flow = if sync {
            alone(blocking(exec).retry(retry))
        } else {
            alone(awaiting(move |cx: Context| std::future::ready(exec(&cx))).retry(retry))
        };
        let kept = Kept::default();
        let began = Instant::now();

        drive_for(&kept, &flow, secs(130)).await; // in the second wait
        sleep(secs(20)).await; // nobody drives the run
        let mut again = flow.execution(vec![], &RunOptions::new());
        kept.finish(&mut again).await;

        assert_eq!(began.elapsed(), secs(200));
        assert_eq!(attempts.lines(), ["0", "1", "2"]);
        assert_eq!(kept.log.lines(), ["wait None 1 100s", "wait None 2 100s"]);
        assert_eq!(again.into_state(), [7]);
    }
}

#[tokio::test(start_paused = true)]
async fn each_item_goes_on_with_its_own_wait() {
    let attempts = Log::default();
    let note = attempts.clone();
    let node = async_items(2, move |item, cx: Context| {
        note.push(format!("{item}#{}", cx.attempt()));
        async move { if item == 1 && cx.attempt() < 1 { Err("down".into()) } else { Ok(item as u32) } }
    });
    let flow: AsyncFlow<Vec<u32>> = alone(node.parallel(2).journaled().retry(Retry::attempts(2).fixed(secs(100))));
    let kept = Kept::default();

    drive_for(&kept, &flow, secs(30)).await;
    let began = Instant::now();
    kept.finish(&mut flow.execution(vec![], &RunOptions::new())).await;

    assert_eq!(began.elapsed(), secs(70));
    assert_eq!(attempts.lines(), ["0#0", "1#0", "1#1"]);
    assert_eq!(kept.log.lines(), ["wait Some(1) 1 100s", "record 0 0", "record 1 1"]);
}

#[tokio::test(start_paused = true)]
async fn one_attempt_is_made_also_if_fewer_are_allowed_now() {
    let attempts = Log::default();
    let exec = third_time_lucky(&attempts);
    let flow = |count| {
        let exec = exec.clone();
        alone(awaiting(move |cx: Context| std::future::ready(exec(&cx))).retry(Retry::attempts(count).fixed(secs(100))))
    };
    let kept = Kept::default();

    drive_for(&kept, &flow(3), secs(150)).await;
    kept.finish(&mut flow(1).execution(vec![], &RunOptions::new())).await;

    assert_eq!(attempts.lines(), ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_cannot_be_kept_is_not_begun() {
    let count = Count::default();
    let ran = count.clone();
    let node = awaiting(move |_| {
        ran.up();
        async { Result::<u32>::Err("down".into()) }
    });
    let flow = alone(node.or(|_, _| panic!("no fallback")).retry(Retry::attempts(3).fixed(secs(100))));

    let error = Kept::broken("wait").drive(&mut flow.execution(vec![], &RunOptions::new().id("r1"))).await.unwrap_err();

    assert_eq!(error.report(), "run `r1`: node `node`: what it has done could not be kept: the disk is full");
    assert_eq!(count.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_wait_keeps_to_the_time_of_the_visit() {
    let flow = |limit| {
        let node = awaiting(|_| async { Result::<u32>::Err("down".into()) }).or(|error, _| {
            assert!(error.to_string().contains("timed out") || error.to_string() == "down", "{error}");
            Ok(1)
        });
        alone(node.retry(Retry::attempts(2).fixed(secs(100))).total_timeout(limit))
    };
    let kept = Kept::default();
    drive_for(&kept, &flow(secs(1000)), secs(10)).await;

    let began = Instant::now();
    kept.finish(&mut flow(secs(20)).execution(vec![], &RunOptions::new())).await;

    assert_eq!(began.elapsed(), secs(20));
}

/// An error that asks for a wait, from a node on the thread of the run.
fn asks_for_a_wait() -> Flow<Vec<u32>> {
    let busy = blocking(|cx| match cx.attempt() {
        0 => Err(NodeError::new("busy").with_retry_after(Duration::from_secs(2))),
        attempt => Ok(attempt),
    });
    alone_sync(busy.retry(Retry::attempts(2)).inline())
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_an_inline_node_asks_for_holds_up_nobody() {
    let (converted, around) = (AsyncFlow::from(asks_for_a_wait()), named("outer", asks_for_a_wait()));
    for flow in [converted, around] {
        let (start, mut state) = (Instant::now(), vec![]);
        let beside = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            start.elapsed()
        };

        let (result, fired) = tokio::join!(flow.run_async(&mut state), beside);

        ended(result);
        assert_eq!((fired, start.elapsed()), (Duration::from_millis(100), Duration::from_secs(2)));
        assert_eq!(state, [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_cancelled_while_an_inline_node_waits() {
    let (flow, token, start) = (AsyncFlow::from(asks_for_a_wait()), CancellationToken::new(), Instant::now());
    let options = RunOptions::new().cancel(token.clone());
    let mut state = vec![];
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        token.cancel();
    };

    let (result, ()) = tokio::join!(flow.run_async_with(&mut state, &options), cancel);

    assert!(matches!(result, Err(RunError::Cancelled { .. })));
    assert_eq!(start.elapsed(), Duration::from_millis(100));
}
