//! A batch asks for a value of each item, and keeps those that it has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flowstone_core::{AsyncFlow, Budget, NodeExt, OverBudget, Retry, RunError, RunOptions};
use flowstone_durable::{Reader, Runs};
use flowstone_llm::{Extract, Failure, Model, Request, ScriptedModel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Batch {
    texts: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Row {
    number: u32,
}

/// Reads the number out of a prompt, but for those that it never replies to.
fn rows(hangs_from: usize, asked: &Arc<AtomicUsize>) -> Model {
    let asked = Arc::clone(asked);
    let script = ScriptedModel::by(move |request: &Request| {
        asked.fetch_add(1, Ordering::SeqCst);
        let text = request.messages[1].text();
        let number: usize = text.trim_start_matches("Row ").parse().unwrap();
        if number >= hangs_from {
            Err(Failure::TimedOut { limit: Duration::ZERO })
        } else {
            Ok(json!({ "number": number }).to_string().into())
        }
    });
    Model::new(script)
}

fn batch(model: &Model) -> AsyncFlow<Batch> {
    let mut flow = AsyncFlow::builder("rows");
    let each = Extract::each(
        model,
        "Row {{ item }}",
        |batch: &Batch| batch.texts.clone(),
        |batch: &mut Batch, rows: Vec<Row>| batch.rows = rows,
    );
    let rows = flow.add("rows", each.journaled());
    flow.start(rows);
    flow.build().unwrap()
}

fn texts(count: usize) -> Batch {
    Batch { texts: (0..count).map(|n| n.to_string()).collect(), rows: vec![] }
}

#[tokio::test]
async fn a_batch_makes_a_value_of_each_item_in_their_order() {
    let mut state = texts(5);

    batch(&rows(usize::MAX, &Arc::default())).run_async(&mut state).await.unwrap();

    assert_eq!(state.rows.iter().map(|row| row.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn items_that_a_kept_run_has_read_are_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("runs.db");
    let (before, after) = (Arc::default(), Arc::default());
    let runs = Runs::open(&store, batch(&rows(6, &before))).await.unwrap();
    let failed = runs.start("r", texts(10)).await.unwrap().finished().await.unwrap().ended();
    assert!(failed.is_err());
    let kept = Reader::open(&store).unwrap().items_done("r").unwrap();
    runs.store().close().await;

    let runs = Runs::open(&store, batch(&rows(usize::MAX, &after))).await.unwrap();
    let ended = runs.retry_failed("r").await.unwrap().finished().await.unwrap().ended().unwrap();

    assert_eq!(kept, 6);
    assert_eq!((before.load(Ordering::SeqCst), after.load(Ordering::SeqCst)), (7, 4));
    assert_eq!(ended.state.rows.len(), 10);
    assert_eq!(ended.state.rows[9], Row { number: 9 });
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_calls_holds_for_items_at_once_with_their_repairs() {
    let script = ScriptedModel::by(|_| Ok("no".into())).taking(Duration::from_secs(1));
    let texts = |batch: &Batch| batch.texts.clone();
    let each =
        Extract::each(&Model::new(script.clone()), "Row {{ item }}", texts, |batch: &mut Batch, rows: Vec<Row>| {
            batch.rows = rows;
        });
    let mut flow = AsyncFlow::builder("rows");
    let rows = flow.add("rows", each.parallel(8).retry(Retry::attempts(3)));
    flow.start(rows);

    let options = RunOptions::new().budget(Budget::new().calls(10));
    let error = flow.build().unwrap().run_async_with(&mut self::texts(20), &options).await.unwrap_err();

    let RunError::Node { source, terminal: true, .. } = error else { panic!("{error}") };
    assert!(matches!(source.downcast_ref(), Some(OverBudget::Calls { .. })));
    assert_eq!(script.requests().len(), 10);
}
