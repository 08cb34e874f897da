//! `think`: one call of the model, and what follows from its reply.

use std::sync::Arc;

use flowstone_core::{Action, AsyncNode, Context, NodeError, Result, Usage};

use super::{
    Agent, AgentState,
    bounds::{Bound, VisitTime},
    labels::Next,
};
use crate::{
    error::{Failure, ModelError},
    message::{Conversation, Message, Part, Role, distinct_ids},
    model::Model,
    request::{Finish, Reply, Request, ToolChoice},
};

/// Asks the model, unless a bound is met.
pub(super) struct Think(pub(super) Arc<Agent>);

/// The task of `exec`. A request is boxed, since it is large.
pub(super) enum Ready {
    Stop(Bound),
    Ask(Box<Request>, VisitTime),
}

/// The result of `exec`. A reply is boxed, since it is large.
pub(super) enum Thoughts {
    Stop(Bound),
    Said(Box<(Message, Usage)>),
}

impl AsyncNode<AgentState> for Think {
    type Prep = Ready;
    type Exec = Thoughts;
    type Action = Action;

    fn check(&self) -> Result<()> {
        let agent = &*self.0;
        agent.bounds.check(&agent.model)?;
        check_choice(agent)?;
        agent.history.fault().map_or(Ok(()), |fault| Err(NodeError::terminal(fault)))
    }

    async fn prep(&self, state: &AgentState) -> Result<Ready> {
        let agent = &*self.0;
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
        // An answer may be empty, behind the results of tools.
        let shown = agent.history.view(messages).into_iter().filter(|message| !message.says_nothing());
        let mut options = agent.options.clone();
        // A call that is forced is forced once: with its result at hand, the model may answer.
        if state.turns() > 0 && matches!(options.tool_choice, ToolChoice::Required | ToolChoice::Tool(_)) {
            options.tool_choice = ToolChoice::Auto;
        }
        let request =
            Request::new(system.into_iter().chain(shown)).tools(agent.tools().specs()).options(options).streamed();
        Ok(Ready::Ask(Box::new(request), agent.bounds.clock(state)))
    }

    async fn exec(&self, ready: &Ready, cx: &Context) -> Result<Thoughts> {
        let agent = &*self.0;
        match ready {
            Ready::Stop(bound) => Ok(Thoughts::Stop(*bound)),
            Ready::Ask(request, time) => match time.within(agent.ask(request, cx)).await {
                None => Ok(Thoughts::Stop(Bound::Time { limit: agent.bounds.time.unwrap_or_default() })),
                Some(reply) => {
                    let (reply, usage) = reply?;
                    // With the results of its tools at hand, a model may have nothing to add.
                    let results = request.messages.last().is_some_and(|last| last.role == Role::Tool);
                    Ok(Thoughts::Said(Box::new((whole(&agent.model, reply, results)?, usage))))
                }
            },
        }
    }

    async fn post(&self, state: &mut AgentState, ready: Ready, thoughts: Thoughts) -> Result<Action> {
        if let Ready::Ask(_, time) = &ready {
            state.add_time(time.took());
        }
        // A run that was stopped between its nodes may have left calls behind, and decisions on them.
        state.conversation_mut().answer_open_calls(CUT_OFF);
        state.decisions.clear();
        let next = match thoughts {
            Thoughts::Stop(bound) => {
                state.stopped = Some(bound);
                Next::Stopped
            }
            Thoughts::Said(said) => {
                let (message, usage) = *said;
                self.0.take(state, message, usage)
            }
        };
        Ok(next.label().into())
    }
}

/// The result of calls that another run left behind without one.
const CUT_OFF: &str = "the run was stopped before";

impl Agent {
    /// Asks the model, with the tools as they are now; returns the usage, too.
    async fn ask(&self, request: &Request, cx: &Context) -> Result<(Reply, Usage)> {
        let tools = self.renewed_tools(cx).await;
        let specs = tools.may_change().then(|| tools.specs()).filter(|specs| *specs != request.tools);
        let renewed = specs.map(|specs| request.clone().tools(specs));
        let request = renewed.as_ref().unwrap_or(request);
        let reply = self.chat(request, cx).await?;
        let usage = self.model.usage(request, &reply);
        Ok((reply, usage))
    }

    /// Takes a reply into the state, and decides on the next step.
    fn take(&self, state: &mut AgentState, mut message: Message, usage: Usage) -> Next {
        distinct_ids(&mut message, &state.conversation().messages);
        mend_names(&mut message);
        state.turns += 1;
        state.usage += usage;
        let calls = message.tool_calls().next().is_some();
        state.conversation_mut().messages.push(message);
        if !calls {
            return Next::Answered;
        }
        // A call is not made if the model could not be told its result.
        if let Some(bound) = self.bounds.met(state) {
            state.stopped = Some(bound);
            state.conversation_mut().answer_open_calls(&bound.to_string());
            return Next::Stopped;
        }
        let tools = self.tools();
        let asks = state.waiting().into_iter().any(|call| self.approval.asks_for(call, &tools));
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
    /// `true` if the last question is answered.
    pub answered: bool,
}

/// Fails if a call is forced that cannot be made.
fn check_choice(agent: &Agent) -> Result<()> {
    let tools = agent.tools();
    let fault = match &agent.options.tool_choice {
        ToolChoice::Required if tools.is_empty() => "a call is required, and there is no tool".to_owned(),
        ToolChoice::Tool(name) if tools.get(name).is_none() => {
            let names: Vec<_> = tools.names().collect();
            format!("a call of `{name}` is required, which is no tool; the tools are {names:?}")
        }
        _ => return Ok(()),
    };
    Err(NodeError::terminal(fault))
}

/// The message of a reply that is whole; an empty one is only behind `results` of tools.
pub(super) fn whole(model: &Model, reply: Reply, results: bool) -> Result<Message> {
    let failure = match reply.finish {
        Finish::Filtered => Failure::Filtered { said: reply.text() },
        Finish::Length => Failure::Cut { text: reply.text() },
        _ if !results && reply.message.tool_calls().next().is_none() && reply.text().trim().is_empty() => {
            Failure::Malformed { said: "a reply without text and without calls".to_owned() }
        }
        _ => return Ok(reply.message),
    };
    Err(ModelError::new(model.id().clone(), failure).into_node_error())
}

/// The longest name of a tool that providers take.
const LONGEST_NAME: usize = 64;

/// Gives calls names that could be those of tools: sent back as they are, services would refuse the conversation from
/// then on.
fn mend_names(message: &mut Message) {
    let calls =
        message.parts.iter_mut().filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None });
    for call in calls {
        let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        call.name = call.name.chars().take(LONGEST_NAME).map(allowed).collect();
        if call.name.is_empty() {
            "unnamed".clone_into(&mut call.name);
        }
    }
}
