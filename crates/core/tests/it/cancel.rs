//! A run that is told to stop by its token: no retry, no fallback, nothing left behind (SEMANTICS rows 6, 32).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{future::pending, sync::Arc};

use crate::common::{Alive, Count, Log, alone, alone_sync, async_items, awaiting, blocking, ended, items, secs};
use flowstone_core::{
    AsyncFlow, CancellationToken, Context, Event, EventKind, Flow, ManualClock, NodeExt, Result, Retry, RunError,
    RunOptions,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

fn cancellable(token: &CancellationToken) -> RunOptions {
    RunOptions::new().cancel(token.clone()).id("r1")
}

/// A token that is cancelled after some time of the paused clock.
fn cancelled_after(seconds: u64) -> CancellationToken {
    let token = CancellationToken::new();
    let late = token.clone();
    tokio::spawn(async move {
        sleep(secs(seconds)).await;
        late.cancel();
    });
    token
}

/// The node that was being visited by a run that was cancelled.
fn cancelled_at(error: &RunError) -> String {
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
    error.node().to_string()
}

/// An async `exec` that never ends, in the second of three nodes.
fn stuck(alive: &Alive) -> AsyncFlow<Vec<u32>> {
    let mut flow = AsyncFlow::builder("stuck");
    let alive = alive.clone();
    let last = flow.add("last", |state: &mut Vec<u32>| state.push(3));
    let wait = flow.add(
        "wait",
        awaiting(move |_| {
            let life = alive.begin();
            async move {
                pending::<()>().await;
                life.finish();
                Ok(2)
            }
        })
        .or(|_, _| Ok(99))
        .retry(Retry::attempts(5)),
    );
    let first = flow.add("first", |state: &mut Vec<u32>| state.push(1));
    flow.start(first);
    flow.route(first >> wait >> last);
    flow.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_async_exec_is_dropped_at_once_and_the_error_names_its_node() {
    let alive = Alive::default();
    let flow = stuck(&alive);

    let before = Instant::now();
    let mut state = vec![];
    let error = flow.run_async_with(&mut state, &cancellable(&cancelled_after(5))).await.unwrap_err();

    assert_eq!(error.to_string(), "run `r1`: cancelled at node `wait`");
    assert_eq!(before.elapsed().as_secs(), 5);
    assert_eq!((alive.begun(), alive.finished(), alive.now()), (1, 0, 0));
    assert_eq!(state, [1]);
}

#[tokio::test]
async fn an_async_run_that_is_cancelled_before_it_starts_does_nothing_and_names_its_start() {
    let flow = stuck(&Alive::default());
    let token = CancellationToken::new();
    token.cancel();

    let mut state = vec![];
    let error = flow.run_async_with(&mut state, &cancellable(&token)).await.unwrap_err();

    assert_eq!(cancelled_at(&error), "first");
    assert!(state.is_empty());
}

#[test]
fn a_sync_run_that_is_cancelled_before_it_starts_does_nothing_and_names_its_start() {
    let mut flow = Flow::builder("two");
    let last = flow.add("last", |n: &mut u32| *n += 10);
    let first = flow.add("first", |n: &mut u32| *n += 1);
    flow.start(first);
    flow.route(first >> last);
    let token = CancellationToken::new();
    token.cancel();

    let mut n = 0;
    let error = flow.build().unwrap().run_with(&mut n, &cancellable(&token)).unwrap_err();

    assert_eq!(cancelled_at(&error), "first");
    assert_eq!(n, 0);
}

#[tokio::test(start_paused = true)]
async fn an_async_run_is_cancelled_during_a_retry_wait() {
    let calls = Count::default();
    let counted = calls.clone();
    let node = awaiting(move |_| {
        counted.up();
        async { Err("broken".into()) }
    });
    let flow = alone(node.or(|_, _| Ok(1)).retry(Retry::attempts(3).fixed(secs(100))));

    let before = Instant::now();
    let mut state = vec![];
    let error = flow.run_async_with(&mut state, &cancellable(&cancelled_after(150))).await.unwrap_err();

    assert_eq!(cancelled_at(&error), "node");
    assert_eq!((before.elapsed().as_secs(), calls.get()), (150, 2));
    assert!(state.is_empty());
}

#[test]
fn a_sync_run_is_cancelled_during_a_retry_wait() {
    let (calls, token) = (Count::default(), CancellationToken::new());
    let (counted, cancel) = (calls.clone(), token.clone());
    let node = blocking(move |_| {
        counted.up();
        Err("broken".into())
    });
    let flow = alone_sync(node.or(|_, _| Ok(1)).retry(Retry::attempts(3).fixed(secs(2))));

    /// Cancels the token while the run sleeps.
    #[derive(Debug)]
    struct Clock(ManualClock, CancellationToken);

    impl flowstone_core::Clock for Clock {
        fn now(&self) -> std::time::Duration {
            self.0.now()
        }

        fn sleep(&self, wait: std::time::Duration) {
            self.0.sleep(wait);
            if self.now() >= secs(3) {
                self.1.cancel();
            }
        }
    }

    let clock = Arc::new(Clock(ManualClock::default(), cancel));
    let mut state = vec![];
    let error = flow.run_with(&mut state, &cancellable(&token).clock(clock.clone())).unwrap_err();

    assert_eq!(cancelled_at(&error), "node");
    assert_eq!((flowstone_core::Clock::now(&*clock), calls.get()), (secs(3), 2));
    assert!(state.is_empty());
}

#[tokio::test]
async fn an_exec_that_fails_when_it_is_cancelled_has_no_retry_and_no_fallback() {
    let log = Log::default();
    let node = |kind: &'static str, token: &CancellationToken| {
        let (note, fallback, token) = (log.clone(), log.clone(), token.clone());
        blocking(move |cx: &Context| {
            note.push(format!("{kind} exec"));
            token.cancel();
            assert!(cx.cancelled());
            Err("cancelled".into())
        })
        .or(move |_, _| {
            fallback.push(format!("{kind} fallback"));
            Ok(1)
        })
        .retry(Retry::attempts(5))
    };
    let tokens = [(); 3].map(|()| CancellationToken::new());

    let sync = alone_sync(node("sync", &tokens[0])).run_with(&mut vec![], &cancellable(&tokens[0]));
    let pooled = alone(node("pooled", &tokens[1])).run_async_with(&mut vec![], &cancellable(&tokens[1])).await;
    let inline = alone(node("inline", &tokens[2]).inline()).run_async_with(&mut vec![], &cancellable(&tokens[2])).await;

    for result in [sync, pooled, inline] {
        assert_eq!(cancelled_at(&result.unwrap_err()), "node");
    }
    assert_eq!(log.lines(), ["sync exec", "pooled exec", "inline exec"]);
}

#[test]
fn a_sync_batch_stops_before_its_next_item() {
    let (calls, token) = (Count::default(), CancellationToken::new());
    let (counted, cancel) = (calls.clone(), token.clone());
    let flow: Flow<Vec<Result<()>>> = alone_sync(items(9, move |item, _| {
        counted.up();
        if item == 3 {
            cancel.cancel();
        }
        Ok(())
    }));

    let mut state = vec![];
    let error = flow.run_with(&mut state, &cancellable(&token)).unwrap_err();

    assert_eq!(cancelled_at(&error), "node");
    assert_eq!((calls.get(), state.len()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_collects_nothing() {
    let alive = Alive::default();
    let begun = alive.clone();
    let node = async_items(9, move |item, _| {
        let life = begun.begin();
        async move {
            sleep(secs(item as u64 * 2)).await;
            life.finish();
            Ok(())
        }
    });
    let flow: AsyncFlow<Vec<Result<()>>> = alone(node.parallel(9));

    let mut state = vec![];
    let error = flow.run_async_with(&mut state, &cancellable(&cancelled_after(5))).await.unwrap_err();

    assert_eq!(cancelled_at(&error), "node");
    assert_eq!((state.len(), alive.finished(), alive.now()), (0, 3, 0));
}

#[tokio::test]
async fn a_blocking_exec_is_told_and_waited_for() {
    let (alive, begun, token) = (Alive::default(), Arc::new(Notify::new()), CancellationToken::new());
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
    let options = cancellable(&token);
    let cancel = async {
        begun.notified().await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(flow.run_async_with(&mut state, &options), cancel);

    assert_eq!(cancelled_at(&result.unwrap_err()), "node");
    assert_eq!((alive.begun(), alive.finished(), alive.now()), (1, 1, 0));
    assert!(state.is_empty(), "the result of a cancelled exec is discarded");
}

#[test]
fn a_sync_run_stops_before_its_next_visit() {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let mut flow = Flow::builder("two");
    let first = flow.add("first", move |n: &mut u32| {
        *n += 1;
        cancel.cancel();
    });
    let second = flow.add("second", |n: &mut u32| *n += 10);
    flow.start(first);
    flow.route(first >> second);

    let mut n = 0;
    let error = flow.build().unwrap().run_with(&mut n, &cancellable(&token)).unwrap_err();

    assert_eq!(cancelled_at(&error), "second");
    assert_eq!(n, 1);
}

#[test]
fn a_token_that_is_never_cancelled_changes_nothing() {
    let flow = alone_sync(blocking(|cx| Ok(cx.cancelled())));

    let mut state = vec![];
    ended(flow.run_with(&mut state, &cancellable(&CancellationToken::new())));

    assert_eq!(state, [false]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_names_the_node_inside_nested_flows() {
    let mut inner = AsyncFlow::builder("inner");
    let quick = inner.add("quick", |_: &mut Vec<u32>| ());
    let slow = inner.add("slow", awaiting(|_| pending()));
    inner.start(quick);
    inner.route(quick >> slow);
    let mut outer = AsyncFlow::builder("outer");
    let deep = outer.add("deep", inner.build().unwrap());
    outer.start(deep);
    let flow = outer.build().unwrap();

    let error = flow.run_async_with(&mut vec![], &cancellable(&cancelled_after(1))).await.unwrap_err();

    assert_eq!(cancelled_at(&error), "deep/slow");
}

#[tokio::test(start_paused = true)]
async fn an_async_run_that_only_computes_can_be_cancelled() {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let mut flow = AsyncFlow::builder("spin");
    let spin = flow.add("spin", move |n: &mut u64| {
        *n += 1;
        if *n == 1_000 {
            cancel.cancel();
        }
    });
    flow.start(spin);
    flow.route(spin >> spin);

    let mut n = 0;
    let error = flow.build().unwrap().run_async_with(&mut n, &cancellable(&token)).await.unwrap_err();

    assert_eq!(cancelled_at(&error), "spin");
    assert_eq!(n, 1_000);
}

/// Runs something on a runtime whose only blocking thread is taken all the while.
fn with_a_full_pool<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let ended = runtime.block_on(async {
        let other = tokio::task::spawn_blocking(move || held.recv());
        let ended = tokio::time::timeout(secs(20), work).await.expect("it waits for a thread of the pool");
        assert!(!other.is_finished());
        ended
    });
    drop(release);
    ended
}

#[test]
fn a_job_that_waits_for_a_thread_does_not_keep_a_cancelled_run() {
    let calls = Count::default();
    let (in_node, in_job) = (calls.clone(), calls.clone());
    let node = alone(blocking(move |_| Ok(in_node.up())));
    let job = alone(awaiting(move |cx| {
        let counted = in_job.clone();
        async move { cx.blocking(move |_| Ok(counted.up())).await }
    }));
    for flow in [node, job] {
        let error = with_a_full_pool(async {
            let token = CancellationToken::new();
            let late = token.clone();
            tokio::spawn(async move {
                sleep(std::time::Duration::from_millis(20)).await;
                late.cancel();
            });
            flow.run_async_with(&mut vec![], &cancellable(&token)).await.unwrap_err()
        });
        assert_eq!(cancelled_at(&error), "node");
    }
    assert_eq!(calls.get(), 0);
}

#[test]
fn a_job_that_waits_for_a_thread_does_not_keep_an_attempt_that_is_out_of_time() {
    let (calls, attempts) = (Count::default(), Count::default());
    let (counted, heard, token) = (calls.clone(), attempts.clone(), CancellationToken::new());
    let flow = alone(
        blocking(move |_| Ok(counted.up())).timeout(std::time::Duration::from_millis(20)).retry(Retry::attempts(3)),
    );
    let late = token.clone();
    let options = cancellable(&token).listen(move |event: &Event| {
        // Its fallback would take a thread, too.
        if matches!(event.kind, EventKind::AttemptStarted) && heard.up() + 1 == 3 {
            late.cancel();
        }
    });

    let error = with_a_full_pool(async { flow.run_async_with(&mut vec![], &options).await.unwrap_err() });

    assert_eq!((cancelled_at(&error).as_str(), attempts.get(), calls.get()), ("node", 3, 0));
}
