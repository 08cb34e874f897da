//! The identity of an item, which tells it from the others of its batch, whatever their order: [`ItemKey`].
//!
//! The reason for a hash, and what it covers: `docs/decisions/0015-an-item-is-known-by-its-hash.md`.
//!
//! **Invariant:** the same JSON gives the same key in every version of the engine and on every machine, and so do
//! objects whose members stand in another order.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::Serialize;

mod sha256;

use sha256::sha256;

/// Tells an item of a batch, or a child of an `exec`, from the others of its visit: 128 bits of a hash.
///
/// A journal keeps the work on an item under its key, so that a later process finds it again where `prep` gives the
/// items in another order, or gives others.
///
/// # Example
///
/// ```
/// use flowstone_core::driver::ItemKey;
///
/// let key = ItemKey::of_json(br#"{"page": 3, "book": "Emma"}"#, 0);
/// assert_eq!(key, ItemKey::of_json(br#"{"book":"Emma","page":3}"#, 0));
/// assert_ne!(key, ItemKey::of_json(br#"{"book":"Emma","page":3}"#, 1)); // the second such item
/// assert_eq!(ItemKey::from_bytes(*key.as_bytes()), key);
/// assert_eq!(key.to_string().len(), 32);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey([u8; 16]);

impl ItemKey {
    /// Makes the key of an item from its JSON, and from the number of equal items that are before it in its batch.
    #[must_use]
    pub fn of_json(json: &[u8], before: u64) -> Self {
        Self::of_sorted(in_order(json), before)
    }

    fn of_sorted(mut text: Vec<u8>, before: u64) -> Self {
        text.extend(before.to_le_bytes());
        let hash = sha256(&text);
        Self(hash[..16].try_into().expect("invariant: a hash has 32 bytes"))
    }

    /// Returns a key that was kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the key, to keep it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemKey({self})")
    }
}

/// An item of the visit under way, as a journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemId {
    /// Its place in the batch, counted from 0. A child of an `exec` that is no batch has its number here.
    pub index: usize,
    /// Its identity, if it has one. Otherwise its place identifies it.
    pub key: Option<ItemKey>,
}

/// Makes JSON of an item, of which a key is made. A function, since the bounds are asked of the type where it is known.
type ToJson<T> = dyn Fn(&T) -> Result<Vec<u8>, serde_json::Error> + Send + Sync;

/// The way in which a journal tells the items of a batch apart.
pub(crate) enum Identity<T> {
    /// By their places: the user says that they never change.
    Order,
    /// By a hash of the JSON that this function makes of an item.
    Json(Arc<ToJson<T>>),
}

impl<T> Identity<T> {
    /// By the whole item.
    pub(crate) fn whole() -> Self
    where
        T: Serialize,
    {
        Self::Json(Arc::new(|item| serde_json::to_vec(item)))
    }

    /// By something that the user's function makes of an item.
    pub(crate) fn by<K: Serialize>(key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        Self::Json(Arc::new(move |item| serde_json::to_vec(&key(item))))
    }

    /// The same for items that are shared.
    pub(crate) fn shared(self) -> Identity<Arc<T>>
    where
        T: 'static,
    {
        match self {
            Self::Order => Identity::Order,
            Self::Json(json) => Identity::Json(Arc::new(move |item| json(item))),
        }
    }

    pub(crate) fn is_keyed(&self) -> bool {
        matches!(self, Self::Json(_))
    }

    /// Returns what tells each item apart, or the place of one that cannot be written as JSON, with the error.
    pub(crate) fn of_all<'a>(
        &self,
        items: impl ExactSizeIterator<Item = &'a T>,
    ) -> Result<Vec<ItemId>, (usize, serde_json::Error)>
    where
        T: 'a,
    {
        let mut ids = Vec::with_capacity(items.len());
        // The number of equal items so far, by the key of the first.
        let mut seen: HashMap<ItemKey, u64> = HashMap::new();
        for (index, item) in items.enumerate() {
            let key = match self {
                Self::Order => None,
                Self::Json(json) => {
                    let text = in_order(&json(item).map_err(|error| (index, error))?);
                    let first = ItemKey::of_sorted(text.clone(), 0);
                    let before = seen.entry(first).or_default();
                    let key = if *before == 0 { first } else { ItemKey::of_sorted(text, *before) };
                    *before += 1;
                    Some(key)
                }
            };
            ids.push(ItemId { index, key });
        }
        Ok(ids)
    }
}

impl<T> Clone for Identity<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Order => Self::Order,
            Self::Json(json) => Self::Json(Arc::clone(json)),
        }
    }
}

/// The depth to which JSON is put in order. Deeper parts stay as they are, which takes no stack.
const DEEPEST: usize = 500;

/// Returns a JSON text without its spaces, and with the members of each object in the order of their names.
///
/// Not by way of a parsed value, which would make floats of long integers: two items would have one key.
fn in_order(json: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(json.len() + 8);
    sorted(json, DEEPEST, &mut text);
    text
}

/// Appends one value; returns how much of the text it took.
fn sorted(json: &[u8], deeper: usize, into: &mut Vec<u8>) -> usize {
    let mut at = spaces(json);
    match json.get(at) {
        Some(_) if deeper == 0 => {
            into.extend(&json[at..]);
            return json.len();
        }
        Some(b'{') => {
            let mut members = Vec::new();
            at += 1;
            while next_part(json, &mut at, b'}') {
                let mut member = Vec::new();
                at += sorted(&json[at..], deeper - 1, &mut member);
                at += spaces(&json[at..]);
                if json.get(at) == Some(&b':') {
                    member.push(b':');
                    at += 1 + sorted(&json[at + 1..], deeper - 1, &mut member);
                }
                members.push(member);
            }
            members.sort();
            into.push(b'{');
            into.extend(members.join(&b','));
            into.push(b'}');
        }
        Some(b'[') => {
            into.push(b'[');
            at += 1;
            while next_part(json, &mut at, b']') {
                at += sorted(&json[at..], deeper - 1, into);
                into.push(b',');
            }
            into.push(b']');
        }
        Some(b'"') => return at + text(&json[at..], into),
        Some(_) => {
            let plain = json[at..].iter().position(|byte| b",:]} \n\r\t".contains(byte)).unwrap_or(json.len() - at);
            into.extend(&json[at..at + plain]);
            // A text that is no JSON must not be read for ever.
            return at + plain.max(1);
        }
        None => return json.len(),
    }
    (at + 1).min(json.len())
}

/// Moves to the next part of a list or an object, or to its end; returns whether there is one.
fn next_part(json: &[u8], at: &mut usize, end: u8) -> bool {
    *at += spaces(&json[*at..]);
    if json.get(*at) == Some(&b',') {
        *at += 1;
        *at += spaces(&json[*at..]);
    }
    json.get(*at).is_some_and(|byte| *byte != end)
}

fn spaces(json: &[u8]) -> usize {
    json.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(json.len())
}

/// Appends a string with its quotes; returns its length.
fn text(json: &[u8], into: &mut Vec<u8>) -> usize {
    let mut escaped = false;
    let end = json.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    let length = end.map_or(json.len(), |end| end + 2);
    into.extend(&json[..length]);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_put_in_order_at_every_depth() {
        let messy = "{ \"b\" : [ 1 , {\"y\":null,\"x\":-1.5e3} ] ,\"a,}\\\"\":{ }, \"c\":[] }";

        let text = String::from_utf8(in_order(messy.as_bytes())).unwrap();

        assert_eq!(text, r#"{"a,}\"":{},"b":[1,{"x":-1.5e3,"y":null},],"c":[]}"#);
    }

    #[test]
    fn a_key_does_not_depend_on_the_order_of_members_and_on_spaces() {
        let one = ItemKey::of_json(br#"{"a":1,"b":[true,"x y"]}"#, 0);

        assert_eq!(one, ItemKey::of_json(br#" { "b" : [ true , "x y" ] , "a" : 1 } "#, 0));
        assert_ne!(one, ItemKey::of_json(br#"{"a":1,"b":[true,"xy"]}"#, 0));
        assert_ne!(one, ItemKey::of_json(br#"{"b":1,"a":[true,"x y"]}"#, 0));
    }

    #[test]
    fn keys_are_the_same_in_every_version() {
        assert_eq!(ItemKey::of_json(b"7", 0).to_string(), sha_of(b"7", 0));
        assert_eq!(ItemKey::of_json(b"\"a\"", 2).to_string(), sha_of(b"\"a\"", 2));
    }

    fn sha_of(text: &[u8], before: u64) -> String {
        let hash = sha256(&[text, &before.to_le_bytes()].concat());
        hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn long_integers_that_a_float_could_not_tell_apart_have_keys_of_their_own() {
        let identity = Identity::<u128>::whole();
        let items = [u128::MAX, u128::MAX - 1];

        let ids = identity.of_all(items.iter()).unwrap();

        assert_ne!(ids[0].key, ids[1].key);
        assert_eq!(ids[1].key, Some(ItemKey::of_json(items[1].to_string().as_bytes(), 0)));
    }

    #[test]
    fn equal_items_are_counted() {
        let identity = Identity::<&str>::whole();

        let keys = |items: &[&'static str]| {
            identity.of_all(items.iter()).unwrap().into_iter().map(|id| id.key.unwrap()).collect::<Vec<_>>()
        };

        let (one, other) = (keys(&["a", "b", "a", "a"]), keys(&["b", "a", "a"]));
        assert_eq!((one[1], one[0], one[2]), (other[0], other[1], other[2]));
        assert_eq!(one.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn what_is_no_json_is_read_to_its_end() {
        for odd in
            ["", "{", "[", "[1", "{\"a", "{\"a\"", "{\"a\":", ",", "}", "]]", "{,}", "[,,]", "{\"a\":}", ":", "{:}"]
        {
            in_order(odd.as_bytes());
        }
        in_order("[".repeat(1_000_000).as_bytes());
    }
}
