//! Prompts: templates over the state, which are checked when the flow is built.
//!
//! ```text
//! Prompt::new("… {{ topic }} …") ─▶ check against the shape of S     build(): every unknown name, with its line
//!                                └▶ render(&state)                   prep: strict, before any call of a model
//! ```
//!
//! **Invariant:** a template reads what it is given, and nothing else: no file, no other template, no time without end.

use std::{fmt, sync::Arc};

use minijinja::{
    Environment, ErrorKind, UndefinedBehavior, Value,
    value::{Kwargs, Serde},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::{PrettyFormatter, Serializer};

use self::shape::Shape;

pub(crate) mod ask;
mod check;
mod shape;
mod similar;

/// The most instructions of one rendering: a million, or some sixty megabytes. A prompt takes thousands.
const FUEL: u64 = 1_000_000;

/// The most that a filter indents by.
const MAX_INDENT: usize = 16;

/// The only template of its environment.
const NAME: &str = "prompt";

/// A template in Jinja's language, over any value that can be serialized: usually a flow's state.
///
/// Texts are put in as they are, nothing is escaped; `{{ order | json }}` puts in a value as JSON. A name that is not
/// there is an error: when the flow is built, as far as the type of the state tells (fields of structs do; keys of maps
/// do not), otherwise when the prompt is rendered, before a model is called. `{% if name %}` may ask for one: a field
/// that is left out when it is `None` is not there.
///
/// # Example
///
/// ```
/// use flowstone_llm::Prompt;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Essay {
///     topic: String,
///     sources: Vec<String>,
/// }
///
/// let prompt = Prompt::new("Write about {{ topic }}.{% for source in sources %}\n- {{ source }}{% endfor %}");
/// prompt.check::<Essay>()?;
/// let essay = Essay { topic: "rust".into(), sources: vec!["a book".into()] };
/// assert_eq!(prompt.render(&essay)?, "Write about rust.\n- a book");
///
/// let error = Prompt::new("Write about {{ topci }}.").check::<Essay>().unwrap_err();
/// assert_eq!(error.to_string(), "the prompt, line 1: `Essay` has no `topci`; did you mean `topic`?");
/// # Ok::<(), flowstone_llm::PromptError>(())
/// ```
#[derive(Clone)]
pub struct Prompt {
    source: Arc<str>,
    /// The error of the language, kept for the check.
    parsed: Result<Arc<Environment<'static>>, PromptError>,
    part: &'static str,
    names: Names,
}

/// Which names are known when a flow is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    OfType,
    Unknown,
}

impl Prompt {
    /// Makes a prompt. What is wrong with it is said by [`check`](Self::check), which nodes do when their flow is
    /// built.
    pub fn new(source: impl Into<String>) -> Self {
        let source: Arc<str> = source.into().into();
        let parsed = parse(&source).map(Arc::new);
        Self { source, parsed, part: "prompt", names: Names::OfType }
    }

    /// Makes a prompt whose names are looked up when it is rendered, and not before: for a state that is not serialized
    /// with the names with which it is deserialized.
    pub fn unchecked(source: impl Into<String>) -> Self {
        Self { names: Names::Unknown, ..Self::new(source) }
    }

    /// Checks the template, and its names against the fields of a type.
    ///
    /// The fields are those that `T` is deserialized from.
    ///
    /// # Errors
    ///
    /// Every fault, with its line.
    pub fn check<T: DeserializeOwned>(&self) -> Result<(), PromptError> {
        self.check_shape(|| Shape::of::<T>())
    }

    /// Checks the template over one value with this name.
    pub(crate) fn check_named<T: DeserializeOwned>(&self, name: &'static str) -> Result<(), PromptError> {
        self.check_shape(|| Shape::named(name, Shape::of::<T>()))
    }

    fn check_shape(&self, shape: impl FnOnce() -> Shape) -> Result<(), PromptError> {
        let env = self.parsed.as_ref().map_err(|error| error.of(self.part))?;
        let root = if self.names == Names::OfType { shape() } else { Shape::Any };
        let faults = check::faults(&self.source, NAME, env, &root);
        if faults.is_empty() { Ok(()) } else { Err(PromptError { part: self.part, faults }) }
    }

    /// Renders the template.
    ///
    /// # Errors
    ///
    /// The first fault, with its line: a name that is not there, a filter that does not fit, a loop that does not end.
    pub fn render(&self, values: &(impl Serialize + ?Sized)) -> Result<String, PromptError> {
        let env = self.parsed.as_ref().map_err(|error| error.of(self.part))?;
        let rendered = env.get_template(NAME).and_then(|template| template.render(Value::from(Serde(values))));
        rendered.map_err(|error| PromptError::from_engine(&error).of(self.part))
    }

    /// The same prompt, which errors call the system prompt.
    pub(crate) fn system(mut self) -> Self {
        self.part = "system prompt";
        self
    }
}

fn parse(source: &str) -> Result<Environment<'static>, PromptError> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_fuel(Some(FUEL));
    // It names the undefined value. What else it collects, the values around it, is left behind with the engine's
    // error.
    env.set_debug(true);
    env.add_filter("json", json);
    env.add_filter("tojson", json);
    env.add_template_owned(NAME, source.to_owned()).map_err(|error| PromptError::from_engine(&error))?;
    Ok(env)
}

/// The filters `json` and `tojson`: a value as JSON, over several lines with `json(indent=2)`. In place of the engine's
/// own, which escapes for web pages, and takes what is not there for `null`.
#[expect(clippy::needless_pass_by_value, reason = "the engine gives arguments away")]
fn json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let failed = |kind, what: &'static str| minijinja::Error::new(kind, what);
    if value.is_undefined() {
        return Err(failed(ErrorKind::UndefinedError, "there is nothing to write as JSON"));
    }
    let indent = options.get::<Option<usize>>("indent")?.map(|indent| " ".repeat(indent.min(MAX_INDENT)));
    options.assert_all_used()?;

    let mut json = Vec::new();
    let written = match &indent {
        None => serde_json::to_writer(&mut json, value),
        Some(indent) => {
            let format = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut json, format))
        }
    };
    let text = written.ok().and_then(|()| String::from_utf8(json).ok());
    text.ok_or_else(|| failed(ErrorKind::BadSerialization, "the value cannot be written as JSON"))
}

impl From<&str> for Prompt {
    fn from(source: &str) -> Self {
        Self::new(source)
    }
}

impl From<String> for Prompt {
    fn from(source: String) -> Self {
        Self::new(source)
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prompt").field(&self.source).finish()
    }
}

/// The faults of a prompt, or of rendering it. They hold names, and no value of the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {part}, {}", Joined(.faults))]
#[non_exhaustive]
pub struct PromptError {
    part: &'static str,
    /// The faults, in the order of the lines.
    pub faults: Vec<PromptFault>,
}

/// One thing that is wrong with a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptFault {
    /// The line of the template, counted from 1.
    pub line: usize,
    /// The fault there.
    pub message: String,
}

impl PromptError {
    /// Takes from the engine's error what names no value.
    fn from_engine(error: &minijinja::Error) -> Self {
        let message = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        Self { part: "prompt", faults: vec![PromptFault { line: error.line().unwrap_or(1), message }] }
    }

    fn of(&self, part: &'static str) -> Self {
        Self { part, faults: self.faults.clone() }
    }
}

struct Joined<'a>(&'a [PromptFault]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            let between = if i == 0 { "" } else { "; " };
            write!(f, "{between}line {}: {}", fault.line, fault.message)?;
        }
        Ok(())
    }
}
