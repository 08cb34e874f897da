//! The surroundings of a driven run.

use std::sync::Arc;

use flowstone_core::RunId;

use crate::{drive::observer::Observer, flows::any_flow::AnyFlow};

/// The surroundings of a driven run: the run that the user started, which is the driven run itself or the root above a
/// child.
pub(crate) struct Surroundings {
    /// The run that the user started, and its flow.
    pub(crate) root: RunId,
    pub(crate) flow: Arc<dyn AnyFlow>,
    pub(crate) observer: Arc<Observer>,
    /// The text before the paths of its nodes in events.
    pub(crate) prefix: String,
    /// `true` if a wait may park the run.
    pub(crate) parks: bool,
    /// The version of its flow.
    pub(crate) version: u32,
}

impl Surroundings {
    /// Returns the surroundings of the run that the user started.
    pub(crate) fn root(root: RunId, flow: Arc<dyn AnyFlow>, observer: Arc<Observer>) -> Self {
        let version = flow.version();
        Self { root, flow, observer, prefix: String::new(), parks: true, version }
    }
}
