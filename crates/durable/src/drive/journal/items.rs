//! The items of the visit under way: the number under which each is kept, and how an item is matched with a row of an
//! earlier process.
//!
//! A row has a number, and an item of a batch that tells its items apart has a key. A row that was found keeps its
//! number, also if its item has moved; new items get numbers that no row has.
//!
//! **Invariant:** a row is found by its key. It is found by its number if it was written so, because the batch has no
//! keys or an older version wrote it. Rows of an older version get their keys when the batch goes on.

use std::collections::{BTreeMap, HashMap};

use flowstone_core::{
    NodePath, RunId,
    driver::{ItemId, ItemKey},
};

use crate::{
    records::{
        items::{NODE, VisitUnderWay},
        load::{Kept, KeptItem, UnderWay},
    },
    words::{columns::int, error::DriveError, waits::Wait},
};

/// The rows of the visit under way that nobody has taken yet.
#[derive(Default)]
pub(crate) struct Items {
    kept: BTreeMap<i64, KeptItem>,
    /// The numbers of items with keys, where the number is not the place.
    numbers: HashMap<ItemKey, i64>,
    /// The number of the next new item, in a batch that an earlier process started.
    next: Option<i64>,
    /// The number of items that the batch had when it was begun.
    began_with: Option<u64>,
    /// `true` if the rows are of an older version, and the items have keys now.
    by_place: bool,
    /// The keys that such rows get, to be written down.
    adopted: Vec<(i64, ItemKey)>,
    /// `true` if an item that cannot be read runs again.
    retried: bool,
    /// The time at which the `total_timeout` of the visit is over.
    ends: Option<Wait>,
    /// `true` once the row of the visit is written.
    is_noted: bool,
}

impl Items {
    pub(crate) fn resuming(under_way: UnderWay) -> Self {
        let UnderWay { items: kept, began_with, ends, retried, .. } = under_way;
        let numbers: HashMap<_, _> = kept.iter().filter_map(|(number, item)| Some((item.key?, *number))).collect();
        let next = kept.keys().last().filter(|last| **last >= 0).map(|last| last + 1);
        Self { kept, numbers, next, began_with, retried, ends, ..Self::default() }
    }

    /// Checks that the items of a batch can be matched with those that an earlier process kept.
    pub(crate) fn begin_batch(
        &mut self,
        items: usize,
        keyed: bool,
        run: &RunId,
        node: NodePath,
    ) -> Result<(), DriveError> {
        let (run, items) = (run.clone(), items as u64);
        let mut outputs = self.kept.values().filter(|item| matches!(item.kept, Kept::Output(_)));
        let is_older = self.began_with.is_none();
        if outputs.any(|item| item.key.is_some() != keyed && !(keyed && is_older)) {
            return Err(DriveError::ItemKeys { run, node, keyed });
        }
        let has_any = self.kept.iter().any(|(number, item)| *number != NODE && item.key.is_none());
        // An older version did not write down the number of items: there were at least as many as the last one that it
        // kept.
        let had = self.began_with.or(self.next.map(|next| u64::try_from(next).unwrap_or_default().max(items)));
        self.by_place = keyed && is_older && has_any;
        if let Some(had) = had.filter(|had| has_any && (!keyed || is_older) && *had != items) {
            return Err(DriveError::ItemCount { run, node, kept: had, items });
        }
        self.began_with = Some(items);
        Ok(())
    }

    /// Returns the number of an item that has a row.
    fn known(&self, item: Option<ItemId>) -> Option<i64> {
        let number = match item {
            None => NODE,
            Some(ItemId { index, key: None }) => int(index),
            Some(ItemId { index, key: Some(key) }) => match self.numbers.get(&key) {
                Some(number) => *number,
                None if self.by_place || self.next.is_none() => int(index),
                None => return None,
            },
        };
        Some(number)
    }

    /// Returns the number under which to keep an item.
    pub(crate) fn number(&mut self, item: Option<ItemId>) -> i64 {
        if let Some(number) = self.known(item) {
            return number;
        }
        let number = self.next.unwrap_or_default();
        self.next = Some(number + 1);
        if let Some(key) = item.and_then(|item| item.key) {
            self.numbers.insert(key, number);
        }
        number
    }

    /// Takes the output of an item.
    pub(crate) fn take_output(&mut self, item: ItemId) -> Option<Vec<u8>> {
        let number = self.known(Some(item))?;
        match self.kept.remove(&number)? {
            KeptItem { kept: Kept::Output(output), key, .. } if self.is_of(key, Some(item)) => {
                if let Some(adopted) = item.key.filter(|_| key.is_none()) {
                    self.adopted.push((number, adopted));
                }
                Some(output)
            }
            other => {
                self.kept.insert(number, other);
                None
            }
        }
    }

    /// Returns `true` if a row with this key, or without one, belongs to the item that has the row's number.
    fn is_of(&self, key: Option<ItemKey>, item: Option<ItemId>) -> bool {
        key == item.and_then(|item| item.key) || (self.by_place && key.is_none())
    }

    pub(crate) fn is_retried(&self) -> bool {
        self.retried
    }

    /// Returns the wait of an item, or of the node itself, and the number of the attempt after it.
    pub(crate) fn wait(&self, item: Option<ItemId>) -> Option<(u32, Wait)> {
        let found = self.kept.get(&self.known(item)?)?;
        match found.kept {
            Kept::Wait { attempt, wait } if self.is_of(found.key, item) => Some((attempt, wait)),
            _ => None,
        }
    }

    /// Notes a wait that begins now; returns its number.
    pub(crate) fn begin_wait(&mut self, item: Option<ItemId>, attempt: u32, wait: Wait) -> i64 {
        let number = self.number(item);
        let key = item.and_then(|item| item.key);
        self.kept.insert(number, KeptItem { key, version: None, kept: Kept::Wait { attempt, wait } });
        number
    }

    /// Forgets the earlier wait of an item whose present wait is too short to be kept.
    pub(crate) fn forget_wait(&mut self, item: Option<ItemId>) {
        if let Some(number) = self.known(item).filter(|_| self.wait(item).is_some()) {
            self.kept.remove(&number);
        }
    }

    /// Returns the time at which the visit's `total_timeout` is over; the timeout starts now if it had not started yet.
    pub(crate) fn ends(&mut self, begin: impl FnOnce() -> Wait) -> Wait {
        *self.ends.get_or_insert_with(begin)
    }

    /// Returns the row of the visit if it has to be written. It is written with every wait, since some of the visit's
    /// time is used up by then.
    pub(crate) fn note(&mut self, with_wait: bool, now: i64) -> Option<VisitUnderWay> {
        let is_new = !std::mem::replace(&mut self.is_noted, true);
        let ends = self.ends.map(|ends| (ends.ends_at, ends.left(now)));
        let says = self.began_with.is_some() || ends.is_some();
        (says && (is_new || (with_wait && ends.is_some()))).then(|| {
            let adopted = std::mem::take(&mut self.adopted);
            VisitUnderWay { items: self.began_with, ends, adopted }
        })
    }
}
