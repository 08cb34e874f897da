//! The journal of a run: its visit under way, kept item by item.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use flowstone_core::{NodePath, RunId, driver::ItemId};
use rusqlite::Connection;

use crate::{
    drive::{
        meter::{OpenMeter, UsageMeter},
        observer::Observer,
        storage::Storage,
        surroundings::Surroundings,
    },
    flows::any_flow::AnyFlow,
    records::{
        items::{Did, NewItem, keep_item, keep_visit},
        load::{KnownChild, UnderWay},
        runs,
    },
    words::{
        error::{DriveError, StoreError},
        guard::lock,
        info,
    },
};

mod items;

use items::Items;

/// The journal of one run; it belongs to the visit that is under way.
pub(crate) struct RunJournal {
    pub(crate) storage: Arc<Storage>,
    pub(crate) run: i64,
    /// The run that the user started, and its flow.
    pub(crate) root: RunId,
    pub(crate) flow: Arc<dyn AnyFlow>,
    /// The meter of the visit under way, which also knows the step that the visit will be.
    pub(super) meter: Arc<UsageMeter>,
    /// The path of the visited node, as it stands in events.
    pub(super) node: Mutex<NodePath>,
    pub(crate) observer: Arc<Observer>,
    /// The items of this visit that are kept.
    pub(super) items: Mutex<Items>,
    /// The children that an earlier process started, and that nobody has called yet.
    pub(crate) children: Mutex<Vec<KnownChild>>,
    /// The children of an earlier process whose items have moved to other places, which are not written down yet.
    pub(super) moved: Mutex<Vec<(i64, usize)>>,
    /// The items whose children this visit has called, by the numbers of the children.
    pub(super) forks: Mutex<HashMap<i64, usize>>,
    /// The children that this process has run in this visit, by item.
    pub(crate) called: Mutex<HashMap<usize, CalledChild>>,
    /// `true` if one of them was dropped under way.
    pub(crate) left: AtomicBool,
    pub(super) recorded: AtomicU64,
    pub(super) recalled: AtomicU64,
    /// `true` if the store has rows of this visit.
    pub(super) kept: AtomicBool,
    /// The version of the flow.
    pub(super) version: u32,
    pub(super) parks: bool,
}

/// A child that this process has run in the visit under way.
pub(crate) struct CalledChild {
    /// The name of its flow.
    pub(crate) flow: String,
    pub(crate) item: ItemId,
    /// Its number, once that is known here.
    pub(crate) run: Option<i64>,
    /// `true` while it runs.
    pub(crate) under_way: bool,
    /// `true` once it is counted as one of the items that are done.
    pub(crate) counted: bool,
}

impl RunJournal {
    pub(crate) fn new(
        storage: &Arc<Storage>,
        run: i64,
        around: &Surroundings,
        meter: &OpenMeter,
        mut under_way: UnderWay,
    ) -> Arc<Self> {
        let kept = !under_way.items.is_empty() || under_way.has_row;
        let children = std::mem::take(&mut under_way.children);
        Arc::new(Self {
            storage: Arc::clone(storage),
            run,
            root: around.root.clone(),
            flow: Arc::clone(&around.flow),
            meter: Arc::clone(&meter.meter),
            node: Mutex::new("".into()),
            observer: Arc::clone(&around.observer),
            items: Mutex::new(Items::resuming(under_way)),
            children: Mutex::new(children),
            moved: Mutex::default(),
            forks: Mutex::default(),
            called: Mutex::default(),
            left: AtomicBool::new(false),
            recorded: AtomicU64::new(0),
            recalled: AtomicU64::new(0),
            kept: AtomicBool::new(kept),
            version: around.version,
            parks: around.parks,
        })
    }

    /// Turns to the next visit. Rows of an earlier process are only for the first visit.
    pub(crate) fn begin(&self, seq: u64, node: NodePath) {
        *lock(&self.node) = node;
        if self.meter.begin(seq) != 0 {
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
        self.meter.seq()
    }

    pub(crate) fn node(&self) -> NodePath {
        lock(&self.node).clone()
    }

    /// Returns the items of this visit, if some of them are kept.
    pub(crate) fn items(&self) -> Option<info::Items> {
        let recalled = self.recalled.load(Ordering::Relaxed);
        let recorded = self.recorded.load(Ordering::Relaxed) + recalled;
        (recorded > 0).then_some(info::Items { recorded, recalled })
    }

    pub(crate) fn has_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// Returns the time by the store's clock at which the node itself goes on, if it waits.
    pub(crate) fn wakes_at(&self) -> Option<i64> {
        lock(&self.items).wait(None).map(|(_, wait)| wait.ends_at)
    }

    /// Returns `true` if this visit has children that are of no use once it is committed.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) || !lock(&self.children).is_empty()
    }

    /// Returns the children of this visit that an earlier process started, and that this one has not called.
    pub(crate) fn left_children(&self) -> Vec<i64> {
        let (children, forks) = (lock(&self.children), lock(&self.forks));
        let mut left: Vec<i64> =
            children.iter().map(|child| child.run).filter(|run| !forks.contains_key(run)).collect();
        left.sort_unstable();
        left
    }

    /// Notes the item of a child that may be parked.
    pub(crate) fn forked_as(&self, run: i64, item: usize) {
        lock(&self.forks).insert(run, item);
    }

    /// Notes the place of the item of a child that an earlier process started.
    pub(crate) fn found(&self, known: &KnownChild, item: ItemId) {
        if known.item.index != item.index {
            lock(&self.moved).push((known.run, item.index));
        }
    }

    /// Writes down the new places of children whose items have moved. Each needs its own place, since questions are
    /// answered by place.
    pub(crate) async fn place_children(&self) -> Result<(), DriveError> {
        let moved = std::mem::take(&mut *lock(&self.moved));
        if moved.is_empty() {
            return Ok(());
        }
        let place =
            move |db: &Connection| moved.iter().try_for_each(|(child, item)| runs::place_child(db, *child, *item));
        Ok(self.storage.writer.call::<_, StoreError>("place", place).await?)
    }

    /// Counts a child that is done, whether it was recalled or just run, and counts it only once.
    pub(crate) fn count_child(&self, item: usize, recalled: bool) {
        let mut called = lock(&self.called);
        if let Some(called) = called.get_mut(&item).filter(|called| !called.counted) {
            called.counted = true;
            self.count(recalled);
        }
    }

    pub(super) fn count(&self, recalled: bool) {
        let counter = if recalled { &self.recalled } else { &self.recorded };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes an output or a wait, of an item or of the node itself, and with it the row of the visit if that has
    /// changed.
    pub(super) async fn keep(&self, name: &'static str, item: NewItem) -> Result<(), DriveError> {
        self.kept.store(true, Ordering::Relaxed);
        let waits = matches!(item.did, Did::Wait { .. });
        let visit = lock(&self.items).note(waits, self.storage.now());
        let (run, seq, used) = (self.run, self.seq(), self.observer.meters.take(&self.meter));
        let write = move |db: &Connection| -> Result<(), DriveError> {
            keep_item(db, run, seq, &item)?;
            if let Some(visit) = &visit {
                keep_visit(db, run, seq, visit)?;
            }
            Ok(used.write(db)?)
        };
        self.storage.writer.call(name, write).await
    }
}
