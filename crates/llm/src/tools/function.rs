//! Tools from closures: [`function`].

use std::{fmt, future::Future, sync::Arc};

use flowstone_core::{BoxFuture, Context, NodeError, Result};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Tool,
    arguments::schema_of,
    macros::{arguments, told},
};
use crate::{request::ToolSpec, schema::HasSchema};

/// Makes a tool of a closure: for services that are at hand, where `#[tool]` would take a function of its own.
///
/// The fields of `A` are the arguments, their doc comments what the model is told of them. A result that is a text is
/// told as it is, `()` as "done", anything else as JSON. What goes wrong is told, too.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use flowstone_llm::{Tools, function};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Search {
///     /// What to look for
///     query: String,
///     /// How many to find at most
///     limit: Option<usize>,
/// }
///
/// let docs = Arc::new(vec!["ants", "bees"]);
/// let search = function("search", "Searches the documents", move |search: Search| {
///     let docs = Arc::clone(&docs);
///     async move {
///         let found = docs.iter().filter(|doc| doc.contains(&search.query));
///         Ok(found.take(search.limit.unwrap_or(10)).copied().collect::<Vec<_>>())
///     }
/// });
/// let tools = Tools::new().with(search);
/// tools.check()?;
/// assert_eq!(tools.specs()[0].parameters["properties"]["query"]["description"], "What to look for");
/// assert_eq!(tools.specs()[0].parameters["required"], serde_json::json!(["query"]));
/// # Ok::<(), flowstone_core::NodeError>(())
/// ```
pub fn function<A, T, F, Fut>(name: impl Into<String>, description: impl Into<String>, run: F) -> FunctionTool
where
    A: HasSchema + DeserializeOwned,
    T: Serialize + 'static,
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T>> + Send + 'static,
{
    function_with_context(name, description, move |arguments, _| run(arguments))
}

/// Makes a tool of a closure that wants to know of its run, too: its idempotency key, whether it is cancelled.
///
/// Otherwise as [`function`].
///
/// # Example
///
/// ```
/// use flowstone_core::Context;
/// use flowstone_llm::function_with_context;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Pay {
///     /// The amount, in cents
///     cents: u32,
/// }
///
/// let pay = function_with_context("pay", "Pays the bill", |pay: Pay, cx: Context| async move {
///     Ok(format!("paid {} cents, once, as {}", pay.cents, cx.idempotency_key()))
/// });
/// # let _ = pay;
/// ```
pub fn function_with_context<A, T, F, Fut>(
    name: impl Into<String>,
    description: impl Into<String>,
    run: F,
) -> FunctionTool
where
    A: HasSchema + DeserializeOwned,
    T: Serialize + 'static,
    F: Fn(A, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T>> + Send + 'static,
{
    let name = name.into();
    let (tool, run) = (name.clone(), Arc::new(run));
    let call = move |given: Value, cx: &Context| -> BoxFuture<'static, Result<String>> {
        let (tool, run, cx) = (tool.clone(), Arc::clone(&run), cx.clone());
        Box::pin(async move {
            let future = {
                let given = arguments(&tool, given)?;
                run(given, cx)
            };
            told(&future.await?)
        })
    };
    FunctionTool::new::<A>(name, description.into(), call)
}

/// A tool that is not a function with `#[tool]`: see [`function`] and [`flow_tool`](super::flow_tool).
pub struct FunctionTool {
    spec: ToolSpec,
    call: Box<Call>,
    /// The reason for which it cannot be a tool.
    refused: Option<String>,
}

type Call = dyn Fn(Value, &Context) -> BoxFuture<'static, Result<String>> + Send + Sync;

impl FunctionTool {
    pub(super) fn new<A: JsonSchema>(
        name: String,
        description: String,
        call: impl Fn(Value, &Context) -> BoxFuture<'static, Result<String>> + Send + Sync + 'static,
    ) -> Self {
        let spec = ToolSpec { name, description, parameters: schema_of::<A>() };
        Self { spec, call: Box::new(call), refused: None }
    }

    pub(super) fn refused(mut self, why: Option<String>) -> Self {
        self.refused = why;
        self
    }
}

impl Tool for FunctionTool {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn call<'a>(&'a self, arguments: Value, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        (self.call)(arguments, cx)
    }

    fn check(&self) -> Result<()> {
        self.refused.clone().map_or(Ok(()), |why| Err(NodeError::terminal(why)))
    }
}

impl fmt::Debug for FunctionTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionTool").field("name", &self.spec.name).finish_non_exhaustive()
    }
}
