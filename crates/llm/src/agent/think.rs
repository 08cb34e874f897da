//! `think`: one call of the model, and what follows from its reply.

use std::{collections::BTreeSet, marker::PhantomData, sync::Arc};

use flowstone_core::{AsyncNode, Context, NodeError, Result, Usage};

use super::{
    Agent, AgentState,
    bounds::{Bound, VisitTime},
    labels::{Next, Thought},
};
use crate::{
    error::{Failure, ModelError},
    message::{Conversation, Message, Part, Role},
    model::Model,
    request::{Finish, Reply, Request},
};

/// Asks the model, unless a bound is met.
pub(super) struct Think<L> {
    agent: Arc<Agent>,
    labels: PhantomData<fn() -> L>,
}

impl<L> Think<L> {
    pub(super) fn new(agent: &Arc<Agent>) -> Self {
        Self { agent: Arc::clone(agent), labels: PhantomData }
    }
}

/// What `exec` is to do. A request is boxed, since it is large.
pub(super) enum Ready {
    Stop(Bound),
    Ask(Box<Request>, VisitTime),
}

/// What came of it. A reply is boxed, since it is large.
pub(super) enum Thoughts {
    Stop(Bound),
    Said(Box<(Message, Usage)>),
}

impl<L: Thought> AsyncNode<AgentState> for Think<L> {
    type Prep = Ready;
    type Exec = Thoughts;
    type Action = L;

    fn check(&self) -> Result<()> {
        let agent = &*self.agent;
        agent.bounds.check(&agent.model)?;
        agent.history.fault().map_or(Ok(()), |fault| Err(NodeError::terminal(fault)))
    }

    async fn prep(&self, state: &AgentState) -> Result<Ready> {
        let agent = &*self.agent;
        if let Some(bound) = agent.bounds.met(state) {
            return Ok(Ready::Stop(bound));
        }
        let mut closed = Conversation::default();
        let mut messages = &state.conversation().messages;
        if !state.waiting().is_empty() {
            closed.clone_from(state.conversation());
            closed.answer_open_calls(CUT_OFF);
            messages = &closed.messages;
        }
        check_asked(messages)?;
        // Providers refuse an empty message.
        let system = agent.system.as_ref().filter(|told| !told.trim().is_empty()).map(Message::system);
        let shown = agent.history.view(messages);
        let request = Request::new(system.into_iter().chain(shown))
            .tools(agent.tools.specs())
            .options(agent.options.clone())
            .streamed();
        Ok(Ready::Ask(Box::new(request), agent.bounds.clock(state)))
    }

    async fn exec(&self, ready: &Ready, cx: &Context) -> Result<Thoughts> {
        let agent = &*self.agent;
        match ready {
            Ready::Stop(bound) => Ok(Thoughts::Stop(*bound)),
            Ready::Ask(request, time) => match time.within(agent.chat(request, cx)).await {
                None => Ok(Thoughts::Stop(Bound::Time { limit: agent.bounds.time.unwrap_or_default() })),
                Some(reply) => {
                    let reply = reply?;
                    let usage = agent.model.usage(request, &reply);
                    Ok(Thoughts::Said(Box::new((whole(&agent.model, reply)?, usage))))
                }
            },
        }
    }

    async fn post(&self, state: &mut AgentState, ready: Ready, thoughts: Thoughts) -> Result<L> {
        if let Ready::Ask(_, time) = &ready {
            state.add_time(time.took());
        }
        // What a run left behind that was stopped between its nodes: calls, and what was decided of them.
        state.conversation_mut().answer_open_calls(CUT_OFF);
        state.decisions.clear();
        let next = match thoughts {
            Thoughts::Stop(bound) => {
                state.stopped = Some(bound);
                Next::Stopped
            }
            Thoughts::Said(said) => {
                let (message, usage) = *said;
                self.agent.take(state, message, usage)
            }
        };
        Ok(L::of(next))
    }
}

/// Why calls have no result that another run left behind.
const CUT_OFF: &str = "the run was stopped before";

impl Agent {
    /// Takes a reply into the state, and decides what follows.
    fn take(&self, state: &mut AgentState, mut message: Message, usage: Usage) -> Next {
        mend_calls(&mut message, state.turns);
        state.turns += 1;
        state.usage += usage;
        let calls = message.tool_calls().next().is_some();
        state.conversation_mut().messages.push(message);
        if !calls {
            return Next::Answered;
        }
        // A call is not made if the model could not be told what came of it.
        if let Some(bound) = self.bounds.met(state) {
            state.stopped = Some(bound);
            state.conversation_mut().answer_open_calls(&bound.to_string());
            return Next::Stopped;
        }
        let asks = state.waiting().into_iter().any(|call| self.approval.asks_for(call, &self.tools));
        if asks { Next::Approve } else { Next::Act }
    }
}

/// Fails if there is nothing that the model could reply to.
fn check_asked(messages: &[Message]) -> Result<()> {
    let last = messages.iter().rfind(|message| message.role != Role::System);
    match last.map(|message| message.role) {
        Some(Role::User | Role::Tool) => Ok(()),
        Some(_) => Err(NodeError::terminal(NothingAsked { answered: true })),
        None => Err(NodeError::terminal(NothingAsked { answered: false })),
    }
}

/// An agent was to think, but nobody asked it anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the agent is asked nothing: {}; see `AgentState::ask`",
    if *.answered { "its answer is the last message" } else { "there is no message" }
)]
#[non_exhaustive]
pub struct NothingAsked {
    /// Whether the last question is answered.
    pub answered: bool,
}

/// The message of a reply that is whole.
pub(super) fn whole(model: &Model, reply: Reply) -> Result<Message> {
    let failure = match reply.finish {
        Finish::Filtered => Failure::Filtered,
        Finish::Length => Failure::Cut { text: reply.text() },
        _ if reply.message.tool_calls().next().is_none() && reply.text().trim().is_empty() => {
            Failure::Malformed { said: "a reply without text and without calls".to_owned() }
        }
        _ => return Ok(reply.message),
    };
    Err(ModelError::new(model.id().clone(), failure).into_node_error())
}

/// The longest name of a tool that providers take.
const LONGEST_NAME: usize = 64;

/// Gives calls ids of their own where the model did not: results and decisions go by them. And names that could be those
/// of tools: sent back as they are, providers would refuse the conversation from then on.
fn mend_calls(message: &mut Message, turn: u32) {
    let mut known = BTreeSet::new();
    let calls =
        message.parts.iter_mut().filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None });
    for (number, call) in calls.enumerate() {
        let mut id = std::mem::take(&mut call.id);
        if id.is_empty() || known.contains(&id) {
            id = format!("call_{turn}_{number}");
        }
        // The model may use such ids itself.
        while known.contains(&id) {
            id.push('_');
        }
        known.insert(id.clone());
        call.id = id;
        let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        call.name = call.name.chars().take(LONGEST_NAME).map(allowed).collect();
        if call.name.is_empty() {
            "unnamed".clone_into(&mut call.name);
        }
    }
}
