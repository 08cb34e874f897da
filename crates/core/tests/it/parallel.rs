//! Items of a batch that are under way at once (SEMANTICS rows 7, 29, 30; LESSONS rows 1, 2, 18, 22).

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use crate::common::{Alive, Count, Meeting, alone, async_items, ended, items, ms, rest, secs};
use flowstone_core::{AsyncFlow, Context, NodeExt, Result, Retry, RunError};
use tokio::time::{Instant, sleep};

const MANY: usize = 10_000;

#[tokio::test(start_paused = true)]
async fn many_waiting_items_take_the_time_of_one() {
    let node = async_items(MANY, |item, _| async move {
        sleep(secs(1)).await;
        Ok(item)
    });
    let flow = alone(node.parallel(usize::MAX));

    let before = Instant::now();
    let mut state: Vec<usize> = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(before.elapsed().as_secs(), 1);
    assert!(state.into_iter().eq(0..MANY));
}

#[tokio::test(start_paused = true)]
async fn items_one_after_another_take_the_sum_of_their_times() {
    let flow: AsyncFlow<Vec<()>> = alone(async_items(10, |_, _| rest(secs(1))));

    let before = Instant::now();
    ended(flow.run_async(&mut vec![]).await);

    assert_eq!(before.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_next_item_begins_when_one_is_done() {
    let node = async_items(100, |_, _| rest(secs(1)));
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(10));

    let before = Instant::now();
    ended(flow.run_async(&mut vec![]).await);

    assert_eq!(before.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_slow_item_does_not_hold_up_the_others() {
    let node = async_items(20, |item, _| rest(secs(if item == 0 { 10 } else { 1 })));
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(2));

    let before = Instant::now();
    ended(flow.run_async(&mut vec![]).await);

    assert_eq!(before.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn outputs_are_in_input_order_whatever_the_delays() {
    let slow_first = |item: usize, _| async move {
        sleep(ms((7_400 - item as u64 * 37) % 500)).await;
        Ok(item)
    };
    let flows: [AsyncFlow<Vec<usize>>; 4] = [
        alone(async_items(200, slow_first)),
        alone(async_items(200, slow_first).parallel(7)),
        alone(async_items(200, slow_first).parallel(usize::MAX)),
        alone(async_items(200, slow_first).parallel(7).spawned()),
    ];

    for flow in flows {
        let mut state = vec![];
        ended(flow.run_async(&mut state).await);
        assert!(state.into_iter().eq(0..200));
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_used_and_never_exceeded() {
    for limit in [1, 2, 7, 50] {
        let alive = Alive::default();
        let exec = |alive: &Alive| {
            let alive = alive.clone();
            move |item: usize, _: Context| {
                let life = alive.begin();
                async move {
                    sleep(ms(item as u64 % 13)).await;
                    life.finish();
                    Ok(())
                }
            }
        };
        let flows: [AsyncFlow<Vec<()>>; 2] = [
            alone(async_items(300, exec(&alive)).parallel(limit)),
            alone(async_items(300, exec(&alive)).parallel(limit).spawned()),
        ];

        for flow in flows {
            ended(flow.run_async(&mut vec![]).await);
            assert_eq!(alive.most(), limit);
        }
        assert_eq!(alive.finished(), 600);
    }
}

#[tokio::test]
async fn the_limit_holds_for_items_in_the_pool() {
    let (alive, meeting) = (Alive::default(), Meeting::of(4));
    let begun = alive.clone();
    let node = items(40, move |item, _| {
        let life = begun.begin();
        if item < 4 {
            assert!(meeting.met(), "the first four items are not under way at once");
        }
        life.finish();
        Ok(())
    });
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(4));

    ended(flow.run_async(&mut vec![]).await);

    assert_eq!((alive.most(), alive.finished()), (4, 40));
}

/// The work of an item of many: it needs `item % 4` further attempts, and none may be another's.
fn needs(calls: &[AtomicU32], item: usize, cx: &Context) -> Result<u32> {
    let before = calls[item].fetch_add(1, SeqCst);
    assert_eq!(cx.attempt(), before, "item {item} has a counter that is not its own");
    if (before as usize) < item % 4 { Err("not yet".into()) } else { Ok(before) }
}

#[tokio::test(start_paused = true)]
async fn each_of_ten_thousand_parallel_items_gets_exactly_its_attempts() {
    for spawned in [false, true] {
        let calls: Arc<Vec<AtomicU32>> = Arc::new((0..MANY).map(|_| AtomicU32::new(0)).collect());
        let shared = Arc::clone(&calls);
        let node = async_items(MANY, move |item, cx| {
            let calls = Arc::clone(&shared);
            async move {
                sleep(ms(item as u64 % 7)).await;
                needs(&calls, item, &cx)
            }
        });
        let node = node.parallel(usize::MAX).retry(Retry::attempts(4).fixed(ms(5)));
        let flow: AsyncFlow<Vec<u32>> = if spawned { alone(node.spawned()) } else { alone(node) };

        let mut state = vec![];
        ended(flow.run_async(&mut state).await);

        assert!(state.into_iter().eq((0..MANY).map(|item| item as u32 % 4)));
        assert!(calls.iter().enumerate().all(|(item, calls)| calls.load(SeqCst) as usize == item % 4 + 1));
    }
}

#[tokio::test]
async fn each_of_ten_thousand_parallel_blocking_items_gets_exactly_its_attempts() {
    let calls: Arc<Vec<AtomicU32>> = Arc::new((0..MANY).map(|_| AtomicU32::new(0)).collect());
    let shared = Arc::clone(&calls);
    let node = items(MANY, move |item, cx| needs(&shared, item, cx));
    let flow: AsyncFlow<Vec<u32>> = alone(node.parallel(16).retry(Retry::attempts(4)));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert!(state.into_iter().eq((0..MANY).map(|item| item as u32 % 4)));
    assert!(calls.iter().enumerate().all(|(item, calls)| calls.load(SeqCst) as usize == item % 4 + 1));
}

#[tokio::test(start_paused = true)]
async fn the_siblings_of_a_failed_item_are_gone_when_the_run_returns() {
    for spawned in [false, true] {
        let (alive, effects) = (Alive::default(), Count::default());
        let (begun, effect) = (alive.clone(), effects.clone());
        let node = async_items(50, move |item, _| {
            let (life, effect) = (begun.begin(), effect.clone());
            async move {
                sleep(secs(if item == 7 { 1 } else { 5 })).await;
                if item == 7 {
                    return Err("seven broke".into());
                }
                effect.up();
                life.finish();
                Ok(())
            }
        });
        let node = node.parallel(20).retry(Retry::attempts(2));
        let flow: AsyncFlow<Vec<()>> = if spawned { alone(node.spawned()) } else { alone(node) };

        let before = Instant::now();
        let error = flow.run_async(&mut vec![]).await.unwrap_err();

        assert!(matches!(error, RunError::Node { item: Some(7), attempts: 2, .. }), "{error}");
        assert_eq!((before.elapsed().as_secs(), alive.now(), alive.begun()), (2, 0, 21));
        sleep(secs(60)).await;
        assert_eq!((effects.get(), alive.begun(), alive.finished()), (0, 21, 0));
    }
}

#[tokio::test]
async fn the_blocking_siblings_of_a_failed_item_are_told_and_awaited() {
    let (alive, meeting) = (Alive::default(), Meeting::of(4));
    let begun = alive.clone();
    let node = items(100, move |item, cx| {
        let life = begun.begin();
        assert!(meeting.met(), "four items are not under way at once");
        if item == 2 {
            return Err("two broke".into());
        }
        while !cx.cancelled() {
            std::thread::yield_now();
        }
        life.finish();
        Ok(())
    });
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(4));

    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    assert!(matches!(error, RunError::Node { item: Some(2), .. }), "{error}");
    assert_eq!((alive.begun(), alive.finished(), alive.now()), (4, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn every_item_is_tried_where_errors_are_collected() {
    let node = async_items(30, |item, _| async move {
        sleep(ms(item as u64)).await;
        if item % 10 == 0 { Err("broke".into()) } else { Ok(item) }
    });
    let flow: AsyncFlow<Vec<Result<usize>>> = alone(node.parallel(3));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    let failed: Vec<_> = (0..30).filter(|item| state[*item].is_err()).collect();
    assert_eq!((state.len(), failed), (30, vec![0, 10, 20]));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_waits_for_its_next_attempt_keeps_its_place() {
    let alive = Alive::default();
    let begun = alive.clone();
    let node = async_items(4, move |_, cx| {
        let life = begun.begin();
        async move {
            sleep(secs(1)).await;
            drop(life);
            if cx.attempt() == 0 { Err("first".into()) } else { Ok(()) }
        }
    });
    let flow: AsyncFlow<Vec<()>> = alone(node.parallel(2).retry(Retry::attempts(2).fixed(secs(10))));

    let before = Instant::now();
    ended(flow.run_async(&mut vec![]).await);

    assert_eq!((before.elapsed().as_secs(), alive.most()), (24, 2));
}
