//! The arguments of a call: their schema, and whether they fit it, in words that a model can act on.

use std::{fmt, sync::OnceLock};

use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
};
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Map, Value};

use super::check::{BadTool, Names};

/// The most faults of one call that are told: a model mends a few at a time, and a wrong list can have thousands.
const MOST_FAULTS: usize = 8;

/// The most bytes of one fault that are told: it quotes the argument, which may be long.
const LONGEST_FAULT: usize = 300;

/// A call that cannot be made: the model's mistake, which the model is told.
///
/// A [`Tool`](super::Tool) that finds more wrong with its arguments than their schema says may return it, too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum Misuse {
    /// A name that no tool has.
    #[error("there is no tool `{tool}`: {}", Names(.names))]
    NoSuchTool { tool: String, names: Vec<String> },
    /// Arguments that do not fit.
    #[error("the arguments of `{tool}` do not fit:{}", Lines(.faults))]
    Arguments { tool: String, faults: Vec<ArgumentFault> },
}

impl Misuse {
    /// Makes the fault of one argument; `at` is its JSON pointer, empty for the arguments as a whole.
    pub fn argument(tool: impl Into<String>, at: impl Into<String>, message: impl Into<String>) -> Self {
        let fault = ArgumentFault { at: at.into(), message: message.into() };
        Self::Arguments { tool: tool.into(), faults: vec![fault] }
    }
}

/// A fault of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentFault {
    /// Where it is, as a JSON pointer: `/filter/0`; empty for the arguments as a whole.
    pub at: String,
    /// The fault.
    pub message: String,
}

/// The faults, a line each.
struct Lines<'a>(&'a [ArgumentFault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ArgumentFault { at, message } in self.0.iter().take(MOST_FAULTS) {
            let place = if at.is_empty() { String::new() } else { format!("at `{at}`: ") };
            write!(f, "\n- {place}{message}")?;
        }
        match self.0.len().saturating_sub(MOST_FAULTS) {
            0 => Ok(()),
            more => write!(f, "\n- and {more} more"),
        }
    }
}

/// The schema of a tool's arguments, compiled when it is first needed, once.
pub(super) struct Parameters {
    schema: Value,
    validator: OnceLock<Result<Validator, BadSchema>>,
}

/// A fault of a schema, which cannot be used.
#[derive(Clone)]
pub(super) enum BadSchema {
    NoObject,
    Invalid(String),
}

impl BadSchema {
    pub(super) fn of(self, tool: &str) -> BadTool {
        let tool = tool.to_owned();
        match self {
            Self::NoObject => BadTool::NoObject { tool },
            Self::Invalid(message) => BadTool::Schema { tool, message },
        }
    }
}

impl Parameters {
    pub(super) fn new(schema: Value) -> Self {
        Self { schema, validator: OnceLock::new() }
    }

    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    pub(super) fn check(&self) -> Result<(), BadSchema> {
        self.validator().map(drop)
    }

    /// Finds everything that does not fit, in the order of the schema's keywords.
    pub(super) fn faults(&self, arguments: &Value) -> Result<Vec<ArgumentFault>, BadSchema> {
        let validator = self.validator()?;
        if validator.is_valid(arguments) {
            return Ok(Vec::new());
        }
        let mut faults = Vec::new();
        for error in validator.iter_errors(arguments) {
            explain(&error, &mut faults);
        }
        Ok(faults)
    }

    fn validator(&self) -> Result<&Validator, BadSchema> {
        self.validator.get_or_init(|| compile(&self.schema)).as_ref().map_err(BadSchema::clone)
    }
}

fn compile(schema: &Value) -> Result<Validator, BadSchema> {
    // A schema may come from a server: its references to other places are not followed.
    let compiled = jsonschema::options().offline().build(schema);
    let validator = compiled.map_err(|error| BadSchema::Invalid(shortened(error.to_string())))?;
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(BadSchema::NoObject);
    }
    Ok(validator)
}

/// Collects the faults of a value; where none of several forms fits, and one is plainly meant, the faults by that one.
fn explain(error: &ValidationError<'_>, faults: &mut Vec<ArgumentFault>) {
    if let ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } = error.kind() {
        let here = error.instance_path().as_str();
        let mut meant = context.iter().filter(|form| !form.iter().any(|error| is_of_another_form(error, here)));
        if let (Some(meant), None) = (meant.next(), meant.next()) {
            meant.iter().for_each(|error| explain(error, faults));
            return;
        }
    }
    let at = error.instance_path().as_str().to_owned();
    faults.push(ArgumentFault { at, message: shortened(message(error)) });
}

/// Returns `true` if the value at `here` is of another type than a form asks for, or names another form: the tag of an
/// enum.
fn is_of_another_form(error: &ValidationError<'_>, here: &str) -> bool {
    match error.kind() {
        ValidationErrorKind::Type { .. } => error.instance_path().as_str() == here,
        kind => matches!(kind, ValidationErrorKind::Constant { .. }),
    }
}

/// Says it in the words of the validator, but for lists of types, which it words for people with a manual at hand.
fn message(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Multiple(types) } => {
            let types: Vec<String> = types.iter().map(|ty| ty.to_string()).collect();
            format!("{} is not of type {}", error.instance(), types.join(" or "))
        }
        _ => error.to_string(),
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > LONGEST_FAULT {
        message.truncate(message.floor_char_boundary(LONGEST_FAULT));
        message.push('…');
    }
    message
}

/// Makes an object of arguments that some models send as a text, or not at all.
pub(super) fn normalised(arguments: &Value) -> Value {
    match arguments {
        Value::Null => Value::Object(Map::new()),
        Value::String(text) if text.trim().is_empty() => Value::Object(Map::new()),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(object @ Value::Object(_)) => object,
            _ => arguments.clone(),
        },
        _ => arguments.clone(),
    }
}

/// Makes the schema of a type as providers take it: without references where it can do without, and without what is
/// of no use to a model.
pub(super) fn schema_of<A: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let settings = settings.with_transform(RecursiveTransform(without_sizes));
    let mut schema = settings.into_generator().into_root_schema_for::<A>().to_value();
    if let Value::Object(object) = &mut schema {
        object.remove("title");
    }
    with_properties(&mut schema);
    schema
}

/// Adds the list of its properties to a schema of objects that has none: some services do not take it without.
pub(crate) fn with_properties(schema: &mut Value) {
    if let Value::Object(object) = schema
        && object.get("type").and_then(Value::as_str) == Some("object")
        && !object.get("properties").is_some_and(Value::is_object)
    {
        object.insert("properties".to_owned(), Value::Object(Map::new()));
    }
}

/// Takes off the sizes of Rust's numbers, which JSON schema does not know and some providers refuse.
fn without_sizes(schema: &mut Schema) {
    let is_size = |format: &str| {
        let digits = format.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let word = format.strip_suffix(digits).unwrap_or(format);
        matches!(word, "int" | "uint" | "float" | "double")
    };
    if schema.get("format").and_then(Value::as_str).is_some_and(is_size) {
        schema.remove("format");
    }
}
