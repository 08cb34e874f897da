//! The view that a model has of a long conversation: never a call without its results, never results without their
//! call.

use flowstone_llm::{Conversation, History, Message, Part, Role, ToolCall, ToolResult};
use serde_json::json;

const CONVERSATIONS: u64 = 2_000;

/// Numbers that follow from a seed (Knuth's MMIX generator).
pub(crate) struct Lcg(pub(crate) u64);

impl Lcg {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A conversation as providers take it: each call has its results, at once; it ends with the user or with results.
fn random(random: &mut Lcg) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut calls = 0;
    let text = |random: &mut Lcg, who: &str| format!("{who} {}", "word ".repeat(random.below(60) as usize));
    for _ in 0..1 + random.below(12) {
        if random.below(6) == 0 {
            messages.push(Message::system(text(random, "instruction")));
        }
        messages.push(Message::user(text(random, "user")));
        for _ in 0..random.below(4) {
            let made: Vec<_> = (0..1 + random.below(3)).map(|number| format!("call_{}", calls + number)).collect();
            calls += made.len() as u64;
            let asked = made.iter().map(|id| Part::ToolCall(ToolCall::new(id.clone(), "look", json!({ "at": id }))));
            messages.push(Message { role: Role::Assistant, parts: asked.collect() });
            let text = text(random, "found");
            messages.push(Message::tool_results(made.into_iter().map(|id| result(&id, &text))));
        }
        if random.below(3) > 0 {
            messages.push(Message::assistant(text(random, "assistant")));
        }
    }
    while messages.last().is_some_and(|last| last.role == Role::Assistant) {
        messages.pop();
    }
    messages
}

fn result(id: &str, text: &str) -> ToolResult {
    ToolResult { id: id.to_owned(), name: "look".to_owned(), text: text.to_owned(), fault: None }
}

/// Says what is wrong with a view of a conversation.
fn faults(whole: &[Message], view: &[Message], limit: u64) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let mut rest = whole.iter();
    if !view.iter().all(|shown| rest.any(|message| message == shown)) {
        faults.push("it is not in order");
    }
    let of = |messages: &[Message], role| messages.iter().filter(|message| message.role == role).count();
    if of(whole, Role::System) != of(view, Role::System) {
        faults.push("an instruction is lost");
    }
    let last_user = |messages: &[Message]| messages.iter().rfind(|message| message.role == Role::User).cloned();
    if last_user(whole) != last_user(view) {
        faults.push("the last message of the user is lost");
    }
    if view.last() != whole.last() {
        faults.push("what the model is to reply to is lost");
    }
    let first = view.iter().find(|message| message.role != Role::System);
    if first.is_some_and(|first| first.role != Role::User) {
        faults.push("it does not begin with the user");
    }
    for (at, message) in view.iter().enumerate() {
        let asked: Vec<_> = message.tool_calls().map(|call| &call.id).collect();
        if asked != view.get(at + 1).map(results).unwrap_or_default() && !asked.is_empty() {
            faults.push("a call has no result");
        }
        let before = at.checked_sub(1).map(|before| view[before].tool_calls().count()).unwrap_or_default();
        if message.role == Role::Tool && before != results(message).len() {
            faults.push("a result has no call");
        }
    }
    let tokens = |messages: &[Message]| Conversation { messages: messages.to_vec() }.estimated_tokens();
    if tokens(whole) <= limit && view != whole {
        faults.push("it fits, and something is left out");
    }
    faults
}

fn results(message: &Message) -> Vec<&String> {
    let ids = message
        .parts
        .iter()
        .filter_map(|part| if let Part::ToolResult(result) = part { Some(&result.id) } else { None });
    ids.collect()
}

#[test]
fn whatever_is_left_out_the_rest_is_a_conversation() {
    for seed in 0..CONVERSATIONS {
        let mut numbers = Lcg(seed);
        let messages = random(&mut numbers);
        let limit = numbers.below(600);

        let view = History::drop_above(limit).view(&messages);

        let faults = faults(&messages, &view, limit);
        assert!(faults.is_empty(), "seed {seed}, limit {limit}: {faults:?}\n{messages:#?}\nbecame\n{view:#?}");
    }
}

#[test]
fn as_much_is_kept_as_fits() {
    let mut chat = Conversation::default();
    for number in 0..10 {
        chat.user(format!("question number {number}"));
        chat.assistant(format!("answer number {number}"));
    }
    chat.user("and now?");
    let limit = Conversation { messages: chat.messages[15..].to_vec() }.estimated_tokens();

    let view = History::drop_above(limit).view(&chat.messages);

    // The answer that would fit by itself goes with its question.
    assert_eq!(view, chat.messages[16..]);
}

#[test]
fn of_one_long_question_the_oldest_calls_are_left_out() {
    let mut messages = vec![Message::system("be brief"), Message::user("find it")];
    for number in 0..10 {
        let id = format!("call_{number}");
        messages.push(Message {
            role: Role::Assistant,
            parts: vec![Part::ToolCall(ToolCall::new(id.clone(), "look", json!({ "at": number })))],
        });
        messages.push(Message::tool_results([result(&id, &"found ".repeat(20))]));
    }

    let view = History::drop_above(120).view(&messages);

    assert_eq!(view[..2], messages[..2]);
    assert_eq!(view[2..], messages[messages.len() - 6..]);
}

#[test]
fn all_of_it_is_all_of_it() {
    let messages = random(&mut Lcg(7));

    assert_eq!(History::all().view(&messages), messages);
    assert_eq!(History::default(), History::all());
    // The part that an agent has summed up is gone from its state: the rest is shown.
    assert_eq!(History::summarise_above(1).view(&messages), messages);
}
