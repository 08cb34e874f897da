//! The JSON schema of a type: [`schema_of`].

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// Returns the JSON schema of a type that derives `JsonSchema` of the crate `schemars` 1, for
/// [`Ask::schema`](crate::Ask::schema): `schema_of::<Self::Answer>()`. The feature `schema`.
///
/// The doc comments of the type and of its fields are the descriptions in the schema. Types of fields are written out
/// in place, except those that contain themselves.
///
/// # Example
///
/// ```
/// use flowstone_core::schema_of;
/// use serde_json::json;
///
/// assert_eq!(schema_of::<bool>(), json!({ "type": "boolean" }));
/// assert_eq!(schema_of::<Vec<String>>(), json!({ "type": "array", "items": { "type": "string" } }));
/// ```
#[must_use]
pub fn schema_of<T: JsonSchema + ?Sized>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title"); // the name of a Rust type tells a person nothing
    schema.to_value()
}
