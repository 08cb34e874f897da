//! The policies of a node as methods of every type: [`NodeExt`].

use std::time::Duration;

use serde::Serialize;

use crate::policy::{HasItems, Journaled, JournaledByKey, JournaledInOrder, Keyed, Retry, With};

/// The policies of a node, where it is added to a flow: `Fetch.retry(…).timeout(…)`.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use flowstone_core::{AsyncFlow, NodeExt, Retry, step};
///
/// let fetch = step(
///     |city: &String| city.clone(),
///     |city: String| async move { Ok(format!("Sunny in {city}")) },
///     |report: &mut String, _city, text: String| *report = text,
/// );
///
/// let mut flow = AsyncFlow::builder("weather");
/// let fetch = flow.add("fetch", fetch.retry(Retry::attempts(3)).timeout(Duration::from_secs(1)));
/// flow.start(fetch);
/// assert!(flow.build().is_ok());
/// ```
pub trait NodeExt: Sized {
    /// Sets how often `exec` is tried, of a batch node per item. The default is one attempt.
    #[must_use]
    fn retry(self, retry: Retry) -> With<Self> {
        With::plain(self).retry(retry)
    }

    /// Bounds the time of one attempt of `exec`. One that takes longer is dropped, and counts as failed.
    ///
    /// On the blocking pool the time in its queue counts, too.
    ///
    /// A blocking `exec` cannot be dropped. [`Context::cancelled`](crate::Context::cancelled) tells it to stop, and the
    /// run waits for it. In a [`Flow`](crate::Flow) nobody could tell it, so a timeout is an error of `build()`.
    #[must_use]
    fn timeout(self, limit: Duration) -> With<Self> {
        With::plain(self).timeout(limit)
    }

    /// Bounds the time of all attempts, waits and items of a visit together.
    ///
    /// When the time is over, the attempt under way is dropped and the fallback called. A wait that would last longer
    /// is not begun. In a run that is kept, the time does not begin again after a restart, once an item or a wait of
    /// the visit was kept.
    #[must_use]
    fn total_timeout(self, limit: Duration) -> With<Self> {
        With::plain(self).total_timeout(limit)
    }

    /// Runs a sync node's `exec` on the thread of the run, not on the blocking pool: for work of microseconds. On an
    /// async node, or beside `parallel` or `journaled`, it is an error of `build()`.
    ///
    /// In an [`AsyncFlow`](crate::AsyncFlow) a wait between the attempts of an inline node is an error of `build()`,
    /// since it would hold up others. A wait that an error [asks for](crate::NodeError::with_retry_after) is awaited.
    #[must_use]
    fn inline(self) -> With<Self> {
        With::plain(self).inline()
    }

    /// Lets up to `limit` items of a batch node be under way at once (`usize::MAX`: all).
    ///
    /// A limit of 0, a node that is no batch, and a [`Flow`](crate::Flow) around it are errors of `build()`.
    ///
    /// In a run that is kept, a batch without [`journaled`](Self::journaled) starts over after a crash, with all its
    /// items.
    #[must_use]
    fn parallel(self, limit: usize) -> With<Self> {
        With::plain(self).parallel(limit)
    }

    /// Makes each item of a parallel async batch node a task of its own, for items that compute rather than wait:
    /// `Render.parallel(8).spawned()`.
    ///
    /// An item costs about 2 µs more, and may use another core. Items that only wait are faster without. Without
    /// [`parallel`](Self::parallel), and on other nodes, it is an error of `build()`.
    #[must_use]
    fn spawned(self) -> With<Self> {
        With::plain(self).spawned()
    }

    /// Lets a driver that keeps runs keep the output of each item of a batch node as it ends. After a crash only the
    /// other items run. Elsewhere it changes nothing.
    ///
    /// The `Output` is `Serialize + DeserializeOwned`, since it is kept as JSON. The `Item` is `Serialize`, since an
    /// item is known by what it holds: a later program may put the items in another order, or leave some out, and each
    /// still gets its output. Equal items are interchangeable. An item that has changed, or whose type has changed, is
    /// a new one, and runs. Where that is too strict, say [`journaled_by`](Self::journaled_by). Where items cannot be
    /// written as JSON, say [`journaled_in_order`](Self::journaled_in_order).
    ///
    /// Failed items are not kept. Without it, a batch starts over after a crash, with all its items.
    ///
    /// An output is read back before it is kept. One that does not come back (a number that JSON does not have, JSON
    /// nested too deep) fails its item for good.
    #[must_use]
    fn journaled(self) -> With<Self, Journaled> {
        With::plain(self).journaled()
    }

    /// As [`journaled`](Self::journaled), with a key that tells the items of a batch apart: the number of an invoice,
    /// say.
    ///
    /// An item whose key was kept is not run again, whatever else of it has changed. Items with equal keys are
    /// interchangeable.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{AsyncBatchNode, AsyncFlow, Context, NodeExt, Result};
    ///
    /// struct Invoice {
    ///     number: u64,
    ///     lines: Vec<String>,
    /// }
    ///
    /// struct Post;
    ///
    /// impl AsyncBatchNode<Vec<u64>> for Post {
    ///     type Item = Invoice;
    ///     type Output = String;
    ///     type Outcome = String;
    ///     type Action = ();
    ///
    ///     async fn prep(&self, numbers: &Vec<u64>) -> Result<Vec<Invoice>> {
    ///         Ok(numbers.iter().map(|number| Invoice { number: *number, lines: vec![] }).collect())
    ///     }
    ///     async fn exec(&self, invoice: &Invoice, _: &Context) -> Result<String> {
    ///         Ok(format!("{} lines", invoice.lines.len()))
    ///     }
    ///     async fn post(&self, _: &mut Vec<u64>, _: Vec<Invoice>, _: Vec<String>) -> Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut flow = AsyncFlow::builder("invoices");
    /// let post = flow.add("post", Post.parallel(8).journaled_by(|invoice| invoice.number));
    /// flow.start(post);
    /// assert!(flow.build().is_ok());
    /// ```
    #[must_use]
    fn journaled_by<S, M, K: Serialize>(
        self,
        key: impl Fn(&Self::Item) -> K + Send + Sync + 'static,
    ) -> With<Keyed<Self, S, Self::Item>, JournaledByKey>
    where
        Self: HasItems<S, M>,
    {
        With::plain(self).journaled_by(key)
    }

    /// As [`journaled`](Self::journaled), for items that nothing tells apart but their places: `prep` must give the
    /// same list for the same state, in this program and in every later one.
    ///
    /// A batch that was begun with another number of items is refused by the driver.
    #[must_use]
    fn journaled_in_order(self) -> With<Self, JournaledInOrder> {
        With::plain(self).journaled_in_order()
    }
}

impl<N> NodeExt for N {}
