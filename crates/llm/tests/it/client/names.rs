//! A name says who serves a model; what cannot be understood says what to write, and shows no key.

use flowstone_llm::{Model, SetupError};

fn refused(name: &str) -> String {
    Model::named(name).unwrap_err().to_string()
}

#[test]
fn a_name_gives_the_id_that_errors_and_prices_use() {
    for (name, id) in [
        ("openai:gpt-5-mini", "openai:gpt-5-mini"),
        ("anthropic:claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        ("gemini:gemini-2.5-flash", "gemini:gemini-2.5-flash"),
        ("groq:openai/gpt-oss-20b", "groq:openai/gpt-oss-20b"),
        ("ollama:llama3.2:1b", "ollama:llama3.2:1b"),
        (" openai:gpt-5 ", "openai:gpt-5"),
        ("http://127.0.0.1:8080/v1#qwen", "127.0.0.1:8080:qwen"),
        ("https://models.example/v1/#a/b:c", "models.example:a/b:c"),
        ("http://[::1]:9/v1?api-version=1#x", "[::1]:9:x"),
    ] {
        assert_eq!(Model::named(name).unwrap().id().to_string(), id);
    }
}

#[test]
fn what_is_no_name_says_what_to_write() {
    assert_eq!(
        refused("gpt-5"),
        "`gpt-5` does not say who serves it: write `openai:gpt-5`, `ollama:gpt-5` or `http://HOST/v1#gpt-5`"
    );
    assert!(refused("opnai:gpt-5").starts_with("no provider is called `opnai`: there are `openai`, `anthropic`,"));
    assert_eq!(refused("openai:"), "the name of the model is missing: write `openai:NAME`");
    assert_eq!(
        refused("http://127.0.0.1:8080/v1"),
        "the name of the model is missing: write `http://127.0.0.1:8080/v1#NAME`"
    );
    assert!(refused("http://#x").starts_with("the URL of the service is none: "));
    assert!(refused("http://[#x").starts_with("the URL of the service is none: "));
    assert!(refused("").contains("does not say who serves it"));
}

#[test]
fn a_key_in_a_url_is_refused_and_not_shown() {
    for name in ["http://user:hunter2@host.example/v1#m", "https://hunter2@host.example:8443/v1#m"] {
        let error = Model::named(name).unwrap_err();
        assert!(matches!(&error, SetupError::KeyInUrl { server } if server.starts_with("host.example")));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let connect = Model::connect("openai:gpt-5").base_url("http://hunter2@host.example").key("hunter2");
    assert!(!format!("{connect:?}").contains("hunter2"));
    assert!(!connect.build().unwrap_err().to_string().contains("hunter2"));
}
