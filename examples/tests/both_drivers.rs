//! Every example runs under every driver with equal results: in memory, in a store, and, without a runtime, sync.
//!
//! The test compares the last action, the last state as JSON, and the trace: each visit's node and action. A child of a
//! batch flow has a trace of its own, which is part of its parent's visit; its result is in the state.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    net::Ipv4Addr,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone::{
    AsyncFlow, Event, EventKind, Flow, Label, Outcome, RunOptions, State,
    durable::{Runs, Status},
};
use flowstone_examples::{
    open_meteo::OpenMeteo,
    service::{Manners, Service},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Takes examples in as modules, without running their `main`.
macro_rules! examples {
    ($($name:ident: $path:literal),+ $(,)?) => {$(
        #[path = $path]
        #[expect(dead_code, reason = "the parts that are for the command line")]
        mod $name;
    )+};
}

examples! {
    agent_loop: "../examples/agent_loop.rs",
    approve: "../examples/approve.rs",
    batch_csv: "../examples/batch_csv.rs",
    images: "../examples/images.rs",
    invoices: "../examples/invoices/main.rs",
    school: "../examples/school.rs",
    seed_weather: "../examples/seed_weather.rs",
    supervisor: "../examples/supervisor.rs",
    translate: "../examples/translate.rs",
    weather: "../examples/weather/main.rs",
}

/// Visits in their order: each one's node and action.
type Trace = Vec<(String, String)>;

/// The result of a run.
#[derive(Debug, PartialEq)]
struct Told {
    action: String,
    state: Value,
    trace: Trace,
}

/// Listens for the visits of a run, without those of its children.
fn listening() -> (RunOptions, Arc<Mutex<Trace>>) {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&trace);
    let options = RunOptions::new().listen(move |event: &Event| {
        let (EventKind::VisitEnded { action }, Some(node)) = (&event.kind, &event.node) else { return };
        if !node.as_str().contains('[') {
            into.lock().unwrap().push((node.to_string(), action.to_string()));
        }
    });
    (options, trace)
}

fn sync<S: State + Serialize, X: Label>(flow: &Flow<S, X>, mut state: S, answers: &[Value]) -> Told {
    let (options, trace) = listening();
    let mut answers = answers.iter().cloned();
    let mut outcome = flow.run_with(&mut state, &options).unwrap();
    let action = loop {
        match outcome {
            Outcome::Ended(action) => break action.to_string(),
            Outcome::Paused(pause) => {
                outcome = flow.resume_with(&mut state, pause, answers.next().unwrap(), &options).unwrap();
            }
        }
    };
    told(&action, state, &trace)
}

async fn in_memory<S: State + Serialize, X: Label>(flow: &AsyncFlow<S, X>, mut state: S, answers: &[Value]) -> Told {
    let (options, trace) = listening();
    let mut answers = answers.iter().cloned();
    let mut outcome = flow.run_async_with(&mut state, &options).await.unwrap();
    let action = loop {
        match outcome {
            Outcome::Ended(action) => break action.to_string(),
            Outcome::Paused(pause) => {
                outcome = flow.resume_with(&mut state, pause, answers.next().unwrap(), &options).await.unwrap();
            }
        }
    };
    told(&action, state, &trace)
}

fn told(action: &str, state: impl Serialize, trace: &Mutex<Trace>) -> Told {
    let trace = trace.lock().unwrap().clone();
    Told { action: action.to_owned(), state: serde_json::to_value(state).unwrap(), trace }
}

async fn in_a_store<S, X>(flow: AsyncFlow<S, X>, state: S, answers: &[Value]) -> Told
where
    S: State + Serialize + DeserializeOwned,
    X: Label,
{
    let folder = tempfile::tempdir().unwrap();
    let runs = Runs::open(folder.path().join("runs.db"), flow).await.unwrap();
    let run = runs.start("run", state).await.unwrap();
    let mut answers = answers.iter();
    while run.settled().await.unwrap() == Status::Paused {
        let question = run.questions().await.unwrap().pop().unwrap();
        run.answer_question(&question, answers.next().unwrap()).await.unwrap();
    }

    let ended = run.finished().await.unwrap().ended().unwrap();
    let steps = run.steps(1, usize::MAX).await.unwrap();
    let visit = |step: &flowstone::durable::StepInfo| {
        (step.node.as_ref().unwrap().to_string(), step.action.as_ref().unwrap().to_string())
    };
    let told = Told {
        action: ended.action.to_string(),
        state: serde_json::to_value(ended.state).unwrap(),
        trace: steps.iter().map(visit).collect(),
    };
    runs.store().close().await;
    told
}

/// Returns a state that is the same: states need not be `Clone`.
fn same<S: Serialize + DeserializeOwned>(state: &S) -> S {
    serde_json::from_value(serde_json::to_value(state).unwrap()).unwrap()
}

#[track_caller]
fn assert_trace(told: &Told, trace: &[(&str, &str)]) {
    let told: Vec<_> = told.trace.iter().map(|(node, action)| (node.as_str(), action.as_str())).collect();
    assert_eq!(told, trace);
}

/// Runs an async flow under both drivers, and returns what both told.
async fn both<S, X>(flow: AsyncFlow<S, X>, state: S, answers: &[Value]) -> Told
where
    S: State + Serialize + DeserializeOwned,
    X: Label,
{
    let memory = in_memory(&flow, same(&state), answers).await;

    let stored = in_a_store(flow, state, answers).await;

    assert_eq!(memory, stored);
    stored
}

/// Runs a sync flow under all three drivers, and returns what all told.
async fn all<S, X>(flow: Flow<S, X>, state: S, answers: &[Value]) -> Told
where
    S: State + Serialize + DeserializeOwned,
    X: Label,
{
    let told = sync(&flow, same(&state), answers);

    let others = both(AsyncFlow::from(flow), state, answers).await;

    assert_eq!(told, others);
    told
}

#[tokio::test]
async fn agent_loop_tells_the_same() {
    let told = all(agent_loop::flow().unwrap(), agent_loop::about(agent_loop::QUESTION), &[]).await;

    let search = [("decide", "search"), ("search", "default")];
    assert_trace(&told, &[&search[..], &search, &search, &[("decide", "answer"), ("answer", "default")]].concat());
}

#[tokio::test]
async fn approve_tells_the_same() {
    let answers = [json!("no"), json!("no"), json!("yes")];

    let told = all(approve::flow().unwrap(), approve::Letter::default(), &answers).await;

    assert_eq!(told.trace.len(), 7);
    assert_eq!(told.state["sent"], true);
}

#[tokio::test]
async fn batch_csv_tells_the_same() {
    let report = batch_csv::report_of(batch_csv::SALES.to_owned());

    let told = all(batch_csv::flow(NonZeroUsize::new(10).unwrap()).unwrap(), report, &[]).await;

    assert_trace(&told, &[("sum", "default"), ("print", "default")]);
}

#[tokio::test]
async fn images_tells_the_same() {
    let folder = tempfile::tempdir().unwrap();

    let told = both(images::flow().unwrap(), images::made_in(folder.path()).unwrap(), &[]).await;

    assert_eq!(told.state["outputs"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn invoices_tells_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (counts, ledger) = (folder.path().join("requests.txt"), folder.path().join("ledger.csv"));
    // A seed with which the service fails four times, and lets nobody wait.
    let desk = invoices::service::Desk::open(&counts, 17, Duration::ZERO).unwrap();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = tokio::spawn(invoices::service::answer_all(desk, listener));
    let client = invoices::extraction::Extraction::at(&url);
    let flow = invoices::flow::flow(client, invoices::ledger::Ledger::open(&ledger).unwrap()).unwrap();

    // A number that was not asked about is no answer.
    let answers = [json!({ "all_but": [1_000_000] }), json!("none")];
    let told = both(flow, invoices::flow::Batch::new(7, 40, 250_000), &answers).await;
    service.abort();

    let steps = [("extract", "some_over"), ("approve", "no"), ("approve", "yes"), ("post", "default")];
    assert_trace(&told, &steps);
    let posted = told.state["posted"].as_u64().unwrap() as usize;
    assert!(posted < 40, "{posted}");
    // Two runs, two keys for each invoice.
    assert_eq!(fs::read_to_string(ledger).unwrap().lines().count(), 2 * posted);
}

#[tokio::test]
async fn school_tells_the_same() {
    let told = all(school::school_flow().unwrap(), school::school(), &[]).await;

    assert_trace(&told, &[("classes", "default"), ("sum up", "default")]);
}

#[tokio::test]
async fn seed_weather_tells_the_same() {
    let flow = seed_weather::flow(Duration::from_millis(1)).unwrap();

    let told = both(flow, seed_weather::shared_data("London"), &[]).await;

    assert_eq!(told.action, "done");
}

#[tokio::test]
async fn supervisor_tells_the_same() {
    let told = all(supervisor::flow().unwrap(), supervisor::desk(), &[]).await;

    assert_eq!(told.trace.len(), 9);
    assert_eq!(told.state["rejected"], 2);
}

#[tokio::test]
async fn translate_tells_the_same() {
    let told = both(translate::flow().unwrap(), translate::book(), &[]).await;

    assert_trace(&told, &[("translate", "default")]);
}

#[tokio::test]
async fn weather_tells_the_same() {
    let service = Service::start(Manners { delay: Duration::ZERO, failures: 10 }).await.unwrap();
    let patience =
        weather::flow::Patience { attempts: 9, attempt: Duration::from_secs(5), total: Duration::from_secs(60) };
    let city = weather::flow::city_flow(OpenMeteo::at(service.url()).unwrap(), patience).unwrap();
    let mut trip = weather::flow::Trip::default();
    trip.add(["London", "Pariss", "Tokyo"].map(str::to_owned));

    let told = both(weather::flow::trip_flow(city).unwrap(), trip, &[json!(["Paris"])]).await;

    let round = |outcome| [("check", "cities"), ("cities", outcome)];
    assert_trace(&told, &[&round("unknown")[..], &[("ask", "default")], &round("done")].concat());
    assert_eq!(told.state["cities"][1]["place"]["country"], "France");
}
