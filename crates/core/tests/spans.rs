//! Spans of `tracing`: one per run, visit and attempt, each inside the other; none where nobody looks (LESSONS row 26).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

#[path = "it/common/mod.rs"]
mod common;

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use crate::common::{alone, alone_sync, async_items, awaiting, blocking, ended, named};
use flowstone_core::{AsyncFlow, Flow, NodeExt, Retry, RunOptions};
use tracing::{
    Instrument, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Keeps each span as a line: the names of the spans around it, its own name, and its fields.
#[derive(Clone, Default)]
struct Spans {
    made: Arc<Mutex<Vec<String>>>,
    blind: bool,
}

impl Spans {
    fn lines(&self) -> Vec<String> {
        self.made.lock().unwrap().clone()
    }
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn enabled(&self, about: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !(self.blind && about.target() == "flowstone")
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        let scope = cx.span_scope(id).expect("a new span is in its registry");
        let path: Vec<_> = scope.from_root().map(|span| span.name()).collect();
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.made.lock().unwrap().push(path.join(">") + &fields.0);
    }
}

/// The spans of a run on this thread, and on the pool.
fn watch(blind: bool, run: impl FnOnce(&tokio::runtime::Runtime)) -> Vec<String> {
    let spans = Spans { blind, ..Spans::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    {
        let _watched = tracing_subscriber::registry().with(spans.clone()).set_default();
        run(&runtime);
    }
    spans.lines()
}

fn named_run() -> RunOptions {
    RunOptions::new().id("r1")
}

const NOT_YET: &str = "not yet";

fn sync() -> Flow<Vec<u32>> {
    let retry = blocking(|cx| if cx.attempt() == 0 { Err(NOT_YET.into()) } else { Ok(1) }).retry(Retry::attempts(2));
    let mut flow = Flow::builder("spanned");
    let first = flow.add("first", |_: &mut Vec<u32>| ());
    let second = flow.add("second", retry);
    flow.start(first);
    flow.route(first >> second);
    flow.build().unwrap()
}

const EXPECTED: [&str; 5] = [
    concat!(
        "run otel.name=invoke_workflow spanned otel.kind=\"internal\" gen_ai.operation.name=\"invoke_workflow\" ",
        "gen_ai.agent.name=\"spanned\" gen_ai.conversation.id=r1"
    ),
    "run>visit node=first visit=0",
    "run>visit node=second visit=1",
    "run>visit>attempt attempt=0",
    "run>visit>attempt attempt=1",
];

#[test]
fn a_sync_run_has_a_span_per_run_visit_and_attempt() {
    let spans = watch(false, |_| drop(ended(sync().run_with(&mut vec![], &named_run()))));

    assert_eq!(spans, EXPECTED);
}

#[test]
fn an_async_run_has_the_same_spans() {
    let mut flow = AsyncFlow::builder("spanned");
    let first = flow.add("first", |_: &mut Vec<u32>| ());
    let second = awaiting(|cx| async move {
        tokio::task::yield_now().await;
        if cx.attempt() == 0 { Err(NOT_YET.into()) } else { Ok(1) }
    });
    let second = flow.add("second", second.retry(Retry::attempts(2)));
    flow.start(first);
    flow.route(first >> second);
    let flow = flow.build().unwrap();

    let spans = watch(false, |runtime| {
        drop(ended(runtime.block_on(flow.run_async_with(&mut vec![], &named_run()))));
    });

    assert_eq!(spans, EXPECTED);
}

#[test]
fn a_run_without_options_has_spans_too() {
    let sync = sync();
    let awaited = alone(awaiting(|_| async { Ok(1) }));

    let spans = watch(false, |runtime| {
        ended(sync.run(&mut vec![]));
        ended(runtime.block_on(awaited.run_async(&mut vec![])));
    });

    let names: Vec<_> = spans.iter().filter_map(|line| line.split(' ').next()).collect();
    let of_sync = ["run", "run>visit", "run>visit", "run>visit>attempt", "run>visit>attempt"];
    assert_eq!(names, [of_sync.as_slice(), &["run", "run>visit", "run>visit>attempt"]].concat());
}

#[test]
fn attempts_of_items_tell_their_item() {
    let flow: AsyncFlow<Vec<u32>> = alone(async_items(2, |_, _| async { Ok(1) }).parallel(2));

    let spans = watch(false, |runtime| {
        drop(ended(runtime.block_on(flow.run_async_with(&mut vec![], &named_run()))));
    });

    assert_eq!(spans[2..], ["run>visit>attempt attempt=0 item=0", "run>visit>attempt attempt=0 item=1"]);
}

#[test]
fn the_spans_of_a_child_are_inside_the_visit_of_its_batch_flow() {
    let child: AsyncFlow<Vec<u32>> = named("child", awaiting(|_| async { Ok(1) }));
    let flow = alone(child.batch(|_: &u32| vec![vec![]], |_: &mut u32, _| ()));

    let spans = watch(false, |runtime| {
        drop(ended(runtime.block_on(flow.run_async_with(&mut 0, &named_run()))));
    });

    assert_eq!(
        spans[1..],
        [
            "run>visit node=node visit=0",
            "run>visit>visit node=node[0]/node visit=0",
            "run>visit>visit>attempt attempt=0"
        ]
    );
}

#[test]
fn what_a_node_does_is_inside_the_span_of_its_attempt() {
    let flow = alone(awaiting(|_| async {
        tokio::task::yield_now().await;
        Ok(async { 1 }.instrument(tracing::info_span!("own")).await)
    }));

    let spans = watch(false, |runtime| drop(ended(runtime.block_on(flow.run_async(&mut vec![])))));

    assert_eq!(spans.last().unwrap(), "run>visit>attempt>own");
}

#[test]
fn what_a_node_does_in_the_pool_is_inside_the_span_of_its_attempt() {
    let spans = Spans::default();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(spans.clone()));
    let in_pool = dispatch.clone();
    let flow = alone(blocking(move |_| {
        tracing::dispatcher::with_default(&in_pool, || drop(tracing::info_span!("own")));
        Ok(1)
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

    tracing::dispatcher::with_default(&dispatch, || ended(runtime.block_on(flow.run_async(&mut vec![]))));

    assert_eq!(spans.lines().last().unwrap(), "run>visit>attempt>own");
}

#[test]
fn interleaved_runs_keep_their_spans_apart() {
    let flow = alone(awaiting(|cx| async move {
        tokio::task::yield_now().await;
        tracing::info_span!("own", run = %cx.run_id());
        Ok(1)
    }));
    let options = ["r1", "r2"].map(|id| RunOptions::new().id(id));

    let spans = watch(false, |runtime| {
        runtime.block_on(async {
            let (mut one, mut two) = (vec![], vec![]);
            let runs = futures_util::future::join(
                flow.run_async_with(&mut one, &options[0]),
                flow.run_async_with(&mut two, &options[1]),
            );
            let (one, two) = runs.await;
            assert!(one.is_ok() && two.is_ok());
        });
    });

    let own: Vec<_> = spans.iter().filter(|line| line.contains("own")).collect();
    assert_eq!(own, ["run>visit>attempt>own run=r1", "run>visit>attempt>own run=r2"]);
}

#[test]
fn no_span_is_made_where_nobody_looks() {
    let (sync, awaited) = (sync(), alone(awaiting(|_| async { Ok(1) })));
    let pooled = alone_sync(blocking(|_| Ok(1)));

    let spans = watch(true, |runtime| {
        ended(sync.run_with(&mut vec![], &named_run()));
        ended(pooled.run(&mut vec![]));
        ended(runtime.block_on(awaited.run_async(&mut vec![])));
        drop(tracing::info_span!("seen"));
    });

    assert_eq!(spans, ["seen"]);
}
