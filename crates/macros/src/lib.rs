//! The macros of Flowstone: the attributes `#[node]` and `#[tool]`, and `#[derive(Action)]`.
//!
//! Users get them from the crate `flowstone`, to which the written code refers as `::flowstone`. In the order in which
//! an `impl` block goes through them:
//!
//! | module | what it does |
//! |---|---|
//! | `node` | takes the attribute and the block, gives back the block and a trait `impl` |
//! | `method` | finds the phases by name, checks what holds for all of them |
//! | `signature` | reads what each phase takes and gives |
//! | `forward` | writes the trait `impl` that calls the user's methods |
//! | `types`, `errors` | what can be told of a type by its tokens; many errors at once |
//! | `action` | `#[derive(Action)]` |
//! | `tool` | `#[tool]`: reads the function's parameters, writes the type that holds its services |
//!
//! # Invariants
//!
//! - The user's methods stay what they are: plain methods that a test calls without the engine.
//! - A wrong signature is an error at the user's line, which says what is expected; all of them come at once.
//! - Written code never calls a phase that the user has not written.

mod action;
mod errors;
mod forward;
mod method;
mod node;
mod signature;
mod tool;
mod types;

use proc_macro::TokenStream;

/// Makes a node of a type: stands over an inherent `impl` block, whose phases are known by their names.
///
/// It leaves the block as it is, and adds an `impl` of one of the node traits that forwards to it: `Node`, or
/// `AsyncNode` as soon as one phase is an `async fn`; with `#[node(batch)]`, `BatchNode` or `AsyncBatchNode`. Other
/// methods of the block are left alone.
///
/// | phase | parameters after `&self` | returns |
/// |---|---|---|
/// | `prep` | `state: &S` | what `exec` needs, owned |
/// | `exec` | `prep: &P`, `cx: &Context`; each may be left out | what `post` needs, owned |
/// | `exec_fallback` | those of `exec`, with `error: NodeError` before `cx` | as `exec` |
/// | `post` | `state: &mut S`, then what `prep` gave and what `exec` made | the action |
///
/// Only the phases that are needed are written, and at least one. A phase that is not there gives `()`, and `post` may
/// leave out the parameter for it; without `post` the action is `()`. Each phase may return a `Result`, of any error
/// that becomes a `NodeError` through `?`. A result by another name (`type Res<T> = Result<T, Error>`) does not compile, so
/// that no error is taken for a value; nor does a future that is returned. `exec` may take `&str` for a `String` and `&[T]`
/// for a `Vec<T>`. A node with neither `prep` nor `post` goes with every state.
///
/// Types in the signatures of a `pub` node over a `pub` state have to be `pub` themselves.
///
/// # Example
///
/// ```
/// use flowstone::prelude::*;
///
/// struct Trip { city: String, report: Option<String> }
///
/// #[derive(Action)]
/// enum Found { Yes, No }
///
/// struct Fetch;
///
/// #[node]
/// impl Fetch {
///     fn prep(&self, trip: &Trip) -> String {
///         trip.city.clone()
///     }
///     async fn exec(&self, city: &str, cx: &Context) -> Result<Option<String>> {
///         Ok((city != "Atlantis").then(|| format!("sunny in {city}, attempt {}", cx.attempt())))
///     }
///     fn post(&self, trip: &mut Trip, _city: String, report: Option<String>) -> Found {
///         trip.report = report;
///         if trip.report.is_some() { Found::Yes } else { Found::No }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// // In a flow:
/// let mut flow = AsyncFlow::builder("weather");
/// let fetch = flow.add("fetch", Fetch);
/// flow.start(fetch);
/// let mut trip = Trip { city: "London".to_owned(), report: None };
/// let outcome = flow.build()?.run_async(&mut trip).await?;
/// assert_eq!(outcome.action(), Some(&Found::Yes.action()));
/// assert_eq!(trip.report.as_deref(), Some("sunny in London, attempt 0"));
///
/// // Without one:
/// let report = Fetch.exec("Atlantis", &Context::detached()).await?;
/// assert_eq!(report, None);
/// # Ok(())
/// # }
/// ```
///
/// # Batches
///
/// In `#[node(batch)]`, `prep` gives a `Vec` of items, `exec` takes one, and `post` gets all outcomes in input order,
/// after the items where wanted. The type of the outcomes says what an item does that fails for good: with
/// `Vec<Output>` it ends the run, with `Vec<Result<Output>>` its error is one of the outcomes.
///
/// ```
/// use flowstone::prelude::*;
///
/// struct ParseAll;
///
/// #[node(batch)]
/// impl ParseAll {
///     fn prep(&self, state: &Vec<String>) -> Vec<String> {
///         state.clone()
///     }
///     fn exec(&self, text: &str) -> Result<u32> {
///         Ok(text.parse()?)
///     }
///     fn post(&self, state: &mut Vec<String>, numbers: Vec<Result<u32>>) {
///         *state = numbers.into_iter().map(|n| n.map_or_else(|e| e.to_string(), |n| (n + 1).to_string())).collect();
///     }
/// }
///
/// let mut flow = Flow::builder("parse");
/// let parse = flow.add("parse", ParseAll);
/// flow.start(parse);
/// let mut state = vec!["1".to_owned(), "x".to_owned()];
/// flow.build()?.run(&mut state)?;
/// assert_eq!(state, ["2", "invalid digit found in string"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[proc_macro_attribute]
pub fn node(arguments: TokenStream, item: TokenStream) -> TokenStream {
    node::expand(arguments.into(), item.into()).into()
}

/// Makes the labels of a node of an enum without fields.
///
/// A label is named after its variant, in snake case (`NotFound` is `not_found`, `HTTPError` is `http_error`), unless
/// `#[action(name = "…")]` names it. An enum with a label `default` has the default action, so that `node >> next` is
/// an edge for it.
///
/// It gets the trait `Choice`, too: the doc comments of its variants describe the labels to whoever chooses one.
///
/// # Example
///
/// ```
/// use flowstone::prelude::*;
///
/// #[derive(Action)]
/// enum Verdict {
///     /// It can be paid.
///     Approve,
///     NeedsWork,
///     #[action(name = "no!")]
///     Reject,
/// }
///
/// assert_eq!(Verdict::NAMES, ["approve", "needs_work", "no!"]);
/// assert_eq!(Verdict::NeedsWork.action(), "needs_work");
/// assert_eq!([Verdict::Approve.index(), Verdict::Reject.index()], [Some(0), Some(2)]);
/// assert_eq!(<Verdict as flowstone::Choice>::ABOUT, ["It can be paid.", "", ""]);
/// ```
#[proc_macro_derive(Action, attributes(action))]
pub fn action(input: TokenStream) -> TokenStream {
    action::expand(input.into()).into()
}

/// Makes a tool of a function, which a model may call: `use flowstone::llm::tool;` (the feature `llm`).
///
/// The function stays what it is. Beside it there is now a type of the same name, which implements `Tool` and is added to
/// `Tools`: `search {}`, or `search { docs }` with the services that it needs.
///
/// | part of the function | what it is to the model, or the tool |
/// |---|---|
/// | its name | the tool's name |
/// | its doc comment | the description: what it does, and when to call it |
/// | an owned parameter, with a doc comment before it | an argument; an `Option` may be left out |
/// | a parameter `&T` | a service: a field of the type, an `Arc<T>` |
/// | a parameter `&Context` | the context of the call |
/// | what it returns | a `String` as it is, `()` as "done", anything else as JSON; what a `Result` has for an error, as text |
///
/// Types of arguments implement `serde::Deserialize` and `schemars::JsonSchema`; attributes `#[serde(…)]` and
/// `#[schemars(…)]` may stand on a parameter, `#[serde(default)]` for one. The error of a `Result` is any that becomes a
/// `NodeError` through `?`; it is one also if the result has another name.
///
/// A function that is not `async` runs on the blocking pool. It cannot be interrupted: when its time is over it is told, by
/// `Context::cancelled`, and its run waits for it before it ends.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use flowstone::{llm::*, prelude::*};
///
/// struct Docs(Vec<String>);
///
/// /// Searches the documents. Call it before you answer.
/// #[tool]
/// async fn search(
///     docs: &Docs,
///     /// What to look for
///     query: String,
///     /// How many to find at most
///     limit: Option<usize>,
/// ) -> Result<Vec<String>> {
///     let found = docs.0.iter().filter(|doc| doc.contains(&query));
///     Ok(found.take(limit.unwrap_or(10)).cloned().collect())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let docs = Arc::new(Docs(vec!["ants".to_owned(), "bees".to_owned()]));
/// let tools = Tools::new().with(search { docs: Arc::clone(&docs) });
/// tools.check()?;
///
/// // As a model calls it:
/// let call = ToolCall::new("1", "search", serde_json::json!({ "query": "an" }));
/// assert_eq!(tools.call(&call, &Context::detached()).await?.text, r#"["ants"]"#);
///
/// // As it is:
/// assert_eq!(search(&docs, "e".to_owned(), None).await?, ["bees"]);
/// # Ok(())
/// # }
/// ```
#[proc_macro_attribute]
pub fn tool(arguments: TokenStream, item: TokenStream) -> TokenStream {
    tool::expand(arguments.into(), item.into()).into()
}
