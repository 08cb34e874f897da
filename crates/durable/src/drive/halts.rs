//! Halts of a driven run: it is parked, or it failed or was cancelled, and the store says so.

use std::time::Duration;

use flowstone_core::{BoxError, EventKind, Pause, RunError, driver::Execution};
use rusqlite::Connection;
use serde_json::Value;

use crate::{
    drive::{
        run_driver::{Halted, RunDriver},
        storage::unstorable,
    },
    records::{
        owner, parked,
        pauses::{self, NewPause},
        questions,
        status::{self, Change},
    },
    words::{
        checked::{self, StorageCheck},
        columns::{length_ms, time},
        error::{DriveError, KeepError, StoreError, StoreFault, Written},
        info::RunFailure,
        status::Happened,
    },
};

impl RunDriver {
    pub(super) async fn pause(&mut self, execution: &dyn Execution, pause: &Pause) -> Result<Halted, DriveError> {
        let asked = match self.question(execution, pause) {
            Ok(asked) => asked,
            Err(error) => return self.stop(execution, self.not_kept(pause.node(), error)).await,
        };
        self.caught_up().await?;
        let (expires, ticks) = (asked.expires.is_some(), self.storage.writer.ticks());
        let write = move |db: &Connection| {
            pauses::pause(db, &asked)?;
            if expires { Ok(owner::set_ticks(db, ticks)?) } else { Ok(()) }
        };
        self.write("pause", write).await?;
        if expires {
            self.storage.wakes.notify_one();
        }
        self.announce_question(execution, pause.question());
        Ok(Halted::Parked)
    }

    /// Returns the row of a question. The state is checked, too, since it is read back when the run goes on.
    fn question(&self, execution: &dyn Execution, pause: &Pause) -> Result<NewPause, KeepError> {
        check_state(execution)?;
        let (run, node, most) = (&self.journal.root, pause.node(), self.storage.options.max_state);
        let text = |what, json: &Value| StorageCheck { run, node, what, most }.text(json);
        checked::check_schema(pause.schema()).map_err(|what| {
            let (run, node) = (run.clone(), node.clone());
            KeepError::BadSchema { run, node, what }
        })?;
        Ok(NewPause {
            run: self.run,
            seq: self.seq + 1,
            node: execution.node().clone(),
            question: text(Written::Question, pause.question())?,
            schema: text(Written::Schema, pause.schema())?,
            version: self.journal.flow.version(),
            expires: pause.expires().map(|wait| self.storage.moment().after(wait)),
        })
    }

    pub(super) async fn sleep(&mut self, execution: &dyn Execution, wait: Duration) -> Result<Halted, DriveError> {
        if let Err(error) = check_state(execution) {
            return self.stop(execution, self.not_kept(execution.node(), error)).await;
        }
        self.caught_up().await?;
        let length = length_ms(wait);
        let until = self.journal.wakes_at().unwrap_or_else(|| self.storage.now().saturating_add(length));
        let ticks = self.storage.writer.ticks();
        let (run, wake_tick) = (self.run, Some(ticks.saturating_add(length)));
        let change = Change { wake_at: Some(until), wake_tick, ..Change::default() };
        self.write("sleep", move |db| {
            status::change(db, run, Happened::FellAsleep, &change)?;
            Ok(owner::set_ticks(db, ticks)?)
        })
        .await?;
        self.storage.wakes.notify_one();
        self.announce(execution, Some(execution.node()), || EventKind::Sleeping { until: time(until) });
        Ok(Halted::Parked)
    }

    /// Parks the run while its children wait.
    pub(super) async fn park(&mut self, execution: &dyn Execution) -> Result<Halted, DriveError> {
        if let Err(error) = check_state(execution) {
            return self.stop(execution, self.not_kept(execution.node(), error)).await;
        }
        self.caught_up().await?;
        self.journal.place_children().await?;
        let (run, seq, left, meter) = (self.run, self.seq + 1, self.journal.left_children(), self.meter.take());
        let is_heard = self.is_heard();
        let park = move |db: &Connection| -> Result<_, DriveError> {
            let parked = parked::park(db, run, seq, &left)?;
            meter.write(db)?;
            let waits = if parked && is_heard { Some(questions::waits_for(db, run)?) } else { None };
            Ok((parked, waits))
        };
        let (parked, waits) = self.storage.writer.call("park", park).await?;
        if let Some((node, kind)) = waits {
            self.announce(execution, node.as_ref(), || kind);
        }
        Ok(if parked { Halted::Parked } else { Halted::Again })
    }

    /// Writes down why the run stopped. An error that is the store's fault, and not the run's, is returned.
    pub(super) async fn stop(&mut self, execution: &dyn Execution, error: RunError) -> Result<Halted, DriveError> {
        self.caught_up().await?;
        let run = self.run;
        let error = match error {
            RunError::Journal { source, .. } if !is_of_run(&source) => return Err(of_journal(source)),
            error => error,
        };
        if let RunError::Answer { pause, source, .. } = &error {
            return self.refuse(execution, pause.question().clone(), source.to_string()).await;
        }
        let (happened, change) = match &error {
            RunError::Cancelled { .. } => (Happened::Cancelled, Change::default()),
            error => (Happened::Failed, Change { error: Some(RunFailure::of(error)), ..Change::default() }),
        };
        self.write("stop", move |db| Ok(status::change(db, run, happened, &change)?)).await?;
        self.announce(execution, Some(error.node()), || EventKind::failed(&error));
        Ok(Halted::Stopped(error))
    }

    /// Refuses an answer that does not fit, so that the question is open again.
    pub(super) async fn refuse(
        &mut self,
        execution: &dyn Execution,
        question: Value,
        why: String,
    ) -> Result<Halted, DriveError> {
        self.caught_up().await?;
        let (run, seq) = (self.run, self.seq + 1);
        self.write("refuse", move |db| Ok(pauses::refuse_answer(db, run, seq, &why)?)).await?;
        self.announce_question(execution, &question);
        Ok(Halted::Parked)
    }

    /// Writes down the failure of a visit with its usage, which is spent all the same.
    async fn write(
        &self,
        name: &'static str,
        work: impl FnOnce(&Connection) -> Result<(), DriveError> + Send + 'static,
    ) -> Result<(), DriveError> {
        let used = self.meter.take();
        let work = move |db: &Connection| -> Result<(), DriveError> {
            work(db)?;
            Ok(used.write(db)?)
        };
        self.storage.writer.call(name, work).await
    }
}

/// Checks that a run can be read back, before it is parked.
fn check_state(execution: &dyn Execution) -> Result<(), KeepError> {
    execution.save_surely().map(drop).map_err(|source| unstorable(execution, source))
}

/// Returns `true` if the fault is the run's, in its state or in a flow that its `exec` runs, and not the store's.
fn is_of_run(source: &BoxError) -> bool {
    matches!(source.downcast_ref(), Some(DriveError::Keep(_) | DriveError::SecondChild { .. }))
}

/// Returns the store's error inside the error of a visit whose journal failed.
fn of_journal(source: BoxError) -> DriveError {
    match source.downcast::<DriveError>() {
        Ok(error) => *error,
        Err(other) => StoreError::because(StoreFault::Io, other).into(),
    }
}

impl RunFailure {
    pub(crate) fn of(error: &RunError) -> Self {
        let (attempts, item, terminal) = match error {
            RunError::Node { attempts, item, terminal, .. } => (*attempts, *item, *terminal),
            _ => (0, None, false),
        };
        Self { node: error.node().clone(), message: error.report(), attempts, item, terminal, deaths: None }
    }
}
