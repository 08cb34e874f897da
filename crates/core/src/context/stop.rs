//! The points at which a run stops, and waits that end there.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    context::{
        Context,
        scope::{CLOCK, Deadline, DeadlineAt},
    },
    outcome::Detour,
    words::error::RunError,
};

impl Context {
    /// Fails if the run has to stop, or if code that watches or times it has panicked.
    pub(crate) fn check_run(&self) -> Result<(), RunError> {
        match self.fault().or_else(|| self.stop()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Fails if the run has to stop.
    pub(crate) fn check(&self) -> Result<(), Box<Detour>> {
        self.stop().map_or(Ok(()), |error| Err(Box::new(Detour::Stopped(error))))
    }

    /// Returns the error of a run that has to stop here.
    pub(super) fn stop(&self) -> Option<RunError> {
        let extras = self.extras()?;
        if extras.cancel.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Some(RunError::Cancelled { run: self.run_id(), node: self.node() });
        }
        let deadline = extras.deadline?;
        let late = match deadline.at {
            DeadlineAt::Clock(at) => {
                let clock = extras.clock.as_ref()?;
                match self.guarded(CLOCK, || clock.now()) {
                    Some(now) => now >= at,
                    None => return self.fault(),
                }
            }
            DeadlineAt::Tokio(at) => tokio::time::Instant::now() >= at,
        };
        late.then(|| RunError::DeadlineExceeded { run: self.run_id(), node: self.node(), limit: deadline.limit })
    }

    /// Waits between two attempts of a sync node, at most up to the deadline. If there is a token, it looks at it every
    /// few milliseconds.
    pub(crate) fn sleep(&self, wait: Duration) -> Result<(), Box<Detour>> {
        const LOOK_UP: Duration = Duration::from_millis(10);

        let Some(extras) = self.extras() else {
            std::thread::sleep(wait);
            return Ok(());
        };
        let Some(clock) = &extras.clock else {
            std::thread::sleep(wait);
            return self.check();
        };
        let slice = if extras.cancel.is_some() { LOOK_UP } else { Duration::MAX };
        let mut left = wait;
        while !left.is_zero() {
            let until = match extras.deadline {
                Some(Deadline { at: DeadlineAt::Clock(at), .. }) => {
                    at.saturating_sub(self.guarded(CLOCK, || clock.now()).unwrap_or(at))
                }
                _ => Duration::MAX,
            };
            self.guarded(CLOCK, || clock.sleep(left.min(slice).min(until)));
            left = left.saturating_sub(slice);
            self.check_fault()?;
            self.check()?;
        }
        Ok(())
    }

    /// Fails if something that watches or times the run has panicked.
    #[inline]
    pub(crate) fn check_fault(&self) -> Result<(), Box<Detour>> {
        self.fault().map_or(Ok(()), |error| Err(Box::new(Detour::Stopped(error))))
    }

    /// Returns the error of a run if something that watches or times it has panicked.
    pub(super) fn fault(&self) -> Option<RunError> {
        let fault = self.extras()?.fault.get()?;
        let (place, message) = (fault.place, fault.message.clone());
        Some(RunError::Panicked { run: self.run_id(), node: self.node(), place, message })
    }
}
