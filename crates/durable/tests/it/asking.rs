//! Questions of older versions: they are asked as the newest version asks them, and so are answers that were kept.

use flowstone_core::{Ask, AsyncFlow, BoxError, Result};
use flowstone_durable::{
    AnswerError, Asking, DriveError, FlowOptions, ReadError, Reader, Requests, Runs, Status, Store,
};
use serde_json::{Value, json};

use crate::common::{Folder, Ledger, soon, until};

/// Asks for a bool in version 0.
struct YesNo;

impl Ask<u64> for YesNo {
    type Question = &'static str;
    type Answer = bool;
    type Action = ();

    fn ask(&self, _: &u64) -> Result<&'static str> {
        Ok("yes or no?")
    }

    fn schema(&self) -> Value {
        json!({ "type": "boolean" })
    }

    fn post(&self, state: &mut u64, yes: bool) -> Result<()> {
        *state = u64::from(yes);
        Ok(())
    }
}

/// Asks for a word in version 1.
struct Word;

impl Ask<u64> for Word {
    type Question = &'static str;
    type Answer = String;
    type Action = ();

    fn ask(&self, _: &u64) -> Result<&'static str> {
        Ok("yes, no or later?")
    }

    fn schema(&self) -> Value {
        json!({ "enum": ["yes", "no", "later"] })
    }

    fn post(&self, state: &mut u64, answer: String) -> Result<()> {
        *state = answer.len() as u64;
        Ok(())
    }
}

fn flow(asks: impl Ask<u64, Action = ()>) -> AsyncFlow<u64> {
    let mut flow = AsyncFlow::builder("word");
    let ask = flow.add("ask", asks);
    flow.start(ask);
    flow.build().unwrap()
}

fn batch(asks: impl Ask<u64, Action = ()>) -> AsyncFlow<u64> {
    let mut parent = AsyncFlow::builder("words");
    let join = |sum: &mut u64, words: Vec<u64>| *sum = words.iter().sum();
    let words = parent.add("words", flow(asks).batch(|_: &u64| vec![0, 1], join).journaled());
    parent.start(words);
    parent.build().unwrap()
}

/// Leaves each run at its question, of version 0.
async fn leave(folder: &Folder, flow: AsyncFlow<u64>, ids: &[&str]) {
    let runs = Runs::open(folder.store(), flow).await.unwrap();
    for id in ids {
        runs.start(*id, 0).await.unwrap().settled().await.unwrap();
    }
    runs.store().close().await;
}

async fn open(
    folder: &Folder,
    flow: AsyncFlow<u64>,
    migrate: impl Fn(u32, &str, Asking) -> Result<Asking, BoxError> + Send + Sync + 'static,
) -> Runs<u64> {
    let options = FlowOptions::new()
        .version(1, |_, state| Ok(state))
        .migrate_questions(move |version, node, asking| migrate(version, node.as_str(), asking));
    Store::open(folder.store()).await.unwrap().runs_with(flow, options).await.unwrap()
}

fn to_words(_: u32, _: &str, asking: Asking) -> Result<Asking, BoxError> {
    let answer = asking.answer.map(|yes| if yes == true { json!("yes") } else { json!("no") });
    Ok(Asking { question: json!("yes, no or later?"), schema: json!({ "enum": ["yes", "no", "later"] }), answer })
}

fn answer_beside(folder: &Folder, run: &str, node: &str) {
    Requests::open(folder.store()).unwrap().answer(run, node, true).unwrap();
}

#[tokio::test]
async fn an_open_question_of_an_older_version_is_asked_and_answered_as_the_newest_asks_it() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    leave(&folder, flow(YesNo), &["r"]).await;
    let calls = ledger.clone();
    let runs = open(&folder, flow(Word), move |version, node, asking| {
        calls.add(format!("{version} {node}"));
        to_words(version, node, asking)
    })
    .await;
    let run = runs.get("r").await.unwrap();

    let question = run.questions().await.unwrap().remove(0);
    assert_eq!((question.question, question.schema["enum"][2].clone()), (json!("yes, no or later?"), json!("later")));
    assert!(matches!(run.answer("ask", true).await.unwrap_err(), AnswerError::Unfit { .. }));
    run.answer("ask", "later").await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 5);
    assert!(ledger.take().iter().all(|call| call == "0 ask"));
    // The question that was answered is written down.
    let stored = Reader::open(folder.store()).unwrap().questions("r").unwrap().remove(0);
    assert_eq!((stored.question, stored.answer), (json!("yes, no or later?"), Some(json!("later"))));
}

#[tokio::test]
async fn an_answer_that_an_older_version_took_in_is_migrated() {
    let folder = Folder::new();
    leave(&folder, flow(YesNo), &["r"]).await;
    answer_beside(&folder, "r", "ask");

    let runs = open(&folder, flow(Word), to_words).await;
    runs.resume_all().await.unwrap();

    let run = runs.get("r").await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 3);
}

#[tokio::test]
async fn an_answer_that_is_left_out_or_does_not_fit_opens_its_question_again() {
    for (answer, why) in [(None, "left it out"), (Some(json!("perhaps")), "perhaps")] {
        let folder = Folder::new();
        leave(&folder, flow(YesNo), &["r"]).await;
        answer_beside(&folder, "r", "ask");

        let migrate = move |version, node: &str, asking: Asking| {
            let answered = asking.answer.is_some();
            let now = to_words(version, node, asking)?;
            Ok(if answered { Asking { answer: answer.clone(), ..now } } else { now })
        };
        let runs = open(&folder, flow(Word), migrate).await;
        runs.resume_all().await.unwrap();

        let run = runs.get("r").await.unwrap();
        until("it is open again", async || run.questions().await.unwrap()[0].is_open()).await;
        let question = run.questions().await.unwrap().remove(0);
        assert_eq!(question.answer, None);
        assert!(question.refused.unwrap().contains(why));
        run.answer("ask", "no").await.unwrap();
        assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 2);
    }
}

#[tokio::test]
async fn a_migration_that_fails_refuses_the_run_as_it_is() {
    let folder = Folder::new();
    leave(&folder, flow(YesNo), &["open", "answered"]).await;
    answer_beside(&folder, "answered", "ask");
    let reader = Reader::open(folder.store()).unwrap();

    for panics in [false, true] {
        let migrate = move |_, _: &str, _| {
            assert!(!panics, "no way at all");
            Err("no way at all".into())
        };
        let runs = open(&folder, flow(Word), migrate).await;
        let resumed = runs.resume_all().await.unwrap();
        let error = runs.answer("open", "ask", "later").await.unwrap_err();

        assert!(
            matches!(error, AnswerError::Read(ReadError::MigrateQuestion { found: 0, wanted: 1, .. })),
            "{error:?}"
        );
        let is_its = |error: &DriveError| {
            matches!(error, DriveError::Read(ReadError::MigrateQuestion { found: 0, wanted: 1, .. }))
        };
        assert!(resumed.refused.iter().any(is_its), "{resumed:?}");
        let why = |id: &str| reader.run(id).unwrap().refused.unwrap_or_default();
        until("both are refused", async || ["open", "answered"].iter().all(|id| why(id).contains("no way at all")))
            .await;
        for id in ["open", "answered"] {
            assert_eq!(reader.run(id).unwrap().status, Status::Paused, "{id}");
        }
        assert_eq!(reader.questions("answered").unwrap()[0].answer, Some(json!(true)));
        runs.store().close().await;
    }

    let runs = open(&folder, flow(Word), to_words).await;
    runs.resume_all().await.unwrap();
    runs.answer("open", "ask", "later").await.unwrap();
    for (id, state) in [("open", 5), ("answered", 3)] {
        assert_eq!(
            soon("the end", runs.get(id).await.unwrap().finished()).await.unwrap().ended().unwrap().state,
            state
        );
    }
}

#[tokio::test]
async fn questions_of_children_are_migrated_too() {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    leave(&folder, batch(YesNo), &["r"]).await;
    answer_beside(&folder, "r", "words[1]/ask");
    let calls = ledger.clone();
    let runs = open(&folder, batch(Word), move |version, node, asking| {
        calls.add(format!("{version} {node}"));
        to_words(version, node, asking)
    })
    .await;
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();

    let question = run.questions().await.unwrap().remove(0);
    assert_eq!((question.node.as_str(), question.question), ("words[0]/ask", json!("yes, no or later?")));
    run.answer("words[0]/ask", "later").await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 8);
    assert!(ledger.take().iter().all(|call| call.starts_with("0 words[")));
}

#[tokio::test]
async fn a_question_that_the_newest_version_asked_is_not_migrated() {
    let folder = Folder::new();
    let runs = open(&folder, flow(Word), |_, _, _| Err("it is not called".into())).await;
    let run = runs.start("r", 0).await.unwrap();
    run.settled().await.unwrap();

    assert_eq!(run.questions().await.unwrap()[0].question, json!("yes, no or later?"));
    run.answer("ask", "no").await.unwrap();

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 2);
}
