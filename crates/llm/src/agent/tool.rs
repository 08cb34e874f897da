//! An agent as a tool of another: [`AgentTool`].

use flowstone_core::{AsyncFlow, BoxFuture, Context, NodeError, Result};
use serde_json::{Value, json};

use super::{AgentExit, AgentState};
use crate::{request::ToolSpec, tools::Tool};

/// An agent as a tool of another; made by [`AgentBuilder::build_tool`](super::AgentBuilder::build_tool).
///
/// Each call is a run of its own inside the caller's, with a new conversation. In a run that is kept its visits are
/// kept, too, so that after a crash it goes on where it was.
#[derive(Debug, Clone)]
pub(super) struct AgentTool {
    spec: ToolSpec,
    flow: AsyncFlow<AgentState, AgentExit>,
}

impl AgentTool {
    pub(super) fn new(name: String, description: String, flow: AsyncFlow<AgentState, AgentExit>) -> Self {
        let parameters = json!({
            "type": "object",
            "properties": { "task": { "type": "string", "description": "What is to be done, with all that is needed to do it" } },
            "required": ["task"],
            "additionalProperties": false,
        });
        Self { spec: ToolSpec { name, description, parameters }, flow }
    }
}

impl Tool for AgentTool {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn check(&self) -> Result<()> {
        match self.flow.asks() {
            None => Ok(()),
            Some(asks) => Err(NodeError::terminal(format!(
                "a tool cannot wait for a person, and node `{asks}` of the agent asks"
            ))),
        }
    }

    fn call<'a>(&'a self, arguments: Value, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let task = arguments.get("task").and_then(Value::as_str).unwrap_or_default();
            let (state, _) = self.flow.run_in(AgentState::new(task), cx).await?;
            match state.stopped() {
                None => Ok(state.answer().unwrap_or_default()),
                Some(bound) => Err(NodeError::terminal(bound.to_string())),
            }
        })
    }
}
