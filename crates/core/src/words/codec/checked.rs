//! A serializer that looks at what goes through it: [`Checked`].
//!
//! It costs a count per list or object, and a look at each float: a second pass over the JSON would cost as much as the
//! writing itself.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt::{Display, Write},
};

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::words::codec::fault::{MOST_LEVELS, StorageFault, Unstorable};

/// Facts about a value, collected while it is written.
#[derive(Default)]
pub(super) struct Seen {
    levels: Cell<u32>,
    /// Something went through that only reading it back can check: JSON as a text, or a number of 128 bits, which is
    /// read as a field, and not inside an untagged enum.
    unsure: Cell<bool>,
    fault: RefCell<Option<StorageFault>>,
    /// The place where it failed, the innermost part first.
    path: RefCell<Vec<Part>>,
}

enum Part {
    Key(String),
    Index(usize),
}

impl Seen {
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure.get()
    }

    /// Makes the error of a value that could not be written.
    pub(super) fn unstorable(&self, error: serde_json::Error) -> Unstorable {
        let mut path = String::new();
        for part in self.path.borrow().iter().rev() {
            let written = match part {
                Part::Key(key) if path.is_empty() => write!(path, "{key}"),
                Part::Key(key) => write!(path, ".{key}"),
                Part::Index(index) => write!(path, "[{index}]"),
            };
            written.expect("invariant: writing to a text does not fail");
        }
        let path = if path.is_empty() { ".".to_owned() } else { path };
        Unstorable { path, fault: self.fault.take().unwrap_or(StorageFault::Failed(error)) }
    }

    fn refuse<E: Error>(&self, fault: StorageFault) -> E {
        let error = E::custom(&fault);
        self.fault.replace(Some(fault));
        error
    }

    fn enter<E: Error>(&self, levels: u32) -> Result<(), E> {
        self.levels.set(self.levels.get() + levels);
        if self.levels.get() > MOST_LEVELS { Err(self.refuse(StorageFault::TooDeep)) } else { Ok(()) }
    }

    fn leave(&self, levels: u32) {
        self.levels.set(self.levels.get() - levels);
    }

    /// Notes where a part failed.
    #[cold]
    fn at<E>(&self, part: Part, error: E) -> E {
        self.path.borrow_mut().push(part);
        error
    }
}

/// A serializer that hands everything on to another, and refuses what would not be read back.
pub(super) struct Checked<'a, S> {
    inner: S,
    seen: &'a Seen,
}

impl<'a, S> Checked<'a, S> {
    pub(super) fn new(inner: S, seen: &'a Seen) -> Self {
        Self { inner, seen }
    }
}

/// A value inside another, which is looked at, too.
struct Inside<'a, 'v, T: ?Sized>(&'v T, &'a Seen);

impl<T: Serialize + ?Sized> Serialize for Inside<'_, '_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Checked::new(serializer, self.1))
    }
}

macro_rules! hand_on {
    ($($method:ident: $type:ty,)*) => {
        $(
            #[inline]
            fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
                self.inner.$method(value)
            }
        )*
    };
}

macro_rules! begins {
    ($($method:ident($($name:ident: $type:ty),*) -> $compound:ident, $levels:expr;)*) => {
        $(
            #[inline]
            fn $method(self, $($name: $type),*) -> Result<Self::$compound, S::Error> {
                self.seen.enter::<S::Error>($levels)?;
                let inner = self.inner.$method($($name),*)?;
                Ok(Compound { inner, seen: self.seen, levels: $levels, index: 0, keys: None })
            }
        )*
    };
}

impl<'a, S: Serializer> Serializer for Checked<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Compound<'a, S::SerializeSeq>;
    type SerializeTuple = Compound<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Compound<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<'a, S::SerializeTupleVariant>;
    type SerializeMap = Compound<'a, S::SerializeMap>;
    type SerializeStruct = Compound<'a, S::SerializeStruct>;
    type SerializeStructVariant = Compound<'a, S::SerializeStructVariant>;

    hand_on! {
        serialize_bool: bool, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_unit_struct: &'static str,
    }

    begins! {
        serialize_seq(len: Option<usize>) -> SerializeSeq, 1;
        serialize_tuple(len: usize) -> SerializeTuple, 1;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct, 1;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant, 2;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant, 2;
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if !value.is_finite() {
            return Err(self.seen.refuse(StorageFault::NotFinite(value.into())));
        }
        self.inner.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if !value.is_finite() {
            return Err(self.seen.refuse(StorageFault::NotFinite(value)));
        }
        self.inner.serialize_f64(value)
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        self.seen.unsure.set(true);
        self.inner.serialize_i128(value)
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        self.seen.unsure.set(true);
        self.inner.serialize_u128(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Inside(value, self.seen))
    }

    #[inline]
    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Inside(value, self.seen))
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.seen.enter::<S::Error>(1)?;
        let written = self.inner.serialize_newtype_variant(name, index, variant, &Inside(value, self.seen));
        self.seen.leave(1);
        written.map_err(|error| self.seen.at(Part::Key(variant.to_owned()), error))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.seen.enter::<S::Error>(1)?;
        let inner = self.inner.serialize_map(len)?;
        // A map knows its length, and has each key once. An object into which others are flattened does not.
        let keys = len.is_none().then(BTreeSet::new);
        Ok(Compound { inner, seen: self.seen, levels: 1, index: 0, keys })
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.seen.enter::<S::Error>(1)?;
        // serde_json hands on raw JSON, and numbers as text, in this form.
        if name.starts_with("$serde_json::") {
            self.seen.unsure.set(true);
        }
        let inner = self.inner.serialize_struct(name, len)?;
        Ok(Compound { inner, seen: self.seen, levels: 1, index: 0, keys: None })
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A list or an object that is being written.
pub(super) struct Compound<'a, C> {
    inner: C,
    seen: &'a Seen,
    levels: u32,
    /// The number of the next element.
    index: usize,
    /// The keys so far, where they may not be distinct.
    keys: Option<BTreeSet<String>>,
}

impl<C> Compound<'_, C> {
    #[inline]
    fn placed<E>(&mut self, written: Result<(), E>) -> Result<(), E> {
        match written {
            Ok(()) => {
                self.index += 1;
                Ok(())
            }
            Err(error) => Err(self.seen.at(Part::Index(self.index), error)),
        }
    }

    /// Notes a key that must not have been before.
    fn note<K: Serialize + ?Sized, E: Error>(&mut self, key: &K) -> Result<(), E> {
        if let Some(keys) = &mut self.keys {
            let text = key_text(key);
            if keys.contains(&text) {
                return Err(self.seen.refuse(StorageFault::DuplicateKey(text)));
            }
            keys.insert(text);
        }
        Ok(())
    }
}

/// A key as it stands in a path. A key that is no text is written as JSON.
fn key_text<K: Serialize + ?Sized>(key: &K) -> String {
    match serde_json::to_value(key) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => "?".to_owned(),
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident,)*) => {
        $(
            impl<C: $trait> $trait for Compound<'_, C> {
                type Ok = C::Ok;
                type Error = C::Error;

                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                    let written = self.inner.$method(&Inside(value, self.seen));
                    self.placed(written)
                }

                #[inline]
                fn end(self) -> Result<C::Ok, C::Error> {
                    self.seen.leave(self.levels);
                    self.inner.end()
                }
            }
        )*
    };
}

elements! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

macro_rules! fields {
    ($($trait:ident,)*) => {
        $(
            impl<C: $trait> $trait for Compound<'_, C> {
                type Ok = C::Ok;
                type Error = C::Error;

                #[inline]
                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    key: &'static str,
                    value: &T,
                ) -> Result<(), C::Error> {
                    let written = self.inner.serialize_field(key, &Inside(value, self.seen));
                    written.map_err(|error| self.seen.at(Part::Key(key.to_owned()), error))
                }

                fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                    self.inner.skip_field(key)
                }

                #[inline]
                fn end(self) -> Result<C::Ok, C::Error> {
                    self.seen.leave(self.levels);
                    self.inner.end()
                }
            }
        )*
    };
}

fields! { SerializeStruct, SerializeStructVariant, }

impl<C: SerializeMap> SerializeMap for Compound<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.note::<T, C::Error>(key)?;
        self.inner.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let written = self.inner.serialize_value(&Inside(value, self.seen));
        self.placed(written)
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), C::Error> {
        self.note::<K, C::Error>(key)?;
        let written = self.inner.serialize_entry(key, &Inside(value, self.seen));
        written.map_err(|error| self.seen.at(Part::Key(key_text(key)), error))
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.seen.leave(self.levels);
        self.inner.end()
    }
}
