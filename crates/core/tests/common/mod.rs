//! What the tests share: nodes made of closures, a listener that keeps events, and counters of what is alive.

#![allow(dead_code, reason = "each test file uses a part of these helpers")]

use std::{
    future::Future,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use flowstone_core::{
    AsyncBatchNode, AsyncFlow, AsyncKind, AsyncNode, BatchNode, Context, Event, Flow, IntoNode, ItemOutcome, Listener,
    Node, NodeError, Outcome, Result, RunError, State, SyncKind,
};

/// What a node without a fallback does: give the error back.
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

pub(crate) fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
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

/// Lines that nodes write, in the order in which things happened.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn push(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A number that many threads count up.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn up(&self) -> usize {
        self.0.fetch_add(1, SeqCst)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// Counts what is alive: begun, and neither finished nor dropped.
#[derive(Clone, Default)]
pub(crate) struct Alive {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    begun: Count,
    finished: Count,
}

impl Alive {
    pub(crate) fn begin(&self) -> Life {
        self.begun.up();
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        Life(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.now.load(SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.get()
    }

    pub(crate) fn finished(&self) -> usize {
        self.finished.get()
    }
}

/// One that is alive until it is dropped.
pub(crate) struct Life(Alive);

impl Life {
    /// Ends it as one that was not cut short.
    pub(crate) fn finish(self) {
        self.0.finished.up();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

/// A place where threads wait for each other; as a barrier, but one that tells when the others never come.
#[derive(Clone)]
pub(crate) struct Meeting(Arc<(Mutex<usize>, Condvar, usize)>);

impl Meeting {
    pub(crate) fn of(count: usize) -> Self {
        Self(Arc::new((Mutex::new(0), Condvar::new(), count)))
    }

    /// Waits for the others; `false` if they do not come in a time after which something hangs.
    pub(crate) fn met(&self) -> bool {
        let (here, changed, count) = &*self.0;
        let mut arrived = here.lock().unwrap();
        *arrived += 1;
        changed.notify_all();
        let (_guard, wait) = changed.wait_timeout_while(arrived, secs(20), |arrived| *arrived < *count).unwrap();
        !wait.timed_out()
    }
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
