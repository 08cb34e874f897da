//! A conversation that has become too long is summed up by the agent's model.

use flowstone_llm::{
    AgentState, Conversation, Failure, History, Message, Model, Options, Reply, Request, Role, ScriptedModel, agent,
};

use crate::agent::{call, calls, doubling, failure, run};

/// A model that sums up where it is asked to, and otherwise calls so many times and answers.
fn model(turns: usize) -> (Model, ScriptedModel) {
    let script = ScriptedModel::by(move |request: &Request| {
        if is_summary(request) {
            return Ok(Reply::of_text("they counted").with_tokens(100, 10));
        }
        let made = request.messages.iter().filter(|message| message.role == Role::Tool).count();
        Ok(match made {
            made if made < turns => calls([call(&format!("call_{made}"), "double", made as i64)]),
            _ => Reply::of_text("counted"),
        })
    });
    (Model::new(script.clone()), script)
}

fn is_summary(request: &Request) -> bool {
    request.messages[0].text().contains("Sum it up")
}

/// A conversation of so many questions and answers.
fn talked(turns: usize) -> AgentState {
    let mut state = AgentState::default();
    let chat: &mut Conversation = state.as_mut();
    chat.messages.push(Message::system("Be kind."));
    for turn in 0..turns {
        chat.user(format!("What is number {turn} of all the numbers that there are?"));
        chat.assistant(format!("Number {turn} is {turn}, as far as anybody knows."));
    }
    state.ask("And now?");
    state
}

#[tokio::test]
async fn the_oldest_part_becomes_a_message_before_what_stays() {
    let (model, script) = model(0);
    let flow = agent(&model, doubling()).history(History::summarise_above(200)).build().unwrap();

    let mut state = talked(20);
    run(&flow, &mut state).await;

    let requests = script.requests();
    assert_eq!((requests.len(), is_summary(&requests[0]), requests[0].stream), (2, true, false));
    assert!(requests[0].messages[1].text().starts_with("User: What is number 0 of all"));
    let shown = &requests[1].messages;
    assert_eq!(shown[0], Message::system("Be kind."));
    assert_eq!(shown[1], Message::user("Summary of what was said and done before:\nthey counted"));
    assert_eq!(shown[2].role, Role::User);
    assert_eq!(shown.last(), Some(&Message::user("And now?")));
    assert!(Conversation { messages: shown.clone() }.estimated_tokens() <= 120);
    // The state has what the model was shown, and the answer; the call is counted, but is no turn.
    assert_eq!(state.conversation().messages[..shown.len()], shown[..]);
    assert_eq!((state.answer().as_deref(), state.turns(), state.usage().calls), (Some("counted"), 1, 2));
}

#[tokio::test]
async fn a_conversation_that_fits_passes_at_no_cost() {
    let (model, script) = model(1);
    let flow = agent(&model, doubling()).history(History::summarise_above(10_000)).build().unwrap();

    let mut state = talked(20);
    run(&flow, &mut state).await;

    assert!(!script.requests().iter().any(is_summary));
    let picture = r#"flowchart TD
    s0(( )) --> n0
    n0["summarise"]
    n1["think"]
    n2[["act, 8 at once, journaled"]]
    n0 --> n1
    n1 -->|"act"| n2
    n1 -->|"answered"| e0
    n1 -->|"stopped"| e0
    n2 --> n0
    e0((( )))
"#;
    assert_eq!(flow.to_mermaid(), picture);
}

#[tokio::test]
async fn the_question_stays_when_its_own_calls_are_summed_up() {
    let (model, script) = model(usize::MAX);
    let flow = agent(&model, doubling()).history(History::summarise_above(60)).max_turns(60).build().unwrap();

    let mut state = AgentState::new("Double the numbers, one after another, and tell me when you are done.");
    run(&flow, &mut state).await;

    let (summaries, thoughts): (Vec<_>, Vec<_>) = script.requests().into_iter().partition(is_summary);
    assert!((5..30).contains(&summaries.len()), "{} summaries", summaries.len());
    for request in thoughts {
        let messages = request.messages;
        let asked = messages.iter().rfind(|message| message.role == Role::User).unwrap();
        assert!(asked.text().starts_with("Double the numbers"), "{messages:#?}");
        assert_eq!(messages[0].role, Role::User);
        assert!(messages.len() < 20);
        for (at, message) in messages.iter().enumerate().filter(|(_, message)| message.role == Role::Tool) {
            assert!(messages[at - 1].tool_calls().count() == 1, "{message:?}");
        }
    }
}

#[tokio::test]
async fn what_always_stays_is_not_summed_up_again_and_again() {
    let (model, script) = model(usize::MAX);
    let flow = agent(&model, doubling()).history(History::summarise_above(100)).build().unwrap();

    let mut state = AgentState::new("Double the numbers. ".repeat(100));
    run(&flow, &mut state).await;

    let summaries = script.requests().iter().filter(|request| is_summary(request)).count();
    assert_eq!(state.turns(), 20);
    assert!((1..=5).contains(&summaries), "{summaries} summaries");
}

#[tokio::test]
async fn a_summary_without_text_does_not_take_the_place_of_what_was_said() {
    let script = ScriptedModel::by(|request: &Request| {
        Ok(if is_summary(request) { calls([call("a", "double", 1)]) } else { Reply::of_text("counted") })
    });
    let flow = agent(&Model::new(script), doubling()).history(History::summarise_above(200)).build().unwrap();
    let mut state = talked(20);
    let before = state.clone();

    let error = flow.run_async(&mut state).await.unwrap_err();

    assert!(matches!(failure(&error), Failure::Malformed { .. }), "{error}");
    assert!(error.report().contains("node `summarise`"), "{}", error.report());
    assert_eq!(state, before);
}

#[tokio::test]
async fn what_bounds_the_agents_replies_bounds_no_summary() {
    let (model, script) = model(0);
    let options =
        Options { max_tokens: Some(5), temperature: Some(0.5), stop: vec!["done".to_owned()], ..Options::default() };
    let history = History::summarise_above(200);
    let flow = agent(&model, doubling()).options(options.clone()).history(history).build().unwrap();

    run(&flow, &mut talked(20)).await;

    let requests = script.requests();
    assert_eq!(requests[0].options, Options { temperature: Some(0.5), ..Options::default() });
    assert_eq!(requests[1].options, options);
}
