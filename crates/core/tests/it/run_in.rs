//! A flow that runs inside `exec`: a child of the visit, in memory and under a journal.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{sync::Arc, time::Duration};

use crate::common::{
    Alive, Count, Kept, Log, Recorder, alone, async_items, awaiting, blocking, ended, items, ms, named, rest, secs,
};
use flowstone_core::{
    Action, Ask, AsyncFlow, CancellationToken, CannotPause, Context, END, NodeError, NodeExt, Result, Retry, RunError,
    RunOptions,
};

type Step = Arc<dyn Fn(&str) -> Result<()> + Send + Sync>;

/// Counts to three, one visit each, and tells `step` what it does.
fn counting(step: impl Fn(&str) -> Result<()> + Send + Sync + 'static) -> AsyncFlow<u32> {
    let step: Step = Arc::new(step);
    let mut flow = AsyncFlow::builder("count");
    let add = flow.add("add", move |n: &mut u32| -> Result<Action> {
        step(&format!("add {n}"))?;
        *n += 1;
        Ok(Action::from(if *n % 10 < 3 { "again" } else { "three" }))
    });
    flow.start(add);
    flow.route(add - "again" >> add);
    flow.route(add - "three" >> END);
    flow.build().unwrap()
}

/// A node that runs a flow and pushes the state that comes back.
macro_rules! running {
    ($flow:expr, $state:expr) => {{
        let flow = $flow;
        awaiting(move |cx: Context| {
            let flow = flow.clone();
            async move { Ok(flow.run_in($state, &cx).await?.0) }
        })
    }};
}

/// A step that fails as often as `count` says when it comes to `at`.
fn failing(log: &Log, at: &'static str, count: usize) -> impl Fn(&str) -> Result<()> + Send + Sync + use<> {
    let (log, failed) = (log.clone(), Count::default());
    move |what| {
        log.push(what);
        if what == at && failed.up() < count { Err("down".into()) } else { Ok(()) }
    }
}

#[tokio::test]
async fn the_state_and_the_last_action_come_back() {
    let inner = counting(|_| Ok(())).map_exit(|exit| Action::from(format!("at {exit}")));
    let flow = alone(awaiting(move |cx| {
        let inner = inner.clone();
        async move {
            let (n, action) = inner.run_in(10, &cx).await?;
            Ok(format!("{n} {action}"))
        }
    }));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, ["13 at three"]);
}

#[tokio::test]
async fn a_detached_context_runs_it() {
    let (n, action) = counting(|_| Ok(())).run_in(0, &Context::detached()).await.unwrap();

    assert_eq!((n, action.as_str()), (3, "three"));
}

#[tokio::test]
async fn its_nodes_are_named_under_the_node_and_the_item() {
    let keys = Log::default();
    let child = {
        let keys = keys.clone();
        alone(blocking(move |cx: &Context| {
            keys.push(format!("{} {}", cx.node(), cx.idempotency_key()));
            Ok(1)
        }))
    };
    let inner = child.clone();
    let mut flow = AsyncFlow::<Vec<Vec<u32>>>::builder("outer");
    let one = flow.add("one", running!(child, vec![]));
    let each = flow.add(
        "each",
        async_items(2, move |_, cx| {
            let inner = inner.clone();
            async move { Ok(inner.run_in(vec![], &cx).await?.0) }
        }),
    );
    flow.start(one);
    flow.route(one >> each);
    let recorder = Recorder::default();
    let options = RunOptions::new().id("r1").listen(recorder.clone());

    ended(flow.build().unwrap().run_async_with(&mut vec![], &options).await);

    let expected =
        ["one[0]/node r1:0:one[0]:0:node", "each[0]/node r1:1:each[0]:0:node", "each[1]/node r1:1:each[1]:0:node"];
    assert_eq!(keys.lines(), expected);
    let heard = recorder.events();
    assert!(heard.iter().any(|event| event.node.as_ref().is_some_and(|node| *node == "each[1]/node")));
}

#[tokio::test]
async fn its_error_is_the_source_and_says_whether_to_try_again() {
    let count = Count::default();
    let tries = count.clone();
    let inner = alone(blocking(move |_| -> Result<u32> {
        match tries.up() {
            0 => Err(NodeError::new("busy").with_retry_after(secs(7))),
            _ => Err(NodeError::terminal("refused")),
        }
    }));
    let seen = Log::default();
    let log = seen.clone();
    let flow: AsyncFlow<Vec<Vec<u32>>> = alone(
        awaiting(move |cx: Context| {
            let (inner, log) = (inner.clone(), log.clone());
            async move {
                let error = inner.run_in(vec![], &cx).await.unwrap_err();
                log.push(format!("{} {:?} {error}", error.is_terminal(), error.retry_after()));
                Err(error)
            }
        })
        .retry(Retry::attempts(5)),
    );
    tokio::time::pause();

    let error = flow.run_async_with(&mut vec![], &RunOptions::new().id("r1")).await.unwrap_err();

    let inside = "run `r1`: node `node[0]/node` failed in exec after 1 attempt";
    assert_eq!(seen.lines(), [format!("false Some(7s) {inside}"), format!("true None {inside}")]);
    assert_eq!(error.report(), format!("run `r1`: node `node` failed in exec after 2 attempts: {inside}: refused"));
    let RunError::Node { source, terminal: true, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source.downcast_ref(), Some(RunError::Node { .. })));
}

#[tokio::test]
async fn a_panic_in_it_and_an_action_that_is_routed_nowhere_are_not_tried_again() {
    let count = Count::default();
    let panics = {
        let count = count.clone();
        counting(move |_| {
            count.up();
            panic!("a bug")
        })
    };
    let flow = alone(running!(panics, 0).retry(Retry::attempts(3)));
    let error = flow.run_async(&mut vec![]).await.unwrap_err();
    assert!(error.report().contains("panicked: a bug"), "{}", error.report());
    assert_eq!(count.get(), 1);

    let mut unrouted = AsyncFlow::builder("unrouted");
    let first = unrouted.add("first", |n: &mut u32| Action::from(format!("{n}")));
    unrouted.start(first);
    unrouted.route(first - "7" >> first);
    let flow = alone(running!(unrouted.build().unwrap(), 0).retry(Retry::attempts(3)));
    let error = flow.run_async(&mut vec![]).await.unwrap_err();
    assert!(matches!(error, RunError::Node { attempts: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn in_memory_every_attempt_begins_anew() {
    let log = Log::default();
    let flow = alone(running!(counting(failing(&log, "add 1", 1)), 0).retry(Retry::attempts(2)));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(
        (state, log.lines()),
        (vec![3], ["add 0", "add 1", "add 0", "add 1", "add 2"].map(str::to_owned).into())
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_cancelled_with_its_run() {
    let alive = Alive::default();
    let life = alive.clone();
    let waits = named(
        "waits",
        awaiting(move |_| {
            let life = life.begin();
            async move {
                rest(secs(1000)).await?;
                life.finish();
                Ok(1_u32)
            }
        }),
    );
    let flow = alone(running!(waits, vec![]).retry(Retry::attempts(3)));
    let token = CancellationToken::new();
    let options = RunOptions::new().cancel(token.clone());
    let cancel = async {
        tokio::time::sleep(ms(10)).await;
        token.cancel();
    };

    let mut state = vec![];
    let (result, ()) = tokio::join!(flow.run_async_with(&mut state, &options), cancel);

    assert!(matches!(result, Err(RunError::Cancelled { .. })), "{result:?}");
    assert_eq!((alive.begun(), alive.now()), (1, 0));
}

#[tokio::test]
async fn its_visits_count_and_their_bound_stops_the_run_without_a_fallback() {
    let fell_back = Count::default();
    let fallback = fell_back.clone();
    let inner = counting(|_| Ok(()));
    let flow = alone(
        awaiting(move |cx: Context| {
            let inner = inner.clone();
            async move { Ok(inner.run_in(0, &cx).await?.0) }
        })
        .or(move |error, _| {
            fallback.up();
            Err(error)
        })
        .retry(Retry::attempts(3)),
    );

    let mut state = vec![];
    let fits = flow.run_async_with(&mut state, &RunOptions::new().max_visits(4)).await;
    let error = flow.run_async_with(&mut vec![], &RunOptions::new().max_visits(3)).await.unwrap_err();

    assert_eq!((ended(fits), state), ("default".to_owned(), vec![3]));
    let RunError::TooManyVisits { node, limit: 3, .. } = &error else { panic!("{error:?}") };
    assert_eq!((node.as_str(), fell_back.get()), ("node[0]/add", 0));
}

#[tokio::test]
async fn what_stops_another_run_is_tried_again() {
    let inner = counting(|_| Ok(()));
    let another = awaiting(move |cx: Context| {
        let inner = inner.clone();
        async move {
            let mut n = 0;
            inner.run_async_with(&mut n, &RunOptions::new().max_visits(u64::from(cx.attempt()) + 1)).await?;
            Ok(n)
        }
    });
    let flow = alone(another.retry(Retry::attempts(3)));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state, [3]);
}

#[tokio::test]
async fn what_stops_the_run_is_not_collected() {
    let inner = counting(|_| Ok(()));
    let flow: AsyncFlow<Vec<Result<u32>>> = alone(async_items(3, move |_, cx| {
        let inner = inner.clone();
        async move { Ok(inner.run_in(0, &cx).await?.0) }
    }));

    let error = flow.run_async_with(&mut vec![], &RunOptions::new().max_visits(6)).await.unwrap_err();

    assert!(matches!(&error, RunError::TooManyVisits { node, .. } if *node == "node[1]/add"), "{error:?}");
}

#[tokio::test]
async fn a_failed_child_is_collected() {
    let log = Log::default();
    let inner = counting(failing(&log, "add 11", 1));
    let flow: AsyncFlow<Vec<Result<u32>>> = alone(async_items(3, move |item, cx| {
        let inner = inner.clone();
        async move { Ok(inner.run_in(item as u32 * 10, &cx).await?.0) }
    }));

    let mut state = vec![];
    ended(flow.run_async(&mut state).await);

    assert_eq!(state.iter().map(|result| result.as_ref().ok().copied()).collect::<Vec<_>>(), [Some(3), None, Some(23)]);
}

struct Question;

impl Ask<u32> for Question {
    type Question = ();
    type Answer = ();
    type Action = ();

    fn ask(&self, _: &u32) -> Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut u32, (): ()) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_flow_that_asks_is_refused_by_name() {
    let mut asking = AsyncFlow::builder("asking");
    let ask = asking.add("approve", Question);
    asking.start(ask);
    let asking = named("around", asking.build().unwrap());
    let flow = alone(running!(asking, 0).retry(Retry::attempts(3)));

    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    let RunError::Node { source, attempts: 1, terminal: true, .. } = &error else { panic!("{error:?}") };
    let refused: &CannotPause = source.downcast_ref().unwrap();
    assert_eq!((refused.asks.as_str(), refused.flow.as_str()), ("node/approve", "around"));
    assert_eq!(
        refused.to_string(),
        "node `node` runs flow `around`, in which `node/approve` asks: a flow that runs inside `exec` cannot pause"
    );
}

/// Law 5, also for a run that cannot know that its `exec` starts anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_child_started_is_awaited() {
    let alive = Alive::default();
    let life = alive.clone();
    let inner: AsyncFlow<Vec<u32>> = alone(
        items(2, move |item, cx: &Context| {
            let life = life.begin();
            if item == 0 {
                std::thread::sleep(Duration::from_millis(5));
                return Err("down".into());
            }
            while !cx.cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(20));
            life.finish();
            Ok(1_u32)
        })
        .parallel(2),
    );
    let flow = alone(running!(inner, vec![]));

    let error = flow.run_async(&mut vec![]).await.unwrap_err();

    assert!(error.report().contains("item 0"), "{}", error.report());
    assert_eq!((alive.begun(), alive.now()), (2, 0));
}

#[tokio::test]
async fn under_a_journal_a_child_goes_on_from_its_last_visit() {
    let log = Log::default();
    let flow = alone(running!(counting(failing(&log, "add 1", 1)), 0));
    let kept = Kept::default();

    let error = kept.drive(&mut flow.execution(vec![], &RunOptions::new().id("r1"))).await.unwrap_err();
    let mut again = flow.execution(vec![], &RunOptions::new().id("r1"));
    kept.finish(&mut again).await;

    assert!(error.report().ends_with("node `node[0]/add` failed in post: down"), "{}", error.report());
    assert_eq!(log.lines(), ["add 0", "add 1", "add 1", "add 2"]);
    assert_eq!(kept.log.lines(), ["child r1:0:node[0]", "child r1:0:node[0]"]);
    assert_eq!(again.into_state(), [3]);
}

#[tokio::test]
async fn under_a_journal_the_next_attempt_goes_on_and_counts_each_visit_once() {
    let log = Log::default();
    let flow = alone(running!(counting(failing(&log, "add 2", 2)), 0).retry(Retry::attempts(3)));
    let options = RunOptions::new().id("r1").max_visits(4);

    let mut run = flow.execution(vec![], &options);
    Kept::default().finish(&mut run).await;

    assert_eq!(log.lines(), ["add 0", "add 1", "add 2", "add 2", "add 2"]);
    assert_eq!(run.into_state(), [3]);
}

#[tokio::test]
async fn a_journal_that_fails_stops_the_run_and_is_not_the_nodes_fault() {
    let inner: AsyncFlow<Vec<u32>> = named("inner", async_items(1, |_, _| async { Ok(1_u32) }).journaled());
    let flow = alone(running!(inner, vec![]).retry(Retry::attempts(3)));

    let error = Kept::broken("record").drive(&mut flow.execution(vec![], &RunOptions::new())).await.unwrap_err();

    let RunError::Journal { node, item: Some(0), .. } = &error else { panic!("{error:?}") };
    assert_eq!(*node, "node[0]/node");
}
