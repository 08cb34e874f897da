//! How a value that a driver keeps becomes JSON and comes back: [`Codec`].
//!
//! **Invariant:** a panic of the user's `Serialize` or `Deserialize` is an error of theirs. What does not decode is an error with its place in the JSON, never a default.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::guard::Panicked;

/// Something that was kept, and does not fit its type any more.
#[derive(Debug, thiserror::Error)]
#[error("what was kept does not decode at `{path}`")]
#[non_exhaustive]
pub struct Undecodable {
    /// The place in the JSON, as `items[3].name`; `.` is the whole.
    pub path: String,
    /// What does not fit there.
    pub source: serde_json::Error,
}

/// Both ways between a type and JSON, as functions: so that what is asked of the type is asked where it is known.
pub(crate) struct Codec<T> {
    pub(crate) encode: fn(&T) -> Result<Vec<u8>, serde_json::Error>,
    pub(crate) decode: fn(&[u8]) -> Result<T, Undecodable>,
}

impl<T: Serialize + DeserializeOwned> Codec<T> {
    pub(crate) fn json() -> Self {
        Self { encode: |value| guarded(|| serde_json::to_vec(value)), decode: |json| caught(|| decode(json)) }
    }
}

/// Makes JSON of something of the user's, whose `Serialize` may panic.
pub(crate) fn to_value(value: impl Serialize) -> Result<Value, serde_json::Error> {
    guarded(|| serde_json::to_value(value))
}

fn guarded<T>(call: impl FnOnce() -> Result<T, serde_json::Error>) -> Result<T, serde_json::Error> {
    Panicked::catch(call).unwrap_or_else(|panicked| Err(serde::ser::Error::custom(panicked)))
}

fn caught<T>(call: impl FnOnce() -> Result<T, Undecodable>) -> Result<T, Undecodable> {
    Panicked::catch(call).unwrap_or_else(|panicked| {
        Err(Undecodable { path: ".".to_owned(), source: serde::de::Error::custom(panicked) })
    })
}

// Derived, it would ask `T` to be `Copy`.
impl<T> Copy for Codec<T> {}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, Undecodable> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| Undecodable { path: error.path().to_string(), source: error.into_inner() })?;
    deserializer.end().map_err(|source| Undecodable { path: ".".to_owned(), source })?;
    Ok(value)
}
