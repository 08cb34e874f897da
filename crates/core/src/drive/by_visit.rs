//! For drivers that make the visits of a run themselves: one visit, and a run that can be stored between two.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    context::Context,
    drive::{
        flow::{AsyncFlow, Flow},
        options::RunOptions,
    },
    execution::RestoreError,
    node::State,
    outcome::Visit,
    visit::running::Running,
    words::{
        action::Label,
        codec::Codec,
        error::RunError,
        path::{NodePath, Position},
    },
};

impl<S: State, X: Label> Flow<S, X> {
    /// Visits one node: `prep`, `exec` with its retries, `post`; and tells where the action leads.
    ///
    /// Every driver is a loop over this method. `cx` comes from [`context`](Self::context), the same one for a whole
    /// run.
    ///
    /// # Errors
    ///
    /// When the node fails for good, or its action is routed nowhere.
    ///
    /// # Panics
    ///
    /// If the position is of another, larger flow.
    pub fn visit(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        self.definition.visit(at, shared, cx)
    }
}

impl<S: State, X: Label> AsyncFlow<S, X> {
    /// Visits one node: `prep`, `exec` with its retries, `post`; and tells where the action leads.
    ///
    /// # Errors
    ///
    /// When the node fails for good, or its action is routed nowhere.
    ///
    /// # Cancel safety
    ///
    /// A dropped visit leaves in the state what `post` wrote until then, which is nothing before `post` began.
    ///
    /// # Panics
    ///
    /// If the position is of another, larger flow.
    pub async fn visit(&self, at: Position, shared: &mut S, cx: &mut Context) -> Result<Visit, RunError> {
        let visited = self.definition.visit_async(at, shared, cx).await;
        // This is needed after a visit that ended well, too: an attempt that timed out before may have left a blocking
        // job.
        cx.wait_for_started().await;
        visited
    }

    /// Places a run before its first visit, for a driver that makes its visits one by one and may keep each.
    ///
    /// The options hold for the whole run, as in [`run_async_with`](Self::run_async_with). The driver sends the events
    /// of the run as a whole.
    #[must_use]
    pub fn execution(&self, state: S, options: &RunOptions) -> Running<S>
    where
        S: Serialize + DeserializeOwned,
    {
        Running::new(&self.definition, Codec::json(), state, self.context(options))
    }

    /// Places a run where it was: before its visit number `visits`, at a node, with a state as JSON.
    ///
    /// # Errors
    ///
    /// If the flow has no such node, or the state cannot be decoded.
    pub fn restored(
        &self,
        node: &NodePath,
        visits: u64,
        state: &[u8],
        options: &RunOptions,
    ) -> Result<Running<S>, RestoreError>
    where
        S: Serialize + DeserializeOwned,
    {
        Running::restored(&self.definition, Codec::json(), (node, visits, state), self.context(options))
    }

    /// Checks that a child of a journaled batch flow could go on where it was: at a node, by its path from this flow
    /// (`review[3]/approve`), with a state as JSON. A node that keeps no children cannot be checked before it is
    /// visited.
    ///
    /// # Errors
    ///
    /// If the child's flow has no such node, or the state cannot be decoded.
    pub fn takes_child(&self, node: &NodePath, state: &[u8]) -> Result<(), RestoreError> {
        self.definition.takes_inside(node, state).unwrap_or(Ok(()))
    }
}
