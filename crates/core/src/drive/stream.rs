//! A run as a stream of its events.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as Polling, Poll},
};

use futures_util::{Stream, task::AtomicWaker};

use crate::{
    drive::{flow::AsyncFlow, options::RunOptions},
    execution::BoxFuture,
    node::State,
    outcome::Outcome,
    words::{
        action::Label,
        error::RunError,
        event::{Event, EventKind, Listener},
    },
};

/// A run as a stream of its events, the last of which is terminal; made by [`AsyncFlow::stream`].
///
/// Polling the stream drives the run, and a slow reader slows it down: the run gives way after each visit, and after
/// each item of a batch, and is not polled while events wait.
///
/// At most 1,024 events wait: those that one visit emits without waiting, and those of work beside the run (blocking
/// attempts, spawned items). Later ones are left out, and [`EventKind::Missed`] stands in their place, with their
/// number. The terminal event is never left out.
///
/// # Cancel safety
///
/// Dropping the stream drops the run.
pub struct EventStream<'a> {
    run: BoxFuture<'a, Result<Outcome, RunError>>,
    queue: Arc<Queue>,
    result: Option<Result<Outcome, RunError>>,
}

/// The most events that wait: some hundred kilobytes, and more than a screen or a log is usually behind.
const QUEUE: usize = 1024;

/// Events that wait for the reader.
#[derive(Default)]
struct Queue {
    /// A plain mutex: it is held for a push or a pop.
    waiting: Mutex<Waiting>,
    /// Wakes the reader when something beside the run's own future emits.
    reader: AtomicWaker,
    /// `true` once nobody reads any more.
    closed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// The first of the events that were left out after the last one that waits, and the number of those left out.
    missed: Option<(Event, u64)>,
}

impl Waiting {
    fn push(&mut self, event: &Event) {
        if self.events.len() >= QUEUE && !event.is_terminal() {
            self.missed.get_or_insert_with(|| (event.clone(), 0)).1 += 1;
            return;
        }
        let missed = self.take_missed();
        self.events.extend(missed);
        self.events.push_back(event.clone());
    }

    fn pop(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.take_missed())
    }

    /// Takes the event that stands in the place of those left out.
    fn take_missed(&mut self) -> Option<Event> {
        self.missed.take().map(|(first, events)| Event { kind: EventKind::Missed { events }, ..first })
    }
}

impl Queue {
    fn pop(&self) -> Option<Event> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Listener for Arc<Queue> {
    fn event(&self, event: &Event) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.reader.wake();
    }
}

impl<S: State, X: Label> AsyncFlow<S, X> {
    /// Runs the flow as a stream of its events.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{AsyncFlow, EventKind, RunOptions};
    /// use futures_util::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut flow = AsyncFlow::builder("count");
    /// let add = flow.add("add", |n: &mut u32| *n += 1);
    /// flow.start(add);
    /// let flow = flow.build()?;
    ///
    /// let mut n = 0;
    /// let mut events = flow.stream(&mut n, RunOptions::new());
    /// let mut last = None;
    /// while let Some(event) = events.next().await {
    ///     last = Some(event.kind);
    /// }
    /// assert!(matches!(last, Some(EventKind::Ended { .. })));
    /// assert!(events.outcome().await?.action().is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream<'a>(&'a self, shared: &'a mut S, options: RunOptions) -> EventStream<'a> {
        let queue = Arc::new(Queue::default());
        let options = options.listen(Arc::clone(&queue));
        let run = Box::pin(async move { self.run_async_with(shared, &options).await });
        EventStream { run, queue, result: None }
    }
}

impl EventStream<'_> {
    /// Runs to the end, without the events that are left, and returns how the run came out.
    ///
    /// # Errors
    ///
    /// Those of [`AsyncFlow::run_async_with`].
    pub async fn outcome(mut self) -> Result<Outcome, RunError> {
        match self.result.take() {
            Some(result) => result,
            None => {
                self.queue.closed.store(true, Ordering::Relaxed);
                self.run.await
            }
        }
    }
}

impl Stream for EventStream<'_> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, polling: &mut Polling<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        this.queue.reader.register(polling.waker());
        loop {
            if let Some(event) = this.queue.pop() {
                return Poll::Ready(Some(event));
            }
            if this.result.is_some() {
                return Poll::Ready(None);
            }
            match this.run.as_mut().poll(polling) {
                Poll::Ready(result) => this.result = Some(result),
                Poll::Pending => {
                    return match this.queue.pop() {
                        Some(event) => Poll::Ready(Some(event)),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl fmt::Debug for EventStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("ended", &self.result.is_some()).finish_non_exhaustive()
    }
}
