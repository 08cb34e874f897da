//! Makes the schema of a type fit for providers; see the module above for what they want.

use serde_json::{Map, Value};

/// Keywords that make no difference to the value, or that strict providers refuse. The reply is still checked by them.
const LEFT_OUT: [&str; 10] = [
    "$schema",
    "default",
    "examples",
    "maxLength",
    "maxProperties",
    "minLength",
    "minProperties",
    "unevaluatedProperties",
    "uniqueItems",
    "writeOnly",
];

/// The formats that providers know. Those of schemars for numbers (`uint32`) are none of them.
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// Returns the strict form of a schema.
pub(crate) fn strict(schema: &Value) -> Value {
    let Value::Object(object) = schema else { return schema.clone() };
    // Anything beside a reference is refused: a description, say.
    if let Some(reference @ Value::String(_)) = object.get("$ref") {
        return Value::Object(Map::from_iter([("$ref".to_owned(), reference.clone())]));
    }
    let mut strict = Map::new();
    for (key, value) in object {
        let value = match key.as_str() {
            key if LEFT_OUT.contains(&key) => continue,
            "format" if !value.as_str().is_some_and(|format| FORMATS.contains(&format)) => continue,
            "properties" | "$defs" => each(value),
            "items" | "additionalProperties" => self::strict(value),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => all(value),
            _ => value.clone(),
        };
        let key = if key == "oneOf" && !object.contains_key("anyOf") { "anyOf" } else { key };
        strict.insert(key.to_owned(), value);
    }
    if let Some(Value::Object(properties)) = strict.get("properties") {
        let names = properties.keys().cloned().collect::<Vec<_>>();
        strict.insert("required".to_owned(), names.into());
        strict.entry("additionalProperties").or_insert(false.into());
    }
    Value::Object(strict)
}

fn each(schemas: &Value) -> Value {
    match schemas {
        Value::Object(schemas) => schemas.iter().map(|(name, schema)| (name.clone(), strict(schema))).collect(),
        other => other.clone(),
    }
}

fn all(schemas: &Value) -> Value {
    match schemas {
        Value::Array(schemas) => schemas.iter().map(strict).collect(),
        other => other.clone(),
    }
}
