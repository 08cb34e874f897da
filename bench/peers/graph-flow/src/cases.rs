//! The work of each case.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use graph_flow::{
    Context, ExecutionStatus, Graph, GraphBuilder, GraphError, NextAction, Result, Session, Task, TaskResult,
    fanout::FanOutTask,
};
use tokio::{runtime, time::sleep};

use crate::Fallible;

const RING: [&str; 4] = ["a", "b", "c", "d"];

/// Adds one to the counter, until it has reached its end.
struct Add(&'static str);

#[async_trait]
impl Task for Add {
    fn id(&self) -> &str {
        self.0
    }

    async fn run(&self, context: Context) -> Result<TaskResult> {
        let done = number(&context, "done")? + 1;
        context.set("done", done)?;
        let next = if done < number(&context, "of")? { NextAction::ContinueAndExecute } else { NextAction::End };
        Ok(TaskResult::new(None, next))
    }
}

/// Waits, counts, and goes on or ends.
struct Wait(&'static str);

#[async_trait]
impl Task for Wait {
    fn id(&self) -> &str {
        self.0
    }

    async fn run(&self, context: Context) -> Result<TaskResult> {
        sleep(Duration::from_millis(50)).await;
        let steps = number(&context, "steps")? + 1;
        context.set("steps", steps)?;
        Ok(TaskResult::new(None, if self.0 == "c" { NextAction::End } else { NextAction::ContinueAndExecute }))
    }
}

/// One item of the fan-out: the library takes its children when the graph is built.
struct Item(String);

#[async_trait]
impl Task for Item {
    fn id(&self) -> &str {
        &self.0
    }

    async fn run(&self, _: Context) -> Result<TaskResult> {
        sleep(Duration::from_millis(10)).await;
        Ok(TaskResult::new(Some(self.0.clone()), NextAction::End))
    }
}

pub fn async_chain(n: usize) -> Fallible<()> {
    let mut builder = GraphBuilder::new("ring");
    for name in RING {
        builder = builder.add_task(Arc::new(Add(name)));
    }
    for (index, name) in RING.into_iter().enumerate() {
        builder = builder.add_edge(name, RING[(index + 1) % RING.len()]);
    }
    let graph = builder.build()?;

    runtime()?.block_on(async {
        let mut session = Session::new_from_task("chain".to_owned(), RING[0]);
        session.context.set("done", 0_u64)?;
        session.context.set("of", n as u64)?;
        complete(&graph, &mut session).await?;
        expect(number(&session.context, "done")?, n as u64)
    })
}

pub fn concurrent(n: usize) -> Fallible<()> {
    let builder =
        RING[..3].iter().fold(GraphBuilder::new("wait"), |builder, name| builder.add_task(Arc::new(Wait(name))));
    let graph = Arc::new(builder.add_edge("a", "b").add_edge("b", "c").build()?);

    runtime()?.block_on(async {
        // From a task, as in the case of flowstone-bench, so that starting is on the runtime's own queues.
        let starter = tokio::spawn(async move {
            let runs: Vec<_> = (0..n).map(|run| tokio::spawn(one_run(graph.clone(), run))).collect();
            let mut steps = 0;
            for run in runs {
                steps += run.await??;
            }
            expect(steps, 3 * n as u64)
        });
        starter.await?
    })
}

async fn one_run(graph: Arc<Graph>, run: usize) -> Fallible<u64> {
    let mut session = Session::new_from_task(run.to_string(), RING[0]);
    session.context.set("steps", 0_u64)?;
    complete(&graph, &mut session).await?;
    Ok(number(&session.context, "steps")?)
}

pub fn fanout(n: usize) -> Fallible<()> {
    let items = (0..n).map(|item| Arc::new(Item(item.to_string())) as Arc<dyn Task>).collect();
    let fan = FanOutTask::new("fan", items).with_next_action(NextAction::End);
    let graph = GraphBuilder::new("fan").add_task(fan).build()?;

    runtime()?.block_on(async {
        let mut session = Session::new_from_task("fan".to_owned(), "fan");
        complete(&graph, &mut session).await?;
        let last: Option<String> = session.context.get(&format!("fanout.{}.response", n - 1));
        if last.is_some() { Ok(()) } else { Err("the last item gave no response".into()) }
    })
}

fn runtime() -> std::io::Result<runtime::Runtime> {
    runtime::Builder::new_multi_thread().enable_time().build()
}

/// Runs to the end; anything else than the end is a fault of the benchmark.
async fn complete(graph: &Graph, session: &mut Session) -> Result<()> {
    match graph.execute_session(session).await?.status {
        ExecutionStatus::Completed => Ok(()),
        other => Err(GraphError::TaskExecutionFailed(format!("the run stopped as {other:?}"))),
    }
}

fn number(context: &Context, key: &str) -> Result<u64> {
    context.get(key).ok_or_else(|| GraphError::ContextError(format!("no number `{key}`")))
}

fn expect(found: u64, expected: u64) -> Fallible<()> {
    if found == expected { Ok(()) } else { Err(format!("{found} steps instead of {expected}").into()) }
}
