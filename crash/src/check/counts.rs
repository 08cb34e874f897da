//! The amount of what was checked.

/// Counts of what was checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Lines of ledgers.
    pub(crate) deeds: u64,
    /// Deeds found committed.
    pub(crate) committed: u64,
    /// Deeds that were under way at a kill and were done again.
    pub(crate) repeated: u64,
    /// States that were compared.
    pub(crate) states: u64,
    /// Facts that callers were told and that were found to be true.
    pub(crate) told: u64,
    /// Questions that could expire and were answered, and those that expired.
    pub(crate) answered: u64,
    pub(crate) expired: u64,
    /// Runs that killed their process and failed for it, and others that failed since it died too often.
    pub(crate) poisoned: u64,
    pub(crate) beside: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        let Self { deeds, committed, repeated, states, told, answered, expired, poisoned, beside } = other;
        self.deeds += deeds;
        self.committed += committed;
        self.repeated += repeated;
        self.states += states;
        self.told += told;
        self.answered += answered;
        self.expired += expired;
        self.poisoned += poisoned;
        self.beside += beside;
    }
}
