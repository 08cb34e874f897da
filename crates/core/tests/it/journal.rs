//! Items of a journaled batch: recorded when they end, recalled by a later process, and lost by no failure.

use crate::common::{Count, Kept, Log, Recorder, alone, async_items, causes, items, ms};
use flowstone_core::{
    AsyncBatchNode, AsyncFlow, Context, Event, EventKind, Flow, NodeError, NodeExt, Phase, Result, Retry, RunError,
    RunOptions,
    driver::{Execution, ItemKey, StorageFault, Unstorable},
};

/// A batch of ten items in each mode in which items can be kept; `exec` is told the item.
fn in_every_mode(exec: impl Fn(usize) -> Result<u32> + Clone + Send + Sync + 'static) -> Vec<AsyncFlow<Vec<u32>>> {
    let sync = || {
        let exec = exec.clone();
        items(10, move |item, _| exec(item))
    };
    let waiting = || {
        let exec = exec.clone();
        async_items(10, move |item, _| {
            let exec = exec.clone();
            async move {
                tokio::task::yield_now().await;
                exec(item)
            }
        })
    };
    vec![
        alone(sync().journaled()),
        alone(sync().parallel(3).journaled()),
        alone(waiting().journaled()),
        alone(waiting().parallel(3).journaled()),
        alone(waiting().parallel(3).spawned().journaled()),
        alone(waiting().journaled().retry(Retry::attempts(1)).timeout(ms(60_000))),
    ]
}

#[tokio::test]
async fn only_items_that_are_not_recorded_run_again() {
    let modes = in_every_mode(|_| Ok(0)).len();
    for mode in 0..modes {
        let (ran, broken) = (Log::default(), Count::default());
        let (note, fails) = (ran.clone(), broken.clone());
        let flow = in_every_mode(move |item| {
            note.push(item.to_string());
            if item == 6 && fails.up() == 0 { Err("down".into()) } else { Ok(item as u32 * 2) }
        })
        .swap_remove(mode);
        let kept = Kept::default();

        let error = kept.drive(&mut flow.execution(vec![], &RunOptions::new())).await.unwrap_err();
        let recorded = kept.items();
        let before = ran.lines().len();
        let mut again = flow.execution(vec![], &RunOptions::new());
        kept.finish(&mut again).await;

        assert!(matches!(error, RunError::Node { item: Some(6), .. }), "{error:?}");
        assert!(recorded.len() >= 4 && !recorded.contains(&6), "mode {mode}: {recorded:?}");
        let mut later: Vec<usize> = ran.lines()[before..].iter().map(|item| item.parse().unwrap()).collect();
        later.sort_unstable();
        let missing: Vec<usize> = (0..10).filter(|item| !recorded.contains(item)).collect();
        assert_eq!(later, missing, "mode {mode}");
        assert_eq!(*again.state(), (0..10).map(|item| item * 2).collect::<Vec<_>>(), "mode {mode}");
        assert_eq!(kept.items().len(), 10, "mode {mode}");
    }
}

#[tokio::test]
async fn an_item_counts_when_it_is_recorded() {
    let kept = Kept::default();
    let log = kept.log.clone();
    let listen = move |event: &Event| {
        if let (EventKind::ItemEnded { error: None, recalled: false }, Some(item)) = (&event.kind, event.item) {
            log.push(format!("ended {item}"));
        }
    };
    let flow: AsyncFlow<Vec<u32>> = alone(async_items(2, |item, _| async move { Ok(item as u32) }).journaled());

    kept.finish(&mut flow.execution(vec![], &RunOptions::new().listen(listen))).await;

    assert_eq!(kept.log.lines(), ["record 0 0", "ended 0", "record 1 1", "ended 1"]);
}

#[tokio::test]
async fn an_item_that_is_recalled_ends_like_any_other_and_says_so() {
    let recorder = Recorder::default();
    let flow: AsyncFlow<Vec<u32>> = alone(async_items(2, |_, _| async { Ok(7_u32) }).journaled());
    let kept = Kept::default().with_item(0, "5");

    let mut run = flow.execution(vec![], &RunOptions::new().listen(recorder.clone()));
    kept.finish(&mut run).await;

    assert_eq!(run.into_state(), [5, 7]);
    assert_eq!(
        recorder.lines(),
        [
            "node visit_started",
            "node[0] item_ended",
            "node[1] attempt_started",
            "node[1] item_ended",
            "node visit_ended"
        ]
    );
    let recalled = recorder.events().into_iter().filter_map(|event| match event.kind {
        EventKind::ItemEnded { error: None, recalled } => Some((event.item.unwrap(), recalled)),
        _ => None,
    });
    assert_eq!(recalled.collect::<Vec<_>>(), [(0, true), (1, false)]);
}

#[tokio::test]
async fn what_a_fallback_gives_is_recorded() {
    let flow: AsyncFlow<Vec<u32>> =
        alone(async_items(1, |_, _| async { Err("down".into()) }).or(|_, _| Ok(3_u32)).journaled());
    let kept = Kept::default();

    kept.finish(&mut flow.execution(vec![], &RunOptions::new())).await;

    assert_eq!(kept.log.lines(), ["record 0 3"]);
}

#[tokio::test]
async fn a_batch_that_is_not_journaled_records_nothing() {
    let flow: AsyncFlow<Vec<u32>> = alone(async_items(3, |_, _| async { Ok(1_u32) }).parallel(2));
    let kept = Kept::default().with_item(0, "5");

    let mut run = flow.execution(vec![], &RunOptions::new());
    kept.finish(&mut run).await;

    assert_eq!(run.into_state(), [1, 1, 1]);
    assert!(kept.log.lines().is_empty());
}

#[tokio::test]
async fn without_a_journal_nothing_changes() {
    for flow in in_every_mode(|item| Ok(item as u32)) {
        let mut state = vec![];
        flow.run_async(&mut state).await.unwrap();

        assert_eq!(state, (0..10).collect::<Vec<_>>());
    }
    let mut flow = Flow::<Vec<u32>>::builder("sync");
    let node = flow.add("node", items(3, |item, _| Ok(item as u32)).journaled());
    flow.start(node);
    let mut state = vec![];
    flow.build().unwrap().run(&mut state).unwrap();
    assert_eq!(state, [0, 1, 2]);
}

#[tokio::test]
async fn a_sync_flow_made_async_keeps_its_items() {
    let mut flow = Flow::<Vec<u32>>::builder("sync");
    let node = flow.add("node", items(3, |item, _| Ok(item as u32)).journaled());
    flow.start(node);
    let flow = AsyncFlow::from(flow.build().unwrap());
    let kept = Kept::default();

    kept.finish(&mut flow.execution(vec![], &RunOptions::new())).await;

    assert_eq!(kept.items(), [0, 1, 2]);
}

/// Gives its items back as text, those that fail as an error.
struct Collected(Count);

impl AsyncBatchNode<Vec<String>> for Collected {
    type Item = u32;
    type Output = u32;
    type Outcome = Result<u32>;
    type Action = ();

    async fn prep(&self, _: &Vec<String>) -> Result<Vec<u32>> {
        Ok(vec![0, 1, 2])
    }

    async fn exec(&self, item: &u32, _: &Context) -> Result<u32> {
        self.0.up();
        if *item == 1 { Err("odd".into()) } else { Ok(*item) }
    }

    async fn post(&self, shared: &mut Vec<String>, _: Vec<u32>, outcomes: Vec<Result<u32>>) -> Result<()> {
        *shared = outcomes.into_iter().map(|outcome| outcome.map_or_else(|e| text(&e), |n| n.to_string())).collect();
        Ok(())
    }
}

/// An error and its causes in one line.
fn text(error: &NodeError) -> String {
    causes(error.source_ref())
}

#[tokio::test]
async fn a_failed_item_that_is_collected_is_not_recorded() {
    let flow = alone(Collected(Count::default()).parallel(3).journaled());
    let kept = Kept::default();

    let mut run = flow.execution(vec![], &RunOptions::new());
    kept.finish(&mut run).await;

    assert_eq!(run.into_state(), ["0", "odd", "2"]);
    assert_eq!(kept.items(), [0, 2]);
}

#[tokio::test]
async fn a_journal_that_fails_stops_the_run_and_is_neither_collected_nor_tried_again() {
    let count = Count::default();
    let flow = alone(Collected(count.clone()).journaled().retry(Retry::attempts(3)));
    let kept = Kept::broken("record");

    let error = kept.drive(&mut flow.execution(vec![], &RunOptions::new().id("r1"))).await.unwrap_err();
    let mut again = flow.execution(vec![], &RunOptions::new());
    kept.repaired().finish(&mut again).await;

    assert!(matches!(&error, RunError::Journal { node, item: Some(0), .. } if *node == "node"), "{error:?}");
    assert_eq!(error.report(), "run `r1`: node `node`, item 0: what it has done could not be kept: the disk is full");
    assert_eq!(again.into_state(), ["0", "odd", "2"]);
    assert_eq!(count.get(), 1 + 1 + 3 + 1);
}

/// A batch of two that counts what runs.
fn counted(ran: &Count) -> AsyncFlow<Vec<Vec<u32>>> {
    let ran = ran.clone();
    let node = async_items(2, move |_, _| {
        ran.up();
        async { Ok(vec![1_u32]) }
    });
    alone(node.journaled().retry(Retry::attempts(3)))
}

#[tokio::test]
async fn an_output_that_does_not_decode_refuses_the_visit_before_anything_runs() {
    let ran = Count::default();
    let kept = Kept::default().with_item(1, r#"[1, "two"]"#);

    let error = kept.drive(&mut counted(&ran).execution(vec![], &RunOptions::new().id("r1"))).await.unwrap_err();

    assert!(matches!(&error, RunError::Journal { item: Some(1), .. }), "{error:?}");
    let why = "item 1: what was kept does not decode at `[1]`";
    assert_eq!(error.report(), format!("run `r1`: node `node`, item 1: what it has done could not be kept: {why}"));
    assert_eq!((ran.get(), kept.items()), (0, vec![1]));
}

#[tokio::test]
async fn an_output_that_does_not_decode_refuses_also_a_batch_that_collects_errors() {
    let flow = alone(Collected(Count::default()).journaled());
    let kept = Kept::default().with_item(0, "{} trailing");

    let error = kept.drive(&mut flow.execution(vec![], &RunOptions::new())).await.unwrap_err();

    assert!(matches!(&error, RunError::Journal { item: Some(0), .. }), "{error:?}");
}

#[tokio::test]
async fn an_output_that_does_not_decode_runs_again_if_the_journal_says_so() {
    let ran = Count::default();
    let kept = Kept::dropping().with_item(0, r#"[1, "two"]"#).with_item(1, "[5]");

    let mut run = counted(&ran).execution(vec![], &RunOptions::new());
    kept.finish(&mut run).await;

    assert_eq!((run.into_state(), ran.get()), (vec![vec![1], vec![5]], 1));
}

#[tokio::test]
async fn an_output_that_would_not_come_back_fails_its_item_when_it_is_written() {
    let count = Count::default();
    let ran = count.clone();
    let node = async_items(2, move |item, _| {
        ran.up();
        async move { Ok(if item == 1 { f64::NAN } else { 0.5 }) }
    });
    let flow: AsyncFlow<Vec<f64>> = alone(node.journaled().retry(Retry::attempts(3)));
    let kept = Kept::default();

    let error = kept.drive(&mut flow.execution(vec![], &RunOptions::new().id("r1"))).await.unwrap_err();

    let RunError::Node { phase: Phase::Exec, terminal: true, item: Some(1), source, .. } = &error else {
        panic!("{error:?}")
    };
    let fault = source.downcast_ref::<Unstorable>().map(|error| &error.fault);
    assert!(matches!(fault, Some(StorageFault::NotFinite(_))), "{source:?}");
    assert_eq!((count.get(), kept.items()), (2, vec![0]));
}

#[tokio::test]
async fn keys_of_items_follow_the_items_where_there_is_a_journal() {
    let (keys, count) = (Log::default(), Count::default());
    let make = |shift: usize| -> AsyncFlow<Vec<u32>> {
        let (note, count) = (keys.clone(), count.clone());
        let node = async_items(3, move |item, cx: Context| {
            note.push(format!("{item} {}", cx.idempotency_key()));
            let fails = item == 1 && count.up() == 0;
            async move { if fails { Err("down".into()) } else { Ok(item as u32) } }
        });
        alone(node.journaled_by(move |item| (item + shift) % 3))
    };
    let kept = Kept::default();
    let options = RunOptions::new().id("r1");

    assert!(kept.drive(&mut make(0).execution(vec![], &options)).await.is_err());
    let again = make(0);
    let mut again = again.execution(vec![], &options);
    assert_eq!((again.id().to_string(), again.flow()), ("r1".to_owned(), "alone"));
    kept.finish(&mut again).await;
    let first = keys.lines();
    let shifted = make(1);
    Kept::default().finish(&mut shifted.execution(vec![], &options)).await;

    let key = |number: u32| format!("r1:0:node[{}]", ItemKey::of_json(number.to_string().as_bytes(), 0));
    assert_eq!(first, [(0, 0), (1, 1), (1, 1), (2, 2)].map(|(item, number)| format!("{item} {}", key(number))));
    assert_eq!(keys.lines()[4..], [(0, 1), (1, 2), (2, 0)].map(|(item, number)| format!("{item} {}", key(number))));
}

#[tokio::test]
async fn keys_of_items_are_their_places_in_order_and_in_memory() {
    let keys = Log::default();
    let make = || {
        let note = keys.clone();
        async_items(2, move |_, cx: Context| {
            note.push(cx.idempotency_key());
            async { Ok(1_u32) }
        })
    };
    let options = RunOptions::new().id("r1");
    let (ordered, keyed): (AsyncFlow<Vec<u32>>, AsyncFlow<Vec<u32>>) =
        (alone(make().parallel(2).spawned().journaled_in_order()), alone(make().journaled()));

    Kept::default().finish(&mut ordered.execution(vec![], &options)).await;
    keyed.run_async_with(&mut vec![], &options).await.unwrap();

    assert_eq!(keys.lines(), ["r1:0:node[0]", "r1:0:node[1]", "r1:0:node[0]", "r1:0:node[1]"]);
}

#[tokio::test]
async fn an_item_that_cannot_be_told_from_the_others_fails_before_any_runs() {
    let count = Count::default();
    let ran = count.clone();
    let node = async_items(2, move |_, _| {
        ran.up();
        async { Ok(1_u32) }
    });
    // JSON has no such keys of objects.
    let flow: AsyncFlow<Vec<u32>> =
        alone(node.journaled_by(|item| std::collections::BTreeMap::from([((*item, *item), 1)])));

    let error = Kept::default().drive(&mut flow.execution(vec![], &RunOptions::new())).await.unwrap_err();

    assert!(matches!(&error, RunError::Node { item: Some(0), terminal: true, .. }), "{error:?}");
    assert_eq!(count.get(), 0);
}
