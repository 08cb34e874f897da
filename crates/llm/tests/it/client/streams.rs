//! A stream is shown as it comes; whatever ends it early is told apart by whether somebody has seen a part of it.

use std::time::Duration;

use flowstone_core::Context;
use flowstone_llm::{Failure, Finish};
use serde_json::json;
use tokio::{sync::mpsc, time::sleep};
use wiremock::ResponseTemplate;

use super::{
    answering, answering_events, ask, asked, events, failed, listened, model,
    raw::{EVENTS, Raw, gone, write},
};

pub(super) const LONG: Duration = Duration::from_secs(5);

pub(super) fn text(text: &str) -> String {
    events(&[json!({ "content": text })], None)
}

#[tokio::test]
async fn text_and_thoughts_are_heard_as_they_come_and_make_up_the_reply() {
    let deltas = [
        json!({ "role": "assistant", "reasoning_content": "Hm." }),
        json!({ "content": "Hel" }),
        json!({ "content": "lo" }),
    ];
    let server = answering_events(&events(&deltas, Some("stop"))).await;

    let (reply, heard) = listened(&model(&server), ask(), 1).await;

    let reply = reply.unwrap();
    assert_eq!(heard, ["(Hm.)", "Hel", "lo"]);
    assert_eq!((reply.text().as_str(), &reply.finish), ("Hello", &Finish::Stop));
    assert_eq!((reply.id.as_deref(), reply.model.as_deref()), (Some("chatcmpl-2"), Some("tiny-2025")));
    let tokens = reply.tokens.unwrap();
    assert_eq!((tokens.input, tokens.output), (7, 2));
    assert_eq!(asked(&server).await["stream_options"], json!({ "include_usage": true }));
}

#[tokio::test]
async fn calls_of_tools_are_put_together_from_their_pieces() {
    let piece = |index: u32, id: Option<&str>, name: Option<&str>, arguments: &str| json!({ "tool_calls": [{ "index": index, "id": id, "function": { "name": name, "arguments": arguments } }] });
    let deltas = [
        piece(0, Some("a"), Some("weather"), ""),
        piece(0, None, None, "{\"city\":"),
        piece(0, None, None, "\"Rome\"}"),
        piece(1, Some("b"), Some("now"), ""),
        piece(2, Some("c"), Some("weather"), "{\"city\": Rome"),
    ];
    let server = answering_events(&events(&deltas, Some("tool_calls"))).await;

    let (reply, heard) = listened(&model(&server), ask(), 1).await;

    let reply = reply.unwrap();
    let calls: Vec<_> =
        reply.message.tool_calls().map(|call| (call.id.as_str(), call.name.as_str(), &call.arguments)).collect();
    assert_eq!(
        calls,
        [
            ("a", "weather", &json!({ "city": "Rome" })),
            ("b", "now", &json!({})),
            ("c", "weather", &json!("{\"city\": Rome")),
        ]
    );
    assert_eq!((reply.finish, heard.len()), (Finish::ToolCalls, 0));
}

#[tokio::test]
async fn nobody_who_listens_is_no_reason_to_stream() {
    let server = super::answering_json(200, super::completion(json!({ "content": "Hello" }), "stop")).await;

    let reply = model(&server).chat(&ask().streamed(), &Context::detached()).await.unwrap();

    assert_eq!(reply.text(), "Hello");
    assert_eq!(asked(&server).await["stream"], json!(false));
}

/// The server sends the second piece when the first was heard.
#[tokio::test]
async fn the_first_piece_is_heard_before_the_second_is_sent() {
    use flowstone_core::{AsyncFlow, Event, RunOptions};
    let (hears, heard) = mpsc::channel::<()>(8);
    let heard = std::sync::Arc::new(tokio::sync::Mutex::new(heard));
    let server = Raw::serve(move |mut stream| {
        let heard = std::sync::Arc::clone(&heard);
        async move {
            write(&mut stream, EVENTS).await;
            write(&mut stream, text("first")).await;
            heard.lock().await.recv().await;
            write(&mut stream, events(&[json!({ "content": "second" })], Some("stop"))).await;
        }
    })
    .await;
    let mut flow = AsyncFlow::builder("first");
    let speak = flow.add("speak", super::Speak { model: server.model(LONG), request: ask().streamed() });
    flow.start(speak);
    let options = RunOptions::new().listen(move |event: &Event| {
        if flowstone_llm::Delta::of_event(event).is_some() {
            let _enough = hears.try_send(());
        }
    });
    let mut reply = None;

    flow.build().unwrap().run_async_with(&mut reply, &options).await.unwrap();

    assert_eq!(reply.unwrap().text(), "firstsecond");
}

#[tokio::test]
async fn a_stream_that_breaks_is_tried_again_only_if_nothing_was_shown() {
    for (sent, shown) in [(String::new(), false), ("data: {\"choi".to_owned(), false), (text("Once "), true)] {
        let server = Raw::serve(move |mut stream| {
            let sent = sent.clone();
            async move {
                write(&mut stream, EVENTS).await;
                write(&mut stream, sent).await;
            }
        })
        .await;

        let (result, heard) = listened(&server.model(LONG), ask(), 2).await;

        let error = result.unwrap_err();
        match failed(&error) {
            (Failure::Broken { shown: of, .. }, terminal) => assert_eq!((*of, terminal), (shown, shown)),
            (Failure::Malformed { .. }, false) if !shown => {}
            (other, _) => panic!("{other}"),
        }
        assert_eq!((heard.len(), server.requests()), if shown { (1, 1) } else { (0, 2) });
    }
}

/// A run in a store has a listener, for its history, which is nobody who has seen a part.
#[tokio::test]
async fn a_durable_run_that_nobody_follows_is_tried_again_whatever_came() {
    use flowstone_core::{AsyncFlow, NodeExt, Retry};
    let server = Raw::serve(|mut stream| async move {
        write(&mut stream, EVENTS).await;
        write(&mut stream, text("Once ")).await;
    })
    .await;
    let mut flow = AsyncFlow::builder("speak");
    let speak = super::Speak { model: server.model(LONG), request: ask().streamed() };
    let speak = flow.add("speak", speak.retry(Retry::attempts(3)));
    flow.start(speak);
    let folder = tempfile::tempdir().unwrap();
    let runs = flowstone_durable::Runs::open(folder.path().join("runs.db"), flow.build().unwrap()).await.unwrap();

    let run = runs.start("r1", None).await.unwrap();

    assert_eq!(run.settled().await.unwrap(), flowstone_durable::Status::Failed);
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_connection_that_breaks_inside_of_a_chunk_is_a_broken_stream() {
    let server = Raw::serve(|mut stream| async move {
        write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        write(&mut stream, "fff\r\ndata: {").await;
    })
    .await;

    let error = listened(&server.model(LONG), ask(), 1).await.0.unwrap_err();

    assert!(matches!(failed(&error), (Failure::Broken { shown: false, .. }, false)), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_ends_before_the_reply_is_broken() {
    let server = Raw::serve(|_| async {}).await;
    let cut = Raw::serve(|mut stream| async move {
        write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\":")
            .await;
    })
    .await;

    for server in [server, cut] {
        let error = super::fails(&server.model(LONG), &ask()).await;
        let known = matches!(super::failure(&error), Failure::Broken { shown: false, .. });
        assert!(known && !error.is_terminal(), "{error:?}");
    }
}

#[tokio::test]
async fn silence_in_the_middle_is_as_long_as_the_limit() {
    for shown in [false, true] {
        let server = Raw::serve(move |mut stream| async move {
            write(&mut stream, EVENTS).await;
            if shown {
                write(&mut stream, text("Once ")).await;
            }
            gone(&mut stream).await;
        })
        .await;

        let error = listened(&server.model(Duration::from_millis(150)), ask(), 1).await.0.unwrap_err();

        match failed(&error) {
            (Failure::TimedOut { .. }, false) => assert!(!shown),
            (Failure::Broken { shown: true, said }, true) => {
                assert!(shown && said.starts_with("nothing more came"), "{said}")
            }
            (other, _) => panic!("{other}"),
        }
    }
}

/// Comments, empty deltas, blanks before a whole reply: a service that works says that it is alive.
#[tokio::test]
async fn any_byte_is_life_until_the_call_has_lasted_too_long() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    let empty = events(&[json!({ "content": "" })], None);
    for (head, life) in [(EVENTS, ": still here\n\n"), (EVENTS, &*empty), (HEAD, " ")] {
        let whole = super::completion(json!({ "content": "Hello" }), "stop").to_string();
        let end = if head == EVENTS { events(&[json!({ "content": "Hello" })], Some("stop")) } else { whole };
        let serve = |beats: usize| {
            let (head, life, end) = (head.to_owned(), life.to_owned(), end.clone());
            Raw::serve(move |mut stream| {
                let (head, life, end) = (head.clone(), life.clone(), end.clone());
                async move {
                    write(&mut stream, head).await;
                    for _ in 0..beats {
                        sleep(Duration::from_millis(30)).await;
                        if !write(&mut stream, &life).await {
                            return;
                        }
                    }
                    write(&mut stream, end).await;
                }
            })
        };
        let (alive, endless) = (serve(50).await, serve(usize::MAX).await);
        let limit = Duration::from_millis(300);
        let bounded = endless.connect().timeout(LONG).call_timeout(limit).build().unwrap();

        let reply = listened(&alive.model(Duration::from_secs(1)), ask(), 1).await.0.unwrap();
        let error = listened(&bounded, ask(), 1).await.0.unwrap_err();

        assert_eq!(reply.text(), "Hello");
        assert!(matches!(failed(&error), (Failure::TimedOut { limit: of }, false) if *of == limit), "{error:?}");
    }
}

/// The limit of a whole call is no other than that of a silence: text that was shown is not taken back.
#[tokio::test]
async fn a_call_that_lasts_too_long_after_text_was_shown_is_not_tried_again() {
    let server = Raw::serve(|mut stream| async move {
        write(&mut stream, EVENTS).await;
        while write(&mut stream, text("Once ")).await {
            sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
    let bounded = server.connect().timeout(LONG).call_timeout(Duration::from_millis(300)).build().unwrap();

    let error = listened(&bounded, ask(), 1).await.0.unwrap_err();

    assert!(matches!(failed(&error), (Failure::Broken { shown: true, .. }, true)), "{error:?}");
}

#[tokio::test]
async fn a_slow_stream_takes_as_long_as_it_takes() {
    let server = Raw::serve(|mut stream| async move {
        write(&mut stream, EVENTS).await;
        for word in ["one ", "two ", "three"] {
            sleep(Duration::from_millis(100)).await;
            write(&mut stream, text(word)).await;
        }
        write(&mut stream, events(&[], Some("stop"))).await;
    })
    .await;

    let (reply, _) = listened(&server.model(Duration::from_millis(250)), ask(), 1).await;

    assert_eq!(reply.unwrap().text(), "one two three");
}

#[tokio::test]
async fn a_letter_that_comes_in_two_pieces_is_one_letter() {
    let server = Raw::serve(|mut stream| async move {
        write(&mut stream, EVENTS).await;
        let bytes = events(&[json!({ "content": "größer" })], Some("stop")).into_bytes();
        for byte in bytes.chunks(1) {
            write(&mut stream, byte).await;
        }
    })
    .await;

    let (reply, heard) = listened(&server.model(LONG), ask(), 1).await;

    assert_eq!((reply.unwrap().text().as_str(), heard.concat().as_str()), ("größer", "größer"));
}

#[tokio::test]
async fn what_is_no_event_is_malformed() {
    for sent in ["data: {\"choices\": [\n\n", "data: \u{0}\n\n"] {
        let server = answering_events(sent).await;
        let error = listened(&model(&server), ask(), 1).await.0.unwrap_err();
        assert!(matches!(failed(&error), (Failure::Malformed { .. }, false)), "{error:?}");
    }
    let latin =
        answering(ResponseTemplate::new(200).set_body_raw(b"data: \xff\xfe\n\n".to_vec(), "text/event-stream")).await;
    let error = listened(&model(&latin), ask(), 1).await.0.unwrap_err();
    assert!(matches!(failed(&error), (Failure::Malformed { .. }, false)), "{error:?}");
}

#[tokio::test]
async fn an_end_that_says_nothing_is_malformed() {
    let server = answering_events(&events(&[], Some("stop"))).await;

    let error = listened(&model(&server), ask(), 1).await.0.unwrap_err();

    assert!(matches!(failed(&error), (Failure::Malformed { .. }, false)), "{error:?}");
}

#[tokio::test]
async fn an_error_in_the_middle_is_not_taken_back() {
    let sent = text("Once ") + "data: {\"error\":{\"message\":\"Overloaded\",\"type\":\"overloaded_error\"}}\n\n";
    let server = answering_events(&sent).await;

    let error = listened(&model(&server), ask(), 3).await.0.unwrap_err();

    let (Failure::Broken { shown: true, said }, true) = failed(&error) else { panic!("{error}") };
    assert_eq!(said, "the service fails (status 529): Overloaded");
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_numbers_of_calls_may_be_anything() {
    let piece = |index: Option<u64>, id: Option<&str>, arguments: &str| {
        let name = id.map(|_| "f");
        let mut call = json!({ "id": id, "function": { "name": name, "arguments": arguments } });
        if let Some(index) = index {
            call["index"] = json!(index);
        }
        json!({ "tool_calls": [call] })
    };
    let most = u64::from(u32::MAX);
    let high = [piece(Some(most), Some("a"), "{\"x\":"), piece(Some(most), None, "1}"), piece(Some(2), Some("b"), "2")];
    let none = [piece(None, Some("b"), "2"), piece(None, Some("a"), "{\"x\":"), piece(None, None, "1}")];
    for deltas in [high, none] {
        let server = answering_events(&events(&deltas, Some("tool_calls"))).await;

        let reply = listened(&model(&server), ask(), 1).await.0.unwrap();

        let calls: Vec<_> = reply.message.tool_calls().map(|call| (call.id.as_str(), &call.arguments)).collect();
        assert_eq!(calls, [("b", &json!(2)), ("a", &json!({ "x": 1 }))]);
    }
}

#[tokio::test]
async fn words_in_place_of_a_stream_are_told() {
    let words = ResponseTemplate::new(200).set_body_raw("no healthy upstream", "text/plain");
    let server = answering(words).await;

    let error = listened(&model(&server), ask(), 1).await.0.unwrap_err();

    let (failure, terminal) = failed(&error);
    assert!(matches!(failure, Failure::Malformed { said } if said.contains("no healthy upstream")), "{failure:?}");
    assert!(!terminal);
}
