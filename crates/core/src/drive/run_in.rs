//! A flow that runs inside `exec`: [`AsyncFlow::run_in`].
//!
//! ```text
//! exec ─▶ run_in(state, cx) ─┬ in memory: visit after visit, from the start
//!                            └ with a journal: its driver makes the visits, and keeps each, from where they were
//! ```
//!
//! It is a child of the visit and the item of `cx`, as the children of a batch flow are. Here the `exec` makes the
//! child's state, and runs the child when it wants to.
//!
//! **Invariant:** an error that has to stop the whole run goes through `exec` unchanged: it is neither tried again, nor
//! collected, nor given to a fallback.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    context::Context,
    drive::flow::AsyncFlow,
    execution::Journal,
    node::State,
    outcome::Outcome,
    visit::running::Running,
    words::{
        action::{Action, Label},
        codec::Codec,
        error::{NodeError, Result, RunError},
        guard::Panicked,
        item_key::{ItemId, ItemKey},
        path::NodePath,
    },
};

impl<S: State, X: Label> AsyncFlow<S, X> {
    /// Runs the flow from inside an `exec`, as a child of the visit and the item that `cx` belongs to. Returns the
    /// state and the last action.
    ///
    /// The child shares the run's cancellation, deadline, listener, budget and count of visits. Its nodes are named
    /// under the node that runs it: `agent[0]/think`, where 0 is the item, or stands for the node itself.
    ///
    /// The picture of the flow around it does not show the child, and `build()` does not check it.
    ///
    /// # Retries and crashes
    ///
    /// In memory, every call starts a new run. In a run that is kept, each visit of the child is kept as well, even
    /// without [`journaled`](crate::NodeExt::journaled). A later call for the same visit and item, after a crash or in
    /// the next attempt of an `exec` that failed, goes on with the same child: from its last visit, with its own state
    /// in place of `state`. A visit that failed is made again, and a child that has ended gives the same result again.
    /// So nothing that the child has paid for is paid for twice.
    ///
    /// For this a visit and an item have one child, which begins with the same state in every attempt. An `exec` of a
    /// node that is no batch may run several children if each gets a number:
    /// `flow.run_in(state, &cx.clone().with_item(1))`. Such a child, and a child of an item of a batch that is not
    /// [`journaled`](crate::NodeExt::journaled), goes on after a crash if its number and its first `state` are the
    /// same; otherwise a new one begins.
    ///
    /// # Errors
    ///
    /// - The [`RunError`] of the child, as the source. It is terminal, or asks to wait, if the node that failed said
    ///   so; a panic and an action that is routed nowhere are terminal. An error that stops the whole run (its
    ///   cancellation, its deadline, its bound on visits, its store) stops it as soon as `exec` returns it, without
    ///   another attempt or fallback.
    /// - [`CannotPause`], terminal, if the flow [asks](Self::asks): an `exec` cannot be put away until an answer comes.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the visit under way is dropped. In a run that is kept, another call makes it again. A blocking
    /// `exec` that is already on the pool goes on until it ends, see [`run_async`](Self::run_async).
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{AsyncFlow, AsyncNode, Context, Result};
    ///
    /// struct Research {
    ///     flow: AsyncFlow<Vec<String>>,
    /// }
    ///
    /// impl AsyncNode<String> for Research {
    ///     type Prep = String;
    ///     type Exec = Vec<String>;
    ///     type Action = ();
    ///
    ///     async fn prep(&self, topic: &String) -> Result<String> {
    ///         Ok(topic.clone())
    ///     }
    ///     async fn exec(&self, topic: &String, cx: &Context) -> Result<Vec<String>> {
    ///         let (notes, _) = self.flow.run_in(vec![topic.clone()], cx).await?;
    ///         Ok(notes)
    ///     }
    ///     async fn post(&self, topic: &mut String, _: String, notes: Vec<String>) -> Result<()> {
    ///         *topic = notes.join(", ");
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut inner = AsyncFlow::builder("notes");
    /// let note = inner.add("note", |notes: &mut Vec<String>| notes.push("a note".to_owned()));
    /// inner.start(note);
    /// let mut flow = AsyncFlow::builder("paper");
    /// let research = flow.add("research", Research { flow: inner.build()? });
    /// flow.start(research);
    ///
    /// let mut topic = "ants".to_owned();
    /// flow.build()?.run_async(&mut topic).await?;
    /// assert_eq!(topic, "ants, a note");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_in(&self, mut state: S, cx: &Context) -> Result<(S, Action)>
    where
        S: Serialize + DeserializeOwned,
    {
        let definition = &self.definition;
        if let Some(asks) = self.asks() {
            let (flow, node) = (self.name().to_owned(), cx.node());
            return Err(NodeError::terminal(CannotPause { flow, asks: asks.clone(), node }));
        }
        let (id, parent) = child_of(cx, &state)?;
        let mut child = cx.for_child(&parent, &definition.graph);
        // Nobody else waits for the work that a child without a run has started.
        let own = cx.is_detached().then(|| child.clone());
        let result = if let Some(journal) = cx.journal() {
            // Boxed, so that a child in memory carries no room for it.
            Box::pin(Kept::drive(Running::new(definition, Codec::json(), state, child), id, &**journal)).await
        } else {
            let result = definition.follow_async(definition.start(), &mut state, &mut child).await;
            result.map(|outcome| (state, outcome))
        };
        if let Some(own) = own {
            own.wait_for_started().await;
        }
        match result {
            Ok((state, Outcome::Ended(action))) => Ok((state, action)),
            Ok((_, Outcome::Paused(_))) => unreachable!("invariant: a flow that asks is refused"),
            Err(error) => Err(of_child(error)),
        }
    }
}

/// Returns the id by which a journal knows the child of an `exec`, and the context of the item that it belongs to.
///
/// The child of an item that the journal keeps is known by the item's id, and so is the only child of a node. An item
/// that has only a number may have moved in its list, so its child is known by the number and its first state.
fn child_of<S: Serialize>(cx: &Context, state: &S) -> Result<(ItemId, Context)> {
    let index = cx.item().unwrap_or(0);
    if let Some(id) = cx.item_id() {
        return Ok((id, cx.clone()));
    }
    let id = ItemId { index, key: None };
    if cx.item().is_none() || cx.journal().is_none() {
        return Ok((id, cx.for_item(index)));
    }
    let state = serde_json::to_vec(state).map_err(NodeError::terminal)?;
    let id = ItemId { key: Some(ItemKey::of_json(&state, index as u64)), ..id };
    Ok((id, cx.for_kept(id)))
}

/// A child whose visits a driver keeps.
///
/// A child that does not end gives back its count of visits. Another call for the child counts them again.
struct Kept<S>(Option<Running<S>>);

impl<S: State> Kept<S> {
    async fn drive(running: Running<S>, id: ItemId, journal: &dyn Journal) -> Result<(S, Outcome), RunError> {
        let mut kept = Self(Some(running));
        let running = kept.0.as_mut().expect("invariant: taken when it has ended");
        let action = journal.child(id, running).await?;
        let running = kept.0.take().expect("invariant: taken here only");
        Ok((running.into_state(), Outcome::Ended(action)))
    }
}

impl<S> Drop for Kept<S> {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.uncount_all();
        }
    }
}

/// Makes the error of an `exec` from that of the child that it ran.
fn of_child(error: RunError) -> NodeError {
    let (terminal, retry_after) = match &error {
        RunError::Node { terminal, retry_after, source, .. } => (*terminal || source.is::<Panicked>(), *retry_after),
        _ => (true, None),
    };
    let error = if terminal { NodeError::terminal(error) } else { NodeError::new(error) };
    match retry_after {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}

/// A flow with a question that was to run inside `exec`.
#[derive(Debug, thiserror::Error)]
#[error("node `{node}` runs flow `{flow}`, in which `{asks}` asks: a flow that runs inside `exec` cannot pause")]
#[non_exhaustive]
pub struct CannotPause {
    /// The flow.
    pub flow: String,
    /// Its first node that asks.
    pub asks: NodePath,
    /// The node whose `exec` was to run the flow.
    pub node: NodePath,
}
