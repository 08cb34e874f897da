//! Pauses: a question is answered once, by who may, with what fits.

use flowstone_core::{Action, Ask, AsyncFlow, END, Result};
use flowstone_durable::{AnswerError, Question, Reader, Requests, Runs, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::{Folder, Invoice, Ledger, approving, soon, until};

/// Asks for names until there are enough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Names(Vec<Name>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Name {
    name: String,
    /// The schema says nothing of it; the type does.
    age: u8,
}

struct AskName;

impl Ask<Names> for AskName {
    type Question = Value;
    type Answer = Name;
    type Action = Action;

    fn ask(&self, names: &Names) -> Result<Value> {
        Ok(json!({ "known": names.0.len() }))
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string", "minLength": 2 } } })
    }

    fn post(&self, names: &mut Names, name: Name) -> Result<Action> {
        names.0.push(name);
        Ok(if names.0.len() < 3 { "again".into() } else { "done".into() })
    }
}

fn asking() -> AsyncFlow<Names> {
    let mut flow = AsyncFlow::builder("names");
    let ask = flow.add("ask", AskName);
    flow.start(ask);
    flow.route(ask - "again" >> ask);
    flow.route(ask - "done" >> END);
    flow.build().unwrap()
}

fn name(name: &str) -> Name {
    Name { name: name.into(), age: 36 }
}

/// Starts a run and waits for its first question.
async fn asked(folder: &Folder) -> Runs<Names> {
    let runs = Runs::open(folder.store(), asking()).await.unwrap();
    let run = runs.start("r", Names::default()).await.unwrap();
    assert_eq!(soon("the question", run.settled()).await.unwrap(), Status::Paused);
    runs
}

async fn beside<T: Send + 'static>(folder: &Folder, ask: impl FnOnce(&mut Requests) -> T + Send + 'static) -> T {
    let path = folder.store();
    tokio::task::spawn_blocking(move || ask(&mut Requests::open(path).unwrap())).await.unwrap()
}

#[tokio::test]
async fn a_question_is_stored_with_its_schema_and_its_answer() {
    let folder = Folder::new();
    let runs = asked(&folder).await;
    let run = runs.get("r").await.unwrap();

    run.answer("ask", name("Ada")).await.unwrap();
    soon("the next question", run.settled()).await.unwrap();

    let questions = run.questions().await.unwrap();
    let [first, second] = &questions[..] else { panic!("{questions:?}") };
    assert_eq!((first.step, first.node.as_str(), &first.question), (1, "ask", &json!({ "known": 0 })));
    assert_eq!(first.schema["required"], json!(["name"]));
    assert_eq!(first.answer, Some(json!({ "name": "Ada", "age": 36 })));
    assert!(first.answered_at.unwrap() >= first.asked_at);
    assert_eq!((second.step, &second.question, &second.answer), (2, &json!({ "known": 1 }), &None));
    let info = run.info().await.unwrap();
    assert_eq!((info.status, info.step, info.node.unwrap().as_str()), (Status::Paused, 1, "ask"));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_its_schema_is_refused_with_the_place() {
    let folder = Folder::new();
    let runs = asked(&folder).await;

    for answer in [json!({ "name": "A", "age": 1 }), json!({ "age": 1 }), json!("Ada"), json!(null)] {
        let direct = runs.answer("r", "ask", answer.clone()).await.unwrap_err();
        let beside = beside(&folder, move |requests| requests.answer("r", "ask", answer).unwrap_err()).await;
        for error in [direct, beside] {
            assert!(matches!(&error, AnswerError::Unfit { .. }), "{error:?}");
            assert!(!error.to_string().contains('\n'));
        }
    }

    let unfit = runs.answer("r", "ask", json!({ "name": "A", "age": 1 })).await.unwrap_err();
    assert!(unfit.to_string().contains("at /name"), "{unfit}");
    let questions = runs.get("r").await.unwrap().questions().await.unwrap();
    assert_eq!((questions[0].answer.clone(), questions[0].refused.clone()), (None, None));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_its_type_is_refused_before_it_is_kept() {
    let folder = Folder::new();
    let runs = asked(&folder).await;

    let error = runs.answer("r", "ask", json!({ "name": "Ada", "age": 1000 })).await.unwrap_err();

    assert!(matches!(&error, AnswerError::Unfit { what, .. } if what.contains("1000")), "{error:?}");
    assert_eq!(runs.get("r").await.unwrap().info().await.unwrap().status, Status::Paused);
}

#[tokio::test]
async fn an_answer_from_beside_that_does_not_fit_its_type_is_recorded_as_refused() {
    let folder = Folder::new();
    let runs = asked(&folder).await;
    let run = runs.get("r").await.unwrap();

    beside(&folder, |requests| requests.answer("r", "ask", json!({ "name": "Ada", "age": 1000 })).unwrap()).await;
    until("it is refused", async || run.questions().await.unwrap()[0].refused.is_some()).await;

    let question = run.questions().await.unwrap().remove(0);
    assert!(question.refused.unwrap().contains("1000"));
    assert_eq!(question.answer, None);
    assert_eq!(soon("it asks again", run.settled()).await.unwrap(), Status::Paused);
    // The question still waits, and an answer that fits goes on.
    beside(&folder, |requests| requests.answer("r", "ask", json!({ "name": "Ada", "age": 36 })).unwrap()).await;
    until("it goes on", async || run.info().await.unwrap().step == 1).await;
    assert_eq!(run.questions().await.unwrap()[0].refused, None);
}

#[tokio::test]
async fn an_answer_from_beside_takes_effect_while_the_store_is_driven() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let run = runs.start("r", Invoice::default()).await.unwrap();
    run.settled().await.unwrap();

    beside(&folder, |requests| requests.answer("r", "ask", true).unwrap()).await;

    assert!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.posted);
    let twice = beside(&folder, |requests| requests.answer("r", "ask", true).unwrap_err()).await;
    assert!(matches!(twice, AnswerError::AlreadyAnswered { .. }), "{twice:?}");
}

#[tokio::test]
async fn an_answer_while_nobody_drives_takes_effect_at_the_next_start() {
    let folder = Folder::new();
    asked(&folder).await.store().close().await;

    beside(&folder, |requests| requests.answer("r", "ask", json!(name("Ada"))).unwrap()).await;
    let twice = beside(&folder, |requests| requests.answer("r", "ask", json!(name("Bob"))).unwrap_err()).await;
    let runs = Runs::open(folder.store(), asking()).await.unwrap();
    let run = runs.get("r").await.unwrap();
    until("it goes on", async || run.info().await.unwrap().step == 1).await;

    assert!(matches!(twice, AnswerError::AlreadyAnswered { .. }), "{twice:?}");
    assert_eq!(run.state_at(1).await.unwrap(), json!([{ "name": "Ada", "age": 36 }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_answers_one_is_taken() {
    let folder = Folder::new();
    let runs = asked(&folder).await;
    let run = runs.get("r").await.unwrap();
    let question = run.questions().await.unwrap().remove(0);

    let answers = (0..20).map(|n| {
        let (run, question) = (run.clone(), question.clone());
        tokio::spawn(async move { run.answer_question(&question, name(&format!("N{n}"))).await })
    });
    let mut taken = 0;
    for answer in answers.collect::<Vec<_>>() {
        match answer.await.unwrap() {
            Ok(()) => taken += 1,
            Err(AnswerError::AlreadyAnswered { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    assert_eq!(taken, 1);
    until("the next question", async || run.info().await.unwrap().step == 1).await;
}

#[tokio::test]
async fn a_late_answer_does_not_go_to_a_later_question_of_the_same_node() {
    let folder = Folder::new();
    let runs = asked(&folder).await;
    let run = runs.get("r").await.unwrap();
    let first: Question = run.questions().await.unwrap().remove(0);
    run.answer_question(&first, name("Ada")).await.unwrap();
    soon("the next question", run.settled()).await.unwrap();

    let late = run.answer_question(&first, name("Bob")).await.unwrap_err();
    let beside =
        beside(&folder, move |requests| requests.answer_question(&first, json!(name("Bob"))).unwrap_err()).await;

    assert!(matches!(late, AnswerError::AlreadyAnswered { .. }), "{late:?}");
    assert!(matches!(beside, AnswerError::AlreadyAnswered { .. }), "{beside:?}");
    let third = run.answer("other", name("Bob")).await.unwrap_err();
    assert_eq!(third.to_string(), "run `r` does not wait for an answer at node `other`; node `ask` asks");
    for who in ["Bob", "Eve"] {
        soon("the next question", run.settled()).await.unwrap();
        run.answer("ask", name(who)).await.unwrap();
    }
    assert_eq!(
        soon("the end", run.finished()).await.unwrap().ended().unwrap().state.0,
        [name("Ada"), name("Bob"), name("Eve")]
    );
}

#[tokio::test]
async fn a_pause_stores_nothing_but_its_question() {
    let folder = Folder::new();
    let runs = asked(&folder).await;
    runs.store().close().await;

    assert_eq!(crate::common::rows(&folder.store()), [("runs", 1), ("visits", 1), ("pauses", 1)]);
    let reader = Reader::open(folder.store()).unwrap();
    assert_eq!(reader.questions("r").unwrap()[0].answer, None);
}
