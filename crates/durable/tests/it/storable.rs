//! Everything that is written can be read: the rest is refused when it is written, with a typed error.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use flowstone_core::{
    Action, Ask, AsyncBatchNode, AsyncFlow, Context, END, NodeExt, Result, Sleep, driver::StorageFault,
};
use flowstone_durable::{
    AnswerError, ChangeError, Error, KeepError, NotEnded, OpenError, Question, ReadError, Requests, Runs, StartError,
    Status, StoreOptions, Written,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::{Folder, soon, until};

/// A list in a list, so many levels deep.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]))
}

/// Anything; what is asked is in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Anything {
    value: Value,
    #[serde(default)]
    schema: Option<Value>,
}

struct AskAnything;

impl Ask<Anything> for AskAnything {
    type Question = Value;
    type Answer = Value;
    type Action = ();

    fn ask(&self, state: &Anything) -> Result<Value> {
        Ok(match state.value.as_u64() {
            Some(levels) => nested(levels as usize),
            None => json!("what?"),
        })
    }

    fn schema_for(&self, state: &Anything) -> Value {
        match &state.schema {
            Some(Value::Number(levels)) => nested(levels.as_u64().unwrap() as usize),
            Some(schema) => schema.clone(),
            None => json!(true),
        }
    }

    fn post(&self, state: &mut Anything, answer: Value) -> Result<()> {
        state.value = answer;
        Ok(())
    }
}

fn asking() -> AsyncFlow<Anything> {
    let mut flow = AsyncFlow::builder("asks");
    let ask = flow.add("ask", AskAnything);
    flow.start(ask);
    flow.build().unwrap()
}

async fn asked(folder: &Folder) -> Runs<Anything> {
    let runs = Runs::open(folder.store(), asking()).await.unwrap();
    let run = runs.start("r", Anything::default()).await.unwrap();
    assert_eq!(soon("the question", run.settled()).await.unwrap(), Status::Paused);
    runs
}

fn question(runs: &Runs<Anything>) -> Question {
    runs.store().reader().unwrap().questions("r").unwrap().remove(0)
}

fn too_deep(error: impl Into<Error>) -> bool {
    let (Error::Answer(AnswerError::Keep(error)) | Error::Change(ChangeError::Keep(error))) = error.into() else {
        return false;
    };
    matches!(error, KeepError::Unstorable { source, .. } if matches!(source.fault, StorageFault::TooDeep))
}

#[tokio::test]
async fn an_answer_that_would_not_be_read_is_refused_and_the_question_stays_open() {
    let folder = Folder::new();
    let runs = asked(&folder).await;
    let path = folder.store();

    for levels in [128, 200] {
        let direct = runs.answer("r", "ask", nested(levels)).await.unwrap_err();
        assert!(too_deep(direct.clone()), "{direct:?}");
        assert_eq!(direct.to_string(), "run `r`, node `ask`: the answer cannot be kept");
        let beside = Requests::open(&path).unwrap().answer("r", "ask", nested(levels)).unwrap_err();
        assert!(too_deep(beside.clone()), "{beside:?}");
    }
    for number in [f64::NAN, f64::INFINITY] {
        let error = runs.answer("r", "ask", HashMap::from([("score", number)])).await.unwrap_err();
        assert!(
            matches!(&error, AnswerError::Keep(KeepError::Unstorable { what: Written::Answer, source, .. }) if source.path == "score")
        );
    }
    assert!(runs.answer("r", "ask", HashMap::from([((1, 2), 3)])).await.is_err());
    assert!(runs.answer("r", "ask", u128::MAX).await.is_err());

    assert_eq!(question(&runs).answer, None);
    runs.answer("r", "ask", nested(127 - 1)).await.unwrap();
    assert_eq!(
        soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap().state.value,
        nested(126)
    );
}

#[tokio::test]
async fn an_answer_is_as_large_as_a_state_may_be() {
    let folder = Folder::new();
    let store = StoreOptions::new().max_state(1000).open(folder.store()).await.unwrap();
    let runs = store.runs(asking()).await.unwrap();
    let run = runs.start("r", Anything::default()).await.unwrap();
    soon("the question", run.settled()).await.unwrap();

    let error = run.answer("ask", "x".repeat(2000)).await.unwrap_err();

    let shown = "run `r`, node `ask`: the answer has 2002 bytes, more than the 1000 that are allowed (`max_state`)";
    assert_eq!(error.to_string(), shown);
    run.answer("ask", "x".repeat(900)).await.unwrap();
    assert!(soon("the end", run.finished()).await.is_ok());
}

#[tokio::test]
async fn a_question_or_a_schema_that_would_not_be_read_fails_the_run_where_it_asks() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), asking()).await.unwrap();
    let cases = [
        ("question", json!(200), None, "nested more than 127 levels"),
        ("schema", Value::Null, Some(json!(200)), "nested more than 127 levels"),
        ("no schema", Value::Null, Some(json!({ "type": "nonsense" })), "is no JSON schema"),
    ];

    for (id, value, schema, why) in cases {
        let run = runs.start(id, Anything { value, schema }).await.unwrap();
        let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();

        assert!(matches!(&error, NotEnded::Failed { node, .. } if node == "ask"), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(run.questions().await.unwrap().is_empty(), "{id}");
    }
}

#[tokio::test]
async fn an_answer_that_an_older_version_kept_and_nobody_reads_opens_the_question_again() {
    let folder = Folder::new();
    asked(&folder).await.store().close().await;
    let db = rusqlite::Connection::open(folder.store()).unwrap();
    let deep = nested(200).to_string();
    db.execute("UPDATE pauses SET answer = ?1, question = ?1, schema = ?1, answered_at = 1", [&deep]).unwrap();
    db.execute("UPDATE runs SET status = 0", []).unwrap();
    drop(db);

    let runs = Runs::open(folder.store(), asking()).await.unwrap();
    assert_eq!(question(&runs).question, json!(deep), "shown as the text that it is");
    assert_eq!(runs.resume_all().await.unwrap().runs, ["r"]);
    until("it asks again", async || question(&runs).refused.is_some()).await;

    let run = runs.get("r").await.unwrap();
    assert_eq!(soon("it asks again", run.settled()).await.unwrap(), Status::Paused);
    assert!(question(&runs).refused.unwrap().contains("recursion limit"));
    run.answer("ask", "this").await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.value, "this");
}

/// A state with numbers; visits make it what a test wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Scores {
    #[serde(default)]
    make: String,
    score: f64,
    value: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(flatten)]
    rest: HashMap<String, Value>,
}

impl Scores {
    fn to(make: &str) -> Self {
        Self { make: make.into(), names: vec!["a".into()], ..Self::default() }
    }
}

/// `first` does nothing, `make` makes the state what it says, `sleep` sleeps long, `ask` asks.
fn making(tries: &Arc<AtomicU32>) -> AsyncFlow<Scores> {
    let tries = Arc::clone(tries);
    let mut flow = AsyncFlow::builder("makes");
    let first = flow.add("first", |_: &mut Scores| ());
    let make = flow.add("make", move |scores: &mut Scores| {
        if tries.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            return Action::from("done");
        }
        match scores.make.as_str() {
            "nan" => scores.score = f64::NAN,
            "infinite" => scores.score = f64::NEG_INFINITY,
            "deep" => scores.value = nested(200),
            "twice" => drop(scores.rest.insert("score".into(), json!(1))),
            "one way" => scores.names.clear(),
            "long" => return "x".repeat(1 << 20).into(),
            "nul" => return "\0a\0".into(),
            _ => {}
        }
        if scores.make == "one way" { "sleep".into() } else { "done".into() }
    });
    let sleep = flow.add("sleep", Sleep::new(std::time::Duration::from_hours(1)));
    let nul = flow.add("nul", |_: &mut Scores| ());
    flow.start(first);
    flow.route(first >> make);
    flow.route(make - "done" >> END);
    flow.route(make - "sleep" >> sleep);
    flow.route(make - "\0a\0" >> nul);
    flow.unrouted(flowstone_core::Unrouted::End);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_state_that_would_not_be_read_fails_its_visit_and_the_last_one_stands() {
    let (folder, tries) = (Folder::new(), Arc::default());
    let runs = Runs::open(folder.store(), making(&tries)).await.unwrap();
    let cases = [
        ("nan", "`score`: the number is NaN"),
        ("infinite", "`score`: the number is -inf"),
        ("deep", "nested more than 127 levels"),
        ("twice", "two entries have the key `score`"),
        ("one way", "missing field `names`"),
        ("long", "the action has 1048576 bytes, more than the 65536 that are allowed"),
    ];

    for (make, why) in cases {
        tries.store(0, Ordering::Relaxed);
        let run = runs.start(make, Scores::to(make)).await.unwrap();
        let error = soon("the failure", run.finished()).await.unwrap().ended().unwrap_err();

        assert!(error.to_string().contains(why), "{make}: {error}");
        let stands = if make == "one way" { 2 } else { 1 };
        assert_eq!(run.info().await.unwrap().step, stands, "{make}");
        if make != "one way" {
            // The visit is made again from the state before it, and ends.
            run.retry_failed().await.unwrap();
            assert_eq!(
                soon("the end", run.finished()).await.unwrap().ended().unwrap().state,
                Scores::to(make),
                "{make}"
            );
        }
    }
}

#[tokio::test]
async fn a_start_that_would_not_be_read_is_refused_and_nothing_is_written() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), making(&Arc::default())).await.unwrap();
    let cases = [
        Scores { score: f64::NAN, ..Scores::to("") },
        Scores { value: nested(127), ..Scores::to("") },
        Scores { names: Vec::new(), ..Scores::to("") },
        Scores { rest: HashMap::from([("names".into(), json!(1))]), ..Scores::to("") },
    ];

    for state in cases {
        let error = runs.start("r", state).await.unwrap_err();
        assert!(matches!(&error, StartError::Keep(KeepError::Unstorable { what: Written::State, .. })), "{error:?}");
    }

    assert_eq!(crate::common::rows(&folder.store()), []);
}

#[tokio::test]
async fn an_edit_that_would_not_be_read_is_refused() {
    let folder = Folder::new();
    let runs = asked(&folder).await;

    let edit = |state: &mut Value| state["value"] = nested(200);
    let direct = runs.fork("r", 0, "f", edit).await.unwrap_err();
    let beside = Requests::open(folder.store()).unwrap().fork("r", 0, "f", edit).unwrap_err();

    for error in [direct, beside] {
        assert!(too_deep(error.clone()), "{error:?}");
        assert_eq!(error.to_string(), "run `f`, node `ask`: the edited state cannot be kept");
    }
    assert!(matches!(runs.get("f").await.unwrap_err(), ReadError::UnknownRun { .. }));
}

#[tokio::test]
async fn texts_with_a_nul_come_back_as_ids_and_as_actions() {
    let (folder, tries) = (Folder::new(), Arc::default());
    let runs = Runs::open(folder.store(), making(&tries)).await.unwrap();

    let run = runs.start("a\0b", Scores::to("nul")).await.unwrap();
    soon("the end", run.finished()).await.unwrap().ended().unwrap();

    assert_eq!(runs.list(&flowstone_durable::Filter::new()).await.unwrap()[0].id.as_str(), "a\0b");
    let steps = run.steps(2, 2).await.unwrap();
    assert_eq!(steps[0].action.as_ref().unwrap().as_str(), "\0a\0");
    assert_eq!(steps[1].node.as_ref().unwrap().as_str(), "nul");
}

#[tokio::test]
async fn flows_in_one_another_have_a_picture_that_is_read_or_are_refused() {
    let folder = Folder::new();
    let store = StoreOptions::new().open(folder.store()).await.unwrap();
    let mut flow = AsyncFlow::<u32>::builder("f0");
    let node = flow.add("node", |n: &mut u32| *n += 1);
    flow.start(node);
    let mut flow = flow.build().unwrap();

    let mut refused = false;
    for depth in 1..60 {
        let mut outer = AsyncFlow::<u32>::builder(format!("f{depth}"));
        let inner = outer.add("inner", flow.batch(|n: &u32| vec![*n], |_: &mut u32, _| ()));
        outer.start(inner);
        flow = outer.build().unwrap();
        match store.runs(flow.clone()).await {
            Ok(_) => assert!(!refused),
            Err(OpenError::FlowTooDeep { .. }) => refused = true,
            Err(error) => panic!("{error:?}"),
        }
    }

    assert!(refused);
    assert!(store.reader().unwrap().flows().unwrap().len() > 20);
}

/// A batch of one item that gives a text of so many bytes.
struct Gives(usize);

impl AsyncBatchNode<u32> for Gives {
    type Item = u32;
    type Output = String;
    type Outcome = String;
    type Action = ();

    async fn prep(&self, _: &u32) -> Result<Vec<u32>> {
        Ok(vec![1])
    }

    async fn exec(&self, _: &u32, _: &Context) -> Result<String> {
        Ok("x".repeat(self.0))
    }

    async fn post(&self, state: &mut u32, _: Vec<u32>, outputs: Vec<String>) -> Result<()> {
        *state = outputs.len() as u32;
        Ok(())
    }
}

#[tokio::test]
async fn an_output_of_an_item_beyond_the_limit_fails_its_run() {
    for (bytes, fits) in [(900, true), (1100, false)] {
        let folder = Folder::new();
        let store = StoreOptions::new().max_state(1000).open(folder.store()).await.unwrap();
        let mut flow = AsyncFlow::builder("gives");
        let gives = flow.add("gives", Gives(bytes).journaled());
        flow.start(gives);
        let runs = store.runs(flow.build().unwrap()).await.unwrap();

        let end = soon("the end", runs.start("r", 0).await.unwrap().finished()).await.unwrap().ended();

        assert_eq!(end.is_ok(), fits, "{end:?}");
        if let Err(error) = end {
            assert!(error.to_string().contains("the output of an item has 1102 bytes"), "{error}");
        }
    }
}
