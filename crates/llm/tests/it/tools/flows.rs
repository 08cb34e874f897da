//! Flows as tools: in memory, and in a run that is kept, where a finished visit is not made again.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use flowstone_core::{Action, Ask, AsyncBatchNode, AsyncFlow, Context, END, NodeExt, Result, step};
use flowstone_durable::Runs;
use flowstone_llm::{FunctionTool, ToolCall, ToolFault, ToolResult, Tools, flow_tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use super::call;

type Ledger = Arc<Mutex<Vec<String>>>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Topic {
    /// The subject to find out about
    topic: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Research {
    topic: String,
    notes: Vec<String>,
}

/// Takes three notes, one visit each; passes the gate before the second.
fn research(ledger: &Ledger, gate: &Arc<Semaphore>) -> FunctionTool {
    let (ledger, gate) = (Arc::clone(ledger), Arc::clone(gate));
    let take_note = move |note: String| {
        let (ledger, gate) = (Arc::clone(&ledger), Arc::clone(&gate));
        async move {
            if note.ends_with('1') {
                gate.acquire().await?.forget();
            }
            if note.starts_with("nothing") {
                return Err("nothing is not a topic".into());
            }
            ledger.lock().unwrap().push(note.clone());
            Ok(note)
        }
    };
    let mut flow = AsyncFlow::builder("research");
    let note = flow.add(
        "note",
        step(
            |research: &Research| format!("{} {}", research.topic, research.notes.len()),
            take_note,
            |research: &mut Research, _, note: String| {
                research.notes.push(note);
                Action::from(if research.notes.len() < 3 { "more" } else { "enough" })
            },
        ),
    );
    flow.start(note);
    flow.route(note - "more" >> note);
    flow.route(note - "enough" >> END);
    flow_tool(
        "research",
        "Finds out about a topic",
        flow.build().unwrap(),
        |Topic { topic }| Research { topic, ..Research::default() },
        |research| research.notes,
    )
}

fn open() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(100))
}

#[tokio::test]
async fn a_flow_is_called_with_arguments_and_answers() {
    let ledger = Ledger::default();
    let tools = Tools::new().with(research(&ledger, &open()));

    tools.check().unwrap();
    assert_eq!(tools.specs()[0].parameters["properties"]["topic"]["description"], "The subject to find out about");
    let good = call(&tools, "research", json!({ "topic": "ants" })).await;
    assert_eq!(good, (r#"["ants 0","ants 1","ants 2"]"#.to_owned(), None));

    let (text, fault) = call(&tools, "research", json!({ "topic": "nothing" })).await;
    assert_eq!(fault, Some(ToolFault::Failed));
    assert!(
        text.contains("node `detached[0]/note` failed in exec") && text.ends_with("nothing is not a topic"),
        "{text}"
    );

    let (_, fault) = call(&tools, "research", json!({ "subject": "ants" })).await;
    assert_eq!((fault, ledger.lock().unwrap().len()), (Some(ToolFault::Misuse), 3));
}

struct Question;

impl Ask<Research> for Question {
    type Question = ();
    type Answer = ();
    type Action = ();

    fn ask(&self, _: &Research) -> Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut Research, (): ()) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_flow_that_asks_is_no_tool() {
    let mut flow = AsyncFlow::builder("asking");
    let ask = flow.add("ask", Question);
    flow.start(ask);
    let state = |Topic { topic }| Research { topic, ..Research::default() };
    let tool = flow_tool("asking", "Asks", flow.build().unwrap(), state, |research| research.notes);

    let error = Tools::new().with(tool).check().unwrap_err();

    assert_eq!(
        error.to_string(),
        "tool `asking`: flow `asking` asks at `ask`, and a flow that is a tool cannot wait for an answer"
    );
}

/// Makes each call as an item of its own.
struct Calls(Tools);

#[derive(Default, Serialize, Deserialize)]
struct Turn {
    calls: Vec<ToolCall>,
    results: Vec<ToolResult>,
}

impl AsyncBatchNode<Turn> for Calls {
    type Item = ToolCall;
    type Output = ToolResult;
    type Outcome = ToolResult;
    type Action = ();

    fn check(&self) -> Result<()> {
        self.0.check()
    }

    async fn prep(&self, turn: &Turn) -> Result<Vec<ToolCall>> {
        Ok(turn.calls.clone())
    }

    async fn exec(&self, item: &ToolCall, cx: &Context) -> Result<ToolResult> {
        self.0.call(item, cx).await
    }

    async fn post(&self, turn: &mut Turn, _: Vec<ToolCall>, results: Vec<ToolResult>) -> Result<()> {
        turn.results = results;
        Ok(())
    }
}

fn acting(tools: Tools) -> AsyncFlow<Turn> {
    let mut flow = AsyncFlow::builder("acting");
    let act = flow.add("act", Calls(tools).parallel(2).journaled());
    flow.start(act);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_flow_does_not_repeat_its_visits() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ledger) = (folder.path().join("runs.db"), Ledger::default());
    let topics = ["ants", "bees", "ants"];
    let calls = topics.iter().enumerate();
    let calls = calls.map(|(n, topic)| ToolCall::new(format!("c{n}"), "research", json!({ "topic": topic }))).collect();

    // One passes the gate and ends; two are stopped there.
    let gate = Arc::new(Semaphore::new(1));
    let runs = Runs::open(&store, acting(Tools::new().with(research(&ledger, &gate)))).await.unwrap();
    runs.start("r", Turn { calls, ..Turn::default() }).await.unwrap();
    let reader = flowstone_durable::Reader::open(&store).unwrap();
    let steps = || reader.children("r").unwrap().iter().map(|child| child.step).sum::<u64>();
    tokio::time::timeout(Duration::from_secs(20), async {
        while steps() < 5 || reader.items_done("r").unwrap() < 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    runs.store().close().await;
    let before = std::mem::take(&mut *ledger.lock().unwrap());

    let runs = Runs::open(&store, acting(Tools::new().with(research(&ledger, &open())))).await.unwrap();
    runs.resume_all().await.unwrap();
    let run = runs.get("r").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), run.finished()).await.unwrap().unwrap().ended().unwrap();
    let after = std::mem::take(&mut *ledger.lock().unwrap());

    assert_eq!((before.len(), after.len()), (5, 4), "{before:?} {after:?}");
    let mut made = [before, after].concat();
    made.sort();
    let notes = ["ants 0", "ants 0", "ants 1", "ants 1", "ants 2", "ants 2", "bees 0", "bees 1", "bees 2"];
    assert_eq!(made, notes);
    let texts: Vec<&str> = ended.state.results.iter().map(|result| result.text.as_str()).collect();
    let [ants, bees] = [r#"["ants 0","ants 1","ants 2"]"#, r#"["bees 0","bees 1","bees 2"]"#];
    assert_eq!(texts, [ants, bees, ants]);
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Depth {
    /// The depth so far
    depth: u32,
}

#[tokio::test]
async fn a_flow_that_is_its_own_tool_comes_to_an_end() {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    let mut flow = AsyncFlow::builder("deeper");
    let deeper = step(
        |state: &(u32, String)| state.0,
        |depth: u32| async move { Ok(call(TOOLS.get().unwrap(), "deeper", json!({ "depth": depth + 1 })).await) },
        |state: &mut (u32, String), _, (text, _): (String, Option<ToolFault>)| state.1 = text,
    );
    let deeper = flow.add("deeper", deeper);
    flow.start(deeper);
    let tool =
        flow_tool("deeper", "Calls itself", flow.build().unwrap(), |Depth { depth }| (depth, String::new()), |s| s.1);

    let tools = TOOLS.get_or_init(|| Tools::new().with(tool));
    let (text, fault) = call(tools, "deeper", json!({ "depth": 0 })).await;

    assert_eq!(fault, None, "each flow goes on with what it is told");
    assert_eq!(text, "the tool failed: 16 calls of tools are under way inside each other, and no further one is made");
}
