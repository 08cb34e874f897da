//! A state beside its predecessor: nothing is stored, the difference, or the whole.
//!
//! ```text
//!  state   s1     s2     s2     s3    …    s200       a body:  form (1) │ check (4) │ content
//!  kind   Full  Delta   Same  Delta  …    Full
//!           └──────┴──────┴─────┘ unfolded in this order, from a full one on
//! ```
//!
//! A [`Chain`] is the writer's side: it is given each state of a run in turn and says what to store. An [`Unfolding`]
//! is the reader's: it is given what was stored, and has the state. Why a body looks as it does, with figures, is in
//! `docs/decisions/0006-a-snapshot-is-a-splice-or-a-zstd-delta.md`.
//!
//! **Invariant:** every body has a check of the state that it leads to, so a damaged one, or one that is applied to
//! another predecessor than its own, is [`Unreadable`] and never a wrong state.

mod check;
mod delta;
mod form;
mod pack;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub(crate) use form::{MAX_STATE, Unreadable};

/// A full snapshot is due once the deltas since the last one weigh this many times as much as it. So full snapshots
/// cost at most a quarter of what deltas cost, however large the state is, and a reader reads at most five times the
/// bytes of a full one.
const DELTAS_PER_FULL: usize = 4;

/// The weight of a delta beyond its body, in bytes: finding a row takes as long as reading this many bytes of it.
const ROW: usize = 100;

/// The kind of a snapshot's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The state is its predecessor: there is no body.
    Same,
    /// The body is the whole state.
    Full,
    /// The body is what differs from the predecessor.
    Delta,
}

impl Kind {
    /// Returns the number that stands for it in a store. Invariant: these numbers never change.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Same => 0,
            Self::Full => 1,
            Self::Delta => 2,
        }
    }

    /// Returns the kind that a number in a store stands for.
    pub(crate) fn from_code(code: i64) -> Result<Self, Unreadable> {
        match code {
            0 => Ok(Self::Same),
            1 => Ok(Self::Full),
            2 => Ok(Self::Delta),
            code => Err(Unreadable::Kind { code }),
        }
    }
}

/// The stored form of one state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) kind: Kind,
    /// Empty if the kind is [`Kind::Same`], and never otherwise.
    pub(crate) body: Vec<u8>,
}

/// The error of a state that has more than [`MAX_STATE`] bytes.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the state has {bytes} bytes as JSON, and a stored one at most {MAX_STATE}")]
pub(crate) struct TooLarge {
    pub(crate) bytes: usize,
}

/// The memory of one run's writer between visits: the state that was stored last, and how far behind the full one is.
#[derive(Debug)]
pub(crate) struct Chain {
    last: Vec<u8>,
    since: Since,
    full_every: u32,
}

/// The bytes that were stored since the last full snapshot. `full` is the size of that one, or 0 if there is none yet.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Since {
    full: usize,
    deltas: u32,
    weight: usize,
}

impl Chain {
    /// Starts the chain of a new run, whose first snapshot is a full one; another follows after `full_every` deltas, or
    /// earlier if they are large.
    pub(crate) fn starting(full_every: u32) -> Self {
        Self { last: Vec::new(), since: Since::default(), full_every }
    }

    /// Returns the state that was stored last.
    pub(crate) fn state(&self) -> &[u8] {
        &self.last
    }

    /// Returns what to store of the next state, given as JSON. A refused state leaves the chain as it was.
    pub(crate) fn next(&mut self, mut json: Vec<u8>) -> Result<Snapshot, TooLarge> {
        if json.len() > MAX_STATE {
            return Err(TooLarge { bytes: json.len() });
        }
        // A serializer may leave a buffer of twice the size, which would be kept for as long as the run waits.
        if json.capacity() - json.len() > json.len() / 4 {
            json.shrink_to_fit();
        }

        let snapshot = if self.full_is_due() { full(&json) } else { self.follow(&json) };
        self.since.count(snapshot.kind, snapshot.body.len());
        self.last = json;
        Ok(snapshot)
    }

    /// Returns the smaller of delta and full snapshot. A full one is tried only if the delta is larger than the last
    /// full one.
    fn follow(&self, json: &[u8]) -> Snapshot {
        let Some(body) = delta::write(&self.last, json) else {
            return Snapshot { kind: Kind::Same, body: Vec::new() };
        };
        let delta = Snapshot { kind: Kind::Delta, body };
        if delta.body.len() < self.since.full {
            return delta;
        }
        let full = full(json);
        if full.body.len() <= delta.body.len() { full } else { delta }
    }

    fn full_is_due(&self) -> bool {
        let Since { full, deltas, weight } = self.since;
        full == 0 || deltas >= self.full_every || weight > full.saturating_mul(DELTAS_PER_FULL)
    }
}

impl Since {
    fn count(&mut self, kind: Kind, body: usize) {
        match kind {
            Kind::Same => {}
            Kind::Full => *self = Self { full: body, deltas: 0, weight: 0 },
            Kind::Delta => {
                self.deltas += 1;
                self.weight += body + ROW;
            }
        }
    }
}

/// Reads a state from the snapshots that lead to it, pushed in the order in which they were stored: a full one first.
#[derive(Debug, Default)]
pub(crate) struct Unfolding {
    /// The state so far and the check that was stored with it; none before a full snapshot.
    read: Option<(Vec<u8>, u32)>,
    since: Since,
}

impl Unfolding {
    /// Applies the next snapshot.
    pub(crate) fn push(&mut self, kind: Kind, body: &[u8]) -> Result<(), Unreadable> {
        self.read = Some(match (kind, self.read.take()) {
            (Kind::Full, _) => whole(body)?,
            (_, None) => return Err(Unreadable::NoFull),
            (Kind::Delta, Some((state, _))) => follow(state, body)?,
            (Kind::Same, Some(same)) if body.is_empty() => same,
            (Kind::Same, Some(_)) => return Err(Unreadable::Form),
        });
        self.since.count(kind, body.len());
        Ok(())
    }

    /// Returns the chain that continues after the last snapshot, with its state.
    ///
    /// Only the last check counts: a mistake on the way shows at the end, and each costs as much as a small delta.
    pub(crate) fn into_chain(self, full_every: u32) -> Result<Chain, Unreadable> {
        let (last, check) = self.read.ok_or(Unreadable::NoFull)?;
        if check::check(&last) != check {
            return Err(Unreadable::Check);
        }
        Ok(Chain { last, since: self.since, full_every })
    }
}

/// Returns the state in the body of a full snapshot, and its check.
fn whole(body: &[u8]) -> Result<(Vec<u8>, u32), Unreadable> {
    let (form, check, content) = delta::open(body)?;
    let state = match form {
        delta::RAW => content.to_vec(),
        delta::PACKED => pack::unpack(content, &[])?,
        _ => return Err(Unreadable::Form),
    };
    Ok((state, check))
}

/// Returns the state that the body of a delta makes of its predecessor, and its check.
fn follow(state: Vec<u8>, body: &[u8]) -> Result<(Vec<u8>, u32), Unreadable> {
    let (form, check, content) = delta::open(body)?;
    let state = match form {
        delta::SPLICE => delta::splice(state, content)?,
        delta::PATCH => delta::patch(state, content)?,
        _ => return Err(Unreadable::Form),
    };
    Ok((state, check))
}

fn full(json: &[u8]) -> Snapshot {
    let body = match pack::pack(json, &[]) {
        Some(packed) if packed.len() < json.len() => delta::body(delta::PACKED, json, &[&packed]),
        _ => delta::body(delta::RAW, json, &[json]),
    };
    Snapshot { kind: Kind::Full, body }
}
