//! Options of a flow that is registered with a store: its limits and listeners, and below its names and versions.

mod names;
mod versions;

use std::{fmt, sync::Arc};

use flowstone_core::{Budget, Listener};

use crate::words::{
    migrate::{Migrate, MigrateItems, MigrateQuestions},
    renamed::Renamed,
};

/// Options of a flow that is registered with a store.
///
/// # Example
///
/// ```
/// use flowstone_durable::FlowOptions;
///
/// // Version 1 has a list of names where version 0 had one name; the node `ask` is called `greet` now.
/// let options = FlowOptions::new()
///     .version(1, |_version, mut state| {
///         state["names"] = serde_json::json!([state["name"].take()]);
///         Ok(state)
///     })
///     .rename("ask", "greet");
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct FlowOptions {
    pub(crate) max_resumes: u32,
    pub(crate) concurrency: Option<usize>,
    pub(crate) version: u32,
    pub(crate) migrate: Option<Migrate>,
    pub(crate) migrate_items: Option<MigrateItems>,
    pub(crate) migrate_questions: Option<MigrateQuestions>,
    /// The names that the flow had.
    pub(crate) before: Vec<String>,
    /// The nodes that have another path now.
    pub(crate) renamed: Renamed,
    pub(crate) max_visits: Option<u64>,
    pub(crate) budget: Option<Budget>,
    pub(crate) listeners: Vec<Arc<dyn Listener>>,
}

impl Default for FlowOptions {
    fn default() -> Self {
        Self {
            max_resumes: 5,
            concurrency: Default::default(),
            version: Default::default(),
            migrate: Default::default(),
            migrate_items: Default::default(),
            migrate_questions: Default::default(),
            before: Default::default(),
            renamed: Default::default(),
            max_visits: Default::default(),
            budget: Default::default(),
            listeners: Default::default(),
        }
    }
}

flowstone_core::__no_node!(FlowOptions: timeout, total_timeout, retry, parallel =>
    "retries and timeouts belong to a node, `flow.add(\"fetch\", Fetch.timeout(limit))`; `concurrency` counts runs"
);

impl fmt::Debug for FlowOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowOptions")
            .field("version", &self.version)
            .field("before", &self.before)
            .field("renamed", &self.renamed)
            .field("listeners", &self.listeners.len())
            .finish()
    }
}

impl FlowOptions {
    /// Creates options of a flow whose state has version 0, and was never another.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most runs of this flow that are driven at once; by default there is no limit. With 0 no run is driven.
    ///
    /// The others wait in the store, without a task and without memory, and take their turns in the order in which they
    /// are due: by the time at which they were started, answered or retried, or at which they wake or their question
    /// expires. A start returns when it is on disk, also if the run has to wait; its status is then
    /// [`Running`](crate::Status::Running), and [`RunInfo::queued_at`](crate::RunInfo::queued_at) is the time since
    /// which it waits. A parked run takes no place. Children count with their run.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::AsyncFlow;
    /// use flowstone_durable::{FlowOptions, Store};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("counts.db");
    /// let mut flow = AsyncFlow::builder("count");
    /// let add = flow.add("add", |n: &mut u32| *n += 1);
    /// flow.start(add);
    ///
    /// let runs = Store::open(&path).await?.runs_with(flow.build()?, FlowOptions::new().concurrency(2)).await?;
    /// for n in 0..10 {
    ///     runs.start(format!("count-{n}"), n).await?;
    /// }
    /// assert_eq!(runs.get("count-9").await?.finished().await?.ended()?.state, 10);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn concurrency(mut self, runs: usize) -> Self {
        self.concurrency = Some(runs);
        self
    }

    /// Sets the number of times that one visit of a run may be started again after its process has died; the default is
    /// 5. A run whose process dies once more [fails](crate::DriveError::KillsItsProcess), so that the others go on;
    /// [`retry_failed`](crate::Runs::retry_failed) lets it try again.
    ///
    /// A process that closes its store, or ends after its handles were dropped, has not died. The count starts again
    /// when a visit has kept more items than at its last start. Runs whose process has died twice in the same visit are
    /// driven one at a time, so that a run that kills its process does not make others fail with it.
    #[must_use]
    pub fn max_resumes(mut self, times: u32) -> Self {
        self.max_resumes = times;
        self
    }

    /// Fails a run before it makes more visits than this, counted over all its processes. Visits of children are
    /// included while these run.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{Action, AsyncFlow};
    /// use flowstone_durable::{FlowOptions, Status, Store};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("loops.db");
    /// let mut flow = AsyncFlow::builder("loop");
    /// let again = flow.add("again", |n: &mut u32| { *n += 1; Action::from("again") });
    /// flow.start(again);
    /// flow.route(again - "again" >> again);
    ///
    /// let store = Store::open(&path).await?;
    /// let runs = store.runs_with(flow.build()?, FlowOptions::new().max_visits(10)).await?;
    /// let run = runs.start("r", 0).await?;
    /// assert_eq!(run.settled().await?, Status::Failed);
    /// assert_eq!(run.state().await?, 10);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_visits(mut self, visits: u64) -> Self {
        self.max_visits = Some(visits);
        self
    }

    /// Sets the budget of a run and its children for paid services, counted over all its processes. A call beyond it
    /// fails the run with [`OverBudget`](flowstone_core::OverBudget). The state is kept, and the run can be [tried
    /// again](crate::Runs::retry_failed) once its flow has a larger budget.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{AsyncFlow, AsyncNode, Budget, Context, Result, Usage};
    /// use flowstone_durable::{FlowOptions, Status, Store};
    ///
    /// struct Ask;
    ///
    /// impl AsyncNode<u32> for Ask {
    ///     type Prep = ();
    ///     type Exec = ();
    ///     type Action = flowstone_core::Action;
    ///
    ///     async fn prep(&self, _: &u32) -> Result<()> { Ok(()) }
    ///     async fn exec(&self, (): &(), cx: &Context) -> Result<()> {
    ///         cx.afford()?; // what a node with a model does
    ///         cx.spend(Usage { calls: 1, ..Usage::default() });
    ///         Ok(())
    ///     }
    ///     async fn post(&self, asked: &mut u32, (): (), (): ()) -> Result<Self::Action> {
    ///         *asked += 1;
    ///         Ok(if *asked < 5 { "again".into() } else { "done".into() })
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("asks.db");
    /// let flow = || {
    ///     let mut flow = AsyncFlow::builder("ask");
    ///     let ask = flow.add("ask", Ask);
    ///     flow.start(ask);
    ///     flow.route(ask - "again" >> ask);
    ///     flow.route(ask - "done" >> flowstone_core::END);
    ///     flow.build()
    /// };
    /// let with = |budget| FlowOptions::new().budget(budget);
    ///
    /// let store = Store::open(&path).await?;
    /// let run = store.runs_with(flow()?, with(Budget::new().calls(3))).await?.start("r", 0).await?;
    /// assert_eq!(run.settled().await?, Status::Failed);
    /// assert_eq!((run.state().await?, run.usage().await?.calls), (3, 3));
    ///
    /// let more = store.runs_with(flow()?, with(Budget::new().calls(10))).await?; // or by the next process
    /// assert_eq!(more.retry_failed("r").await?.finished().await?.ended()?.state, 5);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Adds a listener, which hears the events of this flow's runs while this process drives them, after the listeners
    /// that were added before.
    ///
    /// It hears each run as a whole, and each event once that is on disk: `RunStarted` whenever this process begins to
    /// drive it, and then one of `Sleeping`, `Paused`, `Ended` and `Failed`, which also tells that it was cancelled,
    /// driven or parked, here or by another process. No later process tells it again. If the process ends in the
    /// middle, the next one begins with `RunStarted { resumed: true }`. A child that asks is heard as `Asked`.
    ///
    /// Unlike a [follower](crate::Run::follow) of a run, it misses no event from the first visit on, and gets no
    /// history. A visit that was under way at a crash is made again and heard again, with the items that were kept as
    /// `recalled`. The run waits while the listener is called, see [`Listener`].
    ///
    /// # Example
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use flowstone_core::{AsyncFlow, Event, EventKind};
    /// use flowstone_durable::{FlowOptions, Store};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("counts.db");
    /// let mut flow = AsyncFlow::builder("count");
    /// let add = flow.add("add", |n: &mut u32| *n += 1);
    /// flow.start(add);
    ///
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let into = Arc::clone(&seen);
    /// let options = FlowOptions::new().listen(move |event: &Event| {
    ///     if matches!(event.kind, EventKind::VisitEnded { .. }) {
    ///         into.lock().unwrap().push(event.run.to_string());
    ///     }
    /// });
    /// let runs = Store::open(&path).await?.runs_with(flow.build()?, options).await?;
    /// for id in ["a", "b"] {
    ///     runs.start(id, 0).await?.finished().await?.ended()?;
    /// }
    /// assert_eq!(*seen.lock().unwrap(), ["a", "b"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn listen(mut self, listener: impl Listener + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }
}
