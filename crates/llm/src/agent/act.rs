//! `act`: the calls of one reply, several at once, each an item of its own.
//!
//! **Invariant:** an item for each call, in their order, whatever was decided of it. A journal keeps items by the ids
//! of their calls, since the agent may need other approvals when a run goes on than when it was cut off.

use std::sync::Arc;

use flowstone_core::{AsyncBatchNode, Context, Result};

use super::{Agent, AgentState, approve::Decision, bounds::VisitTime};
use crate::message::{Message, ToolCall, ToolFault, ToolResult};

/// Makes the calls that nobody refused, and tells the model the result of each.
pub(super) struct Act(pub(super) Arc<Agent>);

/// A call, and the decision on it.
pub(super) struct Item {
    call: ToolCall,
    /// The reason for which it is not made.
    refused: Option<String>,
    /// `true` if a person changed the arguments.
    edited: bool,
    time: VisitTime,
}

/// Returns the id by which a journal knows a call.
pub(super) fn id(item: &Item) -> String {
    item.call.id.clone()
}

impl AsyncBatchNode<AgentState> for Act {
    type Item = Item;
    type Output = ToolResult;
    type Outcome = ToolResult;
    type Action = ();

    fn check(&self) -> Result<()> {
        self.0.tools().check()
    }

    async fn prep(&self, state: &AgentState) -> Result<Vec<Item>> {
        let time = self.0.bounds.clock(state);
        let item = |call: &ToolCall| {
            let decision = state.decisions.get(&call.id);
            let (refused, mut call) = (self.refused(call, decision), call.clone());
            let edited = if let Some(Decision::Edit { arguments }) = decision { Some(arguments) } else { None };
            call.arguments = edited.unwrap_or(&call.arguments).clone();
            Item { call, refused, edited: edited.is_some(), time }
        };
        Ok(state.waiting().into_iter().map(item).collect())
    }

    async fn exec(&self, item: &Item, cx: &Context) -> Result<ToolResult> {
        if let Some(why) = &item.refused {
            return Ok(fault(&item.call, ToolFault::Refused, why.clone()));
        }
        let Some(result) = item.time.within(self.0.call(&item.call, cx)).await else {
            return Ok(fault(&item.call, ToolFault::Failed, "it was stopped: the agent's time is over".to_owned()));
        };
        let mut result = result?;
        if item.edited {
            // The conversation has the call as the model made it.
            result.text = format!("a person changed the arguments to {}\n{}", item.call.arguments, result.text);
        }
        Ok(result)
    }

    async fn post(&self, state: &mut AgentState, items: Vec<Item>, results: Vec<ToolResult>) -> Result<()> {
        if let Some(item) = items.first() {
            state.add_time(item.time.took());
        }
        state.decisions.clear();
        if results.iter().any(|result| result.fault == Some(ToolFault::Misuse)) {
            state.misuses += 1;
        }
        state.conversation_mut().messages.push(Message::tool_results(results));
        Ok(())
    }
}

impl Act {
    /// Returns the reason for which a call is not made.
    fn refused(&self, call: &ToolCall, decision: Option<&Decision>) -> Option<String> {
        match decision {
            Some(Decision::Refuse { reason }) => Some(format!("a person refused this call: {reason}")),
            // A run that is kept may have come here when the tool needed no approval yet.
            None if self.0.approval.asks_for(call, &self.0.tools()) => {
                Some("this call takes the approval of a person, and has none".to_owned())
            }
            None | Some(Decision::Approve | Decision::Edit { .. }) => None,
        }
    }
}

fn fault(call: &ToolCall, fault: ToolFault, text: String) -> ToolResult {
    ToolResult { id: call.id.clone(), name: call.name.clone(), text, fault: Some(fault) }
}
