//! A node that waits: by the clock of its run, and, where a driver keeps the run, over a crash.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::common::{Count, Kept, PARKS, Recorder, alone, alone_sync, ended, secs};
use flowstone_core::{
    Action, AsyncFlow, CancellationToken, Event, EventKind, Flow, ManualClock, Phase, RunError, RunOptions, Sleep,
    driver::{Execution, Visit},
};
use tokio::time::{Instant, advance, sleep};

#[test]
fn a_sync_flow_sleeps_by_its_clock() {
    let clock = Arc::new(ManualClock::default());
    let flow = alone_sync(Sleep::by(|n: &u64| secs(*n)));

    let action = ended(flow.run_with(&mut 90, &RunOptions::new().clock(clock.clone())));

    assert_eq!((action.as_str(), clock.sleeps()), ("default", vec![secs(90)]));
}

#[test]
fn a_cancelled_sync_flow_stops_sleeping() {
    let token = CancellationToken::new();
    let cancel = token.clone();
    let mut flow = Flow::builder("naps");
    let stop = flow.add("stop", move |_: &mut ()| cancel.cancel());
    let nap = flow.add("nap", Sleep::new(secs(3600)));
    flow.start(stop);
    flow.route(stop >> nap);

    let error = flow.build().unwrap().run_with(&mut (), &RunOptions::new().cancel(token)).unwrap_err();

    assert!(matches!(error, RunError::Cancelled { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_async_flow_sleeps_by_tokio() {
    let flow = alone(Sleep::new(secs(90)));
    let began = Instant::now();

    ended(flow.run_async(&mut ()).await);

    assert_eq!(began.elapsed(), secs(90));
}

#[tokio::test(start_paused = true)]
async fn a_time_that_is_past_is_not_waited_for() {
    let flow = alone(Sleep::until(|at: &SystemTime| *at));
    let began = Instant::now();

    let mut past = SystemTime::UNIX_EPOCH;
    ended(flow.run_async(&mut past).await);
    assert_eq!(began.elapsed(), secs(0));
    ended(flow.run_async(&mut (SystemTime::now() + secs(1000))).await);

    let slept = began.elapsed();
    assert!(slept > secs(900) && slept <= secs(1000), "{slept:?}");
}

#[tokio::test]
async fn what_the_time_is_made_by_may_panic() {
    let error = alone(Sleep::by(|_: &()| panic!("no time"))).run_async(&mut ()).await.unwrap_err();

    assert!(matches!(error, RunError::Node { phase: Phase::Prep, .. }), "{error:?}");
}

/// A flow that sleeps as long as its state says, and counts how often that was asked.
fn naps(asked: &Count) -> AsyncFlow<u64> {
    let asked = asked.clone();
    let mut flow = AsyncFlow::builder("naps");
    let nap = flow.add(
        "nap",
        Sleep::by(move |n: &u64| {
            asked.up();
            secs(*n)
        }),
    );
    let wake = flow.add("wake", |n: &mut u64| *n = 0);
    flow.start(nap);
    flow.route(nap >> wake);
    flow.build().unwrap()
}

async fn parked(kept: &Kept, run: &mut dyn Execution) -> Duration {
    match kept.drive(run).await {
        Ok(Visit::Sleep { wait }) => wait,
        visit => panic!("it sleeps: {visit:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_sleep_is_put_away_and_visited_again_as_the_same_visit() {
    let asked = Count::default();
    let flow = naps(&asked);
    let recorder = Recorder::default();
    let options = RunOptions::new().listen(recorder.clone()).max_visits(2);
    let kept = Kept::default();
    let began = Instant::now();

    let mut run = flow.execution(3600, &options);
    assert_eq!(parked(&kept, &mut run).await, secs(3600));
    assert_eq!((run.visits(), began.elapsed()), (0, secs(0)));
    advance(secs(600)).await;
    assert_eq!(parked(&kept, &mut run).await, secs(3000));
    advance(secs(3000)).await;
    kept.finish(&mut run).await;

    assert_eq!((run.into_state(), asked.get(), began.elapsed()), (0, 1, secs(3600)));
    let ends = |event: &&Event| matches!(event.kind, EventKind::VisitEnded { .. });
    let visits: Vec<u64> = recorder.events().iter().filter(ends).map(|event| event.visit).collect();
    assert_eq!(visits, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn another_process_wakes_on_time() {
    let asked = Count::default();
    let flow = naps(&asked);
    let kept = Kept::default();
    let began = Instant::now();

    parked(&kept, &mut flow.execution(100, &RunOptions::new())).await;
    sleep(secs(70)).await;
    let mut run = flow.execution(100, &RunOptions::new());
    kept.finish(&mut run).await;

    assert_eq!((began.elapsed(), asked.get()), (secs(100), 1));
    assert!(secs(30) < PARKS, "what is left is too short to be put away");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_woken_late_does_not_sleep_again() {
    let flow = naps(&Count::default());
    let kept = Kept::default();

    parked(&kept, &mut flow.execution(100, &RunOptions::new())).await;
    sleep(secs(500)).await;
    let began = Instant::now();
    kept.finish(&mut flow.execution(100, &RunOptions::new())).await;

    assert_eq!(began.elapsed(), secs(0));
}

#[tokio::test]
async fn a_sleep_that_cannot_be_kept_is_an_error() {
    let flow = naps(&Count::default());

    let error = Kept::broken("wait").drive(&mut flow.execution(100, &RunOptions::new().id("r1"))).await.unwrap_err();

    assert_eq!(error.report(), "run `r1`: node `nap`: what it has done could not be kept: the disk is full");
}

#[tokio::test(start_paused = true)]
async fn a_sleep_in_a_loop_sleeps_in_each_visit() {
    let mut flow = AsyncFlow::builder("loop");
    let nap = flow.add("nap", Sleep::new(secs(100)));
    let count = flow.add("count", |n: &mut u32| {
        *n += 1;
        Action::from(if *n < 3 { "again" } else { "enough" })
    });
    flow.start(nap);
    flow.route(nap >> count);
    flow.route(count - "again" >> nap);
    flow.route(count - "enough" >> flowstone_core::END);
    let flow = flow.build().unwrap();
    let kept = Kept::default();

    let mut waits = vec![];
    loop {
        match kept.drive(&mut flow.execution(0, &RunOptions::new())).await.unwrap() {
            Visit::Sleep { wait } => {
                waits.push(wait);
                sleep(wait).await;
            }
            Visit::End { .. } => break,
            visit => panic!("{visit:?}"),
        }
    }

    assert_eq!(waits, [secs(100); 3]);
}

#[tokio::test(start_paused = true)]
async fn until_waits_no_longer_than_was_left_when_it_began() {
    // The time of day stands still here, as with a clock that is set back all the time.
    let at = SystemTime::now() + secs(100);
    let mut flow = AsyncFlow::<u32>::builder("until");
    let sleep = flow.add("sleep", Sleep::until(move |_| at));
    flow.start(sleep);
    let began = Instant::now();

    flow.build().unwrap().run_async(&mut 0).await.unwrap();

    let took = began.elapsed();
    assert!(took > secs(90) && took <= secs(101), "{took:?}");
}
