//! A run as a stream of its events (LESSONS rows 16, 17).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{future::pending, sync::Arc};

use crate::common::{Alive, Count, Meeting, Recorder, alone, async_items, awaiting, blocking, line, secs};
use flowstone_core::{
    AsyncFlow, CancellationToken, Context, Event, EventKind, NodeExt, Outcome, Retry, RunError, RunOptions,
};
use futures_util::{StreamExt, poll};
use tokio::{sync::Notify, time::sleep};

/// Two nodes, the first of which is tried twice.
fn flow() -> AsyncFlow<Vec<u32>> {
    let mut flow = AsyncFlow::builder("two");
    let first = flow.add(
        "first",
        awaiting(|cx| async move {
            sleep(secs(1)).await;
            if cx.attempt() == 0 { Err("not yet".into()) } else { Ok(1) }
        })
        .retry(Retry::attempts(2).fixed(secs(5))),
    );
    let second = flow.add("second", |state: &mut Vec<u32>| state.push(2));
    flow.start(first);
    flow.route(first >> second);
    flow.build().unwrap()
}

fn lines(events: &[Event]) -> Vec<String> {
    events.iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_the_events_that_a_listener_gets() {
    let flow = flow();
    let recorder = Recorder::default();

    let mut states = [vec![], vec![]];
    flow.run_async_with(&mut states[0], &RunOptions::new().listen(recorder.clone())).await.unwrap();
    let events: Vec<_> = flow.stream(&mut states[1], RunOptions::new()).collect().await;

    assert_eq!(lines(&events), recorder.lines());
    assert_eq!(states, [[1, 2], [1, 2]]);
    assert!(events.last().unwrap().is_terminal());
}

#[tokio::test(start_paused = true)]
async fn a_listener_of_ones_own_hears_what_the_stream_gives() {
    let flow = flow();
    let recorder = Recorder::default();

    let mut state = vec![];
    let events: Vec<_> = flow.stream(&mut state, RunOptions::new().listen(recorder.clone())).collect().await;

    assert_eq!(lines(&events), recorder.lines());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_its_terminal_event_and_stays_ended() {
    let flow: AsyncFlow<Vec<u32>> = alone(awaiting(|_| async { Err("broken".into()) }));

    let mut state = vec![];
    let mut stream = flow.stream(&mut state, RunOptions::new());
    let mut last = None;
    while let Some(event) = stream.next().await {
        assert!(last.as_ref().is_none_or(|event: &Event| !event.is_terminal()));
        last = Some(event);
    }

    assert!(matches!(last.unwrap().kind, EventKind::Failed { .. }));
    assert!(stream.next().await.is_none() && stream.next().await.is_none());
    assert!(matches!(stream.outcome().await, Err(RunError::Node { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_outcome_can_be_had_at_any_time() {
    let flow = flow();

    for taken in 0..9 {
        let mut state = vec![];
        let mut stream = flow.stream(&mut state, RunOptions::new());
        for _ in 0..taken {
            stream.next().await;
        }
        let outcome = stream.outcome().await.unwrap();

        assert!(matches!(outcome, Outcome::Ended(_)), "after {taken} events");
        assert_eq!(state, [1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_stream_drops_its_run() {
    let alive = Alive::default();
    let begun = alive.clone();
    let flow: AsyncFlow<Vec<()>> = alone(
        async_items(5, move |_, _| {
            let life = begun.begin();
            async move {
                pending::<()>().await;
                life.finish();
                Ok(())
            }
        })
        .parallel(5),
    );
    let recorder = Recorder::default();

    let mut state = vec![];
    {
        let mut stream = flow.stream(&mut state, RunOptions::new().listen(recorder.clone()));
        while alive.now() < 5 {
            stream.next().await;
        }
    }

    assert_eq!(alive.now(), 0);
    assert_eq!(recorder.events().iter().filter(|event| event.is_terminal()).count(), 1);
    assert_eq!(recorder.lines().last().unwrap(), "failed");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_polled_does_nothing() {
    let calls = Count::default();
    let counted = calls.clone();
    let flow = alone(move |n: &mut usize| *n = counted.up());

    let mut n = 0;
    drop(flow.stream(&mut n, RunOptions::new()));
    sleep(secs(10)).await;

    assert_eq!(calls.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_slows_the_run_down() {
    let calls = Count::default();
    let counted = calls.clone();
    let mut flow = AsyncFlow::builder("loop");
    let node = flow.add(
        "node",
        awaiting(move |_| {
            let counted = counted.clone();
            async move {
                tokio::task::yield_now().await;
                Ok(counted.up())
            }
        }),
    );
    flow.start(node);
    flow.route(node >> node);
    let flow = flow.build().unwrap();

    let mut state = vec![];
    let mut stream = flow.stream(&mut state, RunOptions::new());
    for read in 1..=30 {
        stream.next().await;
        sleep(secs(60)).await;
        // Three events a visit: the run is never ahead of its reader by more than it did in one go.
        assert!(calls.get() <= read / 3 + 2, "{} calls after {read} events", calls.get());
    }
}

#[tokio::test]
async fn what_a_blocking_thread_emits_wakes_the_reader() {
    let meeting = Meeting::of(2);
    let answer = meeting.clone();
    let flow = alone(blocking(move |cx| {
        cx.emit("are you there?");
        Ok(answer.met())
    }));

    let mut state = vec![];
    let mut stream = flow.stream(&mut state, RunOptions::new());
    while let Some(event) = stream.next().await {
        if matches!(event.kind, EventKind::Emitted { .. }) {
            // The blocking exec goes on only after the reader has its event.
            assert!(meeting.met());
        }
    }
    stream.outcome().await.unwrap();

    assert_eq!(state, [true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_spawned_items_emit_is_all_there() {
    let node = async_items(50, |item, cx| async move {
        for part in 0..20 {
            cx.emit(part);
            tokio::task::yield_now().await;
        }
        Ok(item)
    });
    let flow: AsyncFlow<Vec<usize>> = alone(node.parallel(8).spawned());

    let mut state = vec![];
    let events: Vec<_> = flow.stream(&mut state, RunOptions::new()).collect().await;

    let emitted = events.iter().filter(|event| matches!(event.kind, EventKind::Emitted { .. })).count();
    assert_eq!((emitted, events.iter().filter(|event| event.is_terminal()).count()), (1_000, 1));
    assert!(events.last().unwrap().is_terminal());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_stream_ends_with_a_terminal_event() {
    let flow: AsyncFlow<Vec<u32>> = alone(awaiting(|_| pending()));
    let (token, ready) = (CancellationToken::new(), Arc::new(Notify::new()));

    let mut state = vec![];
    let mut stream = flow.stream(&mut state, RunOptions::new().cancel(token.clone()));
    while !matches!(poll!(stream.next()), std::task::Poll::Pending) {
        ready.notify_one();
    }
    token.cancel();
    let rest: Vec<_> = stream.by_ref().collect().await;

    assert_eq!(lines(&rest), ["node failed"]);
    assert!(matches!(stream.outcome().await, Err(RunError::Cancelled { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_stream_can_be_read_in_another_task() {
    let flow = flow();

    let last = tokio::spawn(async move {
        let mut state = vec![];
        let events: Vec<_> = flow.stream(&mut state, RunOptions::new()).collect().await;
        events.last().map(line)
    });

    assert_eq!(last.await.unwrap().unwrap(), "ended");
}

#[tokio::test]
async fn a_slow_reader_misses_what_comes_at_once_and_is_told_how_much() {
    let flow = alone(awaiting(async |cx: Context| {
        (0..5_000).for_each(|n| cx.emit(n));
        Ok(1)
    }));
    let mut state = vec![];

    let events: Vec<Event> = flow.stream(&mut state, RunOptions::new()).collect().await;

    let emitted: Vec<u64> = events
        .iter()
        .filter_map(|event| if let EventKind::Emitted { value } = &event.kind { value.as_u64() } else { None })
        .collect();
    let missed = events
        .iter()
        .filter_map(|event| if let EventKind::Missed { events } = event.kind { Some(events) } else { None });
    assert!(events.len() < 1_100 && emitted.iter().copied().eq(0..emitted.len() as u64), "{}", events.len());
    // The end of the visit is one of them, too.
    assert!((5_000..5_002).contains(&(emitted.len() as u64 + missed.sum::<u64>())));
    assert!(events.last().unwrap().is_terminal());
    assert_eq!(events.iter().filter(|event| event.is_terminal()).count(), 1);
}
