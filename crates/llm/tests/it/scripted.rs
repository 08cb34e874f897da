//! A scripted model replies in order or by a rule, and says when its script is at an end.

use std::time::Duration;

use flowstone_core::{Context, NodeError, Result};
use flowstone_llm::{Failure, Message, Model, ModelError, Reply, Request, ScriptedModel};

fn ask(text: &str) -> Request {
    Request::new([Message::user(text)])
}

#[tokio::test]
async fn a_script_that_is_at_its_end_says_so_and_is_not_tried_again() -> Result<()> {
    let model = Model::new(ScriptedModel::new(["one"]));
    let cx = Context::detached();

    let first = model.chat(&ask("1"), &cx).await?;
    let second: NodeError = model.chat(&ask("2"), &cx).await.unwrap_err();
    let third = model.chat(&ask("3"), &cx).await.unwrap_err();

    assert_eq!(first.text(), "one");
    assert!(second.is_terminal());
    let error: &ModelError = second.downcast_ref().unwrap();
    assert!(matches!(&error.failure, Failure::Unscripted { .. }));
    assert_eq!(error.to_string(), "model `scripted:script`: the script has 1 replies, and this is request number 2");
    let error: &ModelError = third.downcast_ref().unwrap();
    assert_eq!(error.to_string(), "model `scripted:script`: the script has 1 replies, and this is request number 3");
    Ok(())
}

#[tokio::test]
async fn a_sequence_replies_and_fails_in_order() -> Result<()> {
    let busy = Failure::RateLimited { retry_after: None, said: "slow down".to_owned() };
    let script = ScriptedModel::sequence([Err(busy), Ok(Reply::of_text("yes").with_tokens(3, 1))]);
    let (model, cx) = (Model::new(script.clone()), Context::detached());

    let first = model.chat(&ask("1"), &cx).await.unwrap_err();
    let second = model.chat(&ask("2"), &cx).await?;

    assert!(matches!(first.downcast_ref::<ModelError>().unwrap().failure, Failure::RateLimited { .. }));
    assert_eq!((second.text(), second.tokens.unwrap().tokens()), ("yes".to_owned(), 4));
    assert_eq!(script.requests(), [ask("1"), ask("2")]);
    assert_eq!(script.last_request(), Some(ask("2")));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_has_taken_no_reply() -> Result<()> {
    let script = ScriptedModel::new(["one"]).taking(Duration::from_secs(10));
    let (model, cx) = (Model::new(script.clone()), Context::detached());

    let dropped = tokio::time::timeout(Duration::from_secs(9), model.chat(&ask("1"), &cx)).await;
    let begun = tokio::time::Instant::now();
    let reply = model.chat(&ask("2"), &cx).await?;

    assert!(dropped.is_err());
    assert_eq!((reply.text(), begun.elapsed()), ("one".to_owned(), Duration::from_secs(10)));
    assert_eq!(script.requests().len(), 2);
    Ok(())
}

#[tokio::test]
async fn texts_that_were_embedded_are_remembered() -> Result<()> {
    let script = ScriptedModel::new([""; 0]).embedding(|text| vec![text.len() as f32]);
    let texts = ["a".to_owned(), "bb".to_owned()];

    let embeddings = Model::new(script.clone()).embed(&texts, &Context::detached()).await?;

    assert_eq!(embeddings.vectors, [[1.0], [2.0]]);
    assert_eq!(script.embedded(), [texts.to_vec()]);
    Ok(())
}
