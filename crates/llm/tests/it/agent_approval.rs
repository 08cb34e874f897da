//! A person decides on calls before they are made.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone_core::{BoxFuture, Context, Outcome, Pause, Result, RunError, RunOptions, driver::Execution};
use flowstone_durable::{AnswerError, Requests, Runs, Status};
use flowstone_llm::{
    AgentState, Approval, ApprovalQuestion, Conversation, Decision, Message, Model, Part, Reply, ScriptedModel, Tool,
    ToolCall, ToolFault, ToolSpec, Tools, agent, function,
};
use serde_json::{Value, json};

use crate::agent::{AgentFlow, Number, call, results, run, told};

/// A shop: `look` is free, `refund` takes a person. What was refunded is written down.
#[derive(Clone, Default)]
struct Shop {
    refunded: Arc<Mutex<Vec<i64>>>,
}

impl Shop {
    fn tools(&self) -> Tools {
        let refunded = Arc::clone(&self.refunded);
        Tools::new().with(function("look", "Looks up an order", |order: Number| async move { Ok(order.n * 10) })).with(
            function("refund", "Pays an amount back", move |amount: Number| {
                refunded.lock().unwrap().push(amount.n);
                async move { Ok(format!("{} paid back", amount.n)) }
            }),
        )
    }

    fn refunded(&self) -> Vec<i64> {
        self.refunded.lock().unwrap().clone()
    }

    fn flow(&self, replies: impl IntoIterator<Item = Reply>) -> (AgentFlow, ScriptedModel) {
        let script = ScriptedModel::new(replies);
        (agent(&Model::new(script.clone()), self.tools()).approve(["refund"]).build().unwrap(), script)
    }
}

/// Looks up one order, refunds two.
fn refunding() -> [Reply; 2] {
    let mut message = Message::assistant("I will pay it back.");
    let calls = [call("a", "refund", 50), call("b", "look", 7), call("c", "refund", 500)];
    message.parts.extend(calls.map(Part::ToolCall));
    [Reply::new(message, flowstone_llm::Finish::ToolCalls), Reply::of_text("Done.")]
}

async fn asked(flow: &AgentFlow, state: &mut AgentState) -> Pause {
    match flow.run_async(state).await.unwrap() {
        Outcome::Paused(pause) => pause,
        Outcome::Ended(action) => panic!("ended with {action}"),
    }
}

#[tokio::test]
async fn a_person_is_asked_of_the_calls_that_need_it_before_any_is_made() {
    let shop = Shop::default();
    let (flow, _) = shop.flow(refunding());

    let mut state = AgentState::new("Refund it");
    let pause = asked(&flow, &mut state).await;

    assert_eq!(*pause.node(), "approve");
    assert!(shop.refunded().is_empty());
    let expected = json!({
        "said": "I will pay it back.",
        "calls": [
            { "id": "a", "tool": "refund", "arguments": { "n": 50 } },
            { "id": "c", "tool": "refund", "arguments": { "n": 500 } },
        ],
        "others": [{ "id": "b", "tool": "look", "arguments": { "n": 7 } }],
    });
    assert_eq!(*pause.question(), expected);
    let question: ApprovalQuestion = serde_json::from_value(expected).unwrap();
    assert_eq!(question.calls.len(), 2);
}

#[tokio::test]
async fn calls_are_approved_refused_and_edited_and_the_model_is_told() {
    let shop = Shop::default();
    let (flow, script) = shop.flow(refunding());
    let mut state = AgentState::new("Refund it");
    let pause = asked(&flow, &mut state).await;

    let answer = Approval::new().refuse("a", "it was paid back in May").edit("c", json!({ "n": 5 }));
    flow.resume(&mut state, pause, answer).await.unwrap();

    assert_eq!((shop.refunded(), state.answer().as_deref()), (vec![5], Some("Done.")));
    let told = told(&state);
    let ids: Vec<_> = told.iter().map(|result| result.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(told[0].text, "a person refused this call: it was paid back in May");
    assert_eq!((told[0].fault, told[1].text.as_str()), (Some(ToolFault::Refused), "70"));
    assert_eq!(told[2].text, "a person changed the arguments to {\"n\":5}\n5 paid back");
    // The model sees its calls as it made them, and the results of the turn in one message.
    let request = script.requests().remove(1);
    assert_eq!(results(&request.messages[2]).len(), 3);
    assert_eq!(request.messages[1].tool_calls().last().unwrap().arguments, json!({ "n": 500 }));
}

#[tokio::test]
async fn all_are_decided_on_at_once() {
    for (answer, refunded) in [(Approval::approve_all(), vec![50, 500]), (Approval::refuse_all("closed"), vec![])] {
        let shop = Shop::default();
        let (flow, _) = shop.flow(refunding());
        let mut state = AgentState::new("Refund it");
        let pause = asked(&flow, &mut state).await;

        flow.resume(&mut state, pause, answer).await.unwrap();

        assert_eq!((shop.refunded(), told(&state)[1].text.as_str()), (refunded, "70"));
    }
}

#[tokio::test]
async fn one_decision_stands_out_from_that_on_all() {
    let shop = Shop::default();
    let (flow, _) = shop.flow(refunding());
    let mut state = AgentState::new("Refund it");
    let pause = asked(&flow, &mut state).await;

    flow.resume(&mut state, pause, Approval::approve_all().decide("c", Decision::Refuse { reason: "no".into() }))
        .await
        .unwrap();

    assert_eq!(shop.refunded(), [50]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_leaves_the_question_open() {
    let shop = Shop::default();
    let (flow, _) = shop.flow(refunding());
    let mut state = AgentState::new("Refund it");
    let mut pause = asked(&flow, &mut state).await;

    let both = Approval::new().approve("a").approve("c");
    for (answer, why) in [
        (json!(Approval::new().approve("a")), "a decision on call `c` of `refund` is missing"),
        (json!(both.clone().approve("z")), "there is no call `z`; the calls are [\"a\", \"c\", \"b\"]"),
        (json!(both.edit("c", json!({ "n": "all" }))), "call `c`: the arguments of `refund` do not fit:\n- at `/n`: "),
        (json!({ "all": { "decision": "edit", "arguments": {} } }), "arguments are those of one call"),
        (json!({ "all": { "decision": "perhaps" } }), "unknown variant `perhaps`"),
        (json!({ "every": { "decision": "approve" } }), "unknown field `every`"),
        (json!("yes"), "invalid type"),
    ] {
        let error = flow.resume(&mut state, pause, answer).await.unwrap_err();
        assert!(error.report().contains(why), "{}", error.report());
        let RunError::Answer { pause: open, .. } = error else { panic!("{error}") };
        pause = open;
    }
    flow.resume(&mut state, pause, Approval::approve_all()).await.unwrap();

    assert_eq!(shop.refunded(), [50, 500]);
}

#[tokio::test]
async fn a_call_that_cannot_be_made_is_told_to_the_model_at_once() {
    let shop = Shop::default();
    let wrong = ToolCall::new("a", "refund", json!({ "n": "everything" }));
    let (flow, _) = shop.flow([Reply::of_calls([wrong, call("b", "give_away", 1)]), Reply::of_text("Sorry.")]);

    let mut state = AgentState::new("Refund it");
    run(&flow, &mut state).await;

    let faults: Vec<_> = told(&state).into_iter().map(|result| result.fault).collect();
    assert_eq!(faults, [Some(ToolFault::Misuse); 2]);
}

#[tokio::test]
async fn every_tool_takes_approval_if_all_do() {
    let shop = Shop::default();
    let script = ScriptedModel::new([Reply::of_calls([call("a", "look", 1)]), Reply::of_text("10")]);
    let flow = agent(&Model::new(script), shop.tools()).approve_all().build().unwrap();
    let mut state = AgentState::new("Look");

    let pause = asked(&flow, &mut state).await;
    assert_eq!(pause.question()["calls"][0]["tool"], "look");
    flow.resume(&mut state, pause, Approval::approve_all()).await.unwrap();

    assert_eq!(state.answer().as_deref(), Some("10"));
    let picture = r#"flowchart TD
    s0(( )) --> n0
    n0["think"]
    n1{{"approve"}}
    n2[["act, 8 at once, journaled"]]
    n0 -->|"act"| n2
    n0 -->|"approve"| n1
    n0 -->|"answered"| e0
    n0 -->|"stopped"| e0
    n1 --> n2
    n2 --> n0
    e0((( )))
"#;
    assert_eq!(flow.to_mermaid(), picture);
}

/// A tool whose schema refers to a part of itself.
struct Referring;

impl Tool for Referring {
    fn spec(&self) -> ToolSpec {
        let parameters = json!({
            "type": "object",
            "properties": { "n": { "$ref": "#/$defs/number" } },
            "$defs": { "number": { "type": "integer" } },
        });
        ToolSpec { name: "refund".to_owned(), description: "Pays back".to_owned(), parameters }
    }

    fn call<'a>(&'a self, arguments: Value, _: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move { Ok(arguments["n"].to_string()) })
    }
}

#[tokio::test]
async fn a_schema_that_refers_to_itself_is_checked_all_the_same() {
    let script = ScriptedModel::new([Reply::of_calls([call("a", "refund", 5)]), Reply::of_text("Done.")]);
    let flow = agent(&Model::new(script), Tools::new().with(Referring)).approve(["refund"]).build().unwrap();
    let mut state = AgentState::new("Refund it");
    let pause = asked(&flow, &mut state).await;

    let [wrong, right] = ["x".into(), json!(4)].map(|n| json!(Approval::new().edit("a", json!({ "n": n }))));
    let schema = jsonschema::validator_for(pause.schema()).unwrap();
    assert!(schema.is_valid(&wrong) && schema.is_valid(&right));
    let error = flow.resume(&mut state, pause, wrong).await.unwrap_err();
    let RunError::Answer { pause, source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("- at `/n`"), "{source}");
    flow.resume(&mut state, pause, right).await.unwrap();

    assert!(told(&state)[0].text.ends_with("\n4"));
}

#[tokio::test]
async fn a_call_that_takes_approval_is_never_made_without() {
    // The run came to `act` under a flow whose tools needed none.
    let shop = Shop::default();
    let (flow, _) = shop.flow([]);
    let mut state = AgentState::new("Refund it");
    let chat: &mut Conversation = state.as_mut();
    chat.messages.push(refunding()[0].message.clone());
    let stored = serde_json::to_vec(&state).unwrap();

    let mut run = flow.restored(&"act".into(), 1, &stored, &RunOptions::new()).unwrap();
    run.visit().await.unwrap();

    assert!(shop.refunded().is_empty());
    let told = told(run.state());
    assert_eq!(told[0].text, "this call takes the approval of a person, and has none");
    assert_eq!((told[0].fault, told[1].text.as_str(), told[2].fault), (Some(ToolFault::Refused), "70", told[0].fault));
}

/// A store with the run `r`, which waits for an answer.
async fn store(shop: &Shop) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let (flow, _) = shop.flow(refunding());
    let runs = Runs::open(&path, flow).await.unwrap();
    let run = runs.start("r", AgentState::new("Refund it")).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Paused);
    runs.store().close().await;
    (folder, path)
}

#[tokio::test]
async fn a_run_waits_for_the_answer_in_its_store_and_another_process_goes_on() {
    let shop = Shop::default();
    let (_folder, path) = store(&shop).await;

    let [_, last] = refunding();
    let (flow, script) = shop.flow([last]);
    let runs = Runs::open(&path, flow).await.unwrap();
    let run = runs.get("r").await.unwrap();
    run.answer("approve", Approval::new().approve("a").refuse("c", "too much")).await.unwrap();
    let state =
        tokio::time::timeout(Duration::from_secs(10), run.finished()).await.unwrap().unwrap().ended().unwrap().state;

    assert_eq!((state.answer().as_deref(), shop.refunded()), (Some("Done."), vec![50]));
    assert_eq!(script.requests().len(), 1);
    let again = run.answer("approve", Approval::approve_all()).await.unwrap_err();
    assert!(matches!(again, AnswerError::AlreadyAnswered { .. }), "{again}");
    let nodes: Vec<_> =
        run.steps(1, 100).await.unwrap().into_iter().map(|step| step.node.unwrap().to_string()).collect();
    assert_eq!(nodes, ["think", "approve", "act", "think"]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_where_it_is_given() {
    let shop = Shop::default();
    let (_folder, path) = store(&shop).await;
    let give = |answer: Value| {
        let path = path.clone();
        async move {
            let asks = move || Requests::open(path).unwrap().answer("r", "approve", answer);
            tokio::task::spawn_blocking(asks).await.unwrap()
        }
    };

    for (answer, why) in [
        (json!({ "calls": { "a": { "decision": "approve" } } }), "at /calls: \"c\" is a required property"),
        (json!({ "calls": { "a": { "decision": "aprove" }, "c": { "decision": "approve" } } }), "at /calls/a/decision"),
        (
            json!({ "calls": { "a": { "decision": "refuse" }, "c": { "decision": "approve" } } }),
            "\"reason\" is a required",
        ),
        (
            json!({ "all": { "decision": "approve" }, "calls": { "a": { "decision": "edit", "arguments": { "n": "x" } } } }),
            "at /calls/a/arguments/n",
        ),
        (json!({ "all": { "decision": "approve" }, "calls": { "z": { "decision": "approve" } } }), "at /calls"),
        (json!({ "all": { "decision": "refuse" } }), "at /all: \"reason\" is a required property"),
        (json!({}), "\"calls\" is a required property"),
    ] {
        let error = give(answer).await.unwrap_err();
        assert!(matches!(&error, AnswerError::Unfit { what, .. } if what.contains(why)), "{why}: {error}");
    }

    give(json!(Approval::refuse_all("no"))).await.unwrap();
    assert!(shop.refunded().is_empty());
}
