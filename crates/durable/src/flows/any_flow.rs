//! The traits of a registered flow whose types are erased: all that a store needs to start a run or to continue one.

use std::{any::Any, sync::Arc};

use flowstone_core::{
    CancellationToken, Listener, NodePath, RunId, Usage,
    driver::{Execution, KeyBase},
};
use serde_json::Value;

use crate::{
    records::load::Loaded,
    words::{
        error::{AnswerError, DriveError, ReadError},
        migrate::Asking,
    },
};

/// Additions of a drive to a run: a listener of its events, its cancellation, and a value that is held by all work that
/// it starts.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) cancel: CancellationToken,
    pub(crate) listener: Option<Arc<dyn Listener>>,
    pub(crate) hold: Option<Arc<dyn Any + Send + Sync>>,
}

/// A registered flow, without its types.
pub(crate) trait AnyFlow: Send + Sync {
    fn name(&self) -> &str;

    /// Returns its former names.
    fn before(&self) -> &[String];

    /// Returns the number of this version of the flow in the store.
    fn row(&self) -> i64;

    /// Returns the version of its state.
    fn version(&self) -> u32;

    /// Returns the listeners of its runs.
    fn listeners(&self) -> &[Arc<dyn Listener>];

    /// Returns the most runs of it that may be driven at once, if that is limited.
    fn concurrency(&self) -> Option<usize>;

    /// Returns the number of times that a visit may be started again after its process has died.
    fn max_resumes(&self) -> u32;

    /// Returns `true` if its runs have a budget, so that their usage has to be known.
    fn has_budget(&self) -> bool;

    /// Places a stored run at its last commit. `used` counts for its budget.
    fn restore(&self, loaded: &Loaded, used: Usage, hooks: &Hooks) -> Result<Box<dyn Execution>, DriveError>;

    /// Migrates the outputs of items of the visit under way to the newest version.
    fn migrate_items(&self, loaded: &mut Loaded) -> Result<(), DriveError>;

    /// Migrates a question of an older version to the newest; `None` if it stays as it is.
    fn migrate_question(
        &self,
        run: &RunId,
        node: &NodePath,
        found: u32,
        asking: Asking,
    ) -> Result<Option<Asking>, ReadError>;

    /// Checks that a child, given by the path of its node, could go on with its state. `run` is the run that the user
    /// started, with the version of its flow.
    fn takes_child(&self, run: (&RunId, i64), node: &NodePath, step: u64, state: &[u8]) -> Result<(), DriveError>;

    /// Returns `true` if two names are of the same node.
    fn is_same(&self, one: &NodePath, other: &NodePath) -> bool;

    /// Checks an answer to a node of a version of the flow by its type.
    fn fits(&self, run: &RunId, flow: i64, node: &NodePath, answer: &Value) -> Result<(), AnswerError>;

    /// Migrates a state of an older version to the newest; `None` if it has that version already.
    fn migrated(&self, run: &RunId, version: u32, state: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;

    /// Checks that a run could begin at a node of a version of the flow, with a state of the newest version; returns
    /// the name that the node has now.
    fn begins(&self, run: &RunId, flow: i64, node: &NodePath, state: &[u8]) -> Result<NodePath, DriveError>;
}

/// A registered flow, with the type of its state.
pub(crate) trait FlowOver<S>: AnyFlow {
    /// Places a new run before its first visit.
    fn execution(&self, id: &RunId, key: KeyBase, state: S, hooks: &Hooks) -> Box<dyn Execution>;

    /// Reads a state of this version or an older one.
    fn decode(&self, run: &RunId, version: u32, state: &[u8]) -> Result<S, ReadError>;
}
