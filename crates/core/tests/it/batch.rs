//! Batch nodes of every kind: one `exec` per item (SEMANTICS rows 7, 22, 23, 24, 29; LESSONS rows 1, 5).
//!
//! Each fact is asked of every kind that there is: sync and async, one after another and in parallel, in the pool,
//! inline and spawned.

use std::sync::Arc;

use crate::common::{Count, Log, alone, alone_sync, async_items, ended, items};
use flowstone_core::{
    AsyncFlow, Context, Flow, ItemOutcome, NodeError, NodeExt, OnError, Phase, Result, Retry, RunError,
};

type Exec = Arc<dyn Fn(usize, &Context) -> Result<u32> + Send + Sync>;
type Fallback = Arc<dyn Fn(NodeError, &Context) -> Result<u32> + Send + Sync>;

/// The steps of a batch, for every kind of batch node.
#[derive(Clone)]
struct Case {
    count: usize,
    retry: Retry,
    exec: Exec,
    fallback: Fallback,
}

impl Case {
    fn new(count: usize, exec: impl Fn(usize, &Context) -> Result<u32> + Send + Sync + 'static) -> Self {
        let (retry, fallback) = (Retry::default(), Arc::new(|error, _: &Context| Err(error)));
        Self { count, retry, exec: Arc::new(exec), fallback }
    }

    fn retry(self, attempts: u32) -> Self {
        Self { retry: Retry::attempts(attempts), ..self }
    }

    fn or(self, fallback: impl Fn(NodeError, &Context) -> Result<u32> + Send + Sync + 'static) -> Self {
        Self { fallback: Arc::new(fallback), ..self }
    }

    /// Runs every kind, and gives its name, the last state and how it ended.
    async fn runs<C: ItemOutcome<u32> + Sync>(&self) -> Vec<(&'static str, Vec<C>, Result<(), RunError>)> {
        let Self { count, retry, exec, fallback } = self.clone();
        let or = move || {
            let fallback = Arc::clone(&fallback);
            move |error: NodeError, cx: &Context| fallback(error, cx)
        };
        let exec_sync = Arc::clone(&exec);
        let sync = || {
            let exec = Arc::clone(&exec_sync);
            items(count, move |item, cx: &Context| exec(item, cx)).or(or())
        };
        let awaited = || {
            let exec = Arc::clone(&exec);
            let exec = move |item, cx: Context| {
                let exec = Arc::clone(&exec);
                async move {
                    tokio::task::yield_now().await;
                    exec(item, &cx)
                }
            };
            async_items(count, exec).or(or())
        };
        let retry = || retry.clone();
        let flow: Flow<Vec<C>> = alone_sync(sync().retry(retry()));
        let flows: [(&str, AsyncFlow<Vec<C>>); 9] = [
            ("pooled", alone(sync().retry(retry()))),
            ("inline", alone(sync().retry(retry()).inline())),
            ("pooled, 3 at once", alone(sync().retry(retry()).parallel(3))),
            ("pooled, all at once", alone(sync().parallel(usize::MAX).retry(retry()))),
            ("async", alone(awaited().retry(retry()))),
            ("async, 1 at once", alone(awaited().parallel(1).retry(retry()))),
            ("async, 3 at once", alone(awaited().parallel(3).retry(retry()))),
            ("async, all at once", alone(awaited().parallel(usize::MAX).retry(retry()))),
            ("spawned, 3 at once", alone(awaited().parallel(3).spawned().retry(retry()))),
        ];

        let mut state = vec![];
        let result = flow.run(&mut state).map(|_| ());
        let mut runs = vec![("sync", state, result)];
        for (kind, flow) in flows {
            let mut state = vec![];
            let result = flow.run_async(&mut state).await.map(|_| ());
            runs.push((kind, state, result));
        }
        runs
    }
}

#[tokio::test]
async fn post_gets_the_outputs_in_input_order() {
    let case = Case::new(20, |item, _| Ok(item as u32 * 10));

    for (kind, state, result) in case.runs::<u32>().await {
        result.unwrap();
        assert!(state.into_iter().eq((0..20).map(|item| item * 10)), "{kind}");
    }
}

#[tokio::test]
async fn post_is_called_when_there_are_no_items() {
    for collects in [false, true] {
        let calls = Count::default();
        let counted = calls.clone();
        let case = Case::new(0, move |_, _| Ok(counted.up() as u32));

        let ends: Vec<_> = if collects {
            case.runs::<Result<u32>>().await.into_iter().map(|(kind, state, end)| (kind, state.len(), end)).collect()
        } else {
            case.runs::<u32>().await.into_iter().map(|(kind, state, end)| (kind, state.len(), end)).collect()
        };

        for (kind, len, end) in ends {
            assert!(len == 0 && end.is_ok(), "{kind}");
        }
        assert_eq!(calls.get(), 0);
    }
}

#[tokio::test]
async fn an_empty_batch_still_writes() {
    let flows: [AsyncFlow<Vec<u32>>; 4] = [
        alone(items(0, |_, _| Ok(1))),
        alone(items(0, |_, _| Ok(1)).parallel(4)),
        alone(async_items(0, |_, _| async { Ok(1) }).parallel(4)),
        alone(async_items(0, |_, _| async { Ok(1) }).parallel(4).spawned()),
    ];

    for flow in flows {
        let mut state = vec![1, 2, 3];
        ended(flow.run_async(&mut state).await);
        assert!(state.is_empty(), "post was not called");
    }
}

#[tokio::test]
async fn each_item_knows_its_place() {
    let case = Case::new(9, |item, cx| {
        assert_eq!(cx.item(), Some(item));
        Ok(0)
    });

    for (kind, _, result) in case.runs::<u32>().await {
        assert!(result.is_ok(), "{kind}: {result:?}");
    }
}

#[tokio::test]
async fn each_item_has_its_own_attempts() {
    let case = Case::new(
        9,
        |item, cx| if (cx.attempt() as usize) < item % 3 { Err("not yet".into()) } else { Ok(cx.attempt()) },
    );

    for (kind, state, result) in case.retry(3).runs::<u32>().await {
        result.unwrap();
        assert_eq!(state, [0, 1, 2, 0, 1, 2, 0, 1, 2], "{kind}");
    }
}

#[tokio::test]
async fn each_item_has_its_own_fallback_once_after_its_last_attempt() {
    let log = Log::default();
    let note = log.clone();
    let case = Case::new(4, |item, _| if item % 2 == 1 { Err(format!("item {item} broke").into()) } else { Ok(0) });
    let case = case.retry(3).or(move |error, cx| {
        note.push(format!("{:?} {} {error}", cx.item(), cx.attempt()));
        Ok(90 + cx.item().unwrap() as u32)
    });

    let runs = case.runs::<u32>().await;

    for (kind, state, _) in &runs {
        assert_eq!(*state, [0, 91, 0, 93], "{kind}");
    }
    let mut lines = log.lines();
    lines.sort();
    let each = |line: &str| vec![line.to_owned(); runs.len()];
    assert_eq!(lines, [each("Some(1) 2 item 1 broke"), each("Some(3) 2 item 3 broke")].concat());
}

#[tokio::test]
async fn an_item_that_fails_for_good_stops_the_batch_and_post_is_not_called() {
    let case = Case::new(6, |item, _| if item == 4 { Err("four broke".into()) } else { Ok(1) }).retry(2);

    for (kind, state, result) in case.runs::<u32>().await {
        assert!(state.is_empty(), "{kind}: post was called");
        let Err(RunError::Node { node, phase, attempts, item, source, .. }) = result else { panic!("{kind}") };
        assert_eq!((node.as_str(), phase, attempts, item), ("node", Phase::Exec, 2, Some(4)), "{kind}");
        assert_eq!(source.to_string(), "four broke", "{kind}");
    }
}

#[tokio::test]
async fn the_items_after_the_one_that_failed_are_not_begun_in_a_sequential_batch() {
    let log = Log::default();
    let case = |kind: &'static str| {
        let note = log.clone();
        move |item: usize| {
            note.push(format!("{kind} {item}"));
            if item == 1 { Err(NodeError::from("one broke")) } else { Ok(1) }
        }
    };
    let sync = |kind| {
        let exec = case(kind);
        items(9, move |item, _| exec(item))
    };
    let awaited = case("async");
    let awaited = async_items(9, move |item, _| std::future::ready(awaited(item)));
    let flows: [AsyncFlow<Vec<u32>>; 3] = [alone(sync("pooled")), alone(sync("inline").inline()), alone(awaited)];

    alone_sync::<Vec<u32>, _, _>(sync("sync")).run(&mut vec![]).unwrap_err();
    for flow in flows {
        flow.run_async(&mut vec![]).await.unwrap_err();
    }

    let expected = ["sync", "pooled", "inline", "async"].map(|kind| [0, 1].map(|item| format!("{kind} {item}")));
    assert_eq!(log.lines(), expected.concat());
}

#[tokio::test]
async fn post_gets_a_result_per_item_where_errors_are_collected() {
    let case =
        Case::new(5, |item, _| if item % 2 == 1 { Err(format!("{item} broke").into()) } else { Ok(item as u32) });

    for (kind, state, result) in case.retry(2).runs::<Result<u32>>().await {
        result.unwrap();
        let state: Vec<_> = state.into_iter().map(|outcome| outcome.map_err(|error| error.to_string())).collect();
        assert_eq!(state, [Ok(0), Err("1 broke".into()), Ok(2), Err("3 broke".into()), Ok(4)], "{kind}");
    }
}

#[tokio::test]
async fn a_collected_error_keeps_its_type_and_what_it_says_about_retries() {
    let case = Case::new(1, |_, _| Err(NodeError::terminal("x".parse::<u32>().unwrap_err())));

    for (kind, state, _) in case.retry(2).runs::<Result<u32>>().await {
        let error = state[0].as_ref().unwrap_err();
        assert!(error.is_terminal() && error.downcast_ref::<std::num::ParseIntError>().is_some(), "{kind}");
    }
}

#[tokio::test]
async fn a_panic_of_an_item_is_the_items_error() {
    let case = Case::new(3, |item, _| if item == 1 { panic!("one went bang") } else { Ok(7) });

    for (kind, _, result) in case.runs::<u32>().await {
        let Err(RunError::Node { item, phase, source, .. }) = result else { panic!("{kind}") };
        assert_eq!((item, phase), (Some(1), Phase::Exec), "{kind}");
        assert_eq!(source.to_string(), "panicked: one went bang", "{kind}");
    }
}

#[tokio::test]
async fn a_panic_of_an_item_is_collected_as_an_error() {
    let case = Case::new(3, |item, _| if item == 1 { panic!("one went bang") } else { Ok(7) });

    for (kind, state, result) in case.retry(3).or(|_, _| Ok(99)).runs::<Result<u32>>().await {
        result.unwrap();
        let state: Vec<_> = state.into_iter().map(|outcome| outcome.map_err(|error| error.to_string())).collect();
        assert_eq!(state, [Ok(7), Err("panicked: one went bang".into()), Ok(7)], "{kind}");
    }
}

#[test]
fn the_type_of_the_outcome_says_what_an_error_does() {
    assert_eq!(<u32 as ItemOutcome<u32>>::ON_ERROR, OnError::Stop);
    assert_eq!(<Result<u32> as ItemOutcome<u32>>::ON_ERROR, OnError::Collect);
}
