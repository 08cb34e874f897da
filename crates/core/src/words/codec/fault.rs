//! Faults of values that cannot be kept as JSON.

/// A value that cannot be kept: as JSON it would not be read back, or not as what it was.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be kept as JSON, at `{path}`: {fault}")]
#[non_exhaustive]
pub struct Unstorable {
    /// The place in the value, as `items[3].name`; `.` is the whole.
    pub path: String,
    /// The fault there.
    pub fault: StorageFault,
}

/// The fault of a value that cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageFault {
    /// Lists and objects are nested deeper than JSON is read.
    #[error("it is nested more than {MOST_LEVELS} levels deep, which is the most that is read back: make it flatter")]
    TooDeep,
    /// A number is NaN or infinite, of which JSON makes `null`.
    #[error("the number is {0}, which JSON does not hold: use an `Option`, or a text")]
    NotFinite(f64),
    /// Two entries of an object have one key, as a field and an entry of a map that is flattened into its object.
    #[error("two entries have the key `{0}`: give one another name")]
    DuplicateKey(String),
    /// It was written, and cannot be read: its `Serialize` and its `Deserialize` do not agree.
    #[error("it is written, but not read back, as its `Serialize` and `Deserialize` do not agree: {0}")]
    OneWay(serde_json::Error),
    /// Its `Serialize` failed, or a key is no text.
    #[error("{0}")]
    Failed(serde_json::Error),
}

/// The depth to which JSON may be nested, as serde_json reads it.
pub(super) const MOST_LEVELS: u32 = 127;

impl From<Unstorable> for serde_json::Error {
    fn from(error: Unstorable) -> Self {
        match error.fault {
            StorageFault::Failed(source) if error.path == "." => source,
            _ => serde::ser::Error::custom(error),
        }
    }
}
