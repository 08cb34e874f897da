//! Following a run: its history and then its life, as one stream without a gap.

use std::{collections::VecDeque, sync::Arc};

use flowstone_core::{Event, State};
use futures_util::{Stream, stream};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    api::run::Run,
    drive::{news::Waiter, observer::Live},
    words::{error::DriveError, info::StepInfo, status::Status},
};

/// The number of steps that are read from the store at once.
const PAGE: usize = 256;

/// Something that a follower of a run sees.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Seen {
    /// A step. Every step is seen, once and in order.
    Step(StepInfo),
    /// An event inside the visit under way: an attempt, an item, a value that a node emits. Events from before the
    /// follower came are not told.
    Event(Arc<Event>),
    /// The follower was too slow, and this many events are lost to it. Steps are never lost.
    Missed(u64),
    /// The run halted in this status. If the status is final, this is the last item.
    Status(Status),
}

impl<S: State + Serialize + DeserializeOwned> Run<S> {
    /// Follows the run from a step on, until it is at its end: first come the stored steps, and then those that are
    /// made.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::AsyncFlow;
    /// use flowstone_durable::{Runs, Seen};
    /// use futures_util::{StreamExt, pin_mut};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("counts.db");
    /// let mut flow = AsyncFlow::builder("count");
    /// let add = flow.add("add", |n: &mut u32| *n += 1);
    /// flow.start(add);
    /// let run = Runs::open(&path, flow.build()?).await?.start("r", 0).await?;
    ///
    /// let seen = run.follow(0);
    /// pin_mut!(seen);
    /// let mut steps = Vec::new();
    /// while let Some(seen) = seen.next().await {
    ///     if let Seen::Step(step) = seen? {
    ///         steps.push((step.step, step.node));
    ///     }
    /// }
    /// assert_eq!(steps, [(0, None), (1, Some("add".into()))]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(&self, from: u64) -> impl Stream<Item = Result<Seen, DriveError>> + Send + use<S> {
        let news = self.shared().wait_for(self.run);
        let follower = Follower {
            run: self.clone(),
            next: from,
            ready: VecDeque::new(),
            until: Some(u64::MAX),
            live: None,
            news,
            told: None,
            over: false,
        };
        stream::unfold(follower, |mut follower| async move {
            let seen = follower.next().await?;
            follower.over |= seen.is_err();
            Some((seen, follower))
        })
    }
}

struct Follower<S> {
    run: Run<S>,
    /// The next step to tell.
    next: u64,
    ready: VecDeque<StepInfo>,
    /// The step up to which the store is to be read; `None` while events are received.
    until: Option<u64>,
    live: Option<broadcast::Receiver<Live>>,
    news: Waiter,
    /// The status that was told last.
    told: Option<Status>,
    over: bool,
}

impl<S: State + Serialize + DeserializeOwned> Follower<S> {
    async fn next(&mut self) -> Option<Result<Seen, DriveError>> {
        if self.over {
            return None;
        }
        loop {
            if let Some(step) = self.ready.pop_front() {
                self.next = step.step + 1;
                return Some(Ok(Seen::Step(step)));
            }
            match self.advance().await {
                Ok(Some(seen)) => return Some(Ok(seen)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads steps, or waits for an event.
    async fn advance(&mut self) -> Result<Option<Seen>, DriveError> {
        if let Some(last) = self.until.take() {
            // The order matters: by listening first and reading afterwards, no step can fall between the two.
            self.news.mark_unchanged();
            if self.live.is_none() {
                self.live = self.run.shared().observer(self.run.run).map(|observer| observer.follow());
            }
            let info = self.run.info().await?;
            let left = last.min(info.step).saturating_add(1).saturating_sub(self.next);
            if left > 0 {
                self.until = Some(last);
                let page = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
                self.ready.extend(self.run.steps(self.next, page).await?);
                return Ok(None);
            }
            if info.status != Status::Running && self.live.is_none() && self.told != Some(info.status) {
                self.told = Some(info.status);
                self.over = info.status.is_final();
                return Ok(Some(Seen::Status(info.status)));
            }
        }
        self.wait().await
    }

    /// Waits until there is an event to tell, or there may be another step.
    async fn wait(&mut self) -> Result<Option<Seen>, DriveError> {
        loop {
            let Some(live) = &mut self.live else {
                self.news.changed().await?;
                (self.told, self.until) = (None, Some(u64::MAX));
                return match self.news.fault() {
                    Some(fault) => Err(fault),
                    None => Ok(None),
                };
            };
            match live.recv().await {
                // An event of a visit whose step was read from the store is history.
                Ok(Live::Event(step, _)) if step < self.next => {}
                Ok(Live::Event(_, event)) => return Ok(Some(Seen::Event(event))),
                Ok(Live::Step(step)) if step < self.next => {}
                // The store is read up to this step only, since the events of the next visit are still to be told.
                Ok(Live::Step(step)) => {
                    self.until = Some(step);
                    return Ok(None);
                }
                Err(RecvError::Lagged(events)) => {
                    self.until = Some(u64::MAX);
                    return Ok(Some(Seen::Missed(events)));
                }
                Err(RecvError::Closed) => {
                    (self.live, self.until) = (None, Some(u64::MAX));
                    return Ok(None);
                }
            }
        }
    }
}
