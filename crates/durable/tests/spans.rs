//! The spans of durable runs: the same as of runs in memory, with the names that OpenTelemetry gives them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use flowstone_core::{Action, AsyncFlow, AsyncNode, Context, NodeExt, Result, Retry};
use flowstone_durable::{Run, Runs, Status};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{self, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Keeps each span of ours as a line: the names of the spans around it, its own name, and its fields. What is recorded
/// later is a line of its own.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl Spans {
    fn note<S>(&self, id: &Id, fields: &Fields, cx: &layer::Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let scope = cx.span_scope(id).expect("a span is in its registry");
        let about: Vec<_> = scope.from_root().map(|span| span.metadata()).collect();
        if about.iter().all(|span| span.target() == "flowstone") {
            let path: Vec<_> = about.iter().map(|span| span.name()).collect();
            self.0.lock().unwrap().push(path.join(">") + &fields.0);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: layer::Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.note(id, &fields, &cx);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: layer::Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.note(id, &fields, &cx);
    }
}

/// Runs a child, or fails.
struct Agent(Option<AsyncFlow<u32>>);

impl AsyncNode<u32> for Agent {
    type Prep = u32;
    type Exec = u32;
    type Action = ();

    async fn prep(&self, n: &u32) -> Result<u32> {
        Ok(*n)
    }

    async fn exec(&self, n: &u32, cx: &Context) -> Result<u32> {
        match &self.0 {
            Some(child) => Ok(child.run_in(*n, cx).await?.0),
            None => Err("what a state may have told".into()),
        }
    }

    async fn post(&self, n: &mut u32, _: u32, result: u32) -> Result<()> {
        *n = result;
        Ok(())
    }
}

/// The spans of a run.
fn watch(flow: AsyncFlow<u32>, then: impl AsyncFnOnce(Run<u32>)) -> Vec<String> {
    let spans = Spans::default();
    let folder = tempfile::tempdir().unwrap();
    // Of this thread, on which everything is but the writing.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    {
        let _watched = tracing_subscriber::registry().with(spans.clone()).set_default();
        runtime.block_on(async {
            let runs = Runs::open(folder.path().join("runs.db"), flow).await.unwrap();
            then(runs.start("r1", 1).await.unwrap()).await;
            runs.store().close().await;
        });
    }
    std::mem::take(&mut *spans.0.lock().unwrap())
}

const RUN: &str = concat!(
    "run otel.name=invoke_workflow paper otel.kind=\"internal\" gen_ai.operation.name=\"invoke_workflow\" ",
    "gen_ai.agent.name=\"paper\" gen_ai.conversation.id=r1"
);

#[test]
fn a_run_has_the_spans_that_it_has_in_memory_and_its_children_are_inside() {
    let mut child = AsyncFlow::builder("notes");
    let note = child.add("note", |n: &mut u32| *n += 1);
    child.start(note);
    let mut flow = AsyncFlow::builder("paper");
    let first = flow.add("first", |_: &mut u32| Action::from("on"));
    let agent = flow.add("agent", Agent(Some(child.build().unwrap())));
    flow.start(first);
    flow.route(first - "on" >> agent);

    let spans = watch(flow.build().unwrap(), async |run| {
        assert_eq!(run.finished().await.unwrap().ended().unwrap().state, 2);
    });

    let visits = [
        "run>visit node=first visit=0",
        "run>visit node=agent visit=1",
        "run>visit>attempt attempt=0",
        "run>visit>attempt>visit node=agent[0]/note visit=0",
    ];
    assert_eq!(spans, [&[RUN], visits.as_slice()].concat());
}

#[test]
fn the_span_of_a_run_that_failed_says_so_in_a_word() {
    let mut flow = AsyncFlow::builder("paper");
    let agent = flow.add("agent", Agent(None).retry(Retry::attempts(2)));
    flow.start(agent);

    let spans = watch(flow.build().unwrap(), async |run| {
        assert_eq!(run.settled().await.unwrap(), Status::Failed);
    });

    let of_run: Vec<_> = spans.iter().filter(|line| line.starts_with("run ")).collect();
    assert_eq!(of_run, [RUN, "run error.type=\"node\"", "run otel.status_code=\"error\""]);
}
