//! One run in a store: [`Run`].

use std::{fmt, sync::Arc};

use flowstone_core::{Action, NodePath, RunId, State, Usage};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::handle::Handle,
    drive::{
        answers::{self, Which},
        changes,
        shared::Shared,
    },
    flows::any_flow::FlowOver,
    records::{reader::Reader, state::state_at},
    words::{
        error::{AnswerError, ChangeError, DriveError, NotEnded, ReadError},
        info::{Question, RunFailure, RunInfo, StepInfo},
        status::Status,
    },
};

/// The end of a run, as [`Run::finished`] gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a run may also have failed or been cancelled"]
pub enum Finished<S> {
    /// It reached an exit of its flow.
    Ended(Ended<S>),
    /// A node failed, or has killed its process again and again; the run can be retried.
    Failed(RunFailure),
    /// It was cancelled.
    Cancelled(RunId),
}

/// A run that reached an exit of its flow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended<S> {
    /// Its last action.
    pub action: Action,
    /// Its last state.
    pub state: S,
}

impl<S> Finished<S> {
    /// Returns the last action and state of a run that reached an exit.
    ///
    /// # Errors
    ///
    /// [`NotEnded`] if it failed or was cancelled.
    pub fn ended(self) -> Result<Ended<S>, NotEnded> {
        match self {
            Self::Ended(ended) => Ok(ended),
            Self::Failed(RunFailure { node, message, .. }) => Err(NotEnded::Failed { node, message }),
            Self::Cancelled(run) => Err(NotEnded::Cancelled { run }),
        }
    }
}

/// One run in a store. Cheap to clone.
pub struct Run<S> {
    pub(super) handle: Arc<Handle>,
    pub(super) flow: Arc<dyn FlowOver<S>>,
    pub(super) id: RunId,
    pub(super) run: i64,
}

impl<S> Clone for Run<S> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), flow: Arc::clone(&self.flow), id: self.id.clone(), run: self.run }
    }
}

impl<S> fmt::Debug for Run<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Run").field(&self.id).finish()
    }
}

impl<S: State + Serialize + DeserializeOwned> Run<S> {
    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.id
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Returns the facts about it in the store.
    ///
    /// # Errors
    ///
    /// If it was deleted.
    pub async fn info(&self) -> Result<RunInfo, ReadError> {
        let (run, id) = (self.run, self.id.clone());
        self.shared().read(move |reader| reader.info(run)?.ok_or(ReadError::UnknownRun { run: id })).await
    }

    /// Waits until it is at its end, also through pauses and sleeps, and returns its end.
    ///
    /// # Errors
    ///
    /// If the store or the flow keeps it from going on. It can be resumed later.
    ///
    /// # Cancel safety
    ///
    /// Dropping this does not stop the run.
    pub async fn finished(&self) -> Result<Finished<S>, DriveError> {
        let info = self.wait(Status::is_final).await?;
        match (info.status, info.error) {
            (Status::Failed, Some(error)) => Ok(Finished::Failed(error)),
            (Status::Ended, _) => {
                let (run, step, full_every) = (self.run, info.step, self.shared().options.full_every);
                let state = self.shared().read(move |reader| state_at(&reader.db, run, step, full_every)).await?;
                let state = self.flow.decode(&self.id, state.version, state.chain.state())?;
                Ok(Finished::Ended(Ended { action: info.action.unwrap_or_default(), state }))
            }
            _ => Ok(Finished::Cancelled(self.id.clone())),
        }
    }

    /// Waits until it is at its end, paused or asleep, and returns which.
    ///
    /// # Errors
    ///
    /// If the store or the flow keeps it from going on.
    ///
    /// # Cancel safety
    ///
    /// Dropping this does not stop the run.
    pub async fn settled(&self) -> Result<Status, DriveError> {
        self.wait(|status| status != Status::Running).await.map(|info| info.status)
    }

    /// Waits until its status is one of those wanted.
    async fn wait(&self, wanted: impl Fn(Status) -> bool) -> Result<RunInfo, DriveError> {
        let shared = self.shared();
        loop {
            let mut news = shared.wait_for(self.run);
            let info = self.info().await?;
            if wanted(info.status) && !shared.is_active(self.run) {
                return Ok(info);
            }
            if let Some(fault) = news.fault() {
                return Err(fault);
            }
            if info.refused.is_some() && !shared.is_active(self.run) {
                // Another process has noted the reason, or this one has forgotten it.
                let (store, run) = (Arc::clone(shared), self.run);
                shared.read(move |reader| store.flows.check(reader, run)).await?;
            }
            news.changed().await?;
        }
    }

    /// Returns its state after its last step. A state of an older version is migrated.
    ///
    /// # Errors
    ///
    /// If it was deleted, or the state does not fit its type and cannot be migrated.
    pub async fn state(&self) -> Result<S, ReadError> {
        let (run, id, full_every) = (self.run, self.id.clone(), self.shared().options.full_every);
        let state = self.shared().read(move |reader| {
            let info = reader.info(run)?.ok_or(ReadError::UnknownRun { run: id })?;
            state_at(&reader.db, run, info.step, full_every)
        });
        let state = state.await?;
        self.flow.decode(&self.id, state.version, state.chain.state())
    }

    /// Returns its steps from a number on, at most so many, oldest first. Step 0 is the start.
    ///
    /// # Errors
    ///
    /// If it was deleted.
    pub async fn steps(&self, from: u64, limit: usize) -> Result<Vec<StepInfo>, ReadError> {
        let id = self.id.clone();
        self.shared().read(move |reader| reader.steps(id, from, limit)).await
    }

    /// Returns its usage of paid services so far, see [`Reader::usage`].
    ///
    /// # Errors
    ///
    /// If it was deleted.
    pub async fn usage(&self) -> Result<Usage, ReadError> {
        let id = self.id.clone();
        self.shared().read(move |reader| reader.usage(id)).await
    }

    /// Returns its state after a step as JSON, as it is stored, also if its flow has another version now.
    ///
    /// # Errors
    ///
    /// If there is no such step.
    pub async fn state_at(&self, step: u64) -> Result<Value, ReadError> {
        let id = self.id.clone();
        self.shared().read(move |reader| reader.state(id, Some(step))).await
    }

    /// Returns the changes of its stored state between two steps, as a JSON patch (RFC 6902).
    ///
    /// # Errors
    ///
    /// If there is no such step.
    pub async fn diff(&self, from: u64, to: u64) -> Result<Value, ReadError> {
        let id = self.id.clone();
        self.shared().read(move |reader| reader.diff(id, from, to)).await
    }

    /// Returns its questions with their answers, oldest first, and then those of its children. An open question is
    /// migrated to the present version of the flow, see
    /// [`FlowOptions::migrate_questions`](crate::FlowOptions::migrate_questions).
    ///
    /// # Errors
    ///
    /// If it was deleted, or `migrate_questions` fails.
    pub async fn questions(&self) -> Result<Vec<Question>, ReadError> {
        let (id, flow) = (self.id.clone(), Arc::clone(&self.flow));
        let read = move |reader: &Reader| {
            let mut questions = reader.questions(id.clone())?;
            questions.iter_mut().try_for_each(|question| question.migrate(&*flow, &id))?;
            Ok(questions)
        };
        self.shared().read(read).await
    }

    /// Answers its question at a node, once, and lets it go on.
    ///
    /// # Errors
    ///
    /// If there is no such question, it is answered already, or the answer fits neither its schema nor its type.
    pub async fn answer(&self, node: impl Into<NodePath>, answer: impl Serialize) -> Result<(), AnswerError> {
        answers::answer(self.shared(), (self.run, &self.id), Which::At(node.into()), answer).await
    }

    /// Answers this question of the run, or of one of its children, so that a late answer cannot go to a later question
    /// of the same node.
    ///
    /// # Errors
    ///
    /// Those of [`answer`](Self::answer).
    pub async fn answer_question(&self, question: &Question, answer: impl Serialize) -> Result<(), AnswerError> {
        answers::answer(self.shared(), (self.run, &self.id), Which::Question(Box::new(question.clone())), answer).await
    }

    /// Cancels it. If it is driven, it stops where it waits.
    ///
    /// # Errors
    ///
    /// If it is at an end.
    pub async fn cancel(&self) -> Result<(), ChangeError> {
        changes::cancel(self.shared(), self.run).await
    }

    /// Lets it go on after it failed or was cancelled, from the node where it stopped, with the items that are
    /// recorded.
    ///
    /// # Errors
    ///
    /// If it neither failed nor was cancelled, or its flow cannot take it. It then stays as it is.
    pub async fn retry_failed(&self) -> Result<(), ChangeError> {
        changes::retry(self.shared(), self.run).await
    }

    /// Lets it go on after a [`StoreError`](crate::StoreError) stopped it. A run that is driven or parked stays as it
    /// is.
    pub fn resume(&self) {
        self.shared().resume(self.run);
    }
}
