//! One visit of a batch flow: a child's run per forked state, joined in input order.
//!
//! Parallel children cannot race: each owns its state.

use std::{future::Future, sync::Arc};

use crate::{
    action::{Action, Returned},
    batch::{Each, in_order},
    context::Context,
    drive::Outcome,
    error::{Failure, Phase, Result, RunError},
    event::{EventKind, with_causes},
    flow::Definition,
    node::{OnError, State},
    visit::{AsyncBody, BoxFuture, SyncBody, catch},
};

/// How a child of a batch flow ended: its state and its last action, or why it stopped.
///
/// What [`batch_collect`](crate::AsyncFlow::batch_collect) gives to `join`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Child<T> {
    /// The child's state; after an error, with what was written before.
    pub state: T,
    /// The child's last action.
    pub result: Result<Action, RunError>,
}

pub(crate) type Fork<S, T> = Arc<dyn Fn(&S) -> Result<Vec<T>> + Send + Sync>;
pub(crate) type Join<S, T> = Arc<dyn Fn(&mut S, Vec<Child<T>>) -> Result<Returned> + Send + Sync>;

/// A flow that runs once per state that `fork` gives.
pub(crate) struct Children<S, T> {
    pub(crate) definition: Arc<Definition<T>>,
    pub(crate) fork: Fork<S, T>,
    pub(crate) join: Join<S, T>,
    pub(crate) limit: usize,
    pub(crate) on_error: OnError,
}

impl<S: State, T: State> SyncBody<S> for Children<S, T> {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Result<Returned, Failure> {
        let mut ended = Vec::new();
        for (index, mut state) in self.fork(shared)?.into_iter().enumerate() {
            let mut child = cx.for_child(index, &self.definition.graph);
            let result = self.definition.follow(self.definition.start(), &mut state, &mut child);
            ended.push(self.ended(cx, index, state, result)?);
        }
        self.join(shared, ended)
    }
}

impl<S: State, T: State> AsyncBody<S> for Children<S, T> {
    fn visit<'a>(&'a self, shared: &'a mut S, cx: &'a mut Context) -> BoxFuture<'a, Result<Returned, Failure>> {
        Box::pin(async move {
            let states = self.fork(shared)?;
            let each = Runs { children: self, cx };
            let ended = in_order(&each, states.into_iter().enumerate(), self.limit).await?;
            self.join(shared, ended)
        })
    }
}

struct Runs<'a, S, T> {
    children: &'a Children<S, T>,
    cx: &'a Context,
}

impl<S: State, T: State> Each for Runs<'_, S, T> {
    type Input = (usize, T);
    type Output = Child<T>;

    fn run(&self, (index, mut state): (usize, T)) -> impl Future<Output = Result<Child<T>, Failure>> + Send {
        async move {
            let definition = &self.children.definition;
            let mut child = self.cx.for_child(index, &definition.graph);
            let result = definition.follow_async(definition.start(), &mut state, &mut child).await;
            self.children.ended(self.cx, index, state, result)
        }
    }
}

impl<S: State, T: State> Children<S, T> {
    fn fork(&self, shared: &S) -> Result<Vec<T>, Failure> {
        catch(|| (self.fork)(shared)).map_err(|error| Failure::in_phase(Phase::Prep, error))
    }

    fn join(&self, shared: &mut S, ended: Vec<Child<T>>) -> Result<Returned, Failure> {
        catch(|| (self.join)(shared, ended)).map_err(|error| Failure::in_phase(Phase::Post, error))
    }

    /// What `join` gets for a child; an error if it ends the batch.
    fn ended(
        &self,
        cx: &Context,
        index: usize,
        state: T,
        result: Result<Outcome, RunError>,
    ) -> Result<Child<T>, Failure> {
        if cx.listening() {
            let error = result.as_ref().err().map(|error| with_causes(error));
            cx.for_item(index).event(|| EventKind::ItemEnded { error });
        }
        let result = match result {
            Ok(Outcome::Ended(action)) => Ok(action),
            Ok(Outcome::Paused(_)) => unreachable!("invariant: `build` refuses a pause in a batch flow"),
            // Only a child's own failure can be collected; a run that is to stop stops.
            Err(error @ (RunError::Node { .. } | RunError::Unrouted { .. })) if self.on_error == OnError::Collect => {
                Err(error)
            }
            Err(error) => return Err(Failure::Child(Box::new(error))),
        };
        Ok(Child { state, result })
    }
}
