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
