//! The part that the nodes have in common: a model, its instruction, and its options.

use flowstone_core::{NodeError, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::{Prompt, PromptError};
use crate::{
    error::{Failure, ModelError},
    message::Message,
    model::Model,
    request::{Finish, Options, Reply},
};

/// The parts of a node that asks a model.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) model: Model,
    pub(crate) system: Option<Prompt>,
    pub(crate) options: Options,
}

impl Asking {
    pub(crate) fn new(model: &Model) -> Self {
        Self { model: model.clone(), system: None, options: Options::default() }
    }

    pub(crate) fn set_system(&mut self, system: impl Into<Prompt>) {
        self.system = Some(system.into().system());
    }

    /// Checks the instructions, and a prompt, if there is one, against the state.
    pub(crate) fn check<S: DeserializeOwned>(&self, prompt: Option<&Prompt>) -> Result<()> {
        faultless(self.system.iter().chain(prompt).map(|it| it.check::<S>()))
    }

    /// As [`check`](Self::check), against one value with a name.
    pub(crate) fn check_named<T: DeserializeOwned>(&self, name: &'static str, prompt: &Prompt) -> Result<()> {
        faultless(self.system.iter().chain([prompt]).map(|it| it.check_named::<T>(name)))
    }

    /// Renders the instructions: the node's own, then those that the kind of node adds.
    pub(crate) fn told(&self, values: &impl Serialize, more: &str) -> Result<Option<Message>> {
        let own = self.system.as_ref().map(|system| render(system, values)).transpose()?;
        let texts: Vec<&str> =
            own.as_deref().into_iter().chain([more]).filter(|text| !text.trim().is_empty()).collect();
        Ok((!texts.is_empty()).then(|| Message::system(texts.join("\n\n"))))
    }

    /// Renders the instructions and the question.
    pub(crate) fn messages(&self, prompt: &Prompt, values: &impl Serialize, more: &str) -> Result<Vec<Message>> {
        let told = self.told(values, more)?;
        Ok(told.into_iter().chain([Message::user(render(prompt, values)?)]).collect())
    }

    /// Refuses a reply that is not whole: withheld, or cut off.
    pub(crate) fn whole(&self, reply: Reply) -> Result<Reply> {
        match reply.finish {
            Finish::Filtered => Err(self.failed(Failure::Filtered { said: reply.text() })),
            Finish::Length => Err(self.failed(Failure::Cut { text: reply.text() })),
            _ => Ok(reply),
        }
    }

    pub(crate) fn failed(&self, failure: Failure) -> NodeError {
        ModelError::new(self.model.id().clone(), failure).into_node_error()
    }
}

/// A prompt that does not fit its values does not fit them in another attempt either.
fn render(prompt: &Prompt, values: &impl Serialize) -> Result<String> {
    prompt.render(values).map_err(NodeError::terminal)
}

/// Reports every fault of several prompts.
fn faultless(checks: impl Iterator<Item = Result<(), PromptError>>) -> Result<()> {
    let faults: Vec<String> = checks.filter_map(Result::err).map(|error| error.to_string()).collect();
    if faults.is_empty() { Ok(()) } else { Err(NodeError::terminal(faults.join("; "))) }
}
