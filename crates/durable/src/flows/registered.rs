//! The flows of a store: what a stored run needs to become one that is driven.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use flowstone_core::{
    AsyncFlow, BoxError, CancellationToken, Label, Listener, NodePath, RunId, RunOptions, State, Usage,
    driver::{Execution, KeyBase, Panicked, Running, storable},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    records::{
        flows::FlowRow,
        load::{Kept, Loaded},
        state::decode,
    },
    words::{
        error::{AnswerError, DriveError, OpenError, ReadError, damaged},
        flow_options::FlowOptions,
        guard::{drop_quietly, lock},
        migrate::{Asking, MigrateItems},
    },
};

/// The flows that are registered with a store, by name.
#[derive(Default)]
pub(crate) struct Flows(Mutex<BTreeMap<String, Arc<dyn AnyFlow>>>);

impl Flows {
    pub(crate) fn insert(&self, flow: Arc<dyn AnyFlow>) {
        lock(&self.0).insert(flow.name().to_owned(), flow);
    }

    /// Returns the flow of the runs that the store has under a name: the flow that has it, or else one that had it.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn AnyFlow>> {
        let flows = lock(&self.0);
        let had_it = || flows.values().find(|flow| flow.before().iter().any(|before| before == name));
        flows.get(name).or_else(had_it).cloned()
    }

    /// Returns the names under which the store may have runs of one flow, or of all.
    pub(crate) fn names(&self, only: Option<&str>) -> Vec<String> {
        let flows: Vec<_> = lock(&self.0).values().cloned().collect();
        let mut names = BTreeSet::new();
        for flow in flows.iter().filter(|flow| only.is_none_or(|name| flow.name() == name)) {
            let is_its = |name: &&String| self.get(name).is_some_and(|found| found.name() == flow.name());
            names.extend(flow.before().iter().filter(is_its).cloned());
            names.insert(flow.name().to_owned());
        }
        names.into_iter().collect()
    }
}

/// Additions of a drive to a run: the listener of its events, its cancellation, and a value that everything it starts
/// holds on to.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) cancel: CancellationToken,
    pub(crate) listener: Option<Arc<dyn Listener>>,
    pub(crate) hold: Option<Arc<dyn Any + Send + Sync>>,
}

/// A flow of a store, without its types.
pub(crate) trait AnyFlow: Send + Sync {
    fn name(&self) -> &str;

    /// The names that it had before.
    fn before(&self) -> &[String];

    /// The number of this version of the flow in the store.
    fn row(&self) -> i64;

    /// The version of its state.
    fn version(&self) -> u32;

    /// The listeners to its runs, beside their history.
    fn listeners(&self) -> &[Arc<dyn Listener>];

    /// The number of its runs that are driven at once, if that is limited.
    fn concurrency(&self) -> Option<usize>;

    /// The number of times that a visit may be begun again after its process has died.
    fn max_resumes(&self) -> u32;

    /// Returns `true` if its runs have a budget, and have to know what they have used.
    fn has_budget(&self) -> bool;

    /// Places a stored run where it was. `used` counts for its budget.
    fn restore(&self, loaded: &Loaded, used: Usage, hooks: &Hooks) -> Result<Box<dyn Execution>, DriveError>;

    /// Brings what items of the visit under way gave to the newest version.
    fn migrate_items(&self, loaded: &mut Loaded) -> Result<(), DriveError>;

    /// Returns a question of an older version as the newest asks it; `None` if it stays as it is.
    fn migrate_question(
        &self,
        run: &RunId,
        node: &NodePath,
        found: u32,
        asking: Asking,
    ) -> Result<Option<Asking>, ReadError>;

    /// Checks that a child, given by the path of its node, could go on with its state. `run` is the one that the user
    /// started, with the version of its flow.
    fn takes_child(&self, run: (&RunId, i64), node: &NodePath, step: u64, state: &[u8]) -> Result<(), DriveError>;

    /// Returns whether two names are of one node.
    fn is_same(&self, one: &NodePath, other: &NodePath) -> bool;

    /// Checks an answer to a node of a version of the flow by its type.
    fn fits(&self, run: &RunId, flow: i64, node: &NodePath, answer: &Value) -> Result<(), AnswerError>;

    /// Returns a state of an older version in the newest; `None` if it is in that.
    fn migrated(&self, run: &RunId, version: u32, state: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;

    /// Checks that a run could begin at a node of a version of the flow, with a state of the newest version; returns
    /// the name that the node has now.
    fn begins(&self, run: &RunId, flow: i64, node: &NodePath, state: &[u8]) -> Result<NodePath, DriveError>;
}

/// A flow of a store.
pub(crate) trait FlowOver<S>: AnyFlow {
    /// Places a new run before its first visit.
    fn execution(&self, id: &RunId, key: KeyBase, state: S, hooks: &Hooks) -> Box<dyn Execution>;

    /// Reads a state of this version or an older one.
    fn decode(&self, run: &RunId, version: u32, state: &[u8]) -> Result<S, ReadError>;
}

/// A flow with what a store is told of it.
pub(crate) struct Registered<S, X> {
    pub(crate) flow: AsyncFlow<S, X>,
    pub(crate) row: i64,
    pub(crate) options: FlowOptions,
}

impl<S, X> Registered<S, X>
where
    S: State + Serialize + DeserializeOwned,
    X: Label,
{
    fn run_options(&self, id: &RunId, key: KeyBase, hooks: &Hooks) -> RunOptions {
        let mut options = RunOptions::new().id(id.clone()).key_base(key).cancel(hooks.cancel.clone());
        for listener in hooks.listener.iter().chain(&self.options.listeners) {
            options = options.listen_shared(Arc::clone(listener));
        }
        if let Some(work) = &hooks.hold {
            options = options.hold(work);
        }
        if let Some(visits) = self.options.max_visits {
            options = options.max_visits(visits);
        }
        match self.options.budget {
            Some(budget) => options.budget(budget),
            None => options,
        }
    }

    /// Returns the name that a node has now of a run that made its last step under a version of the flow. A name that
    /// was stored under this version is meant as it is, also if another node had it once.
    fn now(&self, flow: i64, node: &NodePath) -> NodePath {
        if flow == self.row && self.flow.position(node.as_str()).is_some() { node.clone() } else { self.renamed(node) }
    }

    /// Returns the name that a node of an older version has now.
    fn renamed(&self, node: &NodePath) -> NodePath {
        self.options.renamed.now(node, |node| self.flow.position(node.as_str()).is_some())
    }

    /// Returns the path that a node has now, which may be one of a child; `now` knows the names of the nodes of the run
    /// itself.
    fn path_now(node: &NodePath, now: impl Fn(&NodePath) -> NodePath) -> NodePath {
        match node.into_child().find(|(outer, ..)| now(outer) != *outer) {
            Some((outer, item, inner)) => format!("{}[{item}]/{inner}", now(&outer)).into(),
            None => now(node),
        }
    }

    /// Places a run at a node, by the name that it has now, in the state of the newest version.
    fn place(
        &self,
        run: &RunId,
        (node, step, state): (&NodePath, u64, &[u8]),
        options: &RunOptions,
    ) -> Result<Running<S>, DriveError> {
        let failed = |source| DriveError::Restore { run: run.clone(), step, source: Arc::new(source) };
        self.flow.restored(node, step, state, options).map_err(failed)
    }

    fn read_back(&self, loaded: &Loaded, used: Usage, hooks: &Hooks) -> Result<Box<dyn Execution>, DriveError> {
        let no_next = || damaged(format!("run `{}` runs, but has no next node", loaded.id));
        let due = loaded.next.as_ref().ok_or_else(no_next)?;
        let migrated = self.migrate(&loaded.id, loaded.version, loaded.chain.state())?;
        let state = migrated.as_deref().unwrap_or(loaded.chain.state());
        // The key of the visit under way has the name that is stored, whatever its node is called now.
        let options = self.run_options(&loaded.id, loaded.key.clone(), hooks);
        let options = options.used(used).due(loaded.seq, due.clone());
        let now = self.now(loaded.flow, due);
        Ok(Box::new(self.place(&loaded.id, (&now, loaded.seq, state), &options)?))
    }

    fn migrate(&self, run: &RunId, found: u32, state: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let wanted = self.options.version;
        if found == wanted {
            return Ok(None);
        }
        let failed = |source: BoxError| ReadError::Migrate { run: run.clone(), found, wanted, source: source.into() };
        let Some(migrate) = self.options.migrate.as_ref().filter(|_| found < wanted) else {
            let why = if found < wanted {
                "`FlowOptions::version` of its flow has no function for it"
            } else {
                "it is newer than the flow"
            };
            return Err(failed(why.into()));
        };
        let state = serde_json::from_slice(state).map_err(|error| failed(error.into()))?;
        let migrated = Panicked::catch(|| migrate(found, state)).unwrap_or_else(|panicked| Err(panicked.into()));
        let state = migrated.map_err(failed)?;
        serde_json::to_vec(&state).map(Some).map_err(|error| failed(error.into()))
    }

    /// Brings what items gave to the newest version, or leaves out what cannot be, of a run that is tried again.
    fn migrated_items(&self, loaded: &mut Loaded, migrate: &MigrateItems) -> Result<(), DriveError> {
        let wanted = self.options.version;
        let Some(node) = loaded.next.as_ref().map(|node| self.now(loaded.flow, node)) else { return Ok(()) };
        let (state, retried) = (loaded.version, loaded.under_way.retried);
        let mut unfit = Vec::new();
        for (number, item) in &mut loaded.under_way.items {
            let found = item.version.unwrap_or(state);
            let Kept::Output(output) = &mut item.kept else { continue };
            if found >= wanted {
                continue;
            }
            let migrated = serde_json::from_slice(output)
                .map_err(BoxError::from)
                .and_then(|json| {
                    Panicked::catch(|| migrate(found, &node, json)).unwrap_or_else(|panicked| Err(panicked.into()))
                })
                .and_then(|json| Ok(serde_json::to_vec(&json)?));
            match migrated {
                Ok(json) => *output = json,
                Err(_) if retried => unfit.push(*number),
                Err(source) => {
                    let run = loaded.id.clone();
                    return Err(DriveError::MigrateItem { run, node, found, wanted, source: source.into() });
                }
            }
        }
        for number in unfit {
            loaded.under_way.items.remove(&number);
        }
        Ok(())
    }
}

impl<S, X> AnyFlow for Registered<S, X>
where
    S: State + Serialize + DeserializeOwned,
    X: Label,
{
    fn name(&self) -> &str {
        self.flow.name()
    }

    fn before(&self) -> &[String] {
        &self.options.before
    }

    fn row(&self) -> i64 {
        self.row
    }

    fn version(&self) -> u32 {
        self.options.version
    }

    fn listeners(&self) -> &[Arc<dyn Listener>] {
        &self.options.listeners
    }

    fn concurrency(&self) -> Option<usize> {
        self.options.concurrency
    }

    fn max_resumes(&self) -> u32 {
        self.options.max_resumes
    }

    fn has_budget(&self) -> bool {
        self.options.budget.is_some()
    }

    fn restore(&self, loaded: &Loaded, used: Usage, hooks: &Hooks) -> Result<Box<dyn Execution>, DriveError> {
        self.read_back(loaded, used, hooks)
    }

    fn migrate_items(&self, loaded: &mut Loaded) -> Result<(), DriveError> {
        match &self.options.migrate_items {
            Some(migrate) => self.migrated_items(loaded, migrate),
            None => Ok(()),
        }
    }

    fn migrate_question(
        &self,
        run: &RunId,
        node: &NodePath,
        found: u32,
        asking: Asking,
    ) -> Result<Option<Asking>, ReadError> {
        let wanted = self.options.version;
        let Some(migrate) = self.options.migrate_questions.as_ref().filter(|_| found < wanted) else { return Ok(None) };
        let node = Self::path_now(node, |node| self.renamed(node));
        let migrated =
            Panicked::catch(|| migrate(found, &node, asking)).unwrap_or_else(|panicked| Err(panicked.into()));
        migrated.map(Some).map_err(|source| {
            let (run, source) = (run.clone(), source.into());
            ReadError::MigrateQuestion { run, node, found, wanted, source }
        })
    }

    fn takes_child(
        &self,
        (run, flow): (&RunId, i64),
        node: &NodePath,
        step: u64,
        state: &[u8],
    ) -> Result<(), DriveError> {
        let failed = |source| DriveError::Restore { run: run.clone(), step, source: Arc::new(source) };
        let now = Self::path_now(node, |node| self.now(flow, node));
        self.flow.takes_child(&now, state).map_err(failed)
    }

    fn is_same(&self, one: &NodePath, other: &NodePath) -> bool {
        self.options.renamed.is_same(one, other)
    }

    fn fits(&self, run: &RunId, flow: i64, node: &NodePath, answer: &Value) -> Result<(), AnswerError> {
        let now = Self::path_now(node, |node| self.now(flow, node));
        let unfit = |what| AnswerError::Unfit { run: run.clone(), node: node.clone(), what };
        self.flow.fits_at(&now, answer).map_err(|error| unfit(error.to_string()))
    }

    fn migrated(&self, run: &RunId, version: u32, state: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.migrate(run, version, state)
    }

    fn begins(&self, run: &RunId, flow: i64, node: &NodePath, state: &[u8]) -> Result<NodePath, DriveError> {
        drop_quietly(decode::<S>(run, state)?);
        let now = self.now(flow, node);
        self.place(run, (&now, 0, state), &RunOptions::new()).map(drop_quietly)?;
        Ok(now)
    }
}

impl<S, X> FlowOver<S> for Registered<S, X>
where
    S: State + Serialize + DeserializeOwned,
    X: Label,
{
    fn execution(&self, id: &RunId, key: KeyBase, state: S, hooks: &Hooks) -> Box<dyn Execution> {
        Box::new(self.flow.execution(state, &self.run_options(id, key, hooks)))
    }

    fn decode(&self, run: &RunId, version: u32, state: &[u8]) -> Result<S, ReadError> {
        let migrated = self.migrate(run, version, state)?;
        decode(run, migrated.as_deref().unwrap_or(state))
    }
}

/// Describes a flow for the store.
pub(crate) fn describe<S: State, X: Label>(
    flow: &AsyncFlow<S, X>,
    options: &FlowOptions,
) -> Result<FlowRow, OpenError> {
    let too_deep = |source| OpenError::FlowTooDeep { flow: flow.name().to_owned(), source: Arc::new(source) };
    let mut graph = storable(&flow.to_json()).map_err(too_deep)?;
    // In one order, whatever else is in the build: a package may ask serde_json to keep that of the program.
    graph.sort_all_objects();
    let graph = graph.to_string();
    Ok(FlowRow {
        name: flow.name().to_owned(),
        before: options.before.clone(),
        renamed: options.renamed.to_json(),
        fingerprint: fingerprint(graph.as_bytes()),
        graph,
        mermaid: flow.to_mermaid(),
        dot: flow.to_dot(),
    })
}

/// FNV-1a over 64 bits (Fowler, Noll and Vo): what tells versions of a flow apart, the same on every machine.
fn fingerprint(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
