//! Flows as tools: [`flow_tool`].

use std::sync::Arc;

use flowstone_core::{AsyncFlow, BoxFuture, Context, Label, Result, State};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    function::FunctionTool,
    macros::{arguments, told},
};
use crate::schema::HasSchema;

/// Makes a tool of a flow: `state` makes its state of the arguments, `answer` reads the result for the model from it.
///
/// The flow runs as a child of the call, as by [`run_in`](AsyncFlow::run_in): it shares the run's cancellation, budget
/// and listener. In a run that is kept, its visits are kept, too, and go on after a crash where they were; `state`
/// makes the same state of the same arguments, then. A visit (of a batch: an item) has one such child, so a node that
/// is no batch gives each call an item number of its own.
///
/// A flow that [asks](AsyncFlow::asks) is a fault of [`Tools::check`](super::Tools::check). [`Tools`](super::Tools)
/// give a call 60 seconds, which may be little for a flow: see [`Tools::timeout_of`](super::Tools::timeout_of).
///
/// # Example
///
/// ```
/// use flowstone_core::{AsyncFlow, Context};
/// use flowstone_llm::{ToolCall, Tools, flow_tool};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Topic {
///     /// What to find out about
///     topic: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> flowstone_core::Result<()> {
/// let mut flow = AsyncFlow::builder("research");
/// let note = flow.add("note", |notes: &mut Vec<String>| notes.push("they have six legs".to_owned()));
/// flow.start(note);
/// let flow = flow.build()?;
///
/// let research = flow_tool("research", "Finds out about a topic", flow, |a: Topic| vec![a.topic], |notes| notes.join(": "));
/// let tools = Tools::new().with(research);
/// let call = ToolCall::new("1", "research", serde_json::json!({ "topic": "ants" }));
/// let result = tools.call(&call, &Context::detached()).await?;
/// assert_eq!(result.text, "ants: they have six legs");
/// # Ok(())
/// # }
/// ```
pub fn flow_tool<A, S, X, O>(
    name: impl Into<String>,
    description: impl Into<String>,
    flow: impl Into<AsyncFlow<S, X>>,
    state: impl Fn(A) -> S + Send + Sync + 'static,
    answer: impl Fn(S) -> O + Send + Sync + 'static,
) -> FunctionTool
where
    A: HasSchema + DeserializeOwned,
    S: State + Serialize + DeserializeOwned,
    X: Label,
    O: Serialize + 'static,
{
    let (name, flow) = (name.into(), flow.into());
    let asks = flow.asks().map(|asks| {
        format!("flow `{}` asks at `{asks}`, and a flow that is a tool cannot wait for an answer", flow.name())
    });
    let (tool, parts) = (name.clone(), Arc::new((flow, state, answer)));
    let call = move |given: Value, cx: &Context| -> BoxFuture<'static, Result<String>> {
        let (tool, parts, cx) = (tool.clone(), Arc::clone(&parts), cx.clone());
        Box::pin(async move {
            let (flow, state, answer) = &*parts;
            let state = state(arguments(&tool, given)?);
            let (state, _) = flow.run_in(state, &cx).await?;
            told(&answer(state))
        })
    };
    FunctionTool::new::<A>(name, description.into(), call).refused(asks)
}
