//! Operates the runs of a flow that the program lacks: they are cancelled and deleted, and nothing else.

use std::time::Duration;

use flowstone::durable::{ChangeError, DriveError, ReadError, Status, Store, WrongStatus};

use crate::{
    fault::Fault,
    ledger::Told,
    operator::Operator,
    plan::{Fate, Plan, Who},
};

/// The time after which runs are deleted, in milliseconds.
const SOON: u64 = 100;

impl Operator {
    /// Cancels and deletes the runs for which that is planned, in any status.
    pub(super) async fn of_missing_flow(&self, store: &Store, plans: impl Iterator<Item = &Plan>) -> Result<(), Fault> {
        let mut waited = 0;
        let mut plans: Vec<_> = plans.filter_map(|plan| Some((at(plan)?, plan))).collect();
        plans.sort_by_key(|(at, _)| *at);
        for (at, plan) in plans {
            tokio::time::sleep(Duration::from_millis(at - waited)).await;
            waited = at;
            match plan.fate {
                Fate::Deleted => self.delete_of_missing(store, plan).await?,
                _ if !self.marked("cancel", &plan.id) => self.cancel_of_missing(store, plan).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn cancel_of_missing(&self, store: &Store, plan: &Plan) -> Result<(), Fault> {
        self.mark("cancel", &plan.id);
        match store.cancel(plan.id.as_str()).await {
            Ok(()) => self.told(Told::Cancelled, &plan.id),
            Err(ChangeError::WrongStatus(_) | ChangeError::Read(ReadError::UnknownRun { .. })) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match store.retry_failed(plan.id.as_str()).await {
            Err(ChangeError::Drive(DriveError::UnknownFlow { .. })) => Ok(()),
            other => Err(Fault::Odd(format!("run {}, whose flow is missing, is retried: {other:?}", plan.id))),
        }
    }

    async fn delete_of_missing(&self, store: &Store, plan: &Plan) -> Result<(), Fault> {
        self.mark("delete", &plan.id);
        loop {
            match store.delete(plan.id.as_str()).await {
                Ok(()) | Err(ChangeError::Read(ReadError::UnknownRun { .. })) => break self.told(Told::Gone, &plan.id),
                Err(ChangeError::WrongStatus(WrongStatus { status: Status::Running, .. })) => {}
                Err(error) => return Err(error.into()),
            }
            match store.cancel(plan.id.as_str()).await {
                Ok(()) | Err(ChangeError::WrongStatus(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Returns the time at which an action on a run is due, in milliseconds.
fn at(plan: &Plan) -> Option<u64> {
    match plan.fate {
        Fate::Cancelled { after, by: Who::Driver, .. } => Some(after),
        Fate::Deleted if plan.by == Who::Driver => Some(SOON),
        _ => None,
    }
}
