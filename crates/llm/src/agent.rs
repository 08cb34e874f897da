//! Agents: a model that calls tools until it has an answer, as an ordinary flow.
//!
//! ```text
//! ○ ─▶ think ─┬ act ──────────────▶ act ─▶ think …      one call of the model; the calls of its reply, several at once
//!             ├ approve ─▶ approve ─▶ act               a person decides first, if the agent has such tools
//!             ├ answered ─▶ ◎
//!             └ stopped ──▶ ◎                           a bound was met; which one is in the state
//! ```
//!
//! With [`History::summarise_above`](crate::History::summarise_above) a node `summarise` stands before `think`.
//!
//! | module | what it holds |
//! |---|---|
//! | `state`, `bounds` | what an agent knows, as plain data; what stops it |
//! | `think`, `approve`, `act`, `summarise` | the nodes |
//! | `labels` | their actions, and those of the agent |
//! | `tool` | an agent as a tool of another |
//!
//! **Invariant:** when an agent ends, every call of its conversation has a result: the conversation can go on with any
//! provider.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flowstone_core::{Action, AsyncFlow, BuildError, Context, END, NodeExt, Result, Retry, Usd};
use tracing::Instrument;

use crate::{
    agent::history::History,
    message::{ToolCall, ToolResult},
    model::Model,
    request::{Options, Reply, Request},
    tools::{Tool, Tools},
    watch::span::invoke_agent,
};

mod act;
mod approve;
mod bounds;
pub(crate) mod history;
mod labels;
mod state;
mod summarise;
mod think;
mod tool;

pub use approve::{Approval, ApprovalQuestion, AskedCall, Decision};
pub use bounds::Bound;
pub use labels::AgentExit;
pub use state::AgentState;
pub use think::NothingAsked;

use act::Act;
use approve::{Approve, Approved};
use bounds::Bounds;
use labels::Next;
use summarise::Summarise;
use think::Think;
use tool::AgentTool;

/// The most calls that are under way at once, unless said otherwise: services let one caller make so many.
const PARALLEL: usize = 8;

/// Begins an agent: a model with tools.
///
/// # Example
///
/// ```
/// use flowstone_llm::{AgentState, Model, Reply, ScriptedModel, ToolCall, Tools, agent, function};
/// use serde_json::json;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Place {
///     /// The name of a city
///     city: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tools = Tools::new().with(function("weather", "Tells the weather of a city", |place: Place| async move {
///     Ok(format!("It rains in {}.", place.city))
/// }));
/// let model = Model::new(ScriptedModel::new([
///     Reply::of_calls([ToolCall::new("1", "weather", json!({ "city": "Oslo" }))]),
///     Reply::of_text("Take an umbrella."),
/// ]));
/// let flow = agent(&model, tools).system("You help travellers.").build()?;
///
/// let mut state = AgentState::new("What do I need in Oslo?");
/// flow.run_async(&mut state).await?;
/// assert_eq!(state.answer().as_deref(), Some("Take an umbrella."));
///
/// let picture = r#"flowchart TD
///     s0(( )) --> n0
///     n0["think"]
///     n1[["act, 8 at once, journaled"]]
///     n0 -->|"act"| n1
///     n0 -->|"answered"| e0
///     n0 -->|"stopped"| e0
///     n1 --> n0
///     e0((( )))
/// "#;
/// assert_eq!(flow.to_mermaid(), picture);
/// # Ok(())
/// # }
/// ```
pub fn agent(model: &Model, tools: Tools) -> AgentBuilder {
    let agent = Agent {
        name: "agent".to_owned(),
        model: model.clone(),
        tools: Mutex::new(tools),
        system: None,
        options: Options::default(),
        bounds: Bounds::default(),
        history: History::default(),
        approval: Approved::default(),
    };
    AgentBuilder { agent, parallel: PARALLEL, retry: Retry::default() }
}

/// Collects the parts of an agent; made by [`agent`].
#[must_use]
pub struct AgentBuilder {
    agent: Agent,
    parallel: usize,
    retry: Retry,
}

/// The part of an agent that its nodes share.
struct Agent {
    name: String,
    model: Model,
    /// The tools as they are now: a server may change its list.
    tools: Mutex<Tools>,
    system: Option<String>,
    options: Options,
    bounds: Bounds,
    history: History,
    approval: Approved,
}

impl Agent {
    /// Asks the model, as this agent.
    async fn chat(&self, request: &Request, cx: &Context) -> Result<Reply> {
        self.model.chat(request, cx).instrument(invoke_agent(&self.name, cx)).await
    }

    /// Calls a tool, as this agent.
    async fn call(&self, call: &ToolCall, cx: &Context) -> Result<ToolResult> {
        self.tools().call(call, cx).instrument(invoke_agent(&self.name, cx)).await
    }

    /// Returns the tools as they are now.
    fn tools(&self) -> Tools {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the tools as they are now, once servers that have said that their list has changed were asked for it.
    async fn renewed_tools(&self, cx: &Context) -> Tools {
        let tools = self.tools();
        let Some(renewed) = tools.renewed(cx).await else { return tools };
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&renewed);
        renewed
    }
}

impl AgentBuilder {
    /// Names the flow; a flow's name tells its stored runs from those of others. The default is `agent`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.agent.name = name.into();
        self
    }

    /// Sets the instruction that comes before the conversation, as it is: it is no template, and no part of the state.
    pub fn system(mut self, instruction: impl Into<String>) -> Self {
        self.agent.system = Some(instruction.into());
        self
    }

    /// Sets how the model is to reply.
    pub fn options(mut self, options: Options) -> Self {
        self.agent.options = options;
        self
    }

    /// Sets how many calls of one reply are made at once. The default is 8.
    pub fn parallel(mut self, limit: usize) -> Self {
        self.parallel = limit;
        self
    }

    /// Sets how often a call of the model is tried. The default is once. Calls of tools are not tried again: the model
    /// is told what went wrong.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how much of the conversation the model is given. The default is [all of it](History::all).
    pub fn history(mut self, history: History) -> Self {
        self.agent.history = history;
        self
    }

    /// Bounds the replies to one question. The default is 20. The calls of the last one are not made: the model could
    /// not be told what came of them.
    pub fn max_turns(mut self, limit: u32) -> Self {
        self.agent.bounds.turns = limit;
        self
    }

    /// Bounds the tokens that the agent's calls of its model use for one question, sent and made; the last may go
    /// beyond.
    ///
    /// The [budget of the run](flowstone_core::RunOptions::budget) bounds the usage of tools.
    pub fn max_tokens(mut self, limit: u64) -> Self {
        self.agent.bounds.tokens = Some(limit);
        self
    }

    /// Bounds the cost of the agent's calls of its model for one question; the last may go beyond. A model without a
    /// [price](crate::Prices) is a fault of `build`.
    pub fn max_cost(mut self, limit: Usd) -> Self {
        self.agent.bounds.cost = Some(limit);
        self
    }

    /// Bounds the time that the agent works on one question; what is under way then is dropped. Waits for people do not
    /// count, nor does what a crash cut off.
    pub fn max_time(mut self, limit: Duration) -> Self {
        self.agent.bounds.time = Some(limit);
        self
    }

    /// Bounds how many replies to one question call tools that do not exist, or with arguments that do not fit. The
    /// default is 5. The model is told what is wrong each time.
    pub fn max_misuse(mut self, limit: u32) -> Self {
        self.agent.bounds.misuse = limit;
        self
    }

    /// Lets a person decide before these tools are called: the run pauses with an [`ApprovalQuestion`], and goes on
    /// with an [`Approval`]. Names that no tool has are a fault of `build`.
    pub fn approve<N: Into<String>>(mut self, tools: impl IntoIterator<Item = N>) -> Self {
        let names: BTreeSet<_> = tools.into_iter().map(Into::into).collect();
        self.agent.approval = match self.agent.approval {
            Approved::All => Approved::All,
            Approved::None => Approved::Named(names),
            Approved::Named(before) => Approved::Named(before.into_iter().chain(names).collect()),
        };
        self
    }

    /// Lets a person decide before any tool is called; see [`approve`](Self::approve).
    pub fn approve_all(mut self) -> Self {
        self.agent.approval = Approved::All;
        self
    }

    /// Checks the agent and makes its flow.
    ///
    /// # Errors
    ///
    /// Every fault at once: of tools, of bounds, of names that are to be approved.
    pub fn build(self) -> Result<AsyncFlow<AgentState, AgentExit>, BuildError> {
        let gated = !matches!(self.agent.approval, Approved::None);
        let agent = Arc::new(self.agent);
        let mut flow = AsyncFlow::builder(agent.name.clone());
        let sums_up = agent.history.summarises_above().is_some();
        let summarise = sums_up.then(|| flow.add("summarise", Summarise(Arc::clone(&agent)).retry(self.retry.clone())));
        let think = flow.add("think", Think(Arc::clone(&agent)).retry(self.retry));
        let approve = gated.then(|| flow.add("approve", Approve(Arc::clone(&agent))));
        let act = flow.add("act", Act(agent).parallel(self.parallel).journaled_by(act::id));
        match summarise {
            None => {
                flow.start(think);
                flow.route(act >> think);
            }
            Some(summarise) => {
                flow.start(summarise);
                flow.route(act >> summarise >> think);
            }
        }
        flow.route(think - Next::Act.label() >> act);
        if let Some(approve) = approve {
            flow.route(think - Next::Approve.label() >> approve >> act);
        }
        flow.route(think - Next::Answered.label() >> END);
        flow.route(think - Next::Stopped.label() >> END);
        let exit = |action: &Action| if *action == "answered" { AgentExit::Answered } else { AgentExit::Stopped };
        Ok(flow.build()?.map_exit(exit))
    }

    /// Makes a tool of the agent, for another: its one argument is the task, its result the answer. Each call is a run
    /// of its own inside the caller's, with a new conversation.
    ///
    /// A call may take as long as [`Tools::timeout_of`] says; the default is 60 seconds. An agent that asks a person is
    /// a fault of the flow that the tool is for.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build).
    pub fn build_tool(
        self,
        name: impl Into<String>,
        description: impl Into<String>,
    ) -> Result<Arc<dyn Tool>, BuildError> {
        Ok(Arc::new(AgentTool::new(name.into(), description.into(), self.build()?)))
    }
}

flowstone_core::__no_node!(AgentBuilder: timeout, total_timeout =>
    "`max_time` bounds an agent, `Connect::timeout` a call of its model, `Tools::timeout` one of a tool"
);

impl fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Agent { name, model, bounds, history, approval, .. } = &self.agent;
        f.debug_struct("AgentBuilder")
            .field("name", name)
            .field("model", model)
            .field("tools", &self.agent.tools())
            .field("bounds", bounds)
            .field("history", history)
            .field("approval", approval)
            .finish_non_exhaustive()
    }
}
