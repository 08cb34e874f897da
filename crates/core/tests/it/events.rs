//! Events: what a listener is told, and in which order (LESSONS rows 20, 26).

use std::sync::{Arc, Mutex};

use crate::common::{
    Recorder, alone, alone_sync, async_items, awaiting, blocking, ended, items, ms, named, rest, secs,
};
use flowstone_core::{
    Action, Ask, AsyncFlow, BatchNode, CancellationToken, Context, Event, EventKind, Flow, ManualClock, NodeExt,
    Outcome, Phase, Result, Retry, RunOptions,
};
use serde_json::{Value, json};

fn listening() -> (RunOptions, Recorder) {
    let recorder = Recorder::default();
    (RunOptions::new().id("r1").listen(recorder.clone()), recorder)
}

#[test]
fn a_run_that_succeeds() {
    let mut flow = Flow::builder("two");
    let first = flow.add("first", |_: &mut Vec<u32>| ());
    let second = flow.add("second", blocking(|_| Ok(1)));
    flow.start(first);
    flow.route(first >> second);
    let (options, recorder) = listening();

    ended(flow.build().unwrap().run_with(&mut vec![], &options));

    assert_eq!(
        recorder.lines(),
        [
            "run_started",
            "first visit_started",
            "first visit_ended",
            "second visit_started",
            "second attempt_started",
            "second visit_ended",
            "ended"
        ]
    );
}

/// A node that fails at first, in every kind of flow and place.
async fn each_kind_of_retry(attempts: u32, fallback: bool) -> Vec<Vec<String>> {
    let exec = |cx: &Context| if cx.attempt() < 2 { Err(format!("{} broke", cx.attempt()).into()) } else { Ok(1) };
    let or = move |error, _: &Context| if fallback { Ok(2) } else { Err(error) };
    let retry = || Retry::attempts(attempts).fixed(secs(1));
    let clock = Arc::new(ManualClock::default());
    let sync: Flow<Vec<u32>> = alone_sync(blocking(exec).or(or).retry(retry()));
    let flows: [AsyncFlow<Vec<u32>>; 3] = [
        alone(blocking(exec).or(or).retry(retry())),
        alone(awaiting(move |cx| async move { exec(&cx) }).or(or).retry(retry())),
        alone(awaiting(move |cx| async move { exec(&cx) }).or(or).retry(retry()).timeout(secs(9))),
    ];

    let (options, recorder) = listening();
    let _ = sync.run_with(&mut vec![], &options.clock(clock));
    let mut seen = vec![recorder.lines()];
    for flow in flows {
        let (options, recorder) = listening();
        let _ = flow.run_async_with(&mut vec![], &options).await;
        seen.push(recorder.lines());
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_run_with_retries() {
    for lines in each_kind_of_retry(3, false).await {
        assert_eq!(
            lines,
            [
                "run_started",
                "node visit_started",
                "node attempt_started",
                "node retry",
                "node#1 attempt_started",
                "node#1 retry",
                "node#2 attempt_started",
                "node#2 visit_ended",
                "ended"
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_with_a_fallback() {
    for lines in each_kind_of_retry(1, true).await {
        assert_eq!(
            lines,
            [
                "run_started",
                "node visit_started",
                "node attempt_started",
                "node fell_back",
                "node visit_ended",
                "ended"
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails() {
    for lines in each_kind_of_retry(1, false).await {
        let [begin @ .., failed] = lines.as_slice() else { panic!() };
        assert_eq!(begin[..3], ["run_started", "node visit_started", "node attempt_started"]);
        assert_eq!([begin.last().unwrap(), failed], ["node visit_failed", "node failed"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_tells_its_reason_and_its_wait() {
    let flow = alone(
        awaiting(|_| async { Result::<u32>::Err("broken".into()) }).retry(Retry::attempts(3).exponential(secs(1))),
    );
    let (options, recorder) = listening();

    flow.run_async_with(&mut vec![], &options).await.unwrap_err();

    let kinds = recorder.events().into_iter().map(|event| event.kind);
    let retries: Vec<_> = kinds.filter(|kind| matches!(kind, EventKind::Retry { .. })).collect();
    let retry = |seconds| EventKind::Retry { reason: "broken".to_owned(), wait: secs(seconds) };
    assert_eq!(retries, [retry(1), retry(2)]);
}

#[test]
fn a_failure_tells_where_in_which_phase_and_why() {
    let flow = alone_sync(|_: &mut u32| -> Result<()> { Err("no ink".into()) });
    let (options, recorder) = listening();

    flow.run_with(&mut 0, &options).unwrap_err();

    let last = recorder.events().pop().unwrap();
    let error = "run `r1`: node `node` failed in post: no ink".to_owned();
    assert_eq!(last.node, Some("node".into()));
    assert_eq!(last.kind, EventKind::Failed { phase: Some(Phase::Post), error });
}

#[test]
fn a_batch_tells_of_each_item() {
    let exec = |item: usize, cx: &Context| match (item, cx.attempt()) {
        (0, 0) => Err("first".into()),
        (2, _) => Err("never".into()),
        _ => Ok(()),
    };
    let flow: Flow<Vec<Result<()>>> = alone_sync(items(3, exec).retry(Retry::attempts(2)));
    let (options, recorder) = listening();

    ended(flow.run_with(&mut vec![], &options));

    assert_eq!(
        recorder.lines()[2..],
        [
            "node[0] attempt_started",
            "node[0] retry",
            "node[0]#1 attempt_started",
            "node[0]#1 item_ended",
            "node[1] attempt_started",
            "node[1] item_ended",
            "node[2] attempt_started",
            "node[2] retry",
            "node[2]#1 attempt_started",
            "node[2]#1 fell_back",
            "node[2]#1 item_ended",
            "node visit_ended",
            "ended"
        ]
    );
    let errors = recorder.events().into_iter().filter_map(|event| match event.kind {
        EventKind::ItemEnded { error, recalled: false } => Some(error),
        _ => None,
    });
    assert_eq!(errors.collect::<Vec<_>>(), [None, None, Some("never".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn every_parallel_item_is_told_of_once() {
    for spawned in [false, true] {
        let node = async_items(100, |_, _| rest(ms(1))).parallel(9);
        let flow: AsyncFlow<Vec<()>> = if spawned { alone(node.spawned()) } else { alone(node) };
        let (options, recorder) = listening();

        ended(flow.run_async_with(&mut vec![], &options).await);

        let ends = recorder.events().into_iter().filter(|event| matches!(event.kind, EventKind::ItemEnded { .. }));
        let mut items: Vec<_> = ends.filter_map(|event| event.item).collect();
        items.sort_unstable();
        assert!(items.into_iter().eq(0..100));
    }
}

#[tokio::test]
async fn values_are_emitted_where_they_happen() {
    let emits = |cx: &Context| {
        cx.emit("token");
        cx.emit(json!({ "done": 0.5 }));
        Ok(1)
    };
    let flow = alone(blocking(emits));
    let (options, recorder) = listening();

    ended(flow.run_async_with(&mut vec![], &options).await);

    assert_eq!(
        recorder.lines()[2..],
        ["node attempt_started", "node emitted", "node emitted", "node visit_ended", "ended"]
    );
    let values = recorder.events().into_iter().filter_map(|event| match event.kind {
        EventKind::Emitted { value } => Some(value),
        _ => None,
    });
    assert_eq!(values.collect::<Vec<_>>(), [json!("token"), json!({ "done": 0.5 })]);
}

/// A value that must not be made.
struct Costly;

impl From<Costly> for Value {
    fn from(_: Costly) -> Self {
        panic!("nobody listens, and the value was made");
    }
}

#[tokio::test]
async fn with_nobody_listening_no_value_is_made() {
    let node = || {
        blocking(|cx| {
            cx.emit(Costly);
            Ok(cx.listening())
        })
    };
    let options = RunOptions::new().id("r1").max_visits(9).cancel(CancellationToken::new());

    let mut states = vec![vec![]; 4];
    ended(alone_sync(node()).run(&mut states[0]));
    ended(alone_sync(node()).run_with(&mut states[1], &options));
    ended(alone(node()).run_async(&mut states[2]).await);
    ended(alone(node()).run_async_with(&mut states[3], &options).await);

    assert_eq!(states, vec![[false]; 4]);
    Context::detached().emit(Costly);
}

/// Asks whether to go on.
struct Confirm;

impl Ask<Vec<u32>> for Confirm {
    type Question = &'static str;
    type Answer = bool;
    type Action = Action;

    fn ask(&self, _: &Vec<u32>) -> Result<&'static str> {
        Ok("really?")
    }

    fn post(&self, _: &mut Vec<u32>, answer: bool) -> Result<Action> {
        Ok(if answer { "yes" } else { "no" }.into())
    }
}

#[tokio::test]
async fn a_run_that_pauses_and_goes_on() {
    let mut flow = AsyncFlow::builder("asks");
    let first = flow.add("first", |_: &mut Vec<u32>| ());
    let ask = flow.add("ask", Confirm);
    flow.start(first);
    flow.route(first >> ask);
    let flow = flow.build().unwrap();
    let (before, after) = (listening(), listening());

    let mut state = vec![];
    let Outcome::Paused(pause) = flow.run_async_with(&mut state, &before.0).await.unwrap() else { panic!() };
    ended(flow.resume_with(&mut state, pause, true, &after.0).await);

    assert_eq!(
        before.1.lines(),
        ["run_started", "first visit_started", "first visit_ended", "ask visit_started", "ask paused"]
    );
    assert_eq!(after.1.lines(), ["run_started", "ask visit_ended", "ended"]);
    let paused = before.1.events().pop().unwrap();
    assert_eq!(paused.kind, EventKind::Paused { question: json!("really?") });
    assert_eq!(after.1.events()[1].kind, EventKind::VisitEnded { action: "yes".into() });
}

#[test]
fn children_tell_their_path_and_count_their_visits() {
    let mut child = Flow::builder("child");
    let (a, b) = (child.add("a", |_: &mut u32| ()), child.add("b", |n: &mut u32| *n += 1));
    child.start(a);
    child.route(a >> b);
    let flow = alone_sync(child.build().unwrap().batch(|_: &u32| vec![0, 0], |_: &mut u32, _| ()));
    let (options, recorder) = listening();

    ended(flow.run_with(&mut 0, &options));

    let visits = recorder.events().into_iter().filter(|event| matches!(event.kind, EventKind::VisitStarted { .. }));
    let seen: Vec<_> = visits.map(|event| format!("{} {}", event.node.unwrap(), event.visit)).collect();
    assert_eq!(seen, ["node 0", "node[0]/a 0", "node[0]/b 1", "node[1]/a 0", "node[1]/b 1"]);
    assert_eq!(recorder.lines().iter().filter(|line| line.ends_with("item_ended")).count(), 2);
}

/// The events of visits: the number of their items, and their failures.
fn heard_of_visits(recorder: &Recorder) -> Vec<Option<usize>> {
    let kinds = recorder.events().into_iter().map(|event| event.kind);
    kinds.filter_map(|kind| if let EventKind::VisitStarted { items } = kind { Some(items) } else { None }).collect()
}

#[tokio::test]
async fn the_visit_of_a_batch_says_how_many_items_it_has() {
    let batch = || async_items(7, |_, _| async { Ok(()) });
    let flows: [AsyncFlow<Vec<()>>; 4] = [
        alone(items(7, |_, _| Ok(()))),
        alone(batch()),
        alone(batch().parallel(2)),
        alone(batch().parallel(2).spawned()),
    ];
    for flow in flows {
        let (options, recorder) = listening();

        ended(flow.run_async_with(&mut vec![], &options).await);

        assert_eq!(heard_of_visits(&recorder), [Some(7)]);
        assert_eq!(recorder.lines()[..2], ["run_started", "node visit_started"]);
    }
}

#[tokio::test]
async fn the_visit_of_a_batch_flow_says_how_many_children_it_has() {
    let mut child = Flow::builder("child");
    let only = child.add("only", blocking(|_| Ok(1)));
    child.start(only);
    let child = child.build().unwrap();
    let states = |_: &Vec<u32>| vec![vec![], vec![]];
    let (options, recorder) = listening();

    ended(alone_sync(child.batch(states, |_: &mut Vec<u32>, _| ())).run_with(&mut vec![], &options));

    assert_eq!(heard_of_visits(&recorder), [Some(2), None, None], "the children's nodes have no items");

    let child = named("child", awaiting(|_| async { Ok(1) }));
    let (options, recorder) = listening();
    let flow = alone(child.batch(states, |_: &mut Vec<u32>, _| ()).parallel(2));

    ended(flow.run_async_with(&mut vec![], &options).await);

    assert_eq!(heard_of_visits(&recorder), [Some(2), None, None]);
}

/// A batch whose `prep` fails, or panics.
struct NoItems {
    panics: bool,
}

impl BatchNode<Vec<()>> for NoItems {
    type Item = ();
    type Output = ();
    type Outcome = ();
    type Action = ();

    fn prep(&self, _: &Vec<()>) -> Result<Vec<()>> {
        assert!(!self.panics, "no items");
        Err("no items".into())
    }

    fn exec(&self, (): &(), _: &Context) -> Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut Vec<()>, _: Vec<()>, _: Vec<()>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_batch_that_fails_before_its_items_are_known_begins_and_fails() {
    for panics in [false, true] {
        let (options, recorder) = listening();

        alone_sync(NoItems { panics }).run_with(&mut vec![], &options).unwrap_err();

        assert_eq!(recorder.lines(), ["run_started", "node visit_started", "node visit_failed", "node failed"]);
        assert_eq!(heard_of_visits(&recorder), [None]);
    }
}

#[test]
fn events_are_flat_json() {
    let flow = alone_sync(items(1, |_, cx| {
        cx.emit("token");
        Ok(())
    }));
    let (options, recorder) = listening();

    ended(flow.run_with(&mut Vec::<()>::new(), &options));

    let json = recorder.events().into_iter().map(|event| {
        let mut json = serde_json::to_value(&event).unwrap();
        assert!(json.as_object_mut().unwrap().remove("at").is_some());
        json
    });
    let of_node = |event: &str, item: Value| json!({ "run": "r1", "node": "node", "visit": 0, "item": item, "attempt": 0, "event": event });
    let of_run =
        |event: &str| json!({ "run": "r1", "node": null, "visit": 0, "item": null, "attempt": 0, "event": event });
    let with = |mut json: Value, key: &str, value: Value| {
        json[key] = value;
        json
    };
    let expected = [
        with(with(of_run("run_started"), "flow", json!("alone")), "resumed", json!(false)),
        with(of_node("visit_started", Value::Null), "items", json!(1)),
        of_node("attempt_started", json!(0)),
        with(of_node("emitted", json!(0)), "value", json!("token")),
        with(with(of_node("item_ended", json!(0)), "error", Value::Null), "recalled", json!(false)),
        with(of_node("visit_ended", Value::Null), "action", json!("default")),
        with(of_run("ended"), "action", json!("default")),
    ];
    assert_eq!(json.collect::<Vec<_>>(), expected);
}

#[test]
fn a_listener_that_nobody_hears_is_sent_no_values() {
    struct Deaf(Recorder);
    impl flowstone_core::Listener for Deaf {
        fn event(&self, event: &flowstone_core::Event) {
            self.0.event(event);
        }
        fn hears(&self) -> bool {
            false
        }
    }
    let run = |options: &RunOptions| {
        let mut flow = Flow::builder("speak");
        let speak = flow.add("speak", Speaks);
        flow.start(speak);
        ended(flow.build().unwrap().run_with(&mut 0, options));
    };
    let (deaf, hears) = (Recorder::default(), Recorder::default());

    run(&RunOptions::new().listen(Deaf(deaf.clone())));
    run(&RunOptions::new().listen(Deaf(Recorder::default())).listen(hears.clone()));

    assert!(!deaf.lines().iter().any(|line| line.contains("emitted")), "{:?}", deaf.lines());
    assert!(deaf.lines().iter().any(|line| line.contains("speak attempt_started")), "{:?}", deaf.lines());
    assert!(hears.lines().iter().any(|line| line.contains("emitted")), "{:?}", hears.lines());
}

/// Says whether it was heard.
struct Speaks;

impl flowstone_core::Node<u32> for Speaks {
    type Prep = ();
    type Exec = ();
    type Action = ();

    fn prep(&self, _: &u32) -> Result<()> {
        Ok(())
    }
    fn exec(&self, (): &(), cx: &Context) -> Result<()> {
        cx.emit(cx.heard());
        Ok(())
    }
    fn post(&self, _: &mut u32, (): (), (): ()) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn times_in_json_are_texts_and_durations_name_their_unit() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let options = RunOptions::new().listen(move |event: &Event| {
        into.lock().unwrap().push(serde_json::to_value(event).unwrap());
    });
    let retry = Retry::attempts(2).fixed(ms(1_500));
    let fails_once = awaiting(|cx| async move { if cx.attempt() == 0 { Err("busy".into()) } else { Ok(1) } });
    alone(fails_once.retry(retry)).run_async_with(&mut vec![], &options).await.unwrap();

    let seen = seen.lock().unwrap();
    let retry = seen.iter().find(|event| event["event"] == "retry").unwrap();
    assert_eq!(retry["wait_ms"], 1_500);
    assert!(seen.iter().all(|event| {
        let at = event["at"].as_str().unwrap();
        at.len() == 24 && at.starts_with("20") && at.ends_with('Z')
    }));
}
