//! The runs of one flow: [`Runs`], and one of them: [`Run`].

use std::{fmt, path::Path, sync::Arc};

use flowstone_core::{AsyncFlow, CancellationToken, Label, NodePath, RunId, State, driver::KeyBase};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::{
        handle::Handle,
        prune::{Prune, Pruned},
        run::Run,
        store::Store,
    },
    disk::states::States,
    drive::{
        changes::{self, Limits},
        drives::New,
        inbox,
        resume::{self, Resumed},
        shared::Shared,
    },
    flows::{
        any_flow::{AnyFlow, FlowOver},
        description::describe,
        registered::Registered,
    },
    records::{
        flows,
        list::Filter,
        reader::Reader,
        runs::{self, NewRun, Started},
    },
    words::{
        error::{AnswerError, ChangeError, DriveError, OpenError, ReadError, StartError},
        flow_options::FlowOptions,
        guard::lock,
        info::RunInfo,
    },
};

/// The runs of one flow in a store. Cheap to clone.
///
/// # Example
///
/// ```
/// use flowstone_core::AsyncFlow;
/// use flowstone_durable::Runs;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("counts.db");
/// let mut flow = AsyncFlow::builder("count");
/// let add = flow.add("add", |n: &mut u32| *n += 1);
/// flow.start(add);
///
/// let runs = Runs::open(&path, flow.build()?).await?;
/// let ended = runs.start("count-1", 41).await?.finished().await?.ended()?;
/// assert_eq!(ended.state, 42);
///
/// // The same id again is the same run: nothing runs twice.
/// assert_eq!(runs.start("count-1", 0).await?.finished().await?.ended()?.state, 42);
/// # Ok(())
/// # }
/// ```
pub struct Runs<S> {
    handle: Arc<Handle>,
    pub(crate) flow: Arc<dyn FlowOver<S>>,
}

impl<S> Clone for Runs<S> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), flow: Arc::clone(&self.flow) }
    }
}

impl<S> fmt::Debug for Runs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs").field("flow", &self.flow.name()).finish_non_exhaustive()
    }
}

impl<S: State + Serialize + DeserializeOwned> Runs<S> {
    /// Opens a store that has one flow; see [`Store::open`] for several, and [`StoreOptions`](crate::StoreOptions).
    ///
    /// # Errors
    ///
    /// If another process drives the store, it is no store, or it cannot be used.
    pub async fn open<X: Label>(path: impl AsRef<Path>, flow: impl Into<AsyncFlow<S, X>>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let store = Store::open(path).await?;
        match store.runs(flow).await {
            Ok(runs) => Ok(runs),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    pub(crate) async fn register<X: Label>(
        store: &Store,
        flow: AsyncFlow<S, X>,
        options: FlowOptions,
    ) -> Result<Self, OpenError> {
        let shared = &store.handle.shared;
        let row = describe(&flow, &options)?;
        let failed = |source| OpenError::Store { path: shared.path.clone(), source };
        let row = shared.writer.call("flow", move |db| flows::flow(db, &row)).await.map_err(failed)?;
        let flow = Arc::new(Registered { flow, row, options });
        shared.flows.insert(Arc::clone(&flow) as Arc<dyn AnyFlow>);
        let tried = resume::try_again(shared, flow.name()).await;
        tried.map_err(|source| OpenError::Resume { flow: flow.name().to_owned(), source })?;
        shared.wakes.notify_one();
        lock(&shared.inbox).look_again();
        Ok(Self { handle: Arc::clone(&store.handle), flow })
    }

    /// Returns the store that the runs are in.
    #[must_use]
    pub fn store(&self) -> Store {
        Store { handle: Arc::clone(&self.handle) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Starts a run under an id of the user's own, and returns when its start is on disk.
    ///
    /// If there is a run of this flow with this id, that one is returned, and goes on if it was left unfinished;
    /// `state` is then not used.
    ///
    /// # Errors
    ///
    /// If the id belongs to another flow, is empty or longer than 1024 bytes, or the state is too large.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the run may have been started or not. To be sure, start it again.
    pub async fn start(&self, id: impl Into<RunId>, state: S) -> Result<Run<S>, StartError> {
        let id = id.into();
        runs::check_id(&id)?;
        let shared = self.shared();
        let (cancel, observer) = (CancellationToken::new(), shared.new_observer());
        let key = KeyBase::new(&id);
        let execution = self.flow.execution(&id, key.clone(), state, &observer.hooks(cancel.clone()));
        let mut states = States::starting(shared.options.full_every, self.flow.version());
        let waits = shared.is_limited(&*self.flow);
        let new = NewRun {
            id: id.clone(),
            flow: self.flow.row(),
            flow_name: self.flow.name().to_owned(),
            flow_before: self.names(),
            key: Some(key),
            start: execution.node().clone(),
            state: shared.store_surely(&*execution, &mut states, 0)?,
            parent: None,
            origin: None,
            waits,
        };
        let (flow, driver) = (Arc::clone(&self.flow) as Arc<dyn AnyFlow>, Arc::clone(shared));
        let begin = move |started: &Started| {
            if started.new && waits {
                driver.wakes.notify_one();
            } else if started.new {
                driver.begin(started.run, flow, states, New { execution, cancel, observer });
            }
        };
        let started = shared.writer.put("start", move |db| runs::start(db, &new), begin).await?.done().await?;
        if !started.new && !shared.is_active(started.run) {
            // Another process may have requested its cancellation while nobody drove it.
            inbox::read_inbox(shared).await?;
            shared.resume(started.run);
        }
        Ok(self.run(id, started.run))
    }

    /// Returns the names under which the store may have its runs.
    fn names(&self) -> Vec<String> {
        let names = self.shared().flows.names(Some(self.flow.name()));
        if names.is_empty() { vec![self.flow.name().to_owned()] } else { names }
    }

    fn run(&self, id: RunId, run: i64) -> Run<S> {
        Run { handle: Arc::clone(&self.handle), flow: Arc::clone(&self.flow), id, run }
    }

    /// Returns a run of this flow.
    ///
    /// # Errors
    ///
    /// If there is none of this id, or it belongs to another flow.
    pub async fn get(&self, id: impl Into<RunId>) -> Result<Run<S>, ReadError> {
        self.find(id.into(), Reader::own_number).await
    }

    async fn find(
        &self,
        id: RunId,
        number: fn(&Reader, &RunId) -> Result<i64, ReadError>,
    ) -> Result<Run<S>, ReadError> {
        let (find, wanted, names) = (id.clone(), self.flow.name().to_owned(), self.names());
        let run = self.shared().read(move |reader| {
            let run = number(reader, &find)?;
            let found = reader.flow_of(run)?;
            if names.contains(&found) { Ok(run) } else { Err(ReadError::OtherFlow { run: find, found, wanted }) }
        });
        Ok(self.run(id, run.await?))
    }

    /// Returns a page of this flow's runs, newest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<RunInfo>, ReadError> {
        let filter = filter.clone().flows(self.names());
        self.shared().read(move |reader| reader.list(&filter)).await
    }

    /// Lets the runs of this flow go on that are neither parked nor at an end. Call it first after opening. Parked runs
    /// are checked, so that a fault of one is known before somebody answers.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn resume_all(&self) -> Result<Resumed, DriveError> {
        resume::resume_all(self.shared(), Some(self.flow.name())).await
    }

    /// Deletes runs of this flow that are at an end, and makes the file smaller.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub async fn prune(&self, prune: &Prune) -> Result<Pruned, ChangeError> {
        crate::api::prune::prune(self.shared(), &prune.clone().flows(self.names())).await
    }

    /// Answers the question of a run at a node, once, and lets the run go on.
    ///
    /// A node of a child is given by its path, as `review[3]/approve`, or by its name with the id of the child.
    ///
    /// # Errors
    ///
    /// If there is no such question, it is answered or has expired already, or the answer does not fit its schema or
    /// its type.
    pub async fn answer(
        &self,
        run: impl Into<RunId>,
        node: impl Into<NodePath>,
        answer: impl Serialize,
    ) -> Result<(), AnswerError> {
        self.find(run.into(), Reader::number).await?.answer(node, answer).await
    }

    /// Returns the state of a run after its last step. A state of an older version is migrated.
    ///
    /// # Errors
    ///
    /// If there is no such run, or the state does not fit its type and cannot be migrated.
    pub async fn state(&self, run: impl Into<RunId>) -> Result<S, ReadError> {
        self.get(run).await?.state().await
    }

    /// Cancels a run.
    ///
    /// # Errors
    ///
    /// If there is no such run, or it is at an end.
    pub async fn cancel(&self, run: impl Into<RunId>) -> Result<(), ChangeError> {
        self.get(run).await?.cancel().await
    }

    /// Lets a run go on that failed or was cancelled, from the node where it stopped.
    ///
    /// (Not `retry`: that is what [`NodeExt`](flowstone_core::NodeExt) gives every value.)
    ///
    /// # Errors
    ///
    /// If there is no such run, or it neither failed nor was cancelled.
    pub async fn retry_failed(&self, run: impl Into<RunId>) -> Result<Run<S>, ChangeError> {
        let run = self.get(run).await?;
        run.retry_failed().await?;
        Ok(run)
    }

    /// Starts another run at the point where a run was after a step, with its state as changed by `edit`. A state of an
    /// older version is migrated before the edit.
    ///
    /// # Errors
    ///
    /// If there is no such run or step, the run is at its end there, the new id is taken, or the edited state does not
    /// fit its type.
    pub async fn fork(
        &self,
        run: impl Into<RunId>,
        step: u64,
        new: impl Into<RunId>,
        edit: impl FnOnce(&mut Value) + Send + 'static,
    ) -> Result<Run<S>, ChangeError> {
        let (run, new) = (self.get(run).await?, new.into());
        let (id, flow, limits) = (new.clone(), Arc::clone(&self.flow), Limits::of(&self.shared().options));
        let fork = move |reader: &Reader| {
            changes::fork(reader, (&run.id, step), id, edit, Some(&*flow as &dyn AnyFlow), limits)
        };
        let fork = self.shared().read(fork).await?;
        let begin = move |db: &rusqlite::Connection| changes::begin_new(db, &fork);
        let number = self.shared().writer.call("fork", begin).await?;
        self.shared().resume(number);
        Ok(self.run(new, number))
    }

    /// Deletes a run that is not under way, with its history.
    ///
    /// # Errors
    ///
    /// If there is no such run, or it is under way.
    pub async fn delete(&self, run: impl Into<RunId>) -> Result<(), ChangeError> {
        changes::delete(self.shared(), self.get(run).await?.run).await
    }
}

impl Store {
    /// Registers a flow, and returns its runs. A flow with the name of an earlier one takes its place.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub async fn runs<S, X>(&self, flow: impl Into<AsyncFlow<S, X>>) -> Result<Runs<S>, OpenError>
    where
        S: State + Serialize + DeserializeOwned,
        X: Label,
    {
        self.runs_with(flow, FlowOptions::new()).await
    }

    /// Registers a flow with options, such as the version of its state and the migration of older runs.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub async fn runs_with<S, X>(
        &self,
        flow: impl Into<AsyncFlow<S, X>>,
        options: FlowOptions,
    ) -> Result<Runs<S>, OpenError>
    where
        S: State + Serialize + DeserializeOwned,
        X: Label,
    {
        Runs::register(self, flow.into(), options).await
    }
}
