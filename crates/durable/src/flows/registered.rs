//! A flow as it is registered with a store: its options are applied to each stored run that goes on.

use std::sync::Arc;

use flowstone_core::{
    AsyncFlow, BoxError, Label, Listener, NodePath, RunId, RunOptions, State, Usage,
    driver::{Execution, KeyBase, Panicked, Running},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    flows::any_flow::{AnyFlow, FlowOver, Hooks},
    records::{
        load::{Kept, Loaded},
        state::decode,
    },
    words::{
        error::{AnswerError, DriveError, ReadError, damaged},
        flow_options::FlowOptions,
        guard::drop_quietly,
        migrate::{Asking, MigrateItems},
    },
};

/// A flow that is registered with a store, and its options.
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

    /// Returns the present name of a node, for a run that made its last step under a version of the flow. A name that
    /// was stored under the present version is taken as it is, also if another node once had it.
    fn now(&self, flow: i64, node: &NodePath) -> NodePath {
        if flow == self.row && self.flow.position(node.as_str()).is_some() { node.clone() } else { self.renamed(node) }
    }

    /// Returns the present name of a node of an older version.
    fn renamed(&self, node: &NodePath) -> NodePath {
        self.options.renamed.now(node, |node| self.flow.position(node.as_str()).is_some())
    }

    /// Returns the present path of a node, which may be in a child; `now` gives the present names of the run's own
    /// nodes.
    fn path_now(node: &NodePath, now: impl Fn(&NodePath) -> NodePath) -> NodePath {
        match node.into_child().find(|(outer, ..)| now(outer) != *outer) {
            Some((outer, item, inner)) => format!("{}[{item}]/{inner}", now(&outer)).into(),
            None => now(node),
        }
    }

    /// Places a run at a node with a state; the name and the state are those of the newest version.
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
        // The key of the visit under way has the stored name of the node, also if the node was renamed.
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

    /// Migrates the outputs of items to the newest version. If the run is tried again, outputs that cannot be migrated
    /// are left out.
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
