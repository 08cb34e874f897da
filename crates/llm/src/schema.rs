//! A type as JSON schema: what a model is sent, what its reply is held against, and how the reply is read.
//!
//! Two schemas, since they serve two ends:
//!
//! - *Sent* is the strict one: JSON Schema 2020-12 without references (but for types that hold themselves), the root an
//!   object, all properties required, none but them allowed, `anyOf` for `oneOf`; no defaults, no lengths of texts, and
//!   no formats but those that are widely known. OpenAI's strict mode takes no less, and servers that make a grammar of
//!   it (llama.cpp) then leave no field out. An optional field has a type that allows `null`.
//! - *Held against* is the type's own, in which an optional field may be missing.
//!
//! A map with keys of the model's choice, or a tuple, cannot be sent to OpenAI's strict mode; other providers take it.

use jsonschema::Validator;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

mod json;
mod strict;

pub(crate) use strict::strict;

/// The field of a type that is no object, since providers want one.
const VALUE: &str = "value";

/// Where a schema is that is in that field and holds itself.
const VALUE_DEFINITION: &str = "#/$defs/value";

/// The most faults that a model is told, and that an error names.
const FAULTS: usize = 8;

/// The most characters of a fault: it may show the wrong value, which may be anything.
const FAULT_CHARS: usize = 300;

/// A type whose JSON schema tells a model what to write: of a reply, or of the arguments of a tool.
///
/// Every type with `#[derive(schemars::JsonSchema)]` is one; there is nothing else to implement. The trait stands
/// before [`JsonSchema`] so that the compiler names the type that lacks it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no JSON schema, which a model is told",
    label = "derive `schemars::JsonSchema` for this type",
    note = "write `#[derive(schemars::JsonSchema, serde::Deserialize)]` on the type, and `schemars = \"1\"` in Cargo.toml: \
            the derive of an older version makes another trait"
)]
pub trait HasSchema: JsonSchema {}

#[diagnostic::do_not_recommend]
impl<T: JsonSchema> HasSchema for T {}

/// The schema of what a model is to reply.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Its name for the provider: letters, digits, `_` and `-`.
    pub(crate) name: String,
    pub(crate) sent: Value,
    own: Validator,
    /// `true` if the type is no object, so that an object was made around it.
    wrapped: bool,
}

impl Schema {
    /// Makes the schema of a type.
    ///
    /// # Errors
    ///
    /// A fault of the schema that the type gives.
    pub(crate) fn of<T: JsonSchema>() -> Result<Self, String> {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        Self::new(&T::schema_name(), settings.into_generator().into_root_schema_for::<T>().to_value())
    }

    /// Makes a schema of one field, which is one of these texts.
    pub(crate) fn choice(name: &str, field: &str, texts: &[&str]) -> Result<Self, String> {
        Self::new(
            name,
            json!({ "type": "object", "properties": { field: { "type": "string", "enum": texts } }, "required": [field] }),
        )
    }

    fn new(name: &str, mut own: Value) -> Result<Self, String> {
        let wrapped = !is_object(&own);
        if wrapped {
            own = wrap(own);
        }
        let validator =
            jsonschema::draft202012::new(&own).map_err(|error| format!("the schema of `{name}` is none: {error}"))?;
        let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name = name.chars().take(64).map(allowed).collect();
        Ok(Self { name, sent: strict(&own), own: validator, wrapped })
    }

    /// Reads a reply.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, for the model.
    pub(crate) fn read<T: DeserializeOwned>(&self, text: &str) -> Result<T, Vec<String>> {
        let mut value = json::find(text).map_err(|fault| vec![fault])?;
        if self.wrapped && !self.own.is_valid(&value) {
            // The value may have a field of that name, too.
            let bare = json!({ VALUE: value });
            let is_wrapped = value.as_object().is_some_and(|object| object.contains_key(VALUE));
            if !is_wrapped || self.own.is_valid(&bare) {
                value = bare;
            }
        }
        let faults: Vec<String> = self.own.iter_errors(&value).take(FAULTS).map(|error| at(&error)).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        if self.wrapped {
            value = value.get_mut(VALUE).map(Value::take).unwrap_or_default();
        }
        serde_json::from_value(value).map_err(|error| vec![shorten(&error.to_string(), FAULT_CHARS)])
    }

    /// Reads a reply that is known to be checked by its reader.
    pub(crate) fn read_as_is<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        json::find(text).and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()))
    }
}

fn at(error: &jsonschema::ValidationError<'_>) -> String {
    let path = error.instance_path().to_string();
    let fault = if path.is_empty() { error.to_string() } else { format!("at `{path}`: {error}") };
    shorten(&fault, FAULT_CHARS)
}

/// Cuts a text to at most that many characters, and says so.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes in all)", &text[..end], text.len()),
    }
}

/// Returns `true` if a schema is of objects, and says so at its root: providers want neither a reference nor a choice
/// there.
fn is_object(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object")
        && schema.get("anyOf").is_none()
        && schema.get("oneOf").is_none()
}

/// Makes an object of one field around a schema. What its references lead to stays at the root; a schema that refers to
/// its own root becomes such a thing itself, since that is somewhere else now.
fn wrap(mut schema: Value) -> Value {
    let definitions = schema.as_object_mut().and_then(|object| object.remove("$defs"));
    let mut definitions = definitions.unwrap_or_else(|| json!({}));
    let holds_itself = lead_to_definition(&mut schema) | lead_to_definition(&mut definitions);
    if holds_itself {
        definitions[VALUE] = schema;
        schema = json!({ "$ref": VALUE_DEFINITION });
    }
    let mut object = Map::new();
    object.insert("type".to_owned(), "object".into());
    object.insert("properties".to_owned(), json!({ VALUE: schema }));
    object.insert("required".to_owned(), json!([VALUE]));
    if definitions.as_object().is_some_and(|definitions| !definitions.is_empty()) {
        object.insert("$defs".to_owned(), definitions);
    }
    Value::Object(object)
}

/// Changes the references to the root of a schema; says whether there were any.
fn lead_to_definition(schema: &mut Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter_mut().fold(false, |found, (key, value)| {
            if key == "$ref" && *value == "#" {
                *value = VALUE_DEFINITION.into();
                return true;
            }
            lead_to_definition(value) | found
        }),
        Value::Array(values) => values.iter_mut().fold(false, |found, value| lead_to_definition(value) | found),
        _ => false,
    }
}
