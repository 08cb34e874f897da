//! A job on the blocking pool that its run waits for.

use std::{
    future::poll_fn,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use crate::{
    context::started::Counted,
    words::error::{NodeError, Result},
};

/// Runs a job on the blocking pool.
///
/// # Cancel safety
///
/// A dropped job that has not begun never begins, whether or not a thread of the pool is free. One that has begun is
/// told so through the flag `abandoned`. Its run counts it until it ends, and its result is discarded.
pub(crate) async fn in_pool<T: Send + 'static>(
    abandoned: Option<Arc<AtomicBool>>,
    counted: Counted,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let queued = Queued { job, abandoned: abandoned.clone(), span: tracing::Span::current(), counted };
    let mut place = Place { queued: Arc::new(Mutex::new(Some(queued))), abandoned };
    let queued = Arc::clone(&place.queued);
    let mut task = tokio::task::spawn_blocking(move || {
        let taken = lock(&queued).take();
        match taken {
            Some(Queued { job, abandoned, span, counted }) if !is_set(abandoned.as_ref()) => {
                let _counted = counted;
                span.in_scope(job)
            }
            _ => Err(before_it_began()),
        }
    });
    let ended = poll_fn(|waker| {
        // Its time may be over before a thread is free. Then it must neither run beside the next attempt nor keep that
        // waiting.
        if is_set(place.abandoned.as_ref()) && place.leave() {
            return Poll::Ready(None);
        }
        Pin::new(&mut task).poll(waker).map(Some)
    });
    let ended = ended.await;
    place.abandoned = None;
    match ended {
        Some(Ok(result)) => result,
        None => Err(before_it_began()),
        // The panic continues on the run's own task, as if `exec` had run there.
        Some(Err(error)) => match error.try_into_panic() {
            Ok(payload) => resume_unwind(payload),
            Err(shut_down) => Err(NodeError::terminal(shut_down)),
        },
    }
}

/// A job that waits for a thread of the pool.
struct Queued<J> {
    job: J,
    abandoned: Option<Arc<AtomicBool>>,
    span: tracing::Span,
    counted: Counted,
}

/// The place of a job in the queue of the pool. Dropping it tells a job that has begun that nobody waits for it any
/// more.
struct Place<J> {
    /// Empty once the job has begun, or was given up.
    queued: Arc<Mutex<Option<Queued<J>>>>,
    abandoned: Option<Arc<AtomicBool>>,
}

impl<J> Place<J> {
    /// Drops the job if it has not begun, and returns whether it was so.
    fn leave(&self) -> bool {
        let job = lock(&self.queued).take();
        job.is_some()
    }
}

impl<J> Drop for Place<J> {
    fn drop(&mut self) {
        if let Some(abandoned) = &self.abandoned {
            abandoned.store(true, Ordering::Relaxed);
        }
        self.leave();
    }
}

fn is_set(flag: Option<&Arc<AtomicBool>>) -> bool {
    flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
}

fn before_it_began() -> NodeError {
    NodeError::terminal("abandoned before it began")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
