//! `Context::blocking`: a job on the pool is told when nobody waits for it, and its run returns when it has ended.

use std::{thread::current, time::Duration};

use crate::common::{Alive, Count, alone, async_items, awaiting, blocking, ended, ms, named};
use flowstone_core::{
    AsyncFlow, Context, NodeExt, Phase, Result, Retry, RunError, RunOptions, TimedOut, driver::Visit,
};
use futures_util::poll;
use tokio::task::yield_now;

/// The time of an attempt that is to run out of it: long enough that its job begins first, however busy the machine is.
const TIME: Duration = Duration::from_millis(200);

/// A job that goes on until it is told to stop, and some time after.
async fn until_told(alive: Alive, cx: Context) -> Result<u32> {
    let job = move |cx: &Context| {
        let life = alive.begin();
        while !cx.cancelled() {
            std::thread::sleep(ms(1));
        }
        std::thread::sleep(ms(20));
        life.finish();
        Ok(1)
    };
    cx.blocking(job).await
}

/// A flow whose node runs such a job.
fn hanging(alive: &Alive) -> AsyncFlow<Vec<u32>> {
    let alive = alive.clone();
    alone(awaiting(move |cx| until_told(alive.clone(), cx)).timeout(TIME))
}

async fn run(flow: &AsyncFlow<Vec<u32>>, options: Option<&RunOptions>) -> (Vec<u32>, Result<(), RunError>) {
    let mut state = vec![];
    let result = match options {
        None => flow.run_async(&mut state).await,
        Some(options) => flow.run_async_with(&mut state, options).await,
    };
    (state, result.map(drop))
}

fn with_and_without_options() -> [Option<RunOptions>; 3] {
    [None, Some(RunOptions::new()), Some(RunOptions::new().id("r1"))]
}

#[tokio::test]
async fn a_job_leaves_the_thread_of_the_run() {
    let flow = alone(awaiting(|cx| async move { cx.blocking(|_| Ok(current().id())).await }));

    let mut seen = vec![];
    ended(flow.run_async(&mut seen).await);

    assert_ne!(seen, [current().id()]);
}

#[tokio::test]
async fn a_job_whose_attempt_is_out_of_time_is_told_and_awaited() {
    for options in with_and_without_options() {
        let alive = Alive::default();

        let (state, result) = run(&hanging(&alive), options.as_ref()).await;

        let Err(RunError::Node { source, .. }) = result else { panic!("{result:?}") };
        assert!(source.is::<TimedOut>(), "{source}");
        assert_eq!((alive.begun(), alive.finished(), state.len()), (1, 1, 0), "{options:?}");
    }
}

#[tokio::test]
async fn a_job_whose_sibling_fails_is_told_and_awaited() {
    for options in with_and_without_options() {
        let alive = Alive::default();
        let living = alive.clone();
        let flow = alone(
            async_items(2, move |item, cx| {
                let living = living.clone();
                async move {
                    if item == 1 {
                        return until_told(living, cx).await;
                    }
                    while living.begun() == 0 {
                        yield_now().await;
                    }
                    Err("down".into())
                }
            })
            .parallel(2),
        );

        let (_, result) = run(&flow, options.as_ref()).await;

        assert!(result.is_err());
        assert_eq!((alive.begun(), alive.finished()), (1, 1), "{options:?}");
    }
}

#[tokio::test]
async fn a_job_that_exec_itself_drops_is_told_and_awaited() {
    for options in with_and_without_options() {
        let alive = Alive::default();
        let living = alive.clone();
        let flow = alone(awaiting(move |cx| {
            let living = living.clone();
            async move { Ok(u32::from(tokio::time::timeout(TIME, until_told(living, cx)).await.is_err())) }
        }));

        let (state, result) = run(&flow, options.as_ref()).await;

        assert!(result.is_ok(), "{result:?}");
        assert_eq!((state, alive.begun(), alive.finished()), (vec![1], 1, 1), "{options:?}");
    }
}

#[tokio::test]
async fn a_job_of_a_flow_inside_an_exec_is_awaited_by_the_run() {
    for options in with_and_without_options() {
        let alive = Alive::default();
        let living = alive.clone();
        let inner = named("inner", awaiting(move |cx| until_told(living.clone(), cx)));
        let outer = awaiting(move |cx| {
            let inner = inner.clone();
            async move { inner.run_in(vec![], &cx).await.map(|(state, _): (Vec<u32>, _)| state[0]) }
        });

        let (_, result) = run(&alone(outer.timeout(TIME)), options.as_ref()).await;

        assert!(result.is_err());
        assert_eq!((alive.begun(), alive.finished()), (1, 1), "{options:?}");
    }
}

#[tokio::test]
async fn a_visit_that_a_driver_makes_awaits_the_jobs_of_attempts_before() {
    let alive = Alive::default();
    let living = alive.clone();
    let node = awaiting(move |cx: Context| {
        let living = living.clone();
        async move { if cx.attempt() == 0 { until_told(living, cx).await } else { Ok(2) } }
    });
    let flow = alone(node.timeout(TIME).retry(Retry::attempts(2)));

    let (mut state, mut cx) = (vec![], flow.context(&RunOptions::new()));
    let visit = flow.visit(flow.start(), &mut state, &mut cx).await.unwrap();

    assert!(matches!(visit, Visit::End { .. }), "{visit:?}");
    assert_eq!((state, alive.begun(), alive.finished()), (vec![2], 1, 1));
}

/// The most that were alive at once, of a job that goes on for a while after its attempt is out of time.
async fn most_attempts_at_once(flow: AsyncFlow<Vec<u32>>, alive: &Alive) -> usize {
    for options in with_and_without_options() {
        let (_, result) = run(&flow, options.as_ref()).await;
        assert!(result.is_err());
    }
    // An attempt may be out of time before the pool has begun its job.
    assert_eq!(alive.begun(), alive.finished());
    assert!((1..=9).contains(&alive.begun()), "{}", alive.begun());
    alive.most()
}

#[tokio::test]
async fn an_attempt_begins_when_the_jobs_of_the_last_have_ended() {
    let alive = Alive::default();
    let living = alive.clone();
    let node = awaiting(move |cx| until_told(living.clone(), cx));

    let flow = alone(node.timeout(ms(10)).retry(Retry::attempts(3)));

    assert_eq!(most_attempts_at_once(flow, &alive).await, 1);
}

#[tokio::test]
async fn an_attempt_begins_when_what_a_flow_inside_the_last_has_started_has_ended() {
    let alive = Alive::default();
    let (first, second) = (alive.clone(), alive.clone());
    let awaits = named("inner", awaiting(move |cx| until_told(first.clone(), cx)));
    let blocks = named(
        "inner",
        blocking(move |cx| {
            let life = second.begin();
            while !cx.cancelled() {
                std::thread::sleep(ms(1));
            }
            std::thread::sleep(ms(20));
            life.finish();
            Ok(1)
        }),
    );

    for inner in [awaits, blocks] {
        let alive_before = alive.begun();
        let outer = awaiting(move |cx| {
            let inner = inner.clone();
            async move { inner.run_in(vec![], &cx).await.map(|(state, _): (Vec<u32>, _)| state[0]) }
        });
        let flow = alone(outer.timeout(ms(10)).retry(Retry::attempts(3)));
        run(&flow, None).await.1.unwrap_err();
        assert_eq!((alive.begun(), alive.most()), (alive.finished(), 1));
        assert!((1..=3).contains(&(alive.begun() - alive_before)), "{}", alive.begun());
    }
}

#[tokio::test]
async fn a_job_is_told_when_its_run_is_dropped() {
    let alive = Alive::default();
    let living = alive.clone();
    let flow = alone(awaiting(move |cx| until_told(living.clone(), cx)));

    let mut state = vec![];
    {
        let mut run = std::pin::pin!(flow.run_async(&mut state));
        while alive.begun() == 0 {
            assert!(poll!(run.as_mut()).is_pending());
        }
    }

    // It was told: otherwise this would go on for ever.
    while alive.now() > 0 {
        yield_now().await;
    }
    assert_eq!((alive.finished(), state.len()), (1, 0));
}

#[tokio::test]
async fn what_a_job_returns_after_it_was_told_of_the_deadline_is_discarded() {
    let fallbacks = Count::default();
    let counted = fallbacks.clone();
    let exec = |cx: Context| async move {
        let job = |cx: &Context| {
            while !cx.cancelled() {
                std::hint::spin_loop();
            }
            Ok(1)
        };
        cx.blocking(job).await
    };
    let node = awaiting(exec).or(move |_, _| Ok(counted.up() as u32));
    let flow = alone(node.retry(Retry::attempts(3)));

    let (state, result) = run(&flow, Some(&RunOptions::new().deadline(ms(10)))).await;

    assert!(matches!(result, Err(RunError::DeadlineExceeded { .. })), "{result:?}");
    assert_eq!((state.len(), fallbacks.get()), (0, 0));
}

#[tokio::test]
async fn a_panic_of_a_job_is_the_nodes_error() {
    let flow =
        alone(awaiting(|cx| async move { cx.blocking(|_| -> Result<u32> { panic!("the job is too hard") }).await }));

    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    let RunError::Node { phase: Phase::Exec, attempts: 1, source, .. } = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "panicked: the job is too hard");
}

#[tokio::test]
async fn a_job_is_not_told_by_the_end_of_another() {
    let exec = |cx: Context| async move {
        let dropped = cx.blocking(|_| {
            std::thread::sleep(ms(5));
            Ok(())
        });
        drop(tokio::time::timeout(Duration::ZERO, dropped).await);
        cx.blocking(|cx| Ok((cx.cancelled(), cx.attempt()))).await
    };

    let mut state = vec![];
    ended(alone(awaiting(exec)).run_async(&mut state).await);

    assert_eq!(state, [(false, 0)]);
    assert!(Context::detached().blocking(|cx| Ok(!cx.cancelled())).await.is_ok_and(|wanted| wanted));
}

#[tokio::test]
async fn many_runs_without_options_wait_for_their_own_jobs_only() {
    let (alive, counted) = (Alive::default(), Count::default());
    let slow = hanging(&alive);
    let quick = alone(awaiting(move |cx| {
        let counted = counted.clone();
        async move { cx.blocking(move |_| Ok(counted.up())).await }
    }));

    let (mut slow_state, mut states) = (vec![], vec![]);
    let mut waits = std::pin::pin!(slow.run_async(&mut slow_state));
    while alive.begun() == 0 {
        assert!(poll!(waits.as_mut()).is_pending());
    }
    for _ in 0..100 {
        let mut state = vec![];
        ended(quick.run_async(&mut state).await);
        states.extend(state);
    }

    assert_eq!((states.len(), alive.begun()), (100, 1));
    assert!(waits.await.is_err());
    assert_eq!(alive.finished(), 1);
}
