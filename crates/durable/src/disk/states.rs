//! The states of a run in the form in which they are stored, one after the other.

use crate::disk::snapshot::{Chain, Kind, Snapshot, TooLarge};

/// Makes the stored form of each state of a run in turn.
pub(crate) struct States {
    chain: Chain,
    /// The step that changed the state last: the next change is based on it.
    changed: u64,
    /// The version of the state, as the flow numbers it.
    version: u32,
}

/// The stored form of a state, with its place.
pub(crate) struct Stored {
    pub(crate) snapshot: Snapshot,
    pub(crate) version: u32,
    /// The size of the state as JSON.
    pub(crate) size: usize,
    /// The step whose state this one changes; none for a whole one.
    pub(crate) base: Option<u64>,
}

impl States {
    /// Begins with the states of a new run. The first is stored whole, and so is one after each `full_every` changes.
    pub(crate) fn starting(full_every: u32, version: u32) -> Self {
        Self { chain: Chain::starting(full_every), changed: 0, version }
    }

    /// Continues after a state that was read back.
    pub(crate) fn resuming(chain: Chain, changed: u64, version: u32) -> Self {
        Self { chain, changed, version }
    }

    /// Returns what to store of the state after a step, given as JSON.
    pub(crate) fn next(&mut self, step: u64, json: Vec<u8>) -> Result<Stored, TooLarge> {
        let size = json.len();
        let snapshot = self.chain.next(json)?;
        let base = (snapshot.kind != Kind::Full).then_some(self.changed);
        if snapshot.kind != Kind::Same {
            self.changed = step;
        }
        Ok(Stored { snapshot, version: self.version, size, base })
    }
}
