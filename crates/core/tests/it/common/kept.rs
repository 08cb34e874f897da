//! A driver that keeps runs, in memory: what it keeps outlives the executions that are given to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use flowstone_core::{
    Action, BoxError, BoxFuture, NodePath, RunError,
    driver::{Execution, ItemId, Journal, Undecodable, Visit, Waited},
};
use tokio::time::Instant;

use super::{Log, secs};

/// A run that is kept, and the journal of its visits.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    run: Arc<Mutex<Run>>,
    /// The entries that were kept, in order.
    pub(crate) log: Log,
    /// The operation that fails.
    pub(crate) broken: Option<&'static str>,
    /// `true` if an item whose output does not decode runs again.
    drops: bool,
}

#[derive(Default)]
struct Run {
    /// The next node, the number of its visit, the state.
    place: Option<(NodePath, u64, Vec<u8>)>,
    /// The last action, of a child that has ended.
    ended: Option<Action>,
    /// The work of the visit under way.
    items: BTreeMap<usize, Vec<u8>>,
    waits: BTreeMap<Option<usize>, (u32, Instant)>,
    children: BTreeMap<usize, Kept>,
}

/// The least wait that is put away.
pub(crate) const PARKS: Duration = secs(60);

impl Kept {
    /// Makes visits from where the run was, until one that does not lead to the next; and keeps each.
    pub(crate) fn drive<'a>(&'a self, run: &'a mut dyn Execution) -> BoxFuture<'a, Result<Visit, RunError>> {
        Box::pin(async move {
            if let Some((node, visits, state)) = &self.run().place {
                run.restore(node, *visits, state).unwrap();
            }
            run.set_journal(Arc::new(self.clone()));
            loop {
                let visit = run.visit().await?;
                self.commit(run, &visit);
                if !matches!(visit, Visit::Next { .. }) {
                    return Ok(visit);
                }
            }
        })
    }

    /// Makes visits up to the end of the run.
    pub(crate) async fn finish(&self, run: &mut dyn Execution) {
        let visit = self.drive(run).await;
        assert!(matches!(visit, Ok(Visit::End { .. })), "{visit:?}");
    }

    /// Keeps an end as a place, too: it is what a child that has ended is restored to.
    pub(crate) fn commit(&self, run: &dyn Execution, visit: &Visit) {
        let mut kept = self.run();
        match visit {
            Visit::Next { .. } => *kept = Run::default(),
            Visit::End { exit, .. } => kept.ended = Some(exit.clone()),
            _ => return,
        }
        kept.place = Some((run.node().clone(), run.visits(), run.save().unwrap()));
    }

    pub(crate) fn broken(broken: &'static str) -> Self {
        Self { broken: Some(broken), ..Self::default() }
    }

    /// One that lets what does not decode run again.
    pub(crate) fn dropping() -> Self {
        Self { drops: true, ..Self::default() }
    }

    /// The same run under a journal that works.
    pub(crate) fn repaired(&self) -> Self {
        Self { broken: None, ..self.clone() }
    }

    pub(crate) fn with_item(self, item: usize, output: &str) -> Self {
        self.run().items.insert(item, output.into());
        self
    }

    pub(crate) fn items(&self) -> Vec<usize> {
        self.run().items.keys().copied().collect()
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap()
    }

    fn check(&self, operation: &'static str) -> Result<(), BoxError> {
        if self.broken == Some(operation) { Err("the disk is full".into()) } else { Ok(()) }
    }
}

impl Journal for Kept {
    fn begin_batch(&self, _: usize, _: bool) -> Result<(), BoxError> {
        self.check("begin_batch")
    }

    fn recall(&self, item: ItemId) -> Option<Vec<u8>> {
        self.run().items.get(&item.index).cloned()
    }

    fn undecodable(&self, item: ItemId, error: Undecodable) -> Result<(), BoxError> {
        if self.drops { Ok(()) } else { Err(format!("item {}: {error}", item.index).into()) }
    }

    fn record(&self, item: ItemId, output: Vec<u8>) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.check("record")?;
            self.log.push(format!("record {} {}", item.index, String::from_utf8_lossy(&output)));
            self.run().items.insert(item.index, output);
            Ok(())
        })
    }

    fn child<'a>(&'a self, item: ItemId, child: &'a mut dyn Execution) -> BoxFuture<'a, Result<Action, RunError>> {
        Box::pin(async move {
            self.log.push(format!("child {}", child.id()));
            let kept = self.run().children.entry(item.index).or_default().clone();
            let kept = Self { log: self.log.clone(), broken: self.broken, drops: self.drops, ..kept };
            let ended = kept.run().ended.clone();
            if let Some(action) = ended {
                let (node, visits, state) = kept.run().place.clone().unwrap();
                child.restore(&node, visits, &state).unwrap();
                return Ok(action);
            }
            match kept.drive(child).await? {
                Visit::End { exit, .. } => Ok(exit),
                visit => panic!("a child ends: {visit:?}"),
            }
        })
    }

    fn waited(&self, item: Option<ItemId>) -> Option<Waited> {
        let item = item.map(|item| item.index);
        let (attempt, end) = *self.run().waits.get(&item)?;
        Some(Waited { attempt, left: end.saturating_duration_since(Instant::now()) })
    }

    fn wait(&self, item: Option<ItemId>, attempt: u32, wait: Duration) -> BoxFuture<'_, Result<(), BoxError>> {
        let item = item.map(|item| item.index);
        Box::pin(async move {
            self.check("wait")?;
            self.log.push(format!("wait {item:?} {attempt} {wait:?}"));
            self.run().waits.insert(item, (attempt, Instant::now() + wait));
            Ok(())
        })
    }

    fn parks(&self, wait: Duration) -> bool {
        wait >= PARKS
    }
}
