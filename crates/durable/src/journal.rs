//! What a visit under way has done, kept item by item: the store's [`Journal`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use flowstone_core::{Action, BoxError, BoxFuture, Execution, Journal, NodePath, RunError, RunId, Waited};
use rusqlite::Connection;

use crate::{
    children,
    flows::AnyFlow,
    keeper::Watched,
    load::UnderWay,
    observer::{Observer, lock},
    rows::{self, Kept, NODE, int},
    shared::Shared,
    status::Items,
    usage::{OpenPurse, Purse},
};

/// The journal of one run; it belongs to the visit that is under way.
pub(crate) struct RunJournal {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: i64,
    /// The run that the user started, and its flow.
    pub(crate) root: RunId,
    pub(crate) flow: Arc<dyn AnyFlow>,
    /// What the visit under way has used; it also knows the step that the visit will be.
    purse: Arc<Purse>,
    /// The path of the node that is visited, as events name it.
    node: Mutex<NodePath>,
    pub(crate) observer: Arc<Observer>,
    /// What an earlier process had kept, of this visit only.
    items: Mutex<HashMap<i64, Kept>>,
    pub(crate) children: Mutex<HashMap<usize, i64>>,
    /// The children that this process has run in this visit, by item.
    pub(crate) called: Mutex<HashMap<usize, Called>>,
    /// Whether one of them was dropped under way.
    pub(crate) left: AtomicBool,
    recorded: AtomicU64,
    recalled: AtomicU64,
    /// Whether anything of this visit is in the store.
    kept: AtomicBool,
    /// When the node itself goes on; 0 if it does not wait.
    wakes_at: AtomicI64,
    parks: bool,
}

/// A child that this process has run in the visit under way.
pub(crate) struct Called {
    /// The name of its flow.
    pub(crate) flow: String,
    /// Whether it runs at this moment.
    pub(crate) under_way: bool,
    /// Whether it is counted as one of the items that are done.
    pub(crate) counted: bool,
}

impl RunJournal {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        run: i64,
        watched: &Watched,
        purse: &OpenPurse,
        under_way: UnderWay,
    ) -> Arc<Self> {
        let kept = !under_way.items.is_empty();
        Arc::new(Self {
            shared: Arc::clone(shared),
            run,
            root: watched.root.clone(),
            flow: Arc::clone(&watched.flow),
            purse: Arc::clone(&purse.purse),
            node: Mutex::new("".into()),
            observer: Arc::clone(&watched.observer),
            items: Mutex::new(under_way.items),
            children: Mutex::new(under_way.children),
            called: Mutex::default(),
            left: AtomicBool::new(false),
            recorded: AtomicU64::new(0),
            recalled: AtomicU64::new(0),
            kept: AtomicBool::new(kept),
            wakes_at: AtomicI64::new(0),
            parks: watched.parks,
        })
    }

    /// Turns to the next visit. What was recalled is of the first one.
    pub(crate) fn begin(&self, seq: u64, node: NodePath) {
        *lock(&self.node) = node;
        if self.purse.begin(seq) != 0 {
            lock(&self.items).clear();
            lock(&self.children).clear();
            lock(&self.called).clear();
            self.left.store(false, Ordering::Relaxed);
            self.kept.store(false, Ordering::Relaxed);
        }
        self.recorded.store(0, Ordering::Relaxed);
        self.recalled.store(0, Ordering::Relaxed);
        self.wakes_at.store(0, Ordering::Relaxed);
    }

    pub(crate) fn seq(&self) -> u64 {
        self.purse.seq()
    }

    pub(crate) fn node(&self) -> NodePath {
        lock(&self.node).clone()
    }

    /// The items of this visit, if it has any that are kept.
    pub(crate) fn items(&self) -> Option<Items> {
        let recalled = self.recalled.load(Ordering::Relaxed);
        let recorded = self.recorded.load(Ordering::Relaxed) + recalled;
        (recorded > 0).then_some(Items { recorded, recalled })
    }

    pub(crate) fn has_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    pub(crate) fn wakes_at(&self) -> Option<i64> {
        Some(self.wakes_at.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Whether there are children of this visit that nobody goes on with once it is committed.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) || !lock(&self.children).is_empty()
    }

    /// Counts a child that is done, once: recalled, or just run.
    pub(crate) fn count_child(&self, item: usize, recalled: bool) {
        let mut called = lock(&self.called);
        if let Some(called) = called.get_mut(&item).filter(|called| !called.counted) {
            called.counted = true;
            self.count(recalled);
        }
    }

    fn count(&self, recalled: bool) {
        let counter = if recalled { &self.recalled } else { &self.recorded };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    async fn keep(&self, name: &'static str, item: i64, kept: Kept) -> Result<(), BoxError> {
        self.kept.store(true, Ordering::Relaxed);
        let (run, seq, used) = (self.run, self.seq(), self.observer.purses.take(&self.purse));
        let write = move |db: &Connection| {
            rows::keep_item(db, run, seq, item, &kept)?;
            used.write(db)
        };
        Ok(self.shared.writer.call(name, write).await?)
    }
}

impl Journal for RunJournal {
    fn recall(&self, item: usize) -> Option<Vec<u8>> {
        let mut items = lock(&self.items);
        if items.is_empty() {
            return None;
        }
        let Some(Kept::Output(output)) = items.get_mut(&int(item)) else { return None };
        let output = std::mem::take(output);
        items.remove(&int(item));
        self.count(true);
        Some(output)
    }

    fn record(&self, item: usize, output: Vec<u8>) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            self.keep("item", int(item), Kept::Output(output)).await?;
            // An item whose `exec` ran a flow was counted with that.
            if !lock(&self.called).get(&item).is_some_and(|called| called.counted) {
                self.count(false);
            }
            Ok(())
        })
    }

    fn child<'a>(&'a self, item: usize, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Action, RunError>> {
        Box::pin(children::drive(self, item, child))
    }

    fn waited(&self, item: Option<usize>) -> Option<Waited> {
        let items = lock(&self.items);
        let Some(Kept::Wait { attempt, wake_at }) = items.get(&item.map_or(NODE, int)) else { return None };
        let left = u64::try_from(wake_at - self.shared.now()).unwrap_or_default();
        if item.is_none() {
            self.wakes_at.store(*wake_at, Ordering::Relaxed);
        }
        Some(Waited { attempt: *attempt, left: Duration::from_millis(left) })
    }

    fn wait(&self, item: Option<usize>, attempt: u32, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            if wait < self.shared.options.keep_waits {
                return Ok(());
            }
            let wake_at = self.shared.now().saturating_add(int(wait.as_millis()));
            if item.is_none() {
                self.wakes_at.store(wake_at, Ordering::Relaxed);
            }
            self.keep("wait", item.map_or(NODE, int), Kept::Wait { attempt, wake_at }).await
        })
    }

    fn parks(&self, wait: Duration) -> bool {
        self.parks && wait >= self.shared.options.keep_waits
    }
}
