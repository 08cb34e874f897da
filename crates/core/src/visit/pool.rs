//! The blocking pool: sync nodes in an async flow, and [`Context::blocking`] for what async ones do there.
//!
//! [`Pooled`] makes an async node of a sync one, so that there is one async visit for both: `prep` and `post` on the run's
//! task, `exec` on the pool.

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
    context::{Context, Counted},
    node::{AsyncBatchNode, AsyncNode, BatchNode, Node, State},
    visit::Halt,
    words::error::{NodeError, Result},
};

/// A sync node, seen as an async one.
///
/// What `prep` gives is shared with the pool's thread, and taken back for `post`.
pub(crate) struct Pooled<N>(pub(crate) Arc<N>);

impl<S: State, N: Node<S>> AsyncNode<S> for Pooled<N> {
    type Prep = Arc<N::Prep>;
    type Exec = N::Exec;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<Arc<N::Prep>> {
        self.0.prep(shared).map(Arc::new)
    }

    async fn exec(&self, prep: &Arc<N::Prep>, cx: &Context) -> Result<N::Exec> {
        let (node, prep) = (Arc::clone(&self.0), Arc::clone(prep));
        in_pool(cx, cx.count(), move |cx| node.exec(&prep, cx)).await
    }

    async fn exec_fallback(&self, prep: &Arc<N::Prep>, error: NodeError, cx: &Context) -> Result<N::Exec> {
        let (node, prep) = (Arc::clone(&self.0), Arc::clone(prep));
        in_pool(cx, cx.count(), move |cx| node.exec_fallback(&prep, error, cx)).await
    }

    async fn post(&self, shared: &mut S, prep: Arc<N::Prep>, exec: N::Exec) -> Result<N::Action> {
        self.0.post(shared, sole(prep), exec)
    }
}

impl<S: State, N: BatchNode<S>> AsyncBatchNode<S> for Pooled<N> {
    type Item = Arc<N::Item>;
    type Output = N::Output;
    type Outcome = N::Outcome;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<Vec<Arc<N::Item>>> {
        Ok(self.0.prep(shared)?.into_iter().map(Arc::new).collect())
    }

    async fn exec(&self, item: &Arc<N::Item>, cx: &Context) -> Result<N::Output> {
        let (node, item) = (Arc::clone(&self.0), Arc::clone(item));
        in_pool(cx, cx.count(), move |cx| node.exec(&item, cx)).await
    }

    async fn exec_fallback(&self, item: &Arc<N::Item>, error: NodeError, cx: &Context) -> Result<N::Output> {
        let (node, item) = (Arc::clone(&self.0), Arc::clone(item));
        in_pool(cx, cx.count(), move |cx| node.exec_fallback(&item, error, cx)).await
    }

    async fn post(&self, shared: &mut S, items: Vec<Arc<N::Item>>, outcomes: Vec<N::Outcome>) -> Result<N::Action> {
        self.0.post(shared, items.into_iter().map(sole).collect(), outcomes)
    }
}

/// A sync node whose `exec` runs on the thread of the run, seen as an async one: so that between two attempts the thread is
/// free for others, and the run can be cancelled.
pub(crate) struct OnThread<N>(pub(crate) Arc<N>);

impl<S: State, N: Node<S>> AsyncNode<S> for OnThread<N> {
    type Prep = N::Prep;
    type Exec = N::Exec;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<N::Prep> {
        self.0.prep(shared)
    }

    async fn exec(&self, prep: &N::Prep, cx: &Context) -> Result<N::Exec> {
        self.0.exec(prep, cx)
    }

    async fn exec_fallback(&self, prep: &N::Prep, error: NodeError, cx: &Context) -> Result<N::Exec> {
        self.0.exec_fallback(prep, error, cx)
    }

    async fn post(&self, shared: &mut S, prep: N::Prep, exec: N::Exec) -> Result<N::Action> {
        self.0.post(shared, prep, exec)
    }
}

impl<S: State, N: BatchNode<S>> AsyncBatchNode<S> for OnThread<N> {
    type Item = N::Item;
    type Output = N::Output;
    type Outcome = N::Outcome;
    type Action = N::Action;

    async fn prep(&self, shared: &S) -> Result<Vec<N::Item>> {
        self.0.prep(shared)
    }

    async fn exec(&self, item: &N::Item, cx: &Context) -> Result<N::Output> {
        self.0.exec(item, cx)
    }

    async fn exec_fallback(&self, item: &N::Item, error: NodeError, cx: &Context) -> Result<N::Output> {
        self.0.exec_fallback(item, error, cx)
    }

    async fn post(&self, shared: &mut S, items: Vec<N::Item>, outcomes: Vec<N::Outcome>) -> Result<N::Action> {
        self.0.post(shared, items, outcomes)
    }
}

fn sole<T>(shared: Arc<T>) -> T {
    Arc::into_inner(shared).expect("invariant: every blocking attempt was awaited and has dropped its share")
}

impl Context {
    /// Runs a job that blocks on the blocking pool, from an async `exec`.
    ///
    /// The job gets this context with a [`cancelled`](Self::cancelled) of its own, which is also true once nobody waits for
    /// the job any more; a long job asks it now and then. The `exec` of a sync node does not need this: in an async flow it
    /// runs on the pool by itself.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::Context;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> flowstone_core::Result<()> {
    /// let cx = Context::detached(); // an `exec` has that of its run
    /// let sum = cx.blocking(|cx| Ok((0..1_000).take_while(|_| !cx.cancelled()).sum::<u32>())).await?;
    /// assert_eq!(sum, 499_500);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the job. When the run is cancelled or out of time, that, whatever the job returned: it stops the run, as
    /// soon as `exec` returns it. And if the runtime is shut down.
    ///
    /// # Panics
    ///
    /// If the job does; and outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// When dropped, by a timeout, a sibling that failed or a `select!`, a job that has not begun never begins. One that
    /// has is told so; its result is discarded, and its run waits for it before it returns, with options and without. So
    /// does the next attempt, or the fallback, of the same `exec`, before it begins; what else that `exec` does, does not.
    /// Nobody waits if the run itself is dropped, or the context is [detached](Self::detached).
    pub async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut own = self.clone();
        own.renew_abandoned();
        let result = in_pool(&own, own.count_job(), job).await;
        match self.check() {
            Ok(()) => result,
            // A job that was told to stop returns anything; its run may look at the time a moment later.
            Err(stopped) => Err(NodeError::terminal(Halt::into_error(self.halt(*stopped)))),
        }
    }
}

/// Runs a job on the blocking pool.
///
/// # Cancel safety
///
/// When dropped, a job that has not begun is dropped, too, whether or not a thread of the pool is free. One that has is told
/// so through [`Context::cancelled`]; it [counts](Context::count) in its run until it ends, and its result is discarded.
async fn in_pool<T: Send + 'static>(
    cx: &Context,
    counted: Option<Counted>,
    job: impl FnOnce(&Context) -> Result<T> + Send + 'static,
) -> Result<T> {
    let queued = Queued { job, cx: cx.clone(), span: tracing::Span::current(), counted };
    let mut place = Place { queued: Arc::new(Mutex::new(Some(queued))), abandoned: cx.abandoned().cloned() };
    let queued = Arc::clone(&place.queued);
    let mut task = tokio::task::spawn_blocking(move || {
        let taken = lock(&queued).take();
        match taken {
            Some(Queued { job, cx, span, counted }) if !is_set(cx.abandoned()) => {
                let _counted = counted;
                span.in_scope(|| job(&cx))
            }
            _ => Err(before_it_began()),
        }
    });
    let ended = poll_fn(|waker| {
        // Its time may be over before a thread is free: it must not run beside the next attempt, nor keep that waiting.
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
        // A panic goes on on the run's own task, as if `exec` had run there.
        Some(Err(error)) => match error.try_into_panic() {
            Ok(payload) => resume_unwind(payload),
            Err(shut_down) => Err(NodeError::terminal(shut_down)),
        },
    }
}

/// A job that waits for a thread of the pool.
struct Queued<J> {
    job: J,
    cx: Context,
    span: tracing::Span,
    counted: Option<Counted>,
}

/// The place of a job in the queue of the pool; when dropped, a job that has begun is told that nobody waits for it.
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
