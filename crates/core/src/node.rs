//! The kinds of node: [`Node`], [`AsyncNode`], [`BatchNode`], [`AsyncBatchNode`].
//!
//! Each has three phases. `prep` reads the shared state, `exec` does the slow work without it, `post` writes back and
//! returns an action. The sync and the async kind have the same phases; the batch kinds run `exec` once per item.
//!
//! **Invariant:** `exec` is never given the state, so it may be repeated, moved to another thread and abandoned.

use std::future::Future;

use crate::{
    context::Context,
    policy::{HasItems, OnError},
    words::{
        action::Label,
        error::{NodeError, Result},
    },
};

/// The state of a flow: owned data that can go from thread to thread.
///
/// Implemented for every such type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of a flow",
    note = "a state is owned data: `Send + Sync + 'static`; services (clients, pools) are fields of nodes"
)]
pub trait State: Send + Sync + 'static {}

impl<S: Send + Sync + 'static> State for S {}

/// One unit of work in a flow: read, compute, decide.
///
/// A run calls the phases of a visit in order:
///
/// 1. [`prep`](Self::prep) reads what the visit needs from `shared`;
/// 2. [`exec`](Self::exec) computes, without `shared`, so that it can be tried again;
/// 3. [`post`](Self::post) writes back, and returns the action to follow.
///
/// A node has no state of its own: every phase takes `&self`, and one node serves any number of runs at once.
///
/// # Retries, threads and panics
///
/// Only `exec` is tried again, as often as the node's [`Retry`](crate::Retry) says; then
/// [`exec_fallback`](Self::exec_fallback) is called, once. In a [`Flow`](crate::Flow) all phases run on the caller's
/// thread; in an [`AsyncFlow`](crate::AsyncFlow) `exec` runs on the blocking pool, unless the node was added with
/// [`inline`](crate::NodeExt::inline). A panic is a bug: it becomes an error of its phase, with its message, and is not
/// tried again and has no fallback.
///
/// # Example
///
/// ```
/// use flowstone_core::{Context, Flow, Node, Result};
///
/// struct Double;
///
/// impl Node<u32> for Double {
///     type Prep = u32;
///     type Exec = u32;
///     type Action = ();
///
///     fn prep(&self, shared: &u32) -> Result<u32> {
///         Ok(*shared)
///     }
///     fn exec(&self, prep: &u32, _: &Context) -> Result<u32> {
///         Ok(prep * 2)
///     }
///     fn post(&self, shared: &mut u32, _: u32, exec: u32) -> Result<()> {
///         *shared = exec;
///         Ok(())
///     }
/// }
///
/// let mut flow = Flow::builder("double");
/// let double = flow.add("double", Double);
/// flow.start(double);
///
/// let mut state = 21;
/// flow.build()?.run(&mut state)?;
/// assert_eq!(state, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a node of a flow over `{S}`",
    note = "a node of a flow over `{S}` implements `Node<{S}>`, or use `#[node]`"
)]
pub trait Node<S>: Send + Sync + 'static {
    /// The type that `prep` reads for `exec`.
    type Prep: Send + Sync + 'static;
    /// The type that `exec` makes for `post`.
    type Exec: Send + 'static;
    /// The type of the action that `post` returns.
    type Action: Label;

    /// Checks the node itself, once, when it is added to a flow: a template that does not parse, a limit that cannot
    /// hold.
    ///
    /// # Errors
    ///
    /// An error is a fault of `build()` that names the node. By default there is none.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Reads what the visit needs. Not tried again.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn prep(&self, shared: &S) -> Result<Self::Prep>;

    /// Does the work, without the state. Called once per attempt.
    ///
    /// # Errors
    ///
    /// An error is tried again as the node's policy says, and ends in [`exec_fallback`](Self::exec_fallback).
    fn exec(&self, prep: &Self::Prep, cx: &Context) -> Result<Self::Exec>;

    /// Stands in for `exec` after its last attempt failed. Called at most once per visit.
    ///
    /// # Errors
    ///
    /// An error ends the run. By default this returns `error` itself.
    fn exec_fallback(&self, prep: &Self::Prep, error: NodeError, cx: &Context) -> Result<Self::Exec> {
        let _ = (prep, cx);
        Err(error)
    }

    /// Writes back, and returns the action to follow. Not tried again.
    ///
    /// # Errors
    ///
    /// An error ends the run; what was written before stays written.
    fn post(&self, shared: &mut S, prep: Self::Prep, exec: Self::Exec) -> Result<Self::Action>;
}

/// A [`Node`] whose phases await.
///
/// The contract is that of [`Node`], with the phases polled on the task that drives the run.
///
/// # Cancel safety
///
/// A phase is dropped at its current `.await` when the run is dropped, cancelled or out of time, and `exec` also when
/// its attempt times out or a sibling item fails. A `post` that awaits between two writes can thus be cut between them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an async node of a flow over `{S}`",
    note = "an async node of a flow over `{S}` implements `AsyncNode<{S}>`, or use `#[node]` with an `async fn`"
)]
pub trait AsyncNode<S>: Send + Sync + 'static {
    /// The type that `prep` reads for `exec`.
    type Prep: Send + Sync + 'static;
    /// The type that `exec` makes for `post`.
    type Exec: Send + 'static;
    /// The type of the action that `post` returns.
    type Action: Label;

    /// Checks the node itself, once, when it is added to a flow; see [`Node::check`].
    ///
    /// # Errors
    ///
    /// An error is a fault of `build()` that names the node.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Reads what the visit needs; see [`Node::prep`].
    fn prep(&self, shared: &S) -> impl Future<Output = Result<Self::Prep>> + Send;

    /// Does the work, without the state; see [`Node::exec`].
    fn exec(&self, prep: &Self::Prep, cx: &Context) -> impl Future<Output = Result<Self::Exec>> + Send;

    /// Stands in for `exec` after its last attempt failed; see [`Node::exec_fallback`].
    fn exec_fallback(
        &self,
        prep: &Self::Prep,
        error: NodeError,
        cx: &Context,
    ) -> impl Future<Output = Result<Self::Exec>> + Send {
        let _ = (prep, cx);
        std::future::ready(Err(error))
    }

    /// Writes back, and returns the action to follow; see [`Node::post`].
    fn post(
        &self,
        shared: &mut S,
        prep: Self::Prep,
        exec: Self::Exec,
    ) -> impl Future<Output = Result<Self::Action>> + Send;
}

/// A node that runs `exec` once for each of its items.
///
/// `prep` gives the items, `exec` takes one, `post` gets all outputs in input order, also when there are none. Retry,
/// fallback and attempt counter belong to the item. Items run one after another, or, in an
/// [`AsyncFlow`](crate::AsyncFlow), with [`parallel`](crate::NodeExt::parallel) up to a limit at once on the blocking
/// pool.
///
/// In a run that is kept, a batch without [`journaled`](crate::NodeExt::journaled) starts over after a crash, with all
/// its items.
///
/// # Failed items
///
/// The type of [`Outcome`](Self::Outcome) decides the effect of an item that fails for good, see [`OnError`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a batch node of a flow over `{S}`",
    note = "a batch node of a flow over `{S}` implements `BatchNode<{S}>`, or use `#[node(batch)]`"
)]
pub trait BatchNode<S>: Send + Sync + 'static {
    /// One element of the batch.
    type Item: Send + Sync + 'static;
    /// The type that `exec` makes of an item.
    type Output: Send + 'static;
    /// The type that `post` gets for an item: `Self::Output`, or `Result<Self::Output>` to collect errors.
    type Outcome: ItemOutcome<Self::Output>;
    /// The type of the action that `post` returns.
    type Action: Label;

    /// Checks the node itself, once, when it is added to a flow; see [`Node::check`].
    ///
    /// # Errors
    ///
    /// An error is a fault of `build()` that names the node.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Gives the items. Not tried again.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn prep(&self, shared: &S) -> Result<Vec<Self::Item>>;

    /// Works on one item, without the state. Called once per item and attempt.
    ///
    /// # Errors
    ///
    /// An error is tried again as the node's policy says, and ends in [`exec_fallback`](Self::exec_fallback).
    fn exec(&self, item: &Self::Item, cx: &Context) -> Result<Self::Output>;

    /// Stands in for `exec` after an item's last attempt failed.
    ///
    /// # Errors
    ///
    /// The item has failed for good. By default this returns `error` itself.
    fn exec_fallback(&self, item: &Self::Item, error: NodeError, cx: &Context) -> Result<Self::Output> {
        let _ = (item, cx);
        Err(error)
    }

    /// Writes back, and returns the action to follow. Not tried again.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn post(&self, shared: &mut S, items: Vec<Self::Item>, outcomes: Vec<Self::Outcome>) -> Result<Self::Action>;
}

/// A [`BatchNode`] whose phases await.
///
/// Items run one after another, or up to a limit at once with [`parallel`](crate::NodeExt::parallel), each polled in
/// place on the task of the run. With [`spawned`](crate::NodeExt::spawned) each is a task of its own, for items that
/// compute. Memory beyond inputs and outputs grows with the limit, not with the number of items.
///
/// In a run that is kept, a batch without [`journaled`](crate::NodeExt::journaled) starts over after a crash, with all
/// its items.
///
/// # Cancel safety
///
/// That of [`AsyncNode`]. A spawned item stops at its next `.await`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an async batch node of a flow over `{S}`",
    note = "an async batch node of a flow over `{S}` implements `AsyncBatchNode<{S}>`, or use `#[node(batch)]`"
)]
pub trait AsyncBatchNode<S>: Send + Sync + 'static {
    /// One element of the batch.
    type Item: Send + Sync + 'static;
    /// The type that `exec` makes of an item.
    type Output: Send + 'static;
    /// The type that `post` gets for an item: `Self::Output`, or `Result<Self::Output>` to collect errors.
    type Outcome: ItemOutcome<Self::Output>;
    /// The type of the action that `post` returns.
    type Action: Label;

    /// Checks the node itself, once, when it is added to a flow; see [`Node::check`].
    ///
    /// # Errors
    ///
    /// An error is a fault of `build()` that names the node.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Gives the items; see [`BatchNode::prep`].
    fn prep(&self, shared: &S) -> impl Future<Output = Result<Vec<Self::Item>>> + Send;

    /// Works on one item, without the state; see [`BatchNode::exec`].
    fn exec(&self, item: &Self::Item, cx: &Context) -> impl Future<Output = Result<Self::Output>> + Send;

    /// Stands in for `exec` after an item's last attempt failed; see [`BatchNode::exec_fallback`].
    fn exec_fallback(
        &self,
        item: &Self::Item,
        error: NodeError,
        cx: &Context,
    ) -> impl Future<Output = Result<Self::Output>> + Send {
        let _ = (item, cx);
        std::future::ready(Err(error))
    }

    /// Writes back, and returns the action to follow; see [`BatchNode::post`].
    fn post(
        &self,
        shared: &mut S,
        items: Vec<Self::Item>,
        outcomes: Vec<Self::Outcome>,
    ) -> impl Future<Output = Result<Self::Action>> + Send;
}

impl<S, N: BatchNode<S>> HasItems<S, SyncBatch> for N {
    type Item = N::Item;
}

impl<S, N: AsyncBatchNode<S>> HasItems<S, AwaitedBatch> for N {
    type Item = N::Item;
}

/// The kind of a [`BatchNode`].
#[derive(Debug)]
pub enum SyncBatch {}

/// The kind of an [`AsyncBatchNode`].
#[derive(Debug)]
pub enum AwaitedBatch {}

/// The value that `post` gets for one item of a batch: the output itself, or a result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what `post` gets for an item",
    note = "`post` takes `Vec<{O}>` (a failed item ends the run) or `Vec<Result<{O}>>` (errors are collected)"
)]
pub trait ItemOutcome<O>: Sized + Send + 'static {
    /// The effect of a failed item.
    const ON_ERROR: OnError;

    /// Makes the outcome of an item.
    ///
    /// # Errors
    ///
    /// With [`OnError::Stop`], the error of a failed item.
    fn from_result(result: Result<O>) -> Result<Self>;
}

impl<O: Send + 'static> ItemOutcome<O> for O {
    const ON_ERROR: OnError = OnError::Stop;

    fn from_result(result: Result<O>) -> Result<Self> {
        result
    }
}

impl<O: Send + 'static> ItemOutcome<O> for Result<O, NodeError> {
    const ON_ERROR: OnError = OnError::Collect;

    fn from_result(result: Self) -> Result<Self> {
        Ok(result)
    }
}
