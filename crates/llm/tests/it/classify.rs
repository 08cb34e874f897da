//! A model picks a label, and the run follows it.

use flowstone_core::{Action, AsyncFlow, Choice, END, Label, NodeExt, RunError};
use flowstone_durable::Runs;
use flowstone_llm::{Classify, ExtractError, Failure, Finish, Message, Model, ModelError, Reply, ScriptedModel};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Topic {
    Refund,
    BugReport,
    Other,
}

impl Label for Topic {
    const NAMES: &'static [&'static str] = &["refund", "bug_report", "other"];

    fn index(&self) -> Option<usize> {
        Some(*self as usize)
    }

    fn action(self) -> Action {
        Self::NAMES[self as usize].into()
    }
}

impl Choice for Topic {
    const ABOUT: &'static [&'static str] = &["The customer wants money back.", "", "Anything else."];

    fn choose(index: usize) -> Option<Self> {
        [Self::Refund, Self::BugReport, Self::Other].into_iter().nth(index)
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Ticket {
    question: String,
    topic: String,
    went: String,
}

fn triage(script: &ScriptedModel, repairs: u32) -> AsyncFlow<Ticket> {
    let mut flow = AsyncFlow::builder("support");
    let classify = Classify::<_, Topic>::prompt(&Model::new(script.clone()), "What is this about? {{ question }}")
        .system("You sort mail.")
        .repairs(repairs)
        .note(|ticket: &mut Ticket, topic| ticket.topic = format!("{topic:?}"));
    let triage = flow.add("triage", classify);
    let refund = flow.add("refund", |ticket: &mut Ticket| "refund".clone_into(&mut ticket.went));
    let bug = flow.add("bug", |ticket: &mut Ticket| "bug".clone_into(&mut ticket.went));
    flow.start(triage);
    flow.route(triage - Topic::Refund >> refund);
    flow.route(triage - Topic::BugReport >> bug);
    flow.route(triage - Topic::Other >> END);
    flow.build().unwrap()
}

#[tokio::test]
async fn the_labels_and_what_they_mean_are_in_the_request_and_the_run_follows_the_one_that_is_picked() {
    let script = ScriptedModel::new([r#"{"label": "refund"}"#]);
    let mut ticket = Ticket { question: "Money!".to_owned(), ..Ticket::default() };

    triage(&script, 2).run_async(&mut ticket).await.unwrap();

    let asked = script.last_request().unwrap();
    assert_eq!(
        asked.messages[0].text(),
        "You sort mail.\n\nPick the one label that fits best:\n\
         - `refund`: The customer wants money back.\n- `bug_report`\n- `other`: Anything else.\n\
         Reply with JSON only, and no other text: {\"label\": \"…\"}."
    );
    assert_eq!(asked.messages[1], Message::user("What is this about? Money!"));
    assert_eq!(
        asked.schema.unwrap().schema,
        json!({
            "type": "object",
            "properties": { "label": { "type": "string", "enum": ["refund", "bug_report", "other"] } },
            "required": ["label"],
            "additionalProperties": false
        })
    );
    assert_eq!((&*ticket.topic, &*ticket.went), ("Refund", "refund"));
}

#[tokio::test]
async fn a_bare_label_is_taken_whatever_its_case() {
    for reply in [
        "bug_report",
        " BUG_Report.\n",
        "\"bug_report\"",
        "`bug_report`",
        "**bug_report**",
        "```json\n{\"label\": \"Bug_report\"}\n```",
    ] {
        let mut ticket = Ticket::default();

        triage(&ScriptedModel::new([reply]), 0).run_async(&mut ticket).await.unwrap();

        assert_eq!(ticket.went, "bug", "{reply}");
    }
}

#[tokio::test]
async fn what_is_no_label_is_told_to_the_model_and_bounded() {
    let script = ScriptedModel::new(["I think it is about money.", r#"{"label": "money"}"#, "no idea"]);

    let error = triage(&script, 1).run_async(&mut Ticket::default()).await.unwrap_err();

    let second = &script.requests()[1].messages;
    assert_eq!(second[2], Message::assistant("I think it is about money."));
    assert_eq!(
        second[3].text(),
        "Your reply cannot be used:\n- `I think it is about money` is none of the labels `refund`, `bug_report`, \
         `other`\nReply again with the whole of it, corrected, and nothing else."
    );
    assert_eq!(script.requests().len(), 2);
    let RunError::Node { source, terminal: true, .. } = error else { panic!("{error}") };
    assert_eq!(
        source.downcast_ref::<ExtractError>().unwrap().to_string(),
        "model `scripted:script` gave no `label` in 2 replies: `money` is none of the labels `refund`, `bug_report`, \
         `other`; its last reply: \"{\\\"label\\\": \\\"money\\\"}\""
    );
}

#[tokio::test]
async fn a_withheld_reply_is_no_label() {
    let script = ScriptedModel::new([Reply::new(Message::assistant("refund"), Finish::Filtered)]);

    let error = triage(&script, 2).run_async(&mut Ticket::default()).await.unwrap_err();

    let RunError::Node { source, .. } = error else { panic!("{error}") };
    assert!(matches!(source.downcast_ref::<ModelError>().unwrap().failure, Failure::Filtered { .. }));
    assert_eq!(script.requests().len(), 1);
}

#[tokio::test]
async fn each_item_gets_a_label_in_their_order_and_keeps_it_by_name() {
    let script = ScriptedModel::by(|request: &flowstone_llm::Request| {
        let asked = request.messages.last().map(Message::text).unwrap_or_default();
        Ok(Reply::of_text(if asked.contains("crash") { "bug_report" } else { "refund" }))
    });
    let classify = Classify::each(
        &Model::new(script.clone()),
        "What is this about? {{ item }}",
        |_: &Vec<String>| ["I want my money", "A crash!", "Money!"].map(str::to_owned).to_vec(),
        |seen: &mut Vec<String>, topics: Vec<Topic>| *seen = topics.iter().map(|topic| format!("{topic:?}")).collect(),
    );
    let mut flow = AsyncFlow::builder("triage");
    let triage = flow.add("triage", classify.system("You sort mail.").repairs(0).parallel(3).journaled());
    flow.start(triage);
    let folder = tempfile::tempdir().unwrap();
    let runs = Runs::open(folder.path().join("runs.db"), flow.build().unwrap()).await.unwrap();

    let run = runs.start("r", Vec::new()).await.unwrap();
    let seen = run.finished().await.unwrap().ended().unwrap().state;

    assert_eq!(seen, ["Refund", "BugReport", "Refund"]);
    assert_eq!(script.requests().len(), 3);
}
