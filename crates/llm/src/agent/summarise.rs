//! `summarise`: a summary takes the place of the oldest part of a conversation that has become too long.

use std::{fmt::Write, sync::Arc};

use flowstone_core::{AsyncNode, Context, Result, Usage};

use super::{Agent, AgentState, bounds::VisitTime, think::whole};
use crate::{
    agent::history::{kept, tokens},
    error::{Failure, ModelError},
    message::{Conversation, Message, Part, Role},
    request::{Options, Request, ToolChoice},
};

/// The beginning of a summary, by which the next one knows it.
const BEGINS: &str = "Summary of what was said and done before:\n";

/// Sums up, if there is too much; passes at no cost, if not.
pub(super) struct Summarise(pub(super) Arc<Agent>);

/// The task of `exec`.
pub(super) struct Long {
    request: Request,
    /// Which messages stay.
    kept: Vec<bool>,
    time: VisitTime,
}

impl AsyncNode<AgentState> for Summarise {
    type Prep = Option<Long>;
    type Exec = Option<(String, Usage)>;
    type Action = ();

    async fn prep(&self, state: &AgentState) -> Result<Option<Long>> {
        let agent = &*self.0;
        let messages = &state.conversation().messages;
        let limit = agent.history.summarises_above().filter(|limit| tokens(messages) > *limit);
        let Some(limit) = limit.filter(|_| agent.bounds.met(state).is_none()) else { return Ok(None) };
        let kept = kept(messages, limit / 2);
        let old: Vec<_> = messages.iter().zip(&kept).filter(|(_, kept)| !**kept).map(|(message, _)| message).collect();
        let fresh: u64 = old.iter().filter(|old| !is_summary(old)).map(|old| old.estimated_tokens()).sum();
        // Where what always stays is long by itself, a call for each turn would win nothing.
        if fresh < limit / 4 {
            return Ok(None);
        }
        let request = request(&old, limit / 8).options(options(&agent.options));
        Ok(Some(Long { request, kept, time: agent.bounds.clock(state) }))
    }

    async fn exec(&self, long: &Option<Long>, cx: &Context) -> Result<Option<(String, Usage)>> {
        let Some(long) = long else { return Ok(None) };
        let agent = &*self.0;
        // Out of time, `think` says so.
        let Some(reply) = long.time.within(agent.chat(&long.request, cx)).await else { return Ok(None) };
        let reply = reply?;
        let usage = agent.model.usage(&long.request, &reply);
        let summary = whole(&agent.model, reply, false)?.text();
        if summary.trim().is_empty() {
            // The conversation would be lost.
            let failure = Failure::Malformed { said: "a summary without text".to_owned() };
            return Err(ModelError::new(agent.model.id().clone(), failure).into_node_error());
        }
        Ok(Some((summary, usage)))
    }

    async fn post(&self, state: &mut AgentState, long: Option<Long>, summary: Option<(String, Usage)>) -> Result<()> {
        let Some(long) = long else { return Ok(()) };
        state.add_time(long.time.took());
        if let Some((summary, usage)) = summary {
            state.usage += usage;
            replace(state.conversation_mut(), &long.kept, &summary);
        }
        Ok(())
    }
}

/// Puts a summary in the place of what does not stay: before the first message of the user that does, so that the
/// conversation begins with the user, and ends with what the model is to reply to.
fn replace(conversation: &mut Conversation, kept: &[bool], summary: &str) {
    let messages = std::mem::take(&mut conversation.messages);
    let mut summary = Some(Message::user(format!("{BEGINS}{summary}")));
    for (message, kept) in messages.into_iter().zip(kept) {
        if !kept || message.role != Role::System {
            conversation.messages.extend(summary.take());
        }
        if *kept {
            conversation.messages.push(message);
        }
    }
}

/// Returns the options of a summary: those of the agent, without those that are about its own replies. A summary that
/// is cut off would end the run.
fn options(agent: &Options) -> Options {
    Options { max_tokens: None, stop: Vec::new(), tool_choice: ToolChoice::Auto, ..agent.clone() }
}

fn is_summary(message: &Message) -> bool {
    message.role == Role::User && matches!(&*message.parts, [Part::Text(text)] if text.starts_with(BEGINS))
}

/// Asks for a summary of messages, which are written out: as messages they might not be a conversation.
fn request(old: &[&Message], words: u64) -> Request {
    let mut text = String::new();
    for message in old {
        write_out(message, &mut text);
    }
    let task = format!(
        "Below is the older part of a conversation between a user and an assistant that calls tools. Sum it up for the \
         assistant, which will not see it any more: what the user wants, what was found and decided, with names, numbers \
         and sources, and what is still to be done. Reply with the summary alone, in at most {words} words."
    );
    Request::new([Message::system(task), Message::user(text)])
}

fn write_out(message: &Message, out: &mut String) {
    let who = match message.role {
        Role::System => "Instruction",
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::Tool => "Tool",
    };
    for part in &message.parts {
        // Writing to a string does not fail.
        let _ = match part {
            Part::Text(text) => writeln!(out, "{who}: {text}"),
            Part::Image(_) => writeln!(out, "{who}: [an image]"),
            Part::ToolCall(call) => writeln!(out, "{who} calls {} with {}", call.name, call.arguments),
            Part::ToolResult(result) => writeln!(out, "{} returns: {}", result.name, result.text),
            Part::Reasoning { .. } | Part::Extra(_) => Ok(()),
        };
    }
}
