//! Tools that a model may call: the trait [`Tool`] and the set [`Tools`].
//!
//! ```text
//! ToolCall ─▶ Tools::call ─┬ no such tool, wrong arguments ─▶ told to the model: `Misuse`
//!                          └ Tool::call ─┬ text ────────────▶ told to the model, cut if it is too long
//!                                        ├ error, panic, too slow ─▶ told to the model: `Failed`
//!                                        └ what ends the run ─▶ Err
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `arguments` | the schema of arguments, and whether they fit: [`Misuse`] |
//! | `check` | what is wrong with a set, all at once: [`BadTools`] |
//! | `listing` | lists of servers, which change |
//! | `depth` | how many calls may be inside each other |
//! | `outcome` | what the model is told, and which errors end the run |
//! | `function`, `flow` | tools from closures and from flows |
//! | `macros` | what the code that `#[tool]` writes calls |
//! | `mcp` | tools of MCP servers, and tools as one |

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry as Place},
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use flowstone_core::{BoxFuture, Context, NodeError, Result};
use futures_util::FutureExt;
use serde_json::Value;

use crate::{
    message::{ToolCall, ToolResult},
    request::ToolSpec,
    watch::span,
};

mod arguments;
mod check;
mod depth;
mod flow;
mod function;
mod listing;
pub mod macros;
#[cfg(feature = "mcp")]
pub mod mcp;
mod outcome;

#[cfg(feature = "mcp")]
pub(crate) use arguments::with_properties;
pub use arguments::{ArgumentFault, Misuse};
pub use check::{BadTool, BadTools};
pub use flow::flow_tool;
pub use function::{FunctionTool, function, function_with_context};

use arguments::Parameters;
use listing::Listed;
pub(crate) use listing::Listing;
use outcome::{Said, TooSlow};

/// The longest that a call may take, unless said otherwise: enough for a slow service, and a person still waits.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes of a result that a model is given, unless said otherwise: some 16,000 tokens.
const MAX_RESULT_BYTES: usize = 64 * 1024;

/// Something that a model may call; usually an `async fn` with `#[tool]`.
///
/// A call may be made more than once: in a run that is kept, the one that was under way at a crash is made again. What
/// must not happen twice goes by [`Context::idempotency_key`].
///
/// # Cancel safety
///
/// A call that takes too long, or whose run stops, is dropped at its current `.await`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no tool",
    note = "a tool is a function with `#[tool]`, given as `name {{}}` or with its services, comes of `function` or `flow_tool`, \
            or implements `Tool`"
)]
pub trait Tool: Send + Sync + 'static {
    /// Returns its description for the model; called once, when it is added to [`Tools`].
    fn spec(&self) -> ToolSpec;

    /// Runs the tool; `arguments` fit the schema. The model is told its result, or its error.
    ///
    /// # Errors
    ///
    /// Any. One whose source is [`Misuse`] counts as the model's mistake.
    fn call<'a>(&'a self, arguments: Value, cx: &'a Context) -> BoxFuture<'a, Result<String>>;

    /// Returns an error if the tool cannot work, before a run begins. By default it can.
    ///
    /// # Errors
    ///
    /// Any; it is part of what [`Tools::check`] says.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the list of a server that it comes from, if it comes from one that may change.
    #[doc(hidden)]
    fn listing(&self) -> Option<Arc<dyn Listing>> {
        None
    }
}

impl<T: Tool + ?Sized> Tool for Arc<T> {
    fn spec(&self) -> ToolSpec {
        (**self).spec()
    }

    fn call<'a>(&'a self, arguments: Value, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        (**self).call(arguments, cx)
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }

    fn listing(&self) -> Option<Arc<dyn Listing>> {
        (**self).listing()
    }
}

/// The tools of a model, by name. Clones share them.
///
/// # Example
///
/// ```
/// use flowstone_core::Context;
/// use flowstone_llm::{ToolCall, ToolFault, Tools, function};
/// use serde_json::json;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Sum {
///     /// What to add up
///     numbers: Vec<f64>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> flowstone_core::Result<()> {
/// let tools = Tools::new().with(function("sum", "Adds up numbers", |sum: Sum| async move {
///     Ok(sum.numbers.iter().sum::<f64>())
/// }));
/// tools.check()?;
///
/// let cx = Context::detached();
/// let good = tools.call(&ToolCall::new("1", "sum", json!({ "numbers": [1, 2.5] })), &cx).await?;
/// let bad = tools.call(&ToolCall::new("2", "sum", json!({ "numbers": [1, "two"] })), &cx).await?;
/// assert_eq!((good.text.as_str(), good.fault), ("3.5", None));
/// assert_eq!(bad.fault, Some(ToolFault::Misuse));
/// assert_eq!(bad.text, "the arguments of `sum` do not fit:\n- at `/numbers/1`: \"two\" is not of type \"number\"");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tools {
    entries: Arc<BTreeMap<String, Entry>>,
    /// Faults that were found when tools were added; `check` looks for the rest.
    faults: Vec<BadTool>,
    /// Lists of servers that some of them come from.
    lists: Vec<Listed>,
    timeout: Duration,
    max_result_bytes: usize,
}

/// A tool with the answers that it gave when it was added.
#[derive(Clone)]
struct Entry {
    tool: Arc<dyn Tool>,
    description: String,
    parameters: Arc<Parameters>,
    /// In place of that of the set.
    timeout: Option<Duration>,
}

impl Entry {
    fn of(tool: Arc<dyn Tool>) -> (String, Self) {
        let ToolSpec { name, description, parameters } = tool.spec();
        (name, Self { tool, description, parameters: Arc::new(Parameters::new(parameters)), timeout: None })
    }
}

impl Tools {
    /// Creates a set without tools.
    #[must_use]
    pub fn new() -> Self {
        Self {
            entries: Arc::default(),
            faults: Vec::new(),
            lists: Vec::new(),
            timeout: TIMEOUT,
            max_result_bytes: MAX_RESULT_BYTES,
        }
    }

    /// Adds a tool. A second one of the same name is a fault, see [`check`](Self::check).
    #[must_use]
    pub fn with(mut self, tool: impl Tool) -> Self {
        self.note_listing(&tool);
        let (name, entry) = Entry::of(Arc::new(tool));
        match Arc::make_mut(&mut self.entries).entry(name) {
            Place::Occupied(taken) => self.faults.push(BadTool::Twice { tool: taken.key().clone() }),
            Place::Vacant(place) => {
                place.insert(entry);
            }
        }
        self
    }

    /// Adds several tools: those of a server, those of another set.
    #[must_use]
    pub fn with_all<T: Tool>(self, tools: impl IntoIterator<Item = T>) -> Self {
        tools.into_iter().fold(self, Self::with)
    }

    /// Keeps these tools, of those that were added so far. A name that none of them has is a fault, see
    /// [`check`](Self::check); what is wrong with the others is none any more.
    #[must_use]
    pub fn only<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let names: BTreeSet<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self.note_only(&names);
        self.faults.retain(|fault| names.contains(fault.tool()));
        for name in names.iter().filter(|name| !self.entries.contains_key(*name)) {
            self.faults.push(self.no_such(name));
        }
        Arc::make_mut(&mut self.entries).retain(|name, _| names.contains(name));
        self
    }

    /// Sets how long each call may take. The default is 60 seconds.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Sets how long the calls of one tool may take: of one that is an agent itself, say.
    #[must_use]
    pub fn timeout_of(mut self, name: &str, limit: Duration) -> Self {
        match Arc::make_mut(&mut self.entries).get_mut(name) {
            Some(entry) => entry.timeout = Some(limit),
            None => self.faults.push(self.no_such(name)),
        }
        self
    }

    /// Sets how many bytes of a result, or of an error, the model is told. The default is 64 KiB.
    #[must_use]
    pub fn max_result_bytes(mut self, limit: usize) -> Self {
        self.max_result_bytes = limit;
        self
    }

    /// Returns a tool.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.entries.get(name).map(|entry| &entry.tool)
    }

    /// Returns the names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns how many tools there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns their descriptions for a model, in the order of their names.
    #[must_use]
    pub fn specs(&self) -> Vec<ToolSpec> {
        let spec = |(name, entry): (&String, &Entry)| ToolSpec {
            name: name.clone(),
            description: entry.description.clone(),
            parameters: entry.parameters.schema().clone(),
        };
        self.entries.iter().map(spec).collect()
    }

    /// Says whether a call could be made: there is such a tool, and the arguments fit.
    ///
    /// # Errors
    ///
    /// Terminal ones, whose source is [`Misuse`], or, where the tool itself is wrong, [`BadTools`].
    pub fn accepts(&self, call: &ToolCall) -> Result<()> {
        self.prepare(call).map(drop)
    }

    /// Makes a call, and returns its result, which the model is told also if the call failed.
    ///
    /// # Errors
    ///
    /// Those that end the run: a [budget](flowstone_core::OverBudget) that is used up inside the tool, a cancelled run,
    /// one that is out of time or of visits, a journal that fails. And [`BadTools`], if the tool itself is wrong.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the tool is dropped at its current `.await`; a blocking one is told, and its run waits for it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with timers. A panic of the tool is caught.
    pub async fn call(&self, call: &ToolCall, cx: &Context) -> Result<ToolResult> {
        span::execute_tool(call, cx, async {
            let said = match self.prepare(call) {
                Ok((entry, arguments)) => self.make(entry, arguments, cx).await?,
                Err(error) => outcome::of_error(error, cx)?,
            };
            Ok(said.into_result(call, self.max_result_bytes))
        })
        .await
    }

    /// Finds the tool of a call, and the arguments as it takes them.
    fn prepare(&self, call: &ToolCall) -> Result<(&Entry, Value)> {
        let Some(entry) = self.entries.get(&call.name) else {
            let names = self.names().map(str::to_owned).collect();
            return Err(NodeError::terminal(Misuse::NoSuchTool { tool: call.name.clone(), names }));
        };
        let arguments = arguments::normalised(&call.arguments);
        let faults = entry
            .parameters
            .faults(&arguments)
            .map_err(|fault| NodeError::terminal(BadTools { faults: vec![fault.of(&call.name)] }))?;
        if faults.is_empty() {
            return Ok((entry, arguments));
        }
        Err(NodeError::terminal(Misuse::Arguments { tool: call.name.clone(), faults }))
    }

    async fn make(&self, entry: &Entry, arguments: Value, cx: &Context) -> Result<Said> {
        let limit = entry.timeout.unwrap_or(self.timeout);
        // The call stands in the future, so that a tool that panics before it returns one is caught, too.
        let called = AssertUnwindSafe(async { entry.tool.call(arguments, cx).await }).catch_unwind();
        match depth::deeper(tokio::time::timeout(limit, called)).await {
            Ok(Ok(Ok(Ok(text)))) => Ok(Said::text(text)),
            Ok(Ok(Ok(Err(error)))) => outcome::of_error(error, cx),
            Ok(Ok(Err(panic))) => Ok(outcome::of_panic(&*panic)),
            Ok(Err(_)) => Ok(Said::failed(&TooSlow(limit))),
            Err(too_deep) => Ok(Said::failed(&too_deep)),
        }
    }

    fn no_such(&self, name: &str) -> BadTool {
        BadTool::Missing { tool: name.to_owned(), names: self.names().map(str::to_owned).collect() }
    }
}

impl Default for Tools {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Tool> FromIterator<T> for Tools {
    fn from_iter<I: IntoIterator<Item = T>>(tools: I) -> Self {
        Self::new().with_all(tools)
    }
}

/// Gives the tools, in the order of their names; limits are of the set, and stay behind.
impl IntoIterator for Tools {
    type Item = Arc<dyn Tool>;
    type IntoIter = std::vec::IntoIter<Arc<dyn Tool>>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.values().map(|entry| Arc::clone(&entry.tool)).collect::<Vec<_>>().into_iter()
    }
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}
