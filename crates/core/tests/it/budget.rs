//! The usage of paid services by a run, and its budget: asked before each call, counted for children, too.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{Count, Recorder, alone, async_items, awaiting, blocking, ended, items, line, ms, rest};
use flowstone_core::{
    AsyncFlow, Budget, Context, EventKind, Flow, NodeExt, OverBudget, Phase, Result, Retry, RunError, RunOptions,
    Usage, Usd,
};

/// The usage of one call.
const CALL: Usage = Usage { calls: 1, input_tokens: 90, output_tokens: 10, cost: Usd::nanos(5) };

fn within(budget: Budget) -> RunOptions {
    RunOptions::new().budget(budget)
}

/// Makes a call, and gives what the run has used then.
fn call(cx: &Context) -> Result<Usage> {
    cx.afford()?;
    cx.spend(CALL);
    Ok(cx.used())
}

/// A loop of calls without end.
fn calling() -> AsyncFlow<Vec<Usage>> {
    let mut flow = AsyncFlow::builder("calling");
    let ask = flow.add("ask", awaiting(|cx| async move { call(&cx) }));
    flow.start(ask);
    flow.route(ask >> ask);
    flow.build().unwrap()
}

/// The limit that a run reached.
fn over(result: Result<flowstone_core::Outcome, RunError>) -> OverBudget {
    let RunError::Node { phase: Phase::Exec, terminal: true, source, .. } = result.unwrap_err() else {
        panic!("it is a terminal error of exec")
    };
    *source.downcast_ref().unwrap()
}

#[tokio::test]
async fn each_limit_is_looked_at_before_each_call() {
    let cases = [
        (Budget::new().calls(3), 3, OverBudget::Calls { limit: 3 }),
        (Budget::new().tokens(201), 3, OverBudget::Tokens { limit: 201, used: 300 }),
        (Budget::new().tokens(200), 2, OverBudget::Tokens { limit: 200, used: 200 }),
        (Budget::new().cost(Usd::nanos(11)), 3, OverBudget::Cost { limit: Usd::nanos(11), used: Usd::nanos(15) }),
        (Budget::new().calls(0), 0, OverBudget::Calls { limit: 0 }),
    ];
    for (budget, calls, wanted) in cases {
        let mut state = vec![];

        let error = over(calling().run_async_with(&mut state, &within(budget)).await);

        assert_eq!((state.len(), error), (calls, wanted));
    }
}

#[tokio::test]
async fn the_error_says_what_is_used_up() {
    let budget = Budget::new().cost(Usd::dollars(0.5));
    let options = within(budget).id("r").used(Usage { cost: Usd::dollars(0.75), ..CALL });

    let error = calling().run_async_with(&mut vec![], &options).await.unwrap_err();

    let wanted =
        "run `r`: node `ask` failed in exec after 1 attempt: the run's budget of $0.50 is used up: it has cost $0.75";
    assert_eq!(error.report(), wanted);
}

#[tokio::test]
async fn what_is_beyond_the_budget_is_not_tried_again() {
    let tries = Count::default();
    let count = tries.clone();
    let node = awaiting(move |cx: Context| {
        count.up();
        async move { call(&cx) }
    });
    let flow = alone(node.retry(Retry::attempts(5)));

    over(flow.run_async_with(&mut vec![], &within(Budget::new().calls(0))).await);

    assert_eq!(tries.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn parallel_items_never_make_more_calls_than_the_budget_has() {
    let made = Count::default();
    let count = made.clone();
    let node = async_items(1000, move |_, cx: Context| {
        let count = count.clone();
        async move {
            cx.afford()?;
            count.up();
            rest(ms(100)).await?; // the call, which tells what it used when it is over
            cx.spend(CALL);
            Ok(())
        }
    });
    // Items that cannot be paid for fail one by one.
    let flow = alone(node.parallel(64));

    let mut state: Vec<Result<()>> = vec![];
    ended(flow.run_async_with(&mut state, &within(Budget::new().calls(100))).await);

    assert_eq!((made.get(), state.iter().filter(|item| item.is_ok()).count()), (100, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_are_exact_on_many_threads() {
    let flow = alone(async_items(1000, |_, cx: Context| async move { call(&cx).map(drop) }).parallel(16).spawned());

    let mut state: Vec<Result<()>> = vec![];
    ended(flow.run_async_with(&mut state, &within(Budget::new().calls(333))).await);

    assert_eq!(state.iter().filter(|item| item.is_ok()).count(), 333);
}

#[tokio::test]
async fn calls_that_were_told_without_asking_count_for_the_next() {
    let flow = alone(awaiting(|cx: Context| async move {
        cx.afford()?;
        cx.spend(Usage { calls: 3, ..Usage::default() }); // a client that tried three times
        Ok(cx.afford().is_err())
    }));

    let mut state = vec![];
    ended(flow.run_async_with(&mut state, &within(Budget::new().calls(3))).await);

    assert_eq!(state, [true]);
}

#[tokio::test]
async fn children_share_what_their_run_has() {
    let child = calling();
    let inner = child.clone();
    let fork = |_: &Vec<Usage>| vec![vec![]; 4];
    let mut flow = AsyncFlow::builder("outer");
    let first = flow.add("first", awaiting(|cx| async move { call(&cx) }));
    let each = flow.add("each", child.batch(fork, |_, _: Vec<Vec<Usage>>| ()).parallel(2));
    flow.start(first);
    flow.route(first >> each);
    let flow = flow.build().unwrap();
    let recorder = Recorder::default();

    let options = within(Budget::new().calls(7)).listen(recorder.clone());
    let error = over(flow.run_async_with(&mut vec![], &options).await);

    assert_eq!(error, OverBudget::Calls { limit: 7 });
    assert_eq!(used(&recorder).len(), 7);

    // Those that an `exec` runs, too.
    let node = awaiting(move |cx: Context| {
        let inner = inner.clone();
        async move { Ok(vec![inner.run_in(vec![], &cx).await?.0, vec![cx.used()]]) }
    });
    let error = alone(node).run_async_with(&mut vec![], &within(Budget::new().tokens(250))).await.unwrap_err();
    assert!(error.report().ends_with("the run's budget of 250 tokens is used up: 300 were used"), "{error:?}");
}

/// The events of usage, in short, with what was used.
fn used(recorder: &Recorder) -> Vec<(String, Usage)> {
    let events = recorder.events();
    let used = events.iter().filter_map(|event| match event.kind {
        EventKind::Used { usage } => Some((line(event), usage)),
        _ => None,
    });
    used.collect()
}

#[test]
fn events_carry_the_node_the_item_and_the_attempt_with_what_was_used() {
    let mut flow = Flow::<Vec<()>>::builder("two");
    let one = flow.add("one", blocking(|cx| call(cx).map(drop)));
    let node = items(2, |item, cx: &Context| {
        call(cx)?;
        if item == 1 && cx.attempt() == 0 { Err("busy".into()) } else { Ok(()) }
    });
    let each = flow.add("each", node.retry(Retry::attempts(2)));
    flow.start(one);
    flow.route(one >> each);
    let recorder = Recorder::default();

    ended(flow.build().unwrap().run_with(&mut vec![], &RunOptions::new().listen(recorder.clone())));

    let wanted = ["one used", "each[0] used", "each[1] used", "each[1]#1 used"];
    assert_eq!(used(&recorder), wanted.map(|line| (line.to_owned(), CALL)));
    let event = recorder.events().into_iter().find(|event| matches!(event.kind, EventKind::Used { .. })).unwrap();
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["usage"], serde_json::json!({ "calls": 1, "input_tokens": 90, "output_tokens": 10, "cost": 5 }));
}

#[tokio::test]
async fn a_run_with_options_counts_and_a_plain_one_does_not() {
    let flow = || {
        alone(awaiting(|cx: Context| async move {
            call(&cx)?;
            Ok((call(&cx)?, cx.budget()))
        }))
    };
    let (mut plain, mut watched) = (vec![], vec![]);

    ended(flow().run_async(&mut plain).await);
    ended(flow().run_async_with(&mut watched, &RunOptions::new().id("r")).await);

    assert_eq!(plain, [(Usage::default(), None)]);
    assert_eq!(watched, [(CALL + CALL, None)]);
}

#[tokio::test]
async fn what_was_used_before_counts_for_a_run_that_goes_on() {
    let options = within(Budget::new().calls(3)).used(CALL + CALL);
    let mut state = vec![];

    over(calling().run_async_with(&mut state, &options).await);

    assert_eq!(state, [CALL + CALL + CALL]);
}

#[test]
fn a_detached_context_can_afford_everything_and_counts_nothing() {
    let cx = Context::detached();

    assert_eq!((call(&cx).unwrap(), cx.budget()), (Usage::default(), None));
}
