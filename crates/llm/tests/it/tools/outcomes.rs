//! Results of calls: texts, errors, panics and slow tools as text, and the errors that end the run.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone_core::{
    AsyncFlow, AsyncNode, Budget, BuildError, CancellationToken, Context, NodeError, NodeExt, OverBudget, Result,
    Retry, RunError, RunOptions,
};
use flowstone_llm::{FunctionTool, Misuse, ToolCall, ToolFault, ToolResult, Tools, function, function_with_context};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::call;

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// A tool that gives this, or fails with it.
fn gives<T: Clone + Serialize + Send + Sync + 'static>(
    result: impl Fn() -> Result<T> + Send + Sync + 'static,
) -> Tools {
    let result = Arc::new(result);
    let run = move |Nothing {}| {
        let result = Arc::clone(&result);
        async move { result() }
    };
    Tools::new().with(function("tool", "A tool", run))
}

async fn text_of<T: Clone + Serialize + Send + Sync + 'static>(value: T) -> String {
    let (text, fault) = call(&gives(move || Ok(value.clone())), "tool", json!({})).await;
    assert_eq!(fault, None);
    text
}

#[derive(Clone, Serialize)]
struct Hit {
    title: &'static str,
    page: u32,
}

#[tokio::test]
async fn a_result_is_told_as_text_or_as_json_in_its_own_order() {
    assert_eq!(text_of("a \"text\"\n".to_owned()).await, "a \"text\"\n");
    assert_eq!(text_of("static").await, "static");
    assert_eq!(text_of(()).await, "done");
    assert_eq!(text_of(None::<u32>).await, "null");
    assert_eq!(text_of(vec![Hit { title: "ants", page: 7 }]).await, r#"[{"title":"ants","page":7}]"#);
}

#[tokio::test]
async fn a_long_result_is_cut_between_two_letters_and_says_so() {
    let tools = gives(|| Ok("ä".repeat(100))).max_result_bytes(11);

    let (text, fault) = call(&tools, "tool", json!({})).await;

    assert_eq!(fault, None);
    assert_eq!(text, "äääää\n[cut off: these are the first 10 of 200 bytes; ask for less at once]");
    let (text, _) = call(&gives(|| Ok("x".repeat(65 * 1024))), "tool", json!({})).await;
    assert!(text.len() < 65 * 1024 && text.contains("the first 65536 of 66560 bytes"), "{}", text.len());
}

#[derive(Debug, thiserror::Error)]
#[error("the index is gone")]
struct Gone(#[source] io::Error);

#[tokio::test]
async fn an_error_is_told_with_its_causes_each_once() {
    let error = || Gone(io::Error::other("no such file"));
    let fails = gives(move || Err::<(), _>(NodeError::new(error())));
    let quotes = gives(move || Err::<(), _>(format!("search: {}", error()).into()));

    let failed = Some(ToolFault::Failed);
    assert_eq!(
        call(&fails, "tool", json!({})).await,
        ("the tool failed: the index is gone: no such file".into(), failed)
    );
    assert_eq!(call(&quotes, "tool", json!({})).await, ("the tool failed: search: the index is gone".into(), failed));
}

#[tokio::test]
async fn a_tool_may_find_fault_with_its_arguments() {
    let tools = gives(|| Err::<(), _>(NodeError::new(Misuse::argument("tool", "/date", "it is in the past"))));

    let (text, fault) = call(&tools, "tool", json!({})).await;

    assert_eq!(fault, Some(ToolFault::Misuse));
    assert_eq!(text, "the arguments of `tool` do not fit:\n- at `/date`: it is in the past");
}

#[tokio::test]
async fn a_panic_is_told_and_nothing_beside_it() {
    let key = "sk-secret".to_owned();
    let tools = gives(move || -> Result<()> {
        let _client = &key;
        panic!("index {} is out of range", 7)
    });
    let at_once = Tools::new()
        .with(function("tool", "A tool", |Nothing {}| -> std::future::Ready<Result<()>> { panic!("at once") }));

    let failed = Some(ToolFault::Failed);
    assert_eq!(call(&tools, "tool", json!({})).await, ("the tool panicked: index 7 is out of range".into(), failed));
    assert_eq!(call(&at_once, "tool", json!({})).await, ("the tool panicked: at once".into(), failed));
}

/// Tells when it is dropped.
struct Held(Arc<Mutex<Vec<&'static str>>>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_hangs_is_dropped_when_its_time_is_over() {
    let log = Arc::<Mutex<Vec<_>>>::default();
    let kept = Arc::clone(&log);
    let hangs = |name: &str| {
        let kept = Arc::clone(&kept);
        function(name, "Hangs", move |Nothing {}| {
            let held = Held(Arc::clone(&kept));
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok(())
            }
        })
    };
    let tools = Tools::new().with(hangs("tool")).with(hangs("slow")).timeout_of("slow", Duration::from_secs(600));
    let begun = tokio::time::Instant::now();

    let (text, fault) = call(&tools, "tool", json!({})).await;

    assert_eq!(text, "the tool failed: it was stopped, since it was not done within 60s");
    assert_eq!((fault, begun.elapsed().as_secs(), log.lock().unwrap().len()), (Some(ToolFault::Failed), 60, 1));
    call(&tools, "slow", json!({})).await;
    assert_eq!(begun.elapsed().as_secs(), 660);
    call(&tools.timeout(Duration::from_secs(1)), "tool", json!({})).await;
    assert_eq!(begun.elapsed().as_secs(), 661);
}

/// A flow of one node that calls `tool`, and keeps what came of it.
fn calling(tools: Tools) -> AsyncFlow<Vec<ToolResult>> {
    build(tools).unwrap()
}

fn build(tools: Tools) -> Result<AsyncFlow<Vec<ToolResult>>, BuildError> {
    struct Calls(Tools);

    impl AsyncNode<Vec<ToolResult>> for Calls {
        type Prep = ();
        type Exec = ToolResult;
        type Action = ();

        fn check(&self) -> Result<()> {
            self.0.check()
        }

        async fn prep(&self, _: &Vec<ToolResult>) -> Result<()> {
            Ok(())
        }

        async fn exec(&self, (): &(), cx: &Context) -> Result<ToolResult> {
            self.0.call(&ToolCall::new("1", "tool", json!({})), cx).await
        }

        async fn post(&self, state: &mut Vec<ToolResult>, (): (), result: ToolResult) -> Result<()> {
            state.push(result);
            Ok(())
        }
    }

    let mut flow = AsyncFlow::builder("calling");
    let calls = flow.add("calls", Calls(tools).retry(Retry::attempts(3)));
    flow.start(calls);
    flow.build()
}

/// A tool that goes wrong by its context.
fn by_context<Fut>(run: impl Fn(Context) -> Fut + Send + Sync + 'static) -> FunctionTool
where
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    function_with_context("tool", "A tool", move |Nothing {}, cx| run(cx))
}

#[derive(Debug, thiserror::Error)]
#[error("wrapped")]
struct Wrapped(#[source] Box<dyn std::error::Error + Send + Sync>);

#[tokio::test]
async fn a_budget_that_is_used_up_ends_the_run_and_is_not_tried_again() {
    let tries = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&tries);
    let tool = by_context(move |cx| {
        *counted.lock().unwrap() += 1;
        async move { cx.afford().map_err(|error| NodeError::new(Wrapped(error.into_source()))) }
    });
    let flow = calling(Tools::new().with(tool));
    let options = RunOptions::new().budget(Budget::new().calls(0));

    let error = flow.run_async_with(&mut Vec::new(), &options).await.unwrap_err();

    let RunError::Node { source, terminal: true, .. } = &error else { panic!("{error:?}") };
    assert!(source.downcast_ref::<Wrapped>().unwrap().0.is::<OverBudget>());
    assert_eq!(*tries.lock().unwrap(), 1);
}

/// A flow of two visits.
fn two(name: &str) -> AsyncFlow<u32> {
    let mut flow = AsyncFlow::builder(name);
    let one = flow.add("one", |n: &mut u32| *n += 1);
    let two = flow.add("two", |n: &mut u32| *n += 1);
    flow.start(one);
    flow.route(one >> two);
    flow.build().unwrap()
}

#[tokio::test]
async fn what_stops_the_run_inside_a_tool_stops_it_as_it_is() {
    let flow = calling(Tools::new().with(by_context(|cx| async move {
        two("inner").run_in(0, &cx).await?;
        Ok(())
    })));

    let error = flow.run_async_with(&mut Vec::new(), &RunOptions::new().max_visits(2)).await.unwrap_err();

    assert!(matches!(&error, RunError::TooManyVisits { node, .. } if node.as_str() == "calls[0]/two"), "{error:?}");
}

#[tokio::test]
async fn what_stops_a_run_of_the_tools_own_is_told() {
    let flow = calling(Tools::new().with(by_context(|_| async move {
        two("own").run_async_with(&mut 0, &RunOptions::new().id("own").max_visits(1)).await?;
        Ok(())
    })));

    let mut state = Vec::new();
    flow.run_async(&mut state).await.unwrap();

    assert_eq!(state[0].fault, Some(ToolFault::Failed));
    assert!(state[0].text.starts_with("the tool failed: run `own`: stopped before node `two`"), "{}", state[0].text);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_drops_its_tool() {
    let log = Arc::<Mutex<Vec<_>>>::default();
    let kept = Arc::clone(&log);
    let flow = calling(Tools::new().with(by_context(move |_| {
        let held = Held(Arc::clone(&kept));
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(())
        }
    })));
    let token = CancellationToken::new();
    let options = RunOptions::new().cancel(token.clone());
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        token.cancel();
    };

    let mut state = Vec::new();
    let (result, ()) = tokio::join!(flow.run_async_with(&mut state, &options), cancel);

    assert!(matches!(result, Err(RunError::Cancelled { .. })), "{result:?}");
    assert_eq!((log.lock().unwrap().len(), state.len()), (1, 0));
}

#[test]
fn what_is_wrong_with_tools_is_a_fault_of_the_flow() {
    let tools = Tools::new().with(function("two words", "A tool", |Nothing {}| async { Ok(()) }));

    let error = build(tools).unwrap_err();

    let fault = "node `calls`: the name of tool `two words` is not one to 64 letters, digits, `_` and `-`";
    assert!(error.to_string().contains(fault), "{error}");
}
