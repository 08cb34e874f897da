//! Helpers of the tests: nodes made of closures, a listener that keeps events, and counters of what is alive.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of these helpers")]
#![allow(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use flowstone_core::{
    AsyncBatchNode, AsyncFlow, AsyncKind, AsyncNode, BatchNode, Context, Event, Flow, IntoNode, ItemOutcome, Listener,
    Node, NodeError, Outcome, Result, RunError, State, SyncKind,
};

pub(crate) use counters::{Alive, Count, Life, Log, Meeting};
pub(crate) use kept::{Kept, PARKS};

mod counters;
mod kept;

/// The fallback of a node that has none: gives the error back.
pub(crate) type NoFallback<T> = fn(NodeError, &Context) -> Result<T>;

/// A sync node over a `Vec<T>`: what its `exec` gives is pushed.
pub(crate) struct Blocking<F, G> {
    exec: F,
    fallback: G,
}

pub(crate) fn blocking<T, F: Fn(&Context) -> Result<T>>(exec: F) -> Blocking<F, NoFallback<T>> {
    Blocking { exec, fallback: |error, _| Err(error) }
}

impl<F, G> Blocking<F, G> {
    pub(crate) fn or<T, H: Fn(NodeError, &Context) -> Result<T>>(self, fallback: H) -> Blocking<F, H> {
        Blocking { exec: self.exec, fallback }
    }
}

impl<T, F, G> Node<Vec<T>> for Blocking<F, G>
where
    T: Send + Sync + 'static,
    F: Fn(&Context) -> Result<T> + Send + Sync + 'static,
    G: Fn(NodeError, &Context) -> Result<T> + Send + Sync + 'static,
{
    type Prep = ();
    type Exec = T;
    type Action = ();

    fn prep(&self, _: &Vec<T>) -> Result<()> {
        Ok(())
    }

    fn exec(&self, (): &(), cx: &Context) -> Result<T> {
        (self.exec)(cx)
    }

    fn exec_fallback(&self, (): &(), error: NodeError, cx: &Context) -> Result<T> {
        (self.fallback)(error, cx)
    }

    fn post(&self, shared: &mut Vec<T>, (): (), exec: T) -> Result<()> {
        shared.push(exec);
        Ok(())
    }
}

/// An async node over a `Vec<T>`: what its `exec` gives is pushed.
pub(crate) struct Awaiting<F, G> {
    exec: F,
    fallback: G,
}

pub(crate) fn awaiting<T, U, F>(exec: F) -> Awaiting<F, NoFallback<T>>
where
    F: Fn(Context) -> U,
    U: Future<Output = Result<T>>,
{
    Awaiting { exec, fallback: |error, _| Err(error) }
}

impl<F, G> Awaiting<F, G> {
    pub(crate) fn or<T, H: Fn(NodeError, &Context) -> Result<T>>(self, fallback: H) -> Awaiting<F, H> {
        Awaiting { exec: self.exec, fallback }
    }
}

impl<T, U, F, G> AsyncNode<Vec<T>> for Awaiting<F, G>
where
    T: Send + Sync + 'static,
    F: Fn(Context) -> U + Send + Sync + 'static,
    U: Future<Output = Result<T>> + Send,
    G: Fn(NodeError, &Context) -> Result<T> + Send + Sync + 'static,
{
    type Prep = ();
    type Exec = T;
    type Action = ();

    async fn prep(&self, _: &Vec<T>) -> Result<()> {
        Ok(())
    }

    fn exec(&self, (): &(), cx: &Context) -> impl Future<Output = Result<T>> + Send {
        (self.exec)(cx.clone())
    }

    async fn exec_fallback(&self, (): &(), error: NodeError, cx: &Context) -> Result<T> {
        (self.fallback)(error, cx)
    }

    async fn post(&self, shared: &mut Vec<T>, (): (), exec: T) -> Result<()> {
        shared.push(exec);
        Ok(())
    }
}

/// A sync batch node with the items `0..count`; its outcomes become the state, whose type decides about failed items.
pub(crate) struct Items<F, G> {
    count: usize,
    exec: F,
    fallback: G,
}

pub(crate) fn items<T, F: Fn(usize, &Context) -> Result<T>>(count: usize, exec: F) -> Items<F, NoFallback<T>> {
    Items { count, exec, fallback: |error, _| Err(error) }
}

impl<F, G> Items<F, G> {
    pub(crate) fn or<T, H: Fn(NodeError, &Context) -> Result<T>>(self, fallback: H) -> Items<F, H> {
        Items { count: self.count, exec: self.exec, fallback }
    }
}

impl<C, T, F, G> BatchNode<Vec<C>> for Items<F, G>
where
    C: ItemOutcome<T> + Sync,
    T: Send + 'static,
    F: Fn(usize, &Context) -> Result<T> + Send + Sync + 'static,
    G: Fn(NodeError, &Context) -> Result<T> + Send + Sync + 'static,
{
    type Item = usize;
    type Output = T;
    type Outcome = C;
    type Action = ();

    fn prep(&self, _: &Vec<C>) -> Result<Vec<usize>> {
        Ok((0..self.count).collect())
    }

    fn exec(&self, item: &usize, cx: &Context) -> Result<T> {
        (self.exec)(*item, cx)
    }

    fn exec_fallback(&self, _: &usize, error: NodeError, cx: &Context) -> Result<T> {
        (self.fallback)(error, cx)
    }

    fn post(&self, shared: &mut Vec<C>, items: Vec<usize>, outcomes: Vec<C>) -> Result<()> {
        assert!(items.into_iter().eq(0..self.count), "post gets the items as prep gave them");
        *shared = outcomes;
        Ok(())
    }
}

/// The async twin of [`Items`].
pub(crate) struct AsyncItems<F, G> {
    count: usize,
    exec: F,
    fallback: G,
}

pub(crate) fn async_items<T, U, F>(count: usize, exec: F) -> AsyncItems<F, NoFallback<T>>
where
    F: Fn(usize, Context) -> U,
    U: Future<Output = Result<T>>,
{
    AsyncItems { count, exec, fallback: |error, _| Err(error) }
}

impl<F, G> AsyncItems<F, G> {
    pub(crate) fn or<T, H: Fn(NodeError, &Context) -> Result<T>>(self, fallback: H) -> AsyncItems<F, H> {
        AsyncItems { count: self.count, exec: self.exec, fallback }
    }
}

impl<C, T, U, F, G> AsyncBatchNode<Vec<C>> for AsyncItems<F, G>
where
    C: ItemOutcome<T> + Sync,
    T: Send + 'static,
    F: Fn(usize, Context) -> U + Send + Sync + 'static,
    U: Future<Output = Result<T>> + Send,
    G: Fn(NodeError, &Context) -> Result<T> + Send + Sync + 'static,
{
    type Item = usize;
    type Output = T;
    type Outcome = C;
    type Action = ();

    async fn prep(&self, _: &Vec<C>) -> Result<Vec<usize>> {
        Ok((0..self.count).collect())
    }

    fn exec(&self, item: &usize, cx: &Context) -> impl Future<Output = Result<T>> + Send {
        (self.exec)(*item, cx.clone())
    }

    async fn exec_fallback(&self, _: &usize, error: NodeError, cx: &Context) -> Result<T> {
        (self.fallback)(error, cx)
    }

    async fn post(&self, shared: &mut Vec<C>, items: Vec<usize>, outcomes: Vec<C>) -> Result<()> {
        assert!(items.into_iter().eq(0..self.count), "post gets the items as prep gave them");
        *shared = outcomes;
        Ok(())
    }
}

/// A flow of one node, called `node`.
pub(crate) fn alone<S: State, M, N: IntoNode<S, AsyncKind, M>>(node: N) -> AsyncFlow<S> {
    named("alone", node)
}

/// A flow of one node, called `node`, with a name of its own.
pub(crate) fn named<S: State, M, N: IntoNode<S, AsyncKind, M>>(name: &str, node: N) -> AsyncFlow<S> {
    let mut flow = AsyncFlow::builder(name);
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().expect("one node is a flow")
}

/// A sync flow of one node, called `node`.
pub(crate) fn alone_sync<S: State, M, N: IntoNode<S, SyncKind, M>>(node: N) -> Flow<S> {
    let mut flow = Flow::builder("alone");
    let node = flow.add("node", node);
    flow.start(node);
    flow.build().expect("one node is a flow")
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The `exec` of a node that only waits.
pub(crate) async fn rest(wait: Duration) -> Result<()> {
    tokio::time::sleep(wait).await;
    Ok(())
}

/// The last action of a run that has to have ended.
pub(crate) fn ended(result: Result<Outcome, RunError>) -> String {
    match result.expect("the run succeeds") {
        Outcome::Ended(action) => action.to_string(),
        Outcome::Paused(pause) => panic!("the run paused at {}", pause.node()),
    }
}

/// An error and its causes in one line.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A listener that keeps every event.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Listener for Recorder {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Recorder {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.events().iter().map(line).collect()
    }
}

/// An event in short: `fetch[2]#1 retry` is of item 2 and attempt 1 of `fetch`.
pub(crate) fn line(event: &Event) -> String {
    let kind = serde_json::to_value(&event.kind).unwrap()["event"].as_str().unwrap().to_owned();
    let Some(node) = &event.node else { return kind };
    let item = event.item.map_or_else(String::new, |item| format!("[{item}]"));
    let attempt = if event.attempt == 0 { String::new() } else { format!("#{}", event.attempt) };
    format!("{node}{item}{attempt} {kind}")
}

/// A generator of numbers that is the same everywhere (Knuth's MMIX constants).
pub(crate) struct Lcg(pub(crate) u64);

impl Lcg {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
