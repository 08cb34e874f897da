//! Reading what services send, leniently: a field that is `null` is not there, and a number may be written as a text.

use serde_json::{Map, Value};

/// The most levels of JSON that is kept with a conversation: a store reads 128 levels, and the conversation is some of
/// them.
const DEEPEST: usize = 64;

/// The most fields of an object that are compared one by one, which then takes less than to hash a name.
const FEW: usize = 16;

/// A field, also one that is `null`.
pub(super) fn get<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = value.as_object()?;
    match fields.len() {
        ..=FEW => fields.iter().find(|(own, _)| *own == name).map(|(_, field)| field),
        _ => fields.get(name),
    }
}

/// A field, unless it is `null`.
pub(super) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    get(value, name).filter(|field| !field.is_null())
}

/// A text; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    get(value, name).and_then(Value::as_str).unwrap_or_default()
}

/// The first of some fields that is a text with something in it.
pub(super) fn first_text<'a>(value: &'a Value, names: &[&str]) -> &'a str {
    names.iter().map(|name| text(value, name)).find(|text| !text.is_empty()).unwrap_or_default()
}

/// The elements of a list; none if it is no list.
pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    get(value, name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A count.
pub(super) fn count(value: &Value, name: &str) -> Option<u64> {
    let number = field(value, name)?;
    let float = |number: f64| (number.is_finite() && number >= 0.0).then_some(number as u64);
    number
        .as_u64()
        .or_else(|| number.as_f64().and_then(float))
        .or_else(|| number.as_str()?.trim().parse().ok().and_then(float))
}

/// Returns `true` for JSON that is so deep that a store could not read it back.
pub(super) fn too_deep(value: &Value) -> bool {
    fn deeper(value: &Value, left: usize) -> bool {
        match value {
            _ if left == 0 => true,
            Value::Array(values) => values.iter().any(|value| deeper(value, left - 1)),
            Value::Object(fields) => fields.values().any(|value| deeper(value, left - 1)),
            _ => false,
        }
    }
    deeper(value, DEEPEST)
}

/// The fields of an object that `known` does not name and that say something.
pub(super) fn unknown(object: &Value, known: &[&str]) -> Map<String, Value> {
    let fields = object.as_object().into_iter().flatten();
    let says = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    let kept = fields.filter(|(name, value)| !known.contains(&name.as_str()) && says(value) && !too_deep(value));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An object as it came, without fields that say nothing.
pub(super) fn kept(object: &Value) -> Value {
    Value::Object(unknown(object, &[]))
}

/// The bytes that JSON takes, about.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(values) => values.iter().map(size).sum::<usize>() + 2,
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>() + 2,
    }
}
