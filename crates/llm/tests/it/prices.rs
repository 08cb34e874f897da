//! Prices are read from data; a row that is wrong is named.

use flowstone_core::{AsyncFlow, Budget, Event, EventKind, RunError, RunOptions, Usd};
use flowstone_llm::{Failure, Message, Model, ModelError, ModelId, Price, Prices, Reply, Request, ScriptedModel};

use crate::client::Speak;

fn price(prices: &Prices, model: &str) -> Option<(f64, f64, f64)> {
    let (provider, name) = model.split_once(':').unwrap();
    let price = prices.of(&ModelId::new(provider, name))?;
    Some((price.input.as_dollars(), price.cached_input.as_dollars(), price.output.as_dollars()))
}

#[test]
fn the_prices_that_come_along_can_be_read() {
    let prices = Prices::builtin();

    assert_eq!(price(&prices, "openai:gpt-5-mini-2025-08-07"), Some((0.25, 0.025, 2.0)));
    assert_eq!(price(&prices, "anthropic:claude-sonnet-4-5"), Some((3.0, 0.3, 15.0)));
    assert_eq!(price(&prices, "gemini:gemini-2.5-flash-lite"), Some((0.1, 0.01, 0.4)));
    assert_eq!(price(&prices, "ollama:llama3.2:1b"), Some((0.0, 0.0, 0.0)));
    assert_eq!(price(&prices, "openai:gpt-6"), None);
}

#[test]
fn the_longest_pattern_that_fits_counts() {
    let of = |dollars| Price::per_million(Usd::dollars(dollars), Usd::dollars(dollars));
    let prices = Prices::default()
        .with("a:*", of(1.0))
        .with("a:big*", of(2.0))
        .with("a:big-*-fast", of(3.0))
        .with("*:exact", of(4.0))
        .with("a:*", of(5.0));

    for (model, expected) in [
        ("a:small", Some(5.0)),
        ("a:big", Some(2.0)),
        ("a:big-new-fast", Some(3.0)),
        ("a:big-new-slow", Some(2.0)),
        ("b:exact", Some(4.0)),
        ("b:exactly", None),
    ] {
        assert_eq!(price(&prices, model).map(|(input, ..)| input), expected, "{model}");
    }
}

#[test]
fn a_wrong_row_is_named() {
    let row = |row: &str| {
        let text = format!(r#"{{ "as_of": "2025-01-01", "prices": [{{ "model": "a:b", "input": 1 }}, {row}] }}"#);
        Prices::parse(&text).unwrap_err().to_string()
    };

    assert_eq!(
        row(r#"{ "model": "a:c", "input": -1 }"#),
        "row 2 of the prices (a:c): -1 dollars for a million tokens is no price"
    );
    assert_eq!(
        row(r#"{ "model": "c", "input": 1 }"#),
        "row 2 of the prices (c): the model has no provider: write `PROVIDER:NAME`"
    );
    assert_eq!(row(r#"{ "model": "a:b", "input": 1 }"#), "row 2 of the prices (a:b): it is there twice");
    assert!(row(r#"{ "model": "a:c", "inputs": 1 }"#).starts_with("row 2 of the prices (a:c): unknown field `inputs`"));
    assert!(row(r#"{ "model": "a:c", "input": 1e9 }"#).ends_with("is no price"));
    assert!(row(r#"{ "input": 1 }"#).starts_with("row 2 of the prices (without a model): missing field `model`"));
    assert!(row("7").starts_with("row 2 of the prices (without a model): invalid type"));
    assert!(Prices::parse("[]").unwrap_err().to_string().starts_with("the prices are not JSON of the form"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.json");

    let error = Prices::read(&path).unwrap_err();
    std::fs::write(&path, r#"{ "as_of": "2025-01-01", "prices": [{ "model": "a:b", "input": 1.5 }] }"#).unwrap();

    assert_eq!(error.to_string(), format!("the prices in {} cannot be read", path.display()));
    assert_eq!(price(&Prices::read(&path).unwrap(), "a:b"), Some((1.5, 1.5, 0.0)));
}

#[tokio::test]
async fn a_call_costs_what_its_tokens_cost() {
    let reply = Reply::of_text("yes").with_tokens(1_000, 100);
    let price = Price::per_million(Usd::dollars(2.0), Usd::dollars(10.0));
    let model = Model::new(ScriptedModel::new([reply])).prices(Prices::default().with("scripted:*", price));
    let mut flow = AsyncFlow::<Option<Reply>>::builder("cost");
    let speak = flow.add("speak", Speak { model, request: Request::new([Message::user("?")]) });
    flow.start(speak);
    let spent = std::sync::Arc::new(std::sync::Mutex::new(Usd::default()));
    let spends = std::sync::Arc::clone(&spent);
    let options = RunOptions::new().listen(move |event: &Event| {
        if let EventKind::Used { usage } = &event.kind {
            *spends.lock().unwrap() = usage.cost;
        }
    });

    flow.build().unwrap().run_async_with(&mut None, &options).await.unwrap();

    assert_eq!(*spent.lock().unwrap(), Usd::dollars(0.003));
}

#[tokio::test]
async fn a_budget_of_money_needs_a_price() {
    let script = ScriptedModel::new(["yes"]);
    let model = Model::new(script.clone()).prices(Prices::default());
    let mut flow = AsyncFlow::<Option<Reply>>::builder("cost");
    let speak = flow.add("speak", Speak { model, request: Request::new([Message::user("?")]) });
    flow.start(speak);
    let options = RunOptions::new().budget(Budget::new().cost(Usd::dollars(1.0)));

    let error = flow.build().unwrap().run_async_with(&mut None, &options).await.unwrap_err();

    let RunError::Node { source, terminal: true, .. } = &error else { panic!("{error}") };
    assert!(matches!(source.downcast_ref::<ModelError>().unwrap().failure, Failure::NoPrice { .. }));
    assert!(script.requests().is_empty());
}

#[test]
fn a_model_of_another_kind_has_not_the_price_of_the_one_that_it_is_named_after() {
    let prices = Prices::builtin();
    let others = [
        "openai:gpt-4o-audio-preview",
        "openai:gpt-4o-mini-realtime-preview",
        "openai:gpt-5-chat-latest",
        "gemini:gemini-2.5-flash-image",
        "gemini:gemini-2.5-pro-preview-tts",
    ];

    assert_eq!(others.map(|model| price(&prices, model)), [None; 5]);
}
