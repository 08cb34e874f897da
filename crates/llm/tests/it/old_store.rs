//! A conversation in a store that the version before our own wires wrote (see decision 0028) is read, and sent again.
//!
//! In `tests/fixtures/before-0028.db` a run of the flow `chat` waits at its node `more`; its state is the conversation
//! as that version stored it, `tests/conversations/before-0028.json`. The file is never changed. It was written by
//! `FLOWSTONE_WRITE_FIXTURE=1 cargo test -p flowstone-llm --test it old_store`.

use flowstone_core::{Ask, AsyncFlow, Result};
use flowstone_durable::{Runs, Status};
use flowstone_llm::{Chat, Conversation, Model, ScriptedModel};

use crate::client::{
    answering_json, asked,
    kept::{WIRES, model, of_the_version_before, saying},
};

/// Asks a person for the next question.
struct More;

impl Ask<Conversation> for More {
    type Question = String;
    type Answer = String;
    type Action = ();

    fn ask(&self, _: &Conversation) -> Result<String> {
        Ok("what else?".to_owned())
    }

    fn post(&self, chat: &mut Conversation, answer: String) -> Result<()> {
        chat.user(answer);
        Ok(())
    }
}

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/before-0028.db");

/// A flow that asks for the next question, and then a model.
fn chatting(model: &Model) -> AsyncFlow<Conversation> {
    let mut flow = AsyncFlow::builder("chat");
    let more = flow.add("more", More);
    let reply = flow.add("reply", Chat::turn(model));
    flow.start(more);
    flow.route(more >> reply);
    flow.build().unwrap()
}

/// Writes the fixture, if it is asked for and not there.
#[tokio::test]
async fn the_fixture_is_written_once() {
    if std::env::var_os("FLOWSTONE_WRITE_FIXTURE").is_none() || std::path::Path::new(FIXTURE).exists() {
        return;
    }
    let mut chat: Conversation = serde_json::from_str(include_str!("../conversations/before-0028.json")).unwrap();
    chat.messages.pop();
    let runs = Runs::open(FIXTURE, chatting(&Model::new(ScriptedModel::new(["Noon."])))).await.unwrap();
    let run = runs.start("r1", chat).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Paused);
}

#[tokio::test]
async fn a_conversation_of_a_store_of_the_version_before_goes_on_with_every_wire() {
    for wire in WIRES {
        let server = answering_json(200, saying(wire, "Then rest.")).await;
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("runs.db");
        std::fs::copy(FIXTURE, &store).unwrap();
        let runs = Runs::open(&store, chatting(&model(wire, &server))).await.unwrap();
        let run = runs.get("r1").await.unwrap();
        assert_eq!(run.info().await.unwrap().status, Status::Paused);

        run.answer("more", "And?".to_owned()).await.unwrap();
        let chat = run.finished().await.unwrap().ended().unwrap().state;

        assert_eq!(chat.last_text().as_deref(), Some("Then rest."), "{wire}");
        let sent = asked(&server).await;
        for (path, value) in of_the_version_before(wire) {
            assert_eq!(sent.pointer(path), Some(&value), "{wire} {path}: {sent:#}");
        }
        assert!(sent.to_string().contains("And?"), "{wire}: {sent:#}");
    }
}
