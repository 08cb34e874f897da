//! Telling listeners that a run failed or was cancelled while it was not driven.

use std::sync::Arc;

use flowstone_core::{Event, EventKind, RunError, driver::Panicked};

use crate::{drive::shared::Shared, words::status::Status};

impl Shared {
    /// Tells the listeners of a run that it has failed, from a thread that reads.
    pub(crate) fn tell_stopped_soon(self: &Arc<Self>, run: i64) {
        let shared = Arc::clone(self);
        self.tasks.spawn_on(async move { shared.tell_stopped(run).await }, &self.runtime);
    }

    /// Tells the listeners of a run that it failed or was cancelled, according to the store.
    pub(crate) async fn tell_stopped(&self, run: i64) {
        let info = match self.read(move |reader| reader.info(run)).await {
            Ok(Some(info)) if info.parent.is_none() => info,
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(target: "flowstone", run, %error, "listeners could not be told that a run stopped");
                return;
            }
        };
        let Some(flow) = self.flows.get(&info.flow).filter(|flow| !flow.listeners().is_empty()) else { return };
        let node = info.error.as_ref().map(|error| error.node.clone()).or(info.node).unwrap_or_else(|| "".into());
        let kind = match (info.status, info.error) {
            (Status::Failed, Some(error)) => EventKind::Failed { phase: None, error: error.message },
            (Status::Cancelled, _) => EventKind::failed(&RunError::cancelled(info.id.clone(), node.clone())),
            // The run was retried in the meantime.
            _ => return,
        };
        let event = Event::of_run(info.id, Some(node), info.step, kind);
        for listener in flow.listeners() {
            // A panic of a listener stops nothing here: the run is at its end.
            if let Err(panicked) = Panicked::catch(|| listener.event(&event)) {
                tracing::error!(target: "flowstone", run = %event.run, "a listener {panicked}");
            }
        }
    }
}
