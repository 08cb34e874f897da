//! Idempotency keys: the names that visits and items have for services outside.
//!
//! ```text
//! BASE:VISIT:NODE          of a visit      order-7~3f0c9d2a51b86e47:1:pay
//! BASE:VISIT:NODE[ITEM]    of an item      the base of a child is the key of its item
//!                                          ITEM is the hash by which the journal knows the item, or else its place
//! ```
//!
//! The reasons: `docs/decisions/0017-a-key-is-made-of-what-is-stored.md`.
//!
//! **Invariant:** the text before the visit's number has no `:` that is not the engine's own, so no two visits share a
//! key because of how they are named.

use std::{
    fmt::Write,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use crate::words::path::{NodePath, RunId};

/// The most bytes that a key has: services take no longer ones.
const MOST: usize = 255;

/// The text that the idempotency keys of a run begin with, where a driver that keeps runs gives one.
///
/// It is made when a run begins, and kept with the run. So the keys of the run are the same after a restart, and differ
/// from those of every other run, even of one with the same id in another store or after this one was deleted.
///
/// # Example
///
/// ```
/// use flowstone_core::driver::KeyBase;
///
/// let (first, second) = (KeyBase::new(&"order 7".into()), KeyBase::new(&"order 7".into()));
/// assert!(first.as_str().starts_with("order%207~"));
/// assert_ne!(first, second);
/// assert_eq!(KeyBase::kept(first.as_str()), first);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBase {
    text: Arc<str>,
    /// `true` for keys as older versions made them: of any letters and any length.
    pub(super) plain: bool,
}

impl KeyBase {
    /// Makes the base of a run that begins: its id, safe for an HTTP header, and 64 random bits.
    #[must_use]
    pub fn new(run: &RunId) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);

        let life = (COUNT.fetch_add(1, Ordering::Relaxed), std::process::id(), SystemTime::now());
        let mut text = safe(run.as_str());
        write!(text, "~{:016x}", RandomState::new().hash_one(life)).expect("invariant: a text takes what is written");
        Self { text: text.into(), plain: false }
    }

    /// Returns a base that was kept.
    #[must_use]
    pub fn kept(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), plain: false }
    }

    /// Returns the base of a run that was begun before runs had one. Its keys stay as they were: made of its id and the
    /// names of its nodes, whatever letters these have.
    #[must_use]
    pub fn plain(run: &RunId) -> Self {
        Self { text: run.as_str().into(), plain: true }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The parts of a run's keys that its driver gives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    pub(crate) base: Option<KeyBase>,
    /// A visit of the run, and the name that its node had when the visit became due.
    pub(crate) due: Option<(u64, NodePath)>,
}

/// Makes the key of a visit, or of one of its items.
pub(super) fn compose(base: &str, visit: u64, node: &str, item: &str, plain: bool) -> String {
    if plain {
        return format!("{base}:{visit}:{node}{item}");
    }
    let whole = format!("{base}:{visit}:{}{item}", safe(node));
    if whole.len() <= MOST {
        return whole;
    }
    let hash = format!("~{:032x}", hash(whole.as_bytes()));
    format!("{}{hash}", &whole[..whole.floor_char_boundary(MOST - hash.len())])
}

/// Returns a text in which everything is percent-encoded that a header does not take, also within quotes, or that has a
/// meaning in keys.
pub(super) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !br#"%"\:[]"#.contains(&byte) {
            safe.push(char::from(byte));
        } else {
            write!(safe, "%{byte:02X}").expect("invariant: a text takes what is written");
        }
    }
    safe
}

/// FNV-1a over 128 bits (Fowler, Noll and Vo): the same on every machine.
fn hash(bytes: &[u8]) -> u128 {
    let step =
        |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step)
}
