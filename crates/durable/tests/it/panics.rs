//! Code of the user's panics, each kind: the run fails with an error that names it and the place, and nobody believes
//! that it is still driven.

use flowstone_core::{
    Action, Ask, AsyncBatchNode, AsyncFlow, AsyncKind, Context, Event, IntoNode, Label, Result, Sleep, State,
};
use flowstone_durable::{
    DriveError, Finished, FlowOptions, ReadError, Reader, RunFailure, Runs, Status, Store, StoreOptions,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

use crate::common::{Count, Folder, Gate, Ledger, gated, soon, until};

/// A state, of which a part cannot be had, and whose JSON panics at some numbers.
#[derive(Debug, Default)]
struct Odd(u32);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != 7, "bang in serialize");
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        assert!(number != 8, "bang in deserialize");
        Ok(Self(number))
    }
}

impl AsMut<u32> for Odd {
    fn as_mut(&mut self) -> &mut u32 {
        panic!("bang in as_mut")
    }
}

fn pick(_: &mut Odd) -> &mut u32 {
    panic!("bang in pick")
}

/// A flow of one node.
fn one<S: State, M, N: IntoNode<S, AsyncKind, M>>(name: &str, node: N) -> AsyncFlow<S> {
    let mut flow = AsyncFlow::builder(name);
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().unwrap()
}

/// Runs a flow that panics, and returns what its run says; the store has to say the same.
async fn fails<S, X>(flow: AsyncFlow<S, X>, state: S) -> String
where
    S: State + Serialize + DeserializeOwned + std::fmt::Debug,
    X: Label,
{
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), flow).await.unwrap();
    let run = runs.start("order-7", state).await.unwrap();

    let Ok(Finished::Failed(RunFailure { message, .. })) = soon("the run fails", run.finished()).await else {
        panic!("it did not fail")
    };
    runs.store().close().await;

    let info = Reader::open(folder.store()).unwrap().run("order-7").unwrap();
    assert_eq!((info.status, info.error.unwrap().message), (Status::Failed, message.clone()));
    message
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_around_a_node_fails_its_run() {
    let adds = || one("inner", |n: &mut u32| *n += 1);
    let of = |node: &str, phase: &str, said: &str| {
        format!("run `order-7`: node `{node}` failed in {phase}: panicked: bang in {said}")
    };

    let picks = fails(one("a", adds().within(pick)), Odd(0)).await;
    let parts = fails(one("a", adds().on::<u32>()), Odd(0)).await;
    assert_eq!([picks, parts], [of("node/node", "prep", "pick"), of("node/node", "prep", "as_mut")]);

    let forks = adds().batch(|_: &Odd| -> Vec<u32> { panic!("bang in fork") }, |_: &mut Odd, _| ());
    let joins = adds().batch(|_: &Odd| vec![1], |_: &mut Odd, _| -> () { panic!("bang in join") });
    let children = [fails(one("a", forks), Odd(0)).await, fails(one("a", joins.journaled()), Odd(0)).await];
    assert_eq!(children, [of("node", "prep", "fork"), of("node", "post", "join")]);

    let sleeps = Sleep::by(|_: &Odd| -> std::time::Duration { panic!("bang in sleep") });
    assert_eq!(fails(one("a", sleeps), Odd(0)).await, of("node", "prep", "sleep"));

    assert_eq!(fails(one("a", |_: &mut Odd| Bang), Odd(0)).await, of("node", "post", "a label"));
    let exits = one("a", |_: &mut Odd| ()).map_exit(|_| -> Action { panic!("bang in map_exit") });
    assert_eq!(fails(exits, Odd(0)).await, of("node", "post", "map_exit"));
}

/// Asks; panics where it says.
#[derive(Clone, Copy)]
struct Riddle(&'static str);

impl Riddle {
    fn at(self, place: &str) {
        assert!(self.0 != place, "bang in {place}");
    }
}

impl Ask<Count> for Riddle {
    type Question = Odd;
    type Answer = Odd;
    type Action = ();

    fn ask(&self, _: &Count) -> Result<Odd> {
        self.at("ask");
        Ok(Odd(if self.0 == "serialize" { 7 } else { 0 }))
    }

    fn schema(&self) -> Value {
        self.at("schema");
        true.into()
    }

    fn accepts(&self, _: &Count, _: &Odd) -> Result<()> {
        self.at("accepts");
        Ok(())
    }

    fn post(&self, _: &mut Count, _: Odd) -> Result<()> {
        self.at("post");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_a_question_or_of_what_follows_an_answer_fails_its_run() {
    for place in ["ask", "schema", "serialize"] {
        let said = fails(one("a", Riddle(place)), Count::default()).await;
        let names = said.starts_with("run `order-7`: node `node` failed in prep");
        assert!(names && said.ends_with(&format!("panicked: bang in {place}")), "{said}");
    }
    for place in ["accepts", "post"] {
        let folder = Folder::new();
        let runs = Runs::open(folder.store(), one("a", Riddle(place))).await.unwrap();
        let run = runs.start("order-7", Count::default()).await.unwrap();
        soon("it asks", run.settled()).await.unwrap();

        run.answer("node", 1).await.unwrap();

        let failed = soon("it fails", run.finished()).await.unwrap().ended().unwrap_err().to_string();
        assert!(failed.starts_with("run `order-7`") && failed.ends_with(&format!("bang in {place}")), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_json_panics_is_refused_and_the_question_stays() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), one("a", Riddle(""))).await.unwrap();
    let run = runs.start("order-7", Count::default()).await.unwrap();
    soon("it asks", run.settled()).await.unwrap();

    let (written, read) = (run.answer("node", Odd(7)).await, run.answer("node", 8).await);

    for (refused, said) in [(written, "bang in serialize"), (read, "bang in deserialize")] {
        let refused = flowstone_core::driver::report(&refused.unwrap_err());
        assert!(refused.contains("run `order-7`") && refused.contains(said), "{refused}");
    }
    run.answer("node", 1).await.unwrap();
    soon("it ends", run.finished()).await.unwrap().ended().unwrap();
}

/// A batch whose outputs panic when they are kept.
struct Items;

impl AsyncBatchNode<Vec<u64>> for Items {
    type Item = u64;
    type Output = Odd;
    type Outcome = Odd;
    type Action = ();

    async fn prep(&self, state: &Vec<u64>) -> Result<Vec<u64>> {
        Ok(state.clone())
    }

    async fn exec(&self, number: &u64, _: &Context) -> Result<Odd> {
        Ok(Odd(*number as u32))
    }

    async fn post(&self, _: &mut Vec<u64>, _: Vec<u64>, _: Vec<Odd>) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_a_codec_fails_its_run() {
    use flowstone_core::NodeExt;

    let state = fails(one("a", |odd: &mut Odd| odd.0 = 7), Odd(0)).await;
    let item = fails(one("a", Items.journaled()), vec![1, 7]).await;
    let becomes = one("inner", |odd: &mut Odd| odd.0 = 7);
    let child = becomes.batch(|_: &Count| vec![Odd(0)], |_: &mut Count, _| ()).journaled();
    let child = fails(one("a", child), Count::default()).await;

    for message in [state, item, child] {
        let says = message.starts_with("run `order-7`: node `node") && message.contains("bang in serialize");
        assert!(says, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_state_cannot_be_read_back_is_refused_and_stays() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    runs.start("order-7", Count::to(3)).await.unwrap();
    until("it waits", async || ledger.len() > 0).await;
    runs.store().close().await;

    let store = Store::open(folder.store()).await.unwrap();
    let migrate = |_, _| panic!("bang in migrate");
    let runs = store.runs_with(gated(&ledger, &Gate::closed()), FlowOptions::new().version(1, migrate)).await.unwrap();
    let refused = runs.resume_all().await.unwrap().refused;

    let [DriveError::Read(ReadError::Migrate { run, source, .. })] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((run.as_str(), source.to_string().as_str()), ("order-7", "panicked: bang in migrate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_panics_fails_its_run_with_its_id() {
    for event in ["visit_started", "visit_ended"] {
        let folder = Folder::new();
        let store = Store::open(folder.store()).await.unwrap();
        let options = FlowOptions::new().listen(move |heard: &Event| {
            assert!(serde_json::to_value(heard).unwrap()["event"] != event, "bang at {event}");
        });
        let mut flow = AsyncFlow::builder("two");
        let (a, b) = (flow.add("a", |n: &mut u32| *n += 1), flow.add("b", |n: &mut u32| *n += 1));
        flow.start(a);
        flow.route(a >> b);
        let runs = store.runs_with(flow.build().unwrap(), options).await.unwrap();
        let run = runs.start("order-7", 0).await.unwrap();

        let failed = soon("it fails", run.finished()).await.unwrap().ended().unwrap_err().to_string();

        let (next, done) = if event == "visit_started" { ("a", 0) } else { ("b", 1) };
        assert_eq!(failed, format!("run `order-7`: a listener panicked at node `{next}`: bang at {event}"));
        assert_eq!(run.state().await.unwrap(), done);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_of_a_store_that_panics_stops_nothing() {
    let folder = Folder::new();
    let store = StoreOptions::new().clock(|| panic!("bang in clock")).open(folder.store()).await.unwrap();
    let runs = store.runs(one("a", |n: &mut u32| *n += 1)).await.unwrap();

    let run = runs.start("order-7", 0).await.unwrap();

    assert_eq!(soon("it ends", run.finished()).await.unwrap().ended().unwrap().state, 1);
}
