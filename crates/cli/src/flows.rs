//! The flows of a program, collected under one type: [`Flows`].

use std::{collections::BTreeSet, fmt, future::Future, pin::Pin, sync::Arc};

use flowstone_core::{AsyncFlow, Event, Label, RunId, State};
use flowstone_durable::{DriveError, FlowOptions, OpenError, ReadError, RunInfo, Runs, Store, StoredFlow};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    progress::Progress,
    stop::{Result, Stop},
};

/// The flows that a program can run, for [`main`](crate::main).
///
/// Each has its own type of state; they are told apart by their names.
///
/// # Example
///
/// ```
/// use flowstone_cli::Flows;
/// use flowstone_core::Flow;
///
/// let mut sum = Flow::builder("sum");
/// let add = sum.add("add", |n: &mut u32| *n += 1);
/// sum.start(add);
/// let mut shout = Flow::builder("shout");
/// let upper = shout.add("upper", |text: &mut String| *text = text.to_uppercase());
/// shout.start(upper);
///
/// let flows = Flows::new().with(sum.build()?).with(shout.build()?);
/// assert_eq!(format!("{flows:?}"), r#"Flows(["sum", "shout"])"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Flows {
    flows: Vec<Box<dyn Registration>>,
}

impl Flows {
    /// Creates a collection without flows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a flow.
    #[must_use]
    pub fn with<S, X>(self, flow: impl Into<AsyncFlow<S, X>>) -> Self
    where
        S: State + Serialize + DeserializeOwned,
        X: Label,
    {
        self.with_options(flow, FlowOptions::new())
    }

    /// Adds a flow with its options for a store: the version of its state, and how to go on with runs of older
    /// ones.
    #[must_use]
    pub fn with_options<S, X>(mut self, flow: impl Into<AsyncFlow<S, X>>, options: FlowOptions) -> Self
    where
        S: State + Serialize + DeserializeOwned,
        X: Label,
    {
        self.flows.push(Box::new(Typed { flow: flow.into(), options }));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.flows.iter().map(|flow| flow.name().to_owned()).collect()
    }

    pub(crate) fn pictures(&self) -> Vec<Picture> {
        self.flows.iter().map(|flow| flow.picture()).collect()
    }

    /// Returns the name that two of the flows share, if there is one.
    pub(crate) fn named_twice(&self) -> Option<&str> {
        let mut names = BTreeSet::new();
        self.flows.iter().map(|flow| flow.name()).find(|name| !names.insert(*name))
    }

    /// Returns the names under which a store may have runs of these flows, each with the number of its flow.
    pub(crate) fn stored_names(&self) -> Vec<(usize, String)> {
        let own: Vec<String> = self.names();
        let former = self.flows.iter().enumerate().flat_map(|(index, flow)| {
            let names = flow.former_names().iter().filter(|name| !own.contains(name));
            names.map(move |name| (index, name.clone()))
        });
        own.iter().cloned().enumerate().chain(former).collect()
    }

    /// Makes a store know the flows, and somebody hear of their runs.
    pub(crate) async fn register(&self, store: &Store, progress: &Arc<Progress>) -> Result<Vec<Box<dyn AnyRuns>>> {
        let mut runs = Vec::with_capacity(self.flows.len());
        for flow in &self.flows {
            runs.push(flow.register(store, progress).await?);
        }
        Ok(runs)
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flows").field(&self.names()).finish()
    }
}

/// A flow as data.
pub(crate) struct Picture {
    pub(crate) name: String,
    /// Tells its versions apart in a store; `None` outside one.
    pub(crate) fingerprint: Option<String>,
    pub(crate) graph: Value,
    pub(crate) mermaid: String,
    pub(crate) dot: String,
}

impl Picture {
    pub(crate) fn view(&self) -> Value {
        json!({ "name": self.name, "fingerprint": self.fingerprint, "graph": self.graph })
    }
}

impl From<StoredFlow> for Picture {
    fn from(flow: StoredFlow) -> Self {
        let StoredFlow { name, fingerprint, graph, mermaid, dot, .. } = flow;
        Self { name, fingerprint: Some(fingerprint), graph, mermaid, dot }
    }
}

/// A future of flows whose types a command does not know.
type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A flow without its types.
trait Registration {
    fn name(&self) -> &str;

    fn former_names(&self) -> &[String];

    fn picture(&self) -> Picture;

    fn register<'a>(
        &'a self,
        store: &'a Store,
        progress: &'a Arc<Progress>,
    ) -> Waiting<'a, Result<Box<dyn AnyRuns>, OpenError>>;
}

/// The runs of a flow, without the type of their states.
pub(crate) trait AnyRuns {
    /// Goes on with the run of this id, or begins it with a state.
    fn run<'a>(&'a self, id: RunId, state: &'a Value) -> Waiting<'a, Result<()>>;

    /// Goes on with a run if it is running.
    fn resume(&self, id: RunId) -> Waiting<'_, Result<(), ReadError>>;

    /// Goes on with a run if it is running, and waits until it ends or waits itself.
    fn settled(&self, id: RunId) -> Waiting<'_, Result<RunInfo, DriveError>>;

    /// Goes on with a run if it is running, and waits until it is at its end, also through questions and sleeps.
    fn finished(&self, id: RunId) -> Waiting<'_, Result<RunInfo, DriveError>>;

    fn name(&self) -> &str;
}

struct Typed<S, X> {
    flow: AsyncFlow<S, X>,
    options: FlowOptions,
}

impl<S, X> Registration for Typed<S, X>
where
    S: State + Serialize + DeserializeOwned,
    X: Label,
{
    fn name(&self) -> &str {
        self.flow.name()
    }

    fn former_names(&self) -> &[String] {
        self.options.former_names()
    }

    fn picture(&self) -> Picture {
        Picture {
            name: self.flow.name().to_owned(),
            fingerprint: None,
            graph: self.flow.to_json(),
            mermaid: self.flow.to_mermaid(),
            dot: self.flow.to_dot(),
        }
    }

    fn register<'a>(
        &'a self,
        store: &'a Store,
        progress: &'a Arc<Progress>,
    ) -> Waiting<'a, Result<Box<dyn AnyRuns>, OpenError>> {
        Box::pin(async {
            let heard = Arc::clone(progress);
            let options = self.options.clone().listen(move |event: &Event| heard.hear(event));
            let runs = store.runs_with(self.flow.clone(), options).await?;
            let name = self.flow.name().to_owned();
            Ok(Box::new(TypedRuns { name, runs }) as Box<dyn AnyRuns>)
        })
    }
}

struct TypedRuns<S> {
    name: String,
    runs: Runs<S>,
}

impl<S: State + Serialize + DeserializeOwned> AnyRuns for TypedRuns<S> {
    fn run<'a>(&'a self, id: RunId, state: &'a Value) -> Waiting<'a, Result<()>> {
        Box::pin(async move {
            match self.runs.get(id.clone()).await {
                Ok(_) => return Ok(()),
                Err(ReadError::UnknownRun { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let state = S::deserialize(state)
                .map_err(|error| Stop::because(&format!("the state does not fit flow `{}`", self.name), &error))?;
            self.runs.start(id, state).await?;
            Ok(())
        })
    }

    fn resume(&self, id: RunId) -> Waiting<'_, Result<(), ReadError>> {
        Box::pin(async move { self.runs.get(id).await.map(|run| run.resume()) })
    }

    fn settled(&self, id: RunId) -> Waiting<'_, Result<RunInfo, DriveError>> {
        Box::pin(async move {
            let run = self.runs.get(id).await?;
            run.resume();
            run.settled().await?;
            Ok(run.info().await?)
        })
    }

    fn finished(&self, id: RunId) -> Waiting<'_, Result<RunInfo, DriveError>> {
        Box::pin(async move {
            let run = self.runs.get(id).await?;
            run.resume();
            drop(run.finished().await?);
            Ok(run.info().await?)
        })
    }

    fn name(&self) -> &str {
        &self.name
    }
}
