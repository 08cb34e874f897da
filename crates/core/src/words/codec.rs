//! Values that a driver keeps become JSON and come back: [`Codec`], and [`storable`] for plain JSON.
//!
//! **Invariant:** what is written can be read. A value that the reader would refuse, or take for something else, is
//! refused here, while it is still at hand. JSON that does not decode is an error with its place, never a default. A
//! panic of a user's `Serialize` or `Deserialize` is an error of the value.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::words::{
    codec::fault::{StorageFault, Unstorable},
    guard::Panicked,
};
use checked::{Checked, Seen};

mod checked;
pub(crate) mod fault;

/// Something that was kept, and does not fit its type any more.
#[derive(Debug, thiserror::Error)]
#[error("what was kept does not decode at `{path}`")]
#[non_exhaustive]
pub struct Undecodable {
    /// The place in the JSON, as `items[3].name`; `.` is the whole.
    pub path: String,
    /// The part that does not fit there.
    pub source: serde_json::Error,
}

/// Returns a value as JSON, as it will be read back where it is kept.
///
/// # Errors
///
/// If JSON cannot hold it, or it would not be read back.
///
/// # Example
///
/// ```
/// use flowstone_core::driver::{StorageFault, storable};
///
/// assert_eq!(storable(&(1, "two"))?, serde_json::json!([1, "two"]));
///
/// let error = storable(&[("a", f64::NAN)]).unwrap_err();
/// assert_eq!(error.path, "[0][1]");
/// assert!(matches!(error.fault, StorageFault::NotFinite(_)));
/// # Ok::<(), flowstone_core::driver::Unstorable>(())
/// ```
pub fn storable<T: Serialize + ?Sized>(value: &T) -> Result<Value, Unstorable> {
    guarded(|| checked_value(value))
}

fn checked_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, Unstorable> {
    let seen = Seen::default();
    let json = value.serialize(Checked::new(serde_json::value::Serializer, &seen));
    let json = json.map_err(|error| seen.unstorable(error))?;
    if seen.is_unsure() {
        let one_way = |error| Unstorable { path: ".".to_owned(), fault: StorageFault::OneWay(error) };
        return serde_json::from_str(&json.to_string()).map_err(one_way);
    }
    Ok(json)
}

/// Both ways between a type and JSON, as functions: the bounds are asked of the type where it is known.
pub(crate) struct Codec<T> {
    /// Checks while it writes whether the JSON can be read back. It does not notice a type whose two ways do not agree.
    pub(crate) encode: fn(&T) -> Result<Vec<u8>, Unstorable>,
    pub(crate) decode: fn(&[u8]) -> Result<T, Undecodable>,
}

impl<T: Serialize + DeserializeOwned> Codec<T> {
    pub(crate) fn json() -> Self {
        Self { encode: |value| guarded(|| encode(value)), decode: |json| caught(|| decode(json)) }
    }
}

impl<T> Codec<T> {
    /// Encodes a value and reads it back, which costs as much again. For values that are written rarely.
    pub(crate) fn encode_surely(&self, value: &T) -> Result<Vec<u8>, Unstorable> {
        let json = (self.encode)(value)?;
        (self.decode)(&json).map_err(one_way)?;
        Ok(json)
    }
}

/// Calls a `Serialize` of the user's, which may panic.
fn guarded<T>(call: impl FnOnce() -> Result<T, Unstorable>) -> Result<T, Unstorable> {
    Panicked::catch(call).unwrap_or_else(|panicked| {
        let fault = StorageFault::Failed(serde::ser::Error::custom(panicked));
        Err(Unstorable { path: ".".to_owned(), fault })
    })
}

/// Calls a `Deserialize` of the user's, which may panic.
fn caught<T>(call: impl FnOnce() -> Result<T, Undecodable>) -> Result<T, Undecodable> {
    Panicked::catch(call).unwrap_or_else(|panicked| {
        Err(Undecodable { path: ".".to_owned(), source: serde::de::Error::custom(panicked) })
    })
}

// A derived impl would ask `T` to be `Copy`.
impl<T> Copy for Codec<T> {}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, Unstorable> {
    let (mut json, seen) = (Vec::with_capacity(128), Seen::default());
    let written = value.serialize(Checked::new(&mut serde_json::Serializer::new(&mut json), &seen));
    written.map_err(|error| seen.unstorable(error))?;
    if seen.is_unsure() {
        decode::<T>(&json).map_err(one_way)?;
    }
    Ok(json)
}

fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, Undecodable> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| Undecodable { path: error.path().to_string(), source: error.into_inner() })?;
    deserializer.end().map_err(|source| Undecodable { path: ".".to_owned(), source })?;
    Ok(value)
}

fn one_way(error: Undecodable) -> Unstorable {
    Unstorable { path: error.path, fault: StorageFault::OneWay(error.source) }
}

impl<T> fmt::Debug for Codec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

#[cfg(test)]
mod tests;
