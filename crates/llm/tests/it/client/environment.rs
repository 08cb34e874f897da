//! Keys and the name of the model come from the environment. No test may change its own, so each asks a copy of itself
//! that is started with another one.

use std::process::Command;

use flowstone_llm::{Failure, Model};
use serde_json::json;

use super::{answering_json, ask, completion, fails, failure};

/// The variable that names the task of the copy.
const TASK: &str = "FLOWSTONE_TEST_TASK";

/// Runs `child` in a copy of this program, and returns what it prints.
fn copy(task: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["client::environment::child", "--exact", "--nocapture"]);
    for variable in ["FLOWSTONE_MODEL", "FLOWSTONE_API_KEY", "OPENAI_API_KEY", "MISTRAL_API_KEY"] {
        command.env_remove(variable);
    }
    // A proxy that is not there: nothing that goes to loopback may try it.
    command.env("HTTP_PROXY", "http://127.0.0.1:9").env("http_proxy", "http://127.0.0.1:9");
    let output = command.env(TASK, task).envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// The tasks of the copies; in this program, it does nothing.
#[tokio::test]
async fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    match task.split_once(' ').unwrap_or((&task, "")) {
        ("from_env", _) => match Model::from_env() {
            Ok(model) => println!("model: {}", model.id()),
            Err(error) => println!("error: {error}"),
        },
        ("keyless", name) => {
            let model = Model::named(name).unwrap();
            let error = fails(&model, &ask()).await;
            assert!(matches!(failure(&error), Failure::NoKey { .. }) && error.is_terminal());
            println!("error: {}", error.source_ref());
        }
        ("chat", name) => {
            let reply = Model::named(name).unwrap().chat(&ask(), &flowstone_core::Context::detached()).await.unwrap();
            println!("reply: {}", reply.text());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_environment_names_the_model_or_is_told_how() {
    let unset = copy("from_env", &[]);
    let set = copy("from_env", &[("FLOWSTONE_MODEL", "ollama:llama3.2")]);

    assert!(
        unset.contains("error: no model is named: set FLOWSTONE_MODEL, for example to `openai:gpt-5-mini`"),
        "{unset}"
    );
    assert!(set.contains("model: ollama:llama3.2"), "{set}");
}

#[test]
fn a_call_without_its_key_names_the_variable() {
    let text = copy("keyless mistral:mistral-small", &[]);

    assert!(text.contains("error: model `mistral:mistral-small`: it takes a key: set MISTRAL_API_KEY"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_named_by_its_url_is_sent_only_its_own_key() {
    let server = answering_json(200, completion(json!({ "content": "Hi" }), "stop")).await;
    let task = format!("chat {}/v1#tiny", server.uri());

    let (none, own) = (task.clone(), task);
    let none = tokio::task::spawn_blocking(move || copy(&none, &[("OPENAI_API_KEY", "sk-provider")])).await.unwrap();
    let own = tokio::task::spawn_blocking(move || copy(&own, &[("FLOWSTONE_API_KEY", " own \n")])).await.unwrap();

    assert!(none.contains("reply: Hi") && own.contains("reply: Hi"), "{none}{own}");
    let requests = server.received_requests().await.unwrap();
    let sent: Vec<_> = requests.iter().map(|request| request.headers.get("authorization")).collect();
    assert_eq!(sent[0], None);
    assert_eq!(sent[1].unwrap(), "Bearer own");
}
