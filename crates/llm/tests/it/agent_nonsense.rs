//! Whatever a model says, an agent ends, and each request that it makes is a conversation that providers take.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use flowstone_core::{Outcome, Retry, RunError};
use flowstone_llm::{
    AgentState, Approval, ApprovalQuestion, Failure, Finish, History, Message, Model, ModelError, Part, Reply, Request,
    Role, ScriptedModel, ToolCall, Tools, agent, function,
};
use serde_json::{Value, json};

use crate::{
    agent::{AgentFlow, Number, results},
    history::Lcg,
};

const RUNS: u64 = 400;

/// A reply as no model should make it, but some do.
fn nonsense(numbers: &mut Lcg) -> Result<Reply, Failure> {
    let mut message = Message { role: Role::Assistant, parts: Vec::new() };
    if numbers.below(3) == 0 {
        let text = ["", " ", "Well.", "{\"a\": 1"][numbers.below(4) as usize];
        message.parts.push(Part::Text(text.repeat(1 + numbers.below(200) as usize)));
    }
    if numbers.below(4) == 0 {
        message.parts.push(Part::Reasoning { text: "hm".to_owned(), signature: None });
    }
    for _ in 0..numbers.below(5) {
        let id = ["", "a", "b", "call_0_1", "call_1_0"][numbers.below(5) as usize];
        let name = ["double", "double", "pay", "pay", "functions.pay", "", "fail"][numbers.below(7) as usize];
        let arguments = [json!({ "n": 1 }), json!({ "n": 2 }), json!("{\"n\": 3}"), json!({ "n": "x" }), Value::Null];
        let arguments = arguments[numbers.below(5) as usize].clone();
        message.parts.push(Part::ToolCall(ToolCall::new(id, name, arguments)));
    }
    Ok(match numbers.below(12) {
        0 => return Err(Failure::Unavailable { status: 503, retry_after: None, said: "busy".to_owned() }),
        1 => Reply::new(message, Finish::Length),
        2 => Reply::new(message, Finish::Filtered),
        3 => Reply::new(message, Finish::Other("odd".to_owned())),
        _ => Reply::new(message, Finish::Stop),
    })
}

fn flow(model: &Model, numbers: &mut Lcg) -> AgentFlow {
    let double = function("double", "Doubles", |number: Number| async move { Ok(number.n * 2) });
    let pay = function("pay", "Pays", |number: Number| async move { Ok(number.n) });
    let fail = function("fail", "Fails", |_: Number| async move { Err::<(), _>("no".into()) });
    let limit = 20 + numbers.below(400);
    let history = [History::all(), History::drop_above(limit), History::summarise_above(limit)];
    let agent = agent(model, Tools::new().with(double).with(pay).with(fail))
        .system("You count.")
        .history(history[numbers.below(3) as usize])
        .retry(Retry::attempts(1 + numbers.below(3) as u32))
        .max_turns(1 + numbers.below(8) as u32);
    if numbers.below(2) == 0 { agent.approve(["pay"]).build().unwrap() } else { agent.build().unwrap() }
}

fn decided(question: &Value, numbers: &mut Lcg) -> Approval {
    let question: ApprovalQuestion = serde_json::from_value(question.clone()).unwrap();
    question.calls.iter().fold(Approval::new(), |answer, call| match numbers.below(3) {
        0 => answer.approve(&call.id),
        1 => answer.refuse(&call.id, "no"),
        _ => answer.edit(&call.id, json!({ "n": 7 })),
    })
}

/// Returns everything that a provider would refuse in a request.
fn faults(request: &Request) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let said: Vec<_> = request.messages.iter().filter(|message| message.role != Role::System).collect();
    if said.first().is_none_or(|first| first.role != Role::User) {
        faults.push("it does not begin with the user");
    }
    if said.last().is_none_or(|last| last.role == Role::Assistant) {
        faults.push("there is nothing to reply to");
    }
    for (at, message) in said.iter().enumerate() {
        let ids: Vec<_> = message.tool_calls().map(|call| call.id.clone()).collect();
        if ids.iter().collect::<BTreeSet<_>>().len() != ids.len() || ids.iter().any(String::is_empty) {
            faults.push("calls cannot be told apart");
        }
        let next = said.get(at + 1).filter(|next| next.role == Role::Tool).map(|next| results(next));
        if ids != next.unwrap_or_default().into_iter().map(|result| result.id).collect::<Vec<_>>() {
            faults.push("calls and results do not fit");
        }
        let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !message.tool_calls().all(|call| plain(&call.name)) {
            faults.push("a tool has a name that is none");
        }
        if message.role != Role::Tool && message.text().trim().is_empty() && ids.is_empty() {
            faults.push("a message says nothing");
        }
    }
    faults
}

/// Returns `true` for an error that says what the model did.
fn is_typed(error: &RunError) -> bool {
    let RunError::Node { source, .. } = error else { return false };
    source.is::<ModelError>()
}

#[tokio::test(start_paused = true)]
async fn whatever_a_model_says_the_conversation_can_go_on() {
    for seed in 0..RUNS {
        let numbers = Arc::new(Mutex::new(Lcg(seed)));
        let replies = Arc::clone(&numbers);
        let script = ScriptedModel::by(move |_| nonsense(&mut replies.lock().unwrap()));
        let flow = flow(&Model::new(script.clone()), &mut numbers.lock().unwrap());

        let mut state = AgentState::default();
        for _ in 0..4 {
            state.ask("How many?");
            let mut ended = flow.run_async(&mut state).await;
            while let Ok(Outcome::Paused(pause)) = ended {
                let answer = decided(pause.question(), &mut numbers.lock().unwrap());
                ended = flow.resume(&mut state, pause, answer).await;
            }
            assert!(ended.as_ref().err().is_none_or(is_typed), "seed {seed}: {ended:?}");
        }

        for request in script.requests() {
            let faults = faults(&request);
            assert!(faults.is_empty(), "seed {seed}: {faults:?}\n{:#?}", request.messages);
        }
    }
}
