//! A cassette replies what a model once replied, each entry once, and says what differs when it has no reply.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone_core::{AsyncFlow, Budget, Context, Event, EventKind, NodeError, RunOptions, Shared, Usage};
use flowstone_llm::{
    CassetteError, Chat, Delta, Failure, Message, Model, ModelError, Options, Part, Recorded, Reply, Request, Role,
    ScriptedModel, ToolCall,
};
use serde_json::json;
use tempfile::TempDir;

fn ask(text: &str) -> Request {
    Request::new([Message::system("Be brief."), Message::user(text)])
}

async fn say(model: &Model, text: &str) -> String {
    model.chat(&ask(text), &Context::detached()).await.unwrap().text()
}

/// A folder, and a cassette in it of these questions with the replies `1`, `2`, ….
async fn recorded(questions: &[&str]) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.json");
    let replies: Vec<_> = (1..=questions.len()).map(|n| Reply::of_text(n.to_string()).with_tokens(10, 1)).collect();
    let real = Model::new(ScriptedModel::new(replies).embedding(|text| vec![text.len() as f32, 0.1]));
    let model = Model::new(Recorded::record(&path, &real).unwrap());
    for question in questions {
        say(&model, question).await;
    }
    model.embed(&["ab".to_owned()], &Context::detached()).await.unwrap();
    (folder, path)
}

fn replay(path: &Path) -> Model {
    Model::new(Recorded::replay(path).unwrap())
}

fn said(error: &NodeError) -> &str {
    let error: &ModelError = error.downcast_ref().unwrap();
    let Failure::Unscripted { said } = &error.failure else { panic!("{error}") };
    said
}

#[tokio::test]
async fn a_request_gets_the_reply_that_was_recorded_and_the_second_time_the_second() {
    let (_folder, path) = recorded(&["a", "b", "a"]).await;
    let model = replay(&path);

    let said = [say(&model, "a").await, say(&model, "a").await, say(&model, "b").await];

    assert_eq!(said, ["1", "3", "2"]);
    assert_eq!(model.id().to_string(), "scripted:script");
    let vectors = model.embed(&["ab".to_owned()], &Context::detached()).await.unwrap().vectors;
    assert_eq!(vectors, [[2.0, 0.1]]);
}

#[tokio::test]
async fn callers_at_once_get_each_entry_once() {
    let (_folder, path) = recorded(&["a", "a", "b", "a"]).await;
    let model = replay(&path);

    let (x, y, z, b) = tokio::join!(say(&model, "a"), say(&model, "a"), say(&model, "a"), say(&model, "b"));

    let mut all = [x, y, z];
    all.sort();
    assert_eq!((all, &*b), (["1".to_owned(), "2".to_owned(), "4".to_owned()], "3"));
}

#[tokio::test]
async fn a_request_that_was_made_more_often_than_recorded_fails() {
    let (_folder, path) = recorded(&["a"]).await;
    let model = replay(&path);
    say(&model, "a").await;

    let error = model.chat(&ask("a"), &Context::detached()).await.unwrap_err();

    assert!(error.is_terminal());
    assert_eq!(said(&error), "the request is in the cassette 1 time, and was made once more: record again");
}

#[tokio::test]
async fn a_request_that_is_not_recorded_says_what_differs_from_the_nearest() {
    let long = "word ".repeat(30);
    let (_folder, path) = recorded(&["What is the weather in Rome?", &format!("{long}end")]).await;
    let model = replay(&path);
    let cx = Context::detached();

    let one = model.chat(&ask("What is the weather in Paris?"), &cx).await.unwrap_err();
    let far = model.chat(&ask(&format!("{long}END")), &cx).await.unwrap_err();
    let options = Options { temperature: Some(0.5), ..Options::default() };
    let more = ask("What is the weather in Rome?").options(options);
    let more = model.chat(&more, &cx).await.unwrap_err();
    let texts = model.embed(&["ab".to_owned(), "c".to_owned()], &cx).await.unwrap_err();

    assert_eq!(
        said(&one),
        "the request is not in the cassette; it differs from entry 1 of 3, the nearest, at \
         `/messages/1/parts/0/text`: \"What is the weather in Paris?\" instead of \"What is the weather in Rome?\" \
         (record again if that is right)"
    );
    assert!(said(&far).contains("\"…word word word END\" instead of \"…word word word end\""), "{}", said(&far));
    assert!(said(&more).contains("at `/options/temperature`: 0.5 instead of nothing ("), "{}", said(&more));
    assert!(said(&texts).contains("entry 3 of 3, the nearest, at `/1`: \"c\" instead of nothing"), "{}", said(&texts));
}

#[tokio::test]
async fn numbers_are_read_as_they_were_written_and_a_timeout_makes_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.json");
    let recording = Model::new(Recorded::record(&path, &Model::new(ScriptedModel::new(["1"]))).unwrap());
    let options = |timeout| Options { temperature: Some(0.1 + 0.2), timeout, ..Options::default() };
    let amounts = json!({ "amounts": [0.1 + 0.7, 1.0 / 3.0, 1e300 / 7.0, 122.416_294_033_786_58] });
    let call = Message { role: Role::Assistant, parts: vec![Part::ToolCall(ToolCall::new("1", "pay", amounts))] };
    let request = |timeout| Request::new([Message::user("Pay."), call.clone()]).options(options(timeout));
    recording.chat(&request(None), &Context::detached()).await.unwrap();

    let reply = replay(&path).chat(&request(Some(Duration::from_secs(1))), &Context::detached()).await;

    assert_eq!(reply.unwrap().text(), "1");
}

#[tokio::test]
async fn a_stream_has_the_reply_that_was_recorded_whole_and_is_shown() {
    let (_folder, path) = recorded(&["a"]).await;
    let shown: Arc<Mutex<String>> = Arc::default();
    let sink = Arc::clone(&shown);
    let listen = move |event: &Event| {
        if let Some(Delta::Text(text)) = Delta::of_event(event) {
            sink.lock().unwrap().push_str(text);
        }
    };
    let mut flow = AsyncFlow::builder("one");
    let chat = Chat::prompt(&replay(&path), "a", |_: &mut Shared, _: String| ()).system("Be brief.");
    let chat = flow.add("ask", chat);
    flow.start(chat);

    let options = RunOptions::new().listen(listen);
    flow.build().unwrap().run_async_with(&mut Shared::new(), &options).await.unwrap();

    assert_eq!(*shown.lock().unwrap(), "1");
}

#[tokio::test]
async fn the_file_is_for_people_and_holds_requests_and_replies_only() {
    let (folder, path) = recorded(&["a"]).await;

    let text = std::fs::read_to_string(&path).unwrap();

    let expected = r#"{
  "cassette": 1,
  "model": {
    "provider": "scripted",
    "name": "script"
  },
  "entries": [
    {
      "chat": {
        "request": {
          "messages": [
            {
              "role": "system",
              "parts": [
                {
                  "text": "Be brief."
                }
              ]
            },
            {
              "role": "user",
              "parts": [
                {
                  "text": "a"
                }
              ]
            }
          ],
          "options": {},
          "stream": false
        },
        "reply": {
          "message": {
            "role": "assistant",
            "parts": [
              {
                "text": "1"
              }
            ]
          },
          "finish": "stop",
          "tokens": {
            "input": 10,
            "output": 1,
            "cached_input": 0,
            "reasoning": 0
          }
        }
      }
    },
    {
      "embed": {
        "texts": [
          "ab"
        ],
        "vectors": [
          [
            2.0,
            0.1
          ]
        ]
      }
    }
  ]
}
"#;
    assert_eq!(text, expected);
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_failed_call_is_not_recorded_and_keeps_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.json");
    let busy = Failure::RateLimited { retry_after: None, said: "slow down".to_owned() };
    let real = Model::new(ScriptedModel::sequence([Err(busy), Ok("yes".into())]));
    let model = Model::new(Recorded::record(&path, &real).unwrap());

    let error = model.chat(&ask("a"), &Context::detached()).await.unwrap_err();
    say(&model, "a").await;

    assert!(!error.is_terminal());
    assert!(matches!(error.downcast_ref::<ModelError>().unwrap().failure, Failure::RateLimited { .. }));
    assert_eq!(say(&replay(&path), "a").await, "yes");
}

#[test]
fn a_file_that_is_no_cassette_says_why_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let error = Recorded::replay(&path).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        (error, source)
    };

    let missing = Recorded::replay(folder.path().join("none.json")).unwrap_err();
    let (cut, at) = read("{\n  \"cassette\": 1,\n  \"model\": {");
    let (other, unknown) =
        read("{\"cassette\": 1,\n\"model\": {\"provider\": \"a\", \"name\": \"b\"},\n\"entries\": [{\"chart\": 1}]}");
    let (new, _) = read("{\"cassette\": 2, \"whatever\": 1}");
    let nowhere = Recorded::record(folder.path().join("no/such/x.json"), &Model::new(ScriptedModel::new([""; 0])));

    assert!(matches!(missing, CassetteError::Unreadable { .. }));
    assert!(missing.to_string().contains("record it first"));
    assert!(matches!(cut, CassetteError::Malformed { .. }) && at.contains("line 3"), "{at}");
    assert!(matches!(other, CassetteError::Malformed { .. }));
    assert!(unknown.contains("unknown variant `chart`") && unknown.contains("line 3"), "{unknown}");
    assert!(new.to_string().ends_with("has format 2, and this version reads formats up to 1"));
    assert!(matches!(nowhere, Err(CassetteError::Unwritable { .. })));
}

#[tokio::test]
async fn a_recorded_call_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let real = Model::new(ScriptedModel::new([Reply::of_text("yes").with_tokens(10, 2)]));
    let model = Model::new(Recorded::record(folder.path().join("calls.json"), &real).unwrap());
    let mut flow = AsyncFlow::builder("one");
    let chat = flow.add("ask", Chat::prompt(&model, "?", |_: &mut Shared, _: String| ()));
    flow.start(chat);
    let used: Arc<Mutex<Usage>> = Arc::default();
    let sum = Arc::clone(&used);
    let listen = move |event: &Event| {
        if let EventKind::Used { usage } = event.kind {
            *sum.lock().unwrap() += usage;
        }
    };
    let budget = Budget::new().calls(1);

    let options = RunOptions::new().budget(budget).listen(listen);
    flow.build().unwrap().run_async_with(&mut Shared::new(), &options).await.unwrap();

    let used = *used.lock().unwrap();
    assert_eq!((used.calls, used.tokens()), (1, 12));
}
