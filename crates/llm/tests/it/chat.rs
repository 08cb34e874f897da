//! A chat sends a conversation or a prompt, and takes whole replies only.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone_core::{Action, AsyncFlow, CancellationToken, Event, Fault, Label, NodeExt, Retry, RunError, RunOptions};
use flowstone_llm::{
    Chat, Conversation, Delta, Failure, Finish, History, Message, Model, ModelError, NothingToAnswer, Options, Part,
    Reply, Role, ScriptedModel, ToolCall,
};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Desk {
    user: String,
    chat: Conversation,
}

impl AsRef<Conversation> for Desk {
    fn as_ref(&self) -> &Conversation {
        &self.chat
    }
}

impl AsMut<Conversation> for Desk {
    fn as_mut(&mut self) -> &mut Conversation {
        &mut self.chat
    }
}

fn desk(question: &str) -> Desk {
    let mut desk = Desk { user: "Ann".to_owned(), ..Desk::default() };
    desk.chat.user(question);
    desk
}

/// A flow of one turn.
fn turn(
    script: &ScriptedModel,
    change: impl FnOnce(Chat<flowstone_llm::Turn>) -> Chat<flowstone_llm::Turn>,
) -> AsyncFlow<Desk> {
    let mut flow = AsyncFlow::builder("desk");
    let reply = flow.add("reply", change(Chat::turn(&Model::new(script.clone()))));
    flow.start(reply);
    flow.build().unwrap()
}

fn failure(error: &RunError) -> &Failure {
    let RunError::Node { source, .. } = error else { panic!("{error}") };
    &source.downcast_ref::<ModelError>().unwrap().failure
}

fn cut(text: &str) -> Reply {
    Reply::new(Message::assistant(text), Finish::Length)
}

#[tokio::test]
async fn a_turn_sends_the_system_prompt_and_the_conversation_and_appends_the_reply() {
    let script = ScriptedModel::new(["At nine."]);
    let options = Options { temperature: Some(0.0), ..Options::default() };
    let flow = turn(&script, |chat| chat.system("You help {{ user }}.").options(options.clone()));
    let mut state = desk("When?");

    flow.run_async(&mut state).await.unwrap();

    let asked = script.last_request().unwrap();
    assert_eq!(asked.messages, [Message::system("You help Ann."), Message::user("When?")]);
    assert_eq!(asked.options, options);
    assert_eq!(state.chat.messages, [Message::user("When?"), Message::assistant("At nine.")]);
}

#[tokio::test]
async fn a_turn_with_nothing_to_answer_is_an_error_that_says_so() {
    let script = ScriptedModel::new(["never"]);
    let flow = turn(&script, |chat| chat);
    let mut answered = desk("When?");
    answered.chat.assistant("At nine.");
    let mut told = Desk::default();
    told.chat.messages.push(Message::system("Be brief."));

    let mut said = Vec::new();
    for mut state in [Desk::default(), answered, told] {
        let error = flow.run_async_with(&mut state, &RunOptions::new().id("r")).await.unwrap_err();
        said.push(error.report());
        let RunError::Node { source, terminal, .. } = error else { panic!() };
        assert!(terminal && source.is::<NothingToAnswer>());
    }

    let begin = "run `r`: node `reply` failed in prep: the conversation has nothing to answer";
    assert_eq!(said[0], format!("{begin}: it is empty"));
    assert_eq!(said[1], format!("{begin}: its last message is the model's own"));
    assert_eq!(said[2], format!("{begin}: its last message is an instruction"));
    assert!(script.requests().is_empty());
}

#[tokio::test]
async fn a_reply_that_is_withheld_cut_or_empty_is_an_error_and_not_in_the_conversation() {
    let script = ScriptedModel::new([Reply::new(Message::assistant(""), Finish::Filtered), cut("At ni"), "".into()]);
    let flow = turn(&script, |chat| chat);
    let mut state = desk("When?");

    let withheld = flow.run_async(&mut state).await.unwrap_err();
    let cut = flow.run_async(&mut state).await.unwrap_err();
    let empty = flow.run_async(&mut state).await.unwrap_err();

    assert!(matches!(failure(&withheld), Failure::Filtered { .. }));
    assert!(matches!(failure(&cut), Failure::Cut { text } if text == "At ni"));
    assert!(matches!(failure(&empty), Failure::Malformed { .. }));
    assert_eq!(state.chat.messages.len(), 1);
}

#[tokio::test]
async fn a_cut_reply_is_taken_where_it_is_allowed_unless_it_says_nothing() {
    let script = ScriptedModel::new([cut("At ni"), cut("")]);
    let flow = turn(&script, Chat::allow_cut);
    let mut state = desk("When?");

    flow.run_async(&mut state).await.unwrap();
    state.chat.user("And?");
    let error = flow.run_async(&mut state).await.unwrap_err();

    assert_eq!(state.chat.messages[1].text(), "At ni");
    assert!(matches!(failure(&error), Failure::Cut { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_the_nodes_policy_and_its_type_of_error_decides() {
    let busy = || Failure::RateLimited { retry_after: Some(Duration::from_secs(7)), said: "slow down".to_owned() };
    let refused = Failure::Refused { status: 401, said: "no".to_owned() };
    let script = ScriptedModel::sequence([Err(busy()), Ok(Reply::of_text("Yes.")), Err(refused), Ok("never".into())]);
    let mut flow = AsyncFlow::builder("desk");
    let reply = flow.add("reply", Chat::turn(&Model::new(script.clone())).retry(Retry::attempts(3)));
    flow.start(reply);
    let flow = flow.build().unwrap();
    let (mut state, begun) = (desk("May I?"), tokio::time::Instant::now());

    flow.run_async(&mut state).await.unwrap();
    let waited = begun.elapsed();
    state.chat.user("And now?");
    let error = flow.run_async(&mut state).await.unwrap_err();

    assert_eq!((waited, script.requests().len()), (Duration::from_secs(7), 3));
    assert!(matches!(failure(&error), Failure::Refused { .. }));
}

/// Returns the text that a run of a flow shows while it runs.
async fn shown(flow: &AsyncFlow<Desk>) -> String {
    let heard = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&heard);
    let listen = move |event: &Event| {
        if let Some(Delta::Text(text)) = Delta::of_event(event) {
            sink.lock().unwrap().push_str(&format!("[{text}]"));
        }
    };
    flow.run_async_with(&mut desk("When?"), &RunOptions::new().listen(listen)).await.unwrap();
    let heard = heard.lock().unwrap();
    heard.clone()
}

#[tokio::test]
async fn text_is_shown_as_it_comes_unless_the_node_is_quiet() {
    let script = || ScriptedModel::new(["At nine sharp."]);

    let loud = shown(&turn(&script(), |chat| chat)).await;
    let quiet = shown(&turn(&script(), Chat::quiet)).await;

    assert_eq!((&*loud, &*quiet), ("[At ][nine ][sharp.]", ""));
}

#[tokio::test]
async fn a_history_bounds_what_is_sent_and_not_what_is_kept() {
    let script = ScriptedModel::new(["Yes."]);
    let flow = turn(&script, |chat| chat.history(History::drop_above(20)));
    let mut state = desk(&"word ".repeat(50));
    state.chat.assistant("A long word.");
    state.chat.user("Was it?");

    flow.run_async(&mut state).await.unwrap();

    assert_eq!(script.last_request().unwrap().messages.last(), Some(&Message::user("Was it?")));
    assert!(script.last_request().unwrap().messages.len() < 3);
    assert_eq!(state.chat.messages.len(), 4);
}

#[test]
fn a_turn_that_is_to_sum_up_is_a_fault() {
    let mut flow = AsyncFlow::<Desk>::builder("desk");
    let model = Model::new(ScriptedModel::new([""; 0]));
    let reply = flow.add("reply", Chat::turn(&model).history(History::summarise_above(20)));
    flow.start(reply);

    let error = flow.build().unwrap_err();

    let message = "a turn sums up nothing: take `History::drop_above`, or an agent".to_owned();
    assert_eq!(error.faults(), [Fault::Node { node: "reply".to_owned(), message }]);
}

/// The verdict of a judge.
#[derive(Debug)]
struct Good(bool);

impl Label for Good {
    const NAMES: &'static [&'static str] = &["yes", "no"];

    fn index(&self) -> Option<usize> {
        Some(usize::from(!self.0))
    }

    fn action(self) -> Action {
        Self::NAMES[usize::from(!self.0)].into()
    }
}

#[tokio::test]
async fn what_becomes_of_an_answer_may_be_an_action() {
    let script = ScriptedModel::new(["bad", "good"]);
    let mut flow = AsyncFlow::builder("judge");
    let judge = Chat::prompt(&Model::new(script.clone()), "Is it good? {{ user }}", |s: &mut Desk, text: String| {
        s.user.push('!');
        Good(text == "good")
    });
    let judge = flow.add("judge", judge);
    flow.start(judge);
    flow.route(judge - Good(false) >> judge);
    flow.route(judge - Good(true) >> flowstone_core::END);
    let mut state = desk("");

    flow.build().unwrap().run_async(&mut state).await.unwrap();

    let asked: Vec<_> = script.requests().iter().map(|request| request.messages[0].clone()).collect();
    assert_eq!(asked, [Message::user("Is it good? Ann"), Message::user("Is it good? Ann!")]);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_cancelled_with_its_run_and_bounded_by_its_timeout() {
    let script = ScriptedModel::new(["late", "late"]).taking(Duration::from_secs(60));
    let mut flow = AsyncFlow::builder("desk");
    let reply = flow.add("reply", Chat::turn(&Model::new(script.clone())).timeout(Duration::from_secs(5)));
    flow.start(reply);
    let flow = flow.build().unwrap();
    let token = CancellationToken::new();
    let options = RunOptions::new().cancel(token.clone());

    let timed_out = flow.run_async(&mut desk("When?")).await.unwrap_err();
    let mut state = desk("When?");
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        token.cancel()
    };
    let (cancelled, ()) = tokio::join!(flow.run_async_with(&mut state, &options), cancel);

    assert!(timed_out.report().ends_with("the attempt timed out after 5s"), "{}", timed_out.report());
    assert!(matches!(cancelled, Err(RunError::Cancelled { .. })));
    assert_eq!(script.requests().len(), 2);
    assert_eq!(state.chat.messages.last().unwrap().role, Role::User);
}

#[tokio::test]
async fn a_call_of_a_tool_is_no_answer_and_not_in_the_conversation() {
    let call = || ToolCall::new("1", "clock", serde_json::json!({}));
    let mut both = Message::assistant("At nine.");
    both.parts.push(Part::ToolCall(call()));
    let script = ScriptedModel::new([Reply::of_calls([call()]), Reply::new(both, Finish::ToolCalls)]);
    let flow = turn(&script, |chat| chat);
    let mut state = desk("When?");

    let error = flow.run_async(&mut state).await.unwrap_err();
    flow.run_async(&mut state).await.unwrap();

    assert!(matches!(failure(&error), Failure::Malformed { .. }), "{error}");
    assert_eq!(state.chat.messages, [Message::user("When?"), Message::assistant("At nine.")]);
}

#[test]
fn a_history_without_room_is_a_fault() {
    let mut flow = AsyncFlow::<Conversation>::builder("desk");
    let reply = Chat::turn(&Model::new(ScriptedModel::new([""; 0]))).history(History::drop_above(0));
    let reply = flow.add("reply", reply);
    flow.start(reply);

    let error = flow.build().unwrap_err();

    assert!(error.to_string().contains("node `reply`: the history has a limit of 0 tokens"), "{error}");
}
