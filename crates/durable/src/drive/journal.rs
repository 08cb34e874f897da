//! What a visit under way has done, kept item by item: the store's [`Journal`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use flowstone_core::{
    Action, BoxError, BoxFuture, Execution, Forked, ItemId, Journal, NodePath, RunError, RunId, Standing, Undecodable,
    Waited,
};
use rusqlite::Connection;

use crate::{
    drive::{
        children,
        keeper::Watched,
        observer::{Observer, lock},
        shared::Shared,
    },
    flows::registered::AnyFlow,
    records::{
        load::{KnownChild, UnderWay},
        rows::{self, Did, NewItem},
        usage::{OpenPurse, Purse},
    },
    words::{
        error::Error,
        status::{self, Status},
        waits::Wait,
    },
};

mod items;

use items::Items;

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
    /// What is kept of this visit.
    items: Mutex<Items>,
    /// The children that an earlier process began, and nobody has called for yet.
    pub(crate) children: Mutex<Vec<KnownChild>>,
    /// The children that an earlier process began, and whose items have other places now that are yet to be written down.
    moved: Mutex<Vec<(i64, usize)>>,
    /// The items of the children, by number, that this visit has called for.
    forks: Mutex<HashMap<i64, usize>>,
    /// The children that this process has run in this visit, by item.
    pub(crate) called: Mutex<HashMap<usize, Called>>,
    /// Whether one of them was dropped under way.
    pub(crate) left: AtomicBool,
    recorded: AtomicU64,
    recalled: AtomicU64,
    /// Whether anything of this visit is in the store.
    kept: AtomicBool,
    /// The version of the flow.
    version: u32,
    parks: bool,
}

/// A child that this process has run in the visit under way.
pub(crate) struct Called {
    /// The name of its flow.
    pub(crate) flow: String,
    pub(crate) item: ItemId,
    /// Its number, once that is known here.
    pub(crate) run: Option<i64>,
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
        mut under_way: UnderWay,
    ) -> Arc<Self> {
        let kept = !under_way.items.is_empty() || under_way.has_row;
        let children = std::mem::take(&mut under_way.children);
        Arc::new(Self {
            shared: Arc::clone(shared),
            run,
            root: watched.root.clone(),
            flow: Arc::clone(&watched.flow),
            purse: Arc::clone(&purse.purse),
            node: Mutex::new("".into()),
            observer: Arc::clone(&watched.observer),
            items: Mutex::new(Items::resuming(under_way)),
            children: Mutex::new(children),
            moved: Mutex::default(),
            forks: Mutex::default(),
            called: Mutex::default(),
            left: AtomicBool::new(false),
            recorded: AtomicU64::new(0),
            recalled: AtomicU64::new(0),
            kept: AtomicBool::new(kept),
            version: watched.version,
            parks: watched.parks,
        })
    }

    /// Turns to the next visit. What was recalled is of the first one.
    pub(crate) fn begin(&self, seq: u64, node: NodePath) {
        *lock(&self.node) = node;
        if self.purse.begin(seq) != 0 {
            *lock(&self.items) = Items::default();
            lock(&self.children).clear();
            lock(&self.moved).clear();
            lock(&self.forks).clear();
            lock(&self.called).clear();
            self.left.store(false, Ordering::Relaxed);
            self.kept.store(false, Ordering::Relaxed);
        }
        self.recorded.store(0, Ordering::Relaxed);
        self.recalled.store(0, Ordering::Relaxed);
    }

    pub(crate) fn seq(&self) -> u64 {
        self.purse.seq()
    }

    pub(crate) fn node(&self) -> NodePath {
        lock(&self.node).clone()
    }

    /// The items of this visit, if it has any that are kept.
    pub(crate) fn items(&self) -> Option<status::Items> {
        let recalled = self.recalled.load(Ordering::Relaxed);
        let recorded = self.recorded.load(Ordering::Relaxed) + recalled;
        (recorded > 0).then_some(status::Items { recorded, recalled })
    }

    pub(crate) fn has_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// When the node itself goes on, by the store's clock, if it waits.
    pub(crate) fn wakes_at(&self) -> Option<i64> {
        lock(&self.items).wait(None).map(|(_, wait)| wait.ends_at)
    }

    /// Whether there are children of this visit that nobody goes on with once it is committed.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) || !lock(&self.children).is_empty()
    }

    /// The children of this visit that an earlier process began, and this one has not called for.
    pub(crate) fn left_children(&self) -> Vec<i64> {
        let (children, forks) = (lock(&self.children), lock(&self.forks));
        let mut left: Vec<i64> =
            children.iter().map(|child| child.run).filter(|run| !forks.contains_key(run)).collect();
        left.sort_unstable();
        left
    }

    /// Notes which item a child belongs to that may be put away.
    pub(crate) fn forked_as(&self, run: i64, item: usize) {
        lock(&self.forks).insert(run, item);
    }

    /// Notes the place of the item of a child that an earlier process began.
    pub(crate) fn found(&self, known: &KnownChild, item: ItemId) {
        if known.item.index != item.index {
            lock(&self.moved).push((known.run, item.index));
        }
    }

    /// Writes down the places of children that have moved, so that each has its own: questions are answered by it.
    pub(crate) async fn place_children(&self) -> Result<(), Error> {
        let moved = std::mem::take(&mut *lock(&self.moved));
        if moved.is_empty() {
            return Ok(());
        }
        let place =
            move |db: &Connection| moved.iter().try_for_each(|(child, item)| rows::place_child(db, *child, *item));
        self.shared.writer.call("place", place).await
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

    /// Keeps what an item, or the node itself, has done, and what that says of the visit.
    async fn keep(&self, name: &'static str, item: NewItem) -> Result<(), BoxError> {
        self.kept.store(true, Ordering::Relaxed);
        let waits = matches!(item.did, Did::Wait { .. });
        let visit = lock(&self.items).note(waits, self.shared.now());
        let (run, seq, used) = (self.run, self.seq(), self.observer.purses.take(&self.purse));
        let write = move |db: &Connection| {
            rows::keep_item(db, run, seq, &item)?;
            if let Some(visit) = &visit {
                rows::keep_visit(db, run, seq, visit)?;
            }
            used.write(db)
        };
        Ok(self.shared.writer.call(name, write).await?)
    }
}

impl Journal for RunJournal {
    fn begin_batch(&self, items: usize, keyed: bool) -> Result<(), BoxError> {
        Ok(lock(&self.items).begin_batch(items, keyed, &self.root, self.node())?)
    }

    fn recall(&self, item: ItemId) -> Option<Vec<u8>> {
        let output = lock(&self.items).take_output(item)?;
        self.count(true);
        Some(output)
    }

    fn undecodable(&self, item: ItemId, error: Undecodable) -> Result<(), BoxError> {
        if lock(&self.items).is_retried() {
            self.recalled.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let (run, node, path, source) = (self.root.clone(), self.node(), error.path, error.source.into());
        Err(Error::KeptItem { run, node, item: item.index, path, source }.into())
    }

    fn record(&self, item: ItemId, output: Vec<u8>) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            let number = lock(&self.items).number(Some(item));
            let did = Did::Give { output, version: self.version };
            self.keep("item", NewItem { number, key: item.key, did }).await?;
            // An item whose `exec` ran a flow was counted with that.
            if !lock(&self.called).get(&item.index).is_some_and(|called| called.counted) {
                self.count(false);
            }
            Ok(())
        })
    }

    fn child<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Action, RunError>> {
        Box::pin(children::drive(self, item, child))
    }

    fn forked<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Forked, RunError>> {
        Box::pin(children::fork(self, item, child))
    }

    fn standing(&self, item: ItemId) -> Standing {
        let known = lock(&self.children).iter().find(|known| known.is_of(item)).copied();
        let Some(known) = known else { return Standing::Open };
        self.found(&known, item);
        let KnownChild { run, status, visits, .. } = known;
        match status {
            Status::Paused | Status::Sleeping => {
                self.forked_as(run, item.index);
                Standing::Parked { visits }
            }
            Status::Ended => Standing::Ended { visits },
            Status::Failed => Standing::Failed { visits },
            _ => Standing::Open,
        }
    }

    fn woken(&self) -> BoxFuture<'_, usize> {
        Box::pin(self.observer.woken(|run| lock(&self.forks).get(&run).copied()))
    }

    fn waited(&self, item: Option<ItemId>) -> Option<Waited> {
        let (attempt, wait) = lock(&self.items).wait(item)?;
        Some(Waited { attempt, left: wait.left(self.shared.now()) })
    }

    fn wait(&self, item: Option<ItemId>, attempt: u32, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            if wait < self.shared.options.keep_waits {
                lock(&self.items).forget_wait(item);
                return Ok(());
            }
            let began = Wait::begin(wait, self.shared.now());
            let number = lock(&self.items).begin_wait(item, attempt, began);
            let did = Did::Wait { attempt, wake_at: began.ends_at, length: wait };
            self.keep("wait", NewItem { number, key: item.and_then(|item| item.key), did }).await
        })
    }

    fn rest(&self, item: Option<ItemId>, left: Duration) -> BoxFuture<'_, ()> {
        let kept = lock(&self.items).wait(item);
        Box::pin(async move {
            match kept {
                Some((_, wait)) => wait.rest(&self.shared).await,
                None => tokio::time::sleep(left).await,
            }
        })
    }

    fn parks(&self, wait: Duration) -> bool {
        self.parks && wait >= self.shared.options.keep_waits
    }

    fn time_left(&self, limit: Duration) -> Duration {
        let now = self.shared.now();
        lock(&self.items).ends(|| Wait::begin(limit, now)).left(now)
    }

    fn keep_time_left(&self, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            if wait < self.shared.options.keep_waits {
                return Ok(());
            }
            let Some(visit) = lock(&self.items).note(true, self.shared.now()) else { return Ok(()) };
            self.kept.store(true, Ordering::Relaxed);
            let (run, seq) = (self.run, self.seq());
            let write = move |db: &Connection| rows::keep_visit(db, run, seq, &visit);
            Ok(self.shared.writer.call("wait", write).await?)
        })
    }

    fn now(&self) -> SystemTime {
        self.shared.now_exact()
    }
}
