//! The surroundings of a run that is driven.

use std::sync::Arc;

use flowstone_core::RunId;

use crate::{drive::observer::Observer, flows::any_flow::AnyFlow};

/// The run that the user started, as one that is driven sees it: itself, or what it is a child of.
pub(crate) struct Surroundings {
    /// The run that the user started, and its flow.
    pub(crate) root: RunId,
    pub(crate) flow: Arc<dyn AnyFlow>,
    pub(crate) observer: Arc<Observer>,
    /// The text before the paths of its nodes in events.
    pub(crate) prefix: String,
    /// `true` if a wait may put the run away.
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
