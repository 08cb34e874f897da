//! Calls that do not end by themselves: streams without an end, and calls that are dropped.

use std::time::Duration;

use flowstone_core::Context;
use flowstone_llm::Failure;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    ask, events, failed, listened,
    raw::{EVENTS, Raw, gone, write},
    streams::{LONG, text},
};

/// The longest wait for a server that is to see the end of a connection, on a busy machine.
const PATIENT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_stream_without_end_is_ended() {
    let (sends, mut ends) = mpsc::channel(1);
    let server = Raw::serve(move |mut stream| {
        let sends = sends.clone();
        async move {
            write(&mut stream, EVENTS).await;
            while write(&mut stream, text("and then ")).await {}
            sends.send(()).await.unwrap();
        }
    })
    .await;

    let error = listened(&server.model(LONG), ask(), 3).await.0.unwrap_err();

    assert!(matches!(failed(&error), (Failure::TooLong { limit: 10_000 }, true)), "{error:?}");
    assert_eq!(server.requests(), 1);
    tokio::time::timeout(PATIENT, ends.recv()).await.expect("the server sees the connection end");
}

#[tokio::test]
async fn arguments_without_end_are_ended() {
    let server = Raw::serve(|mut stream| async move {
        write(&mut stream, EVENTS).await;
        let piece = |id| json!({ "tool_calls": [{ "index": 0, "id": id, "function": { "name": "f", "arguments": "[[[[[[[[" } }] });
        while write(&mut stream, events(&[piece("a")], None)).await {}
    })
    .await;

    let error = listened(&server.model(LONG), ask(), 1).await.0.unwrap_err();

    assert!(matches!(failed(&error), (Failure::TooLong { .. }, true)), "{error:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_connection() {
    for streamed in [false, true] {
        let (begins, mut begun) = mpsc::channel(1);
        let (sends, mut ends) = mpsc::channel(1);
        let server = Raw::serve(move |mut stream| {
            let (begins, sends) = (begins.clone(), sends.clone());
            async move {
                if streamed {
                    write(&mut stream, EVENTS).await;
                    write(&mut stream, text("Once ")).await;
                }
                begins.send(()).await.unwrap();
                gone(&mut stream).await;
                sends.send(()).await.unwrap();
            }
        })
        .await;
        let model = server.model(PATIENT);

        let call = async {
            if streamed {
                drop(listened(&model, ask(), 1).await);
            } else {
                drop(model.chat(&ask(), &Context::detached()).await);
            }
        };
        tokio::select! {
            () = call => panic!("nothing ends the call"),
            under_way = begun.recv() => under_way.unwrap(),
        }

        tokio::time::timeout(PATIENT, ends.recv()).await.expect("the server sees the connection end");
    }
}
