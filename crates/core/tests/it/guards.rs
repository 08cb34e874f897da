//! Code of the user's outside the phases of a node panics, each kind in both kinds of flow: the run ends with an error
//! that names it, and nothing goes through the driver.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{
    fmt,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use crate::common::{alone, alone_sync, awaiting, blocking, ended};
use flowstone_core::{
    Action, Ask, AsyncFlow, AsyncKind, CancellationToken, Clock, Event, EventKind, Fault, Flow, IntoNode, Label,
    Listener, NodeExt, Outcome, Result, Retry, RunError, RunOptions, Sleep, State, SyncKind, driver::Execution,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

type Numbers = Vec<u32>;

/// A state with a part, which cannot be had.
#[derive(Default)]
struct Whole(Numbers);

impl AsMut<Numbers> for Whole {
    fn as_mut(&mut self) -> &mut Numbers {
        panic!("bang in as_mut, after {}", self.0.len())
    }
}

/// A flow of one node, to be inside another.
fn inner<S: State, M, N: IntoNode<S, AsyncKind, M>>(node: N) -> AsyncFlow<S> {
    let mut flow = AsyncFlow::builder("inner");
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().unwrap()
}

fn inner_sync<S: State, M, N: IntoNode<S, SyncKind, M>>(node: N) -> Flow<S> {
    let mut flow = Flow::builder("inner");
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().unwrap()
}

fn options() -> RunOptions {
    RunOptions::new().id("r1")
}

/// Runs a node that panics as the only one of each kind of flow, and checks what the error says.
macro_rules! says {
    ($state:expr, $node:expr, $said:expr) => {{
        let sync = alone_sync($node).run_with(&mut $state, &options());
        assert_eq!(sync.unwrap_err().report(), $said, "in a flow");
        says_async!($state, $node, $said);
    }};
}

macro_rules! says_async {
    ($state:expr, $node:expr, $said:expr) => {{
        let flow = alone($node);
        let result = flow.run_async_with(&mut $state, &options()).await;
        assert_eq!(result.unwrap_err().report(), $said, "in an async flow");
        // Nobody watches: the shortest way.
        let result = flow.run_async(&mut $state).await;
        assert!(matches!(result, Err(RunError::Node { .. })), "unwatched");
    }};
}

fn within(said: &str) -> String {
    format!("run `r1`: node `node/node` failed in prep: panicked: {said}")
}

fn of(phase: &str, said: &str) -> String {
    format!("run `r1`: node `node` failed in {phase}: panicked: {said}")
}

#[tokio::test]
async fn a_panic_of_what_picks_a_part_is_an_error() {
    fn pick(_: &mut Whole) -> &mut Numbers {
        panic!("bang in pick")
    }

    says!(Whole::default(), inner_sync(blocking(|_| Ok(1))).within(pick), within("bang in pick"));
    says_async!(Whole::default(), inner(awaiting(async |_| Ok(1))).within(pick), within("bang in pick"));
    says!(Whole::default(), inner_sync(blocking(|_| Ok(1))).on::<Numbers>(), within("bang in as_mut, after 0"));
    says_async!(Whole::default(), inner(awaiting(async |_| Ok(1))).on::<Numbers>(), within("bang in as_mut, after 0"));
}

#[tokio::test]
async fn a_panic_of_fork_join_and_sleep_is_an_error() {
    let child = || inner_sync(|n: &mut u32| *n += 1);
    let forks = || child().batch(|_: &Numbers| -> Numbers { panic!("bang in fork") }, |_: &mut Numbers, _| ());
    let joins = || child().batch(Numbers::clone, |_: &mut Numbers, _| -> () { panic!("bang in join") });
    let sleeps = || Sleep::by(|_: &Numbers| -> Duration { panic!("bang in sleep") });
    let until = || Sleep::until(|_: &Numbers| -> SystemTime { panic!("bang in until") });

    says!(vec![1], forks(), of("prep", "bang in fork"));
    says_async!(vec![1], forks().parallel(2), of("prep", "bang in fork"));
    says!(vec![1], joins(), of("post", "bang in join"));
    says!(vec![1], sleeps(), of("prep", "bang in sleep"));
    says!(vec![1], until(), of("prep", "bang in until"));
}

/// An action that panics when it is looked at.
struct Bang;

impl Label for Bang {
    const NAMES: &'static [&'static str] = &[];

    fn index(&self) -> Option<usize> {
        None
    }

    fn action(self) -> Action {
        panic!("bang in a label")
    }
}

#[tokio::test]
async fn a_panic_of_a_label_is_an_error() {
    says!(0, |_: &mut u32| Bang, of("post", "bang in a label"));
}

#[tokio::test]
async fn a_panic_of_an_exit_is_an_error_and_none_of_build() {
    let exits = || alone_sync(|_: &mut u32| ()).map_exit(|_| -> Action { panic!("bang in map_exit") });
    let mut outer = Flow::builder("outer");
    let inner = outer.add("inner", exits());
    let last = outer.add("last", |n: &mut u32| *n += 1);
    outer.start(inner);
    outer.route(inner >> last);

    let run = exits().run_with(&mut 0, &options());
    let nested = outer.build().unwrap().run_with(&mut 0, &options());

    assert_eq!(run.unwrap_err().report(), of("post", "bang in map_exit"));
    assert!(nested.unwrap_err().report().ends_with("failed in post: panicked: bang in map_exit"));
}

/// Asks; panics where it says.
#[derive(Clone, Copy)]
struct Riddle(&'static str);

impl Riddle {
    fn at(self, place: &str) {
        assert!(self.0 != place, "bang in {place}");
    }
}

/// Something whose JSON panics.
#[derive(Clone, Copy, Default)]
struct Odd(bool);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.0, "bang in serialize");
        serializer.serialize_bool(self.0)
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let odd = bool::deserialize(deserializer)?;
        assert!(!odd, "bang in deserialize");
        Ok(Self(odd))
    }
}

impl Ask<u32> for Riddle {
    type Question = Odd;
    type Answer = Odd;
    type Action = ();

    fn check(&self) -> Result<()> {
        self.at("check");
        Ok(())
    }

    fn ask(&self, _: &u32) -> Result<Odd> {
        self.at("ask");
        Ok(Odd(self.0 == "serialize"))
    }

    fn schema(&self) -> serde_json::Value {
        self.at("schema");
        true.into()
    }

    fn accepts(&self, _: &u32, _: &Odd) -> Result<()> {
        self.at("accepts");
        Ok(())
    }

    fn post(&self, _: &mut u32, _: Odd) -> Result<()> {
        self.at("post");
        Ok(())
    }
}

fn pause(outcome: Result<Outcome, RunError>) -> flowstone_core::Pause {
    match outcome.unwrap() {
        Outcome::Paused(pause) => pause,
        Outcome::Ended(action) => panic!("it ended with {action}"),
    }
}

#[tokio::test]
async fn a_panic_of_a_question_or_an_answer_is_an_error() {
    for place in ["ask", "schema"] {
        says!(0, Riddle(place), of("prep", &format!("bang in {place}")));
    }
    let unkept = "run `r1`: node `node` failed in prep: it cannot be kept as JSON, at `.`: panicked: bang in serialize";
    says!(0, Riddle("serialize"), unkept);
    for (place, phase) in [("accepts", "prep"), ("post", "post")] {
        let flow = alone(Riddle(place));
        let pause = pause(flow.run_async_with(&mut 0, &options()).await);
        let answered = flow.resume(&mut 0, pause, false).await;
        assert_eq!(answered.unwrap_err().report(), of(phase, &format!("bang in {place}")));
    }
    let mut flow = Flow::<u32>::builder("one");
    let node = flow.add("node", Riddle("check"));
    flow.start(node);
    let faults = flow.build().unwrap_err().faults().to_vec();
    assert_eq!(faults, [Fault::Node { node: "node".into(), message: "panicked: bang in check".into() }]);
}

#[tokio::test]
async fn an_answer_whose_json_panics_does_not_fit() {
    let flow = alone(Riddle(""));
    let asked = pause(flow.run_async_with(&mut 0, &options()).await);

    assert!(flow.fits(asked.position(), &true.into()).unwrap_err().to_string().contains("bang in deserialize"));
    let written = flow.resume(&mut 0, asked, Odd(true)).await.unwrap_err();

    assert!(matches!(written, RunError::Answer { .. }), "{written}");
    assert!(written.report().ends_with("does not fit: panicked: bang in serialize"), "{}", written.report());
}

#[tokio::test]
async fn a_panic_of_the_json_of_a_state_is_an_error_of_its_codec() {
    let flow = alone(|state: &mut Odd| state.0 = true);
    let mut run = flow.execution(Odd(false), &options());
    let node = run.node().clone();

    assert_eq!(run.save().unwrap(), b"false");
    run.visit().await.unwrap();

    assert!(run.save().unwrap_err().to_string().ends_with("panicked: bang in serialize"));
    let restored = run.restore(&node, 0, b"true").unwrap_err();
    let why = flowstone_core::driver::report(&restored);
    assert!(why.ends_with("panicked: bang in deserialize"), "{why}");
}

/// A listener that panics at events of one kind.
#[derive(Clone)]
struct Deaf(&'static str, Arc<Mutex<Vec<String>>>);

impl Deaf {
    fn to(event: &'static str) -> (Self, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::default();
        (Self(event, Arc::clone(&seen)), seen)
    }
}

fn name(event: &Event) -> String {
    serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned()
}

impl Listener for Deaf {
    fn event(&self, event: &Event) {
        let name = name(event);
        assert!(name != self.0, "bang at {name}");
        self.1.lock().unwrap().push(name);
    }

    fn hears(&self) -> bool {
        assert!(self.0 != "hears", "bang in hears");
        true
    }
}

fn two() -> (Flow<Numbers>, AsyncFlow<Numbers>) {
    let node = || {
        blocking(|cx| {
            cx.emit(1);
            Ok(1)
        })
    };
    let (mut sync, mut flow) = (Flow::builder("two"), AsyncFlow::builder("two"));
    let (a, b) = (sync.add("a", node()), sync.add("b", node()));
    sync.start(a);
    sync.route(a >> b);
    let (a, b) = (flow.add("a", node()), flow.add("b", node()));
    flow.start(a);
    flow.route(a >> b);
    (sync.build().unwrap(), flow.build().unwrap())
}

#[tokio::test]
async fn a_listener_that_panics_stops_its_run_before_the_next_visit() {
    let (sync, flow) = two();
    // Where it panics, the visits that are made, and the node that is next.
    let cases = [
        ("run_started", 0, "a"),
        ("visit_started", 0, "a"),
        ("attempt_started", 1, "b"),
        ("emitted", 1, "b"),
        ("hears", 1, "b"),
        ("visit_ended", 1, "b"),
    ];
    for (event, visits, next) in cases {
        let said = match event {
            "hears" => "bang in hears".to_owned(),
            event => format!("bang at {event}"),
        };
        let expected = format!("run `r1`: a listener panicked at node `{next}`: {said}");
        let (mut here, mut there) = (vec![], vec![]);

        let (deaf, seen) = Deaf::to(event);
        let result = sync.run_with(&mut here, &options().listen(deaf));
        assert_eq!(result.unwrap_err().report(), expected);
        assert_eq!(seen.lock().unwrap().last().map(String::as_str), Some("failed"), "at {event}");
        let result = flow.run_async_with(&mut there, &options().listen(Deaf::to(event).0)).await;
        assert_eq!(result.unwrap_err().report(), expected);
        assert_eq!([here.len(), there.len()], [visits; 2], "at {event}");
    }
}

#[tokio::test]
async fn a_listener_that_panics_at_the_end_changes_nothing() {
    let (sync, flow) = two();
    let (mut here, mut there) = (vec![], vec![]);

    ended(sync.run_with(&mut here, &options().listen(Deaf::to("ended").0)));
    ended(flow.run_async_with(&mut there, &options().listen(Deaf::to("ended").0)).await);

    assert_eq!([here.len(), there.len()], [2; 2]);
}

#[test]
fn the_other_listeners_miss_nothing() {
    let (sync, _) = two();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let (deaf, _) = Deaf::to("visit_started");

    let options = options().listen(deaf).listen(move |event: &Event| into.lock().unwrap().push(name(event)));
    assert!(sync.run_with(&mut vec![], &options).is_err());

    assert_eq!(*seen.lock().unwrap(), ["run_started", "visit_started", "failed"]);
}

/// A clock that panics at its call of this number.
#[derive(Debug)]
struct Broken(&'static str, Mutex<u32>);

impl Broken {
    fn at(&self, call: &str) {
        let mut left = self.1.lock().unwrap();
        if call == self.0 {
            let now = *left;
            *left = now.wrapping_sub(1);
            drop(left);
            assert!(now != 0, "bang in {call}");
        }
    }
}

impl Clock for Broken {
    fn now(&self) -> Duration {
        self.at("now");
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) {
        self.at("sleep");
    }
}

#[test]
fn a_clock_that_panics_stops_its_run() {
    let retry = || Retry::attempts(2).fixed(Duration::from_secs(1));
    let flow = alone_sync(blocking(|_| Result::<u32>::Err("broken".into())).retry(retry()));

    for (call, calls) in [("now", 0), ("now", 1), ("now", 2), ("sleep", 0)] {
        let options = options().deadline(Duration::from_mins(1)).clock(Arc::new(Broken(call, Mutex::new(calls))));
        let error = flow.run_with(&mut vec![], &options).unwrap_err();
        assert_eq!(error.report(), format!("run `r1`: the clock panicked at node `node`: bang in {call}"));
    }
}

/// An error whose text panics.
#[derive(Debug)]
struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half a ")?;
        panic!("bang in display")
    }
}

impl std::error::Error for Mute {}

#[tokio::test]
async fn an_error_whose_text_panics_is_told_without_it() {
    let fails = || blocking(|_| Result::<u32>::Err(Mute.into())).retry(Retry::attempts(2));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let options = options().listen(move |event: &Event| {
        if let EventKind::Retry { reason, .. } | EventKind::FellBack { reason } = &event.kind {
            into.lock().unwrap().push(reason.clone());
        }
    });

    let sync = alone_sync(fails()).run_with(&mut vec![], &options).unwrap_err();
    let pooled = alone(fails()).run_async_with(&mut vec![], &options).await.unwrap_err();

    let said = "run `r1`: node `node` failed in exec after 2 attempts: half a … (its text panics)";
    assert_eq!([sync.report(), pooled.report()], [said; 2]);
    assert_eq!(*seen.lock().unwrap(), ["half a … (its text panics)"; 4]);
}

/// Something that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("bang in drop");
        }
    }
}

#[tokio::test]
async fn what_panics_when_it_is_dropped_does_not_take_the_driver_with_it() {
    let carries = || blocking(|_| -> Result<u32> { std::panic::panic_any(Bomb) });
    let caught = catch_unwind(AssertUnwindSafe(|| alone_sync(carries()).run(&mut vec![])));
    let said = caught.expect("the payload of a panic is dropped in the guard").unwrap_err().report();
    assert!(said.ends_with("failed in exec after 1 attempt: panicked: a panic without a text"), "{said}");

    let token = CancellationToken::new();
    token.cancel();
    let waits = awaiting(async |_| {
        let _bomb = Bomb;
        pending::<Result<u32>>().await
    });
    let cancel = token.clone();
    let flow = alone(waits);
    let mut state = vec![];
    let options = options().cancel(cancel);
    let run = flow.run_async_with(&mut state, &options);
    assert!(matches!(run.await, Err(RunError::Cancelled { .. })));
}
