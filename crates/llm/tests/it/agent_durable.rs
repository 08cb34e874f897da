//! An agent in a run that is kept: what it has paid for is not paid for twice.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flowstone_core::Context;
use flowstone_durable::{Reader, Runs, Status};
use flowstone_llm::{
    AgentState, Failure, Model, Reply, Request, Role, ScriptedModel, Tools, agent, function_with_context,
};

use crate::agent::{AgentFlow, Number, call, calls, told};

/// A ledger of what tools did, outside the store.
type Ledger = Arc<Mutex<Vec<String>>>;

/// A tool that writes down its number; from `stops_at` on it waits for ever.
fn writing(ledger: &Ledger, stops_at: i64) -> Tools {
    let ledger = Arc::clone(ledger);
    Tools::new().with(function_with_context("write", "Writes a number down", move |number: Number, cx: Context| {
        let ledger = Arc::clone(&ledger);
        async move {
            if number.n >= stops_at {
                std::future::pending::<()>().await;
            }
            ledger.lock().unwrap().push(format!("{} {}", number.n, cx.idempotency_key()));
            Ok(format!("wrote {}", number.n))
        }
    }))
}

/// A model that calls six times, and answers when it is told of that.
fn model() -> (Model, ScriptedModel) {
    let script = ScriptedModel::by(|request: &Request| {
        Ok(match request.messages.last().map(|message| message.role) {
            Some(Role::User) => calls((0..6).map(|n| call(&format!("call_{n}"), "write", n))),
            _ => Reply::of_text("written"),
        })
    });
    (Model::new(script.clone()), script)
}

fn flow(model: &Model, ledger: &Ledger, stops_at: i64) -> AgentFlow {
    agent(model, writing(ledger, stops_at)).build().unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came: {what}");
}

#[tokio::test]
async fn after_a_crash_in_the_middle_of_act_finished_calls_and_the_thought_before_are_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let (ledger, (model_before, before)) = (Ledger::default(), model());
    let runs = Runs::open(&path, flow(&model_before, &ledger, 4)).await.unwrap();
    runs.start("r", AgentState::new("go")).await.unwrap();
    let reader = Reader::open(&path).unwrap();
    until("four calls are recorded", || reader.items_done("r").unwrap() == 4).await;
    runs.store().close().await;
    assert_eq!((before.requests().len(), ledger.lock().unwrap().len()), (1, 4));

    let (model_after, after) = model();
    let runs = Runs::open(&path, flow(&model_after, &ledger, i64::MAX)).await.unwrap();
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    let state =
        tokio::time::timeout(Duration::from_secs(10), run.finished()).await.unwrap().unwrap().ended().unwrap().state;

    assert_eq!((state.answer().as_deref(), state.turns(), after.requests().len()), (Some("written"), 2, 1));
    let mut written = ledger.lock().unwrap().clone();
    written.sort();
    let numbers: Vec<_> = written.iter().filter_map(|line| line.split_once(' ')).map(|(number, _)| number).collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "4", "5"], "each once: {written:?}");
    let keys: BTreeSet<_> = written.iter().filter_map(|line| line.split_once(' ')).map(|(_, key)| key).collect();
    assert_eq!(keys.len(), 6, "each with a key of its own: {written:?}");
    let texts: Vec<_> = told(&state).into_iter().map(|result| result.text).collect();
    assert_eq!(texts, (0..6).map(|n| format!("wrote {n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_run_whose_model_failed_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let (ledger, asked) = (Ledger::default(), Arc::new(AtomicUsize::new(0)));
    let counts = Arc::clone(&asked);
    let script = ScriptedModel::by(move |_: &Request| match counts.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(calls([call("a", "write", 1)])),
        1 => Err(Failure::Refused { status: 401, said: "the key has expired".to_owned() }),
        _ => Ok(Reply::of_text("written")),
    });
    let runs = Runs::open(&path, flow(&Model::new(script), &ledger, i64::MAX)).await.unwrap();
    let run = runs.start("r", AgentState::new("go")).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Failed);
    let failed = run.info().await.unwrap().error.unwrap();
    assert!(failed.message.contains("run `r`: node `think` failed in exec"), "{failed:?}");

    run.retry_failed().await.unwrap();
    let state =
        tokio::time::timeout(Duration::from_secs(10), run.finished()).await.unwrap().unwrap().ended().unwrap().state;

    assert_eq!((state.answer().as_deref(), asked.load(Ordering::Relaxed)), (Some("written"), 3));
    assert_eq!(ledger.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_agent_that_another_calls_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let ledger = Ledger::default();
    let make = |inner: &Model, stops_at| {
        let tools = writing(&ledger, stops_at);
        let helper = agent(inner, tools).name("helper").build_tool("helper", "Writes numbers down").unwrap();
        let outer = ScriptedModel::by(|request: &Request| {
            let task = flowstone_llm::ToolCall::new("h", "helper", serde_json::json!({ "task": "write six numbers" }));
            Ok(match request.messages.last().map(|message| message.role) {
                Some(Role::User) => calls([task]),
                _ => Reply::of_text("it is done"),
            })
        });
        agent(&Model::new(outer), Tools::new().with(helper)).build().unwrap()
    };
    let (model_before, before) = model();
    let runs = Runs::open(&path, make(&model_before, 4)).await.unwrap();
    runs.start("r", AgentState::new("go")).await.unwrap();
    let reader = Reader::open(&path).unwrap();
    until("four calls of the helper are recorded", || {
        let helper = reader.children("r").unwrap().pop();
        helper.is_some_and(|helper| reader.items_done(helper.id).unwrap() == 4)
    })
    .await;
    runs.store().close().await;

    let (model_after, after) = model();
    let runs = Runs::open(&path, make(&model_after, i64::MAX)).await.unwrap();
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    let state =
        tokio::time::timeout(Duration::from_secs(10), run.finished()).await.unwrap().unwrap().ended().unwrap().state;

    assert_eq!((state.answer().as_deref(), told(&state)[0].text.as_str()), (Some("it is done"), "written"));
    assert_eq!((before.requests().len(), after.requests().len(), ledger.lock().unwrap().len()), (1, 1, 6));
}

/// Two tools that write their names down; one of them waits for ever.
fn naming(ledger: &Ledger, stops: &'static str) -> Tools {
    let tool = |name: &'static str| {
        let ledger = Arc::clone(ledger);
        function_with_context(name, "Writes its name down", move |_: Number, _: Context| {
            let ledger = Arc::clone(&ledger);
            async move {
                if name == stops {
                    std::future::pending::<()>().await;
                }
                ledger.lock().unwrap().push(name.to_owned());
                Ok(format!("{name} is done"))
            }
        })
    };
    Tools::new().with(tool("look")).with(tool("refund"))
}

/// Runs one turn of `look` and `refund` until all but `stops` is recorded, and goes on with an agent in which `look`
/// takes approval: what the tools did, and what the model was told.
async fn under_another_approval(stops: &'static str) -> (Vec<String>, Vec<(String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let ledger = Ledger::default();
    let script = ScriptedModel::by(|request: &Request| {
        Ok(match request.messages.last().map(|message| message.role) {
            Some(Role::User) => calls([call("a", "look", 1), call("b", "refund", 2)]),
            _ => Reply::of_text("done"),
        })
    });
    let model = Model::new(script);
    let runs = Runs::open(&path, agent(&model, naming(&ledger, stops)).build().unwrap()).await.unwrap();
    runs.start("r", AgentState::new("go")).await.unwrap();
    let reader = Reader::open(&path).unwrap();
    until("a call is recorded", || reader.items_done("r").unwrap() == 1).await;
    runs.store().close().await;

    let after = agent(&model, naming(&ledger, "")).approve(["look"]).build().unwrap();
    let runs = Runs::open(&path, after).await.unwrap();
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    let state =
        tokio::time::timeout(Duration::from_secs(10), run.finished()).await.unwrap().unwrap().ended().unwrap().state;
    let told = told(&state).into_iter().map(|result| (result.id, result.text)).collect();
    (std::mem::take(&mut *ledger.lock().unwrap()), told)
}

#[tokio::test]
async fn each_call_keeps_its_result_though_another_takes_approval_by_then() {
    let (first_done, first_told) = under_another_approval("refund").await;
    let (second_done, second_told) = under_another_approval("look").await;

    let told = |a: &str, b: &str| [("a".to_owned(), a.to_owned()), ("b".to_owned(), b.to_owned())];
    assert_eq!(first_done, ["look", "refund"]);
    assert_eq!(first_told, told("look is done", "refund is done"));
    assert_eq!(second_done, ["refund"]);
    assert_eq!(second_told, told("this call takes the approval of a person, and has none", "refund is done"));
}
