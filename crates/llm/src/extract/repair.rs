//! Asking until the reply can be used: what is wrong with one is told to the model, and it replies again, as often as
//! allowed.
//!
//! A reply that is withheld or cut off is not repaired: the next one would be, too.

use flowstone_core::{Context, NodeError, Result};

use crate::{
    error::ModelId,
    message::Message,
    prompt::ask::Asking,
    request::Request,
    schema::{Schema, shorten},
};

/// The most times that a model is asked to repair its reply, unless told otherwise.
pub(crate) const REPAIRS: u32 = 2;

/// The most bytes of a reply that are sent back to the model that made it.
const REPLY_SENT_BACK: usize = 8_000;

/// The most letters of a reply that an error shows.
const REPLY_SHOWN: usize = 300;

/// A model gave no reply that can be used, in as many tries as allowed. Terminal: the model was told what was wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "model `{model}` gave no `{wanted}` in {tries} {}: {}; its last reply: {reply:?}",
    if *.tries == 1 { "reply" } else { "replies" },
    .faults.join("; ")
)]
#[non_exhaustive]
pub struct ExtractError {
    /// The model.
    pub model: ModelId,
    /// The name of the type that was asked for, or the labels.
    pub wanted: String,
    /// The number of its replies.
    pub tries: u32,
    /// The faults of the last reply.
    pub faults: Vec<String>,
    /// The last reply, shortened.
    pub reply: String,
}

/// Asks a model for a value that fits a schema, and reads its reply.
pub(crate) async fn ask<T>(
    asking: &Asking,
    messages: &[Message],
    schema: &Schema,
    repairs: u32,
    read: impl Fn(&str) -> Result<T, Vec<String>>,
    cx: &Context,
) -> Result<T> {
    let mut request = Request::new(messages.iter().cloned())
        .options(asking.options.clone())
        .schema(&schema.name, schema.sent.clone());
    let mut tries = 0;
    loop {
        let reply = asking.whole(asking.model.chat(&request, cx).await?)?.text();
        tries += 1;
        let faults = match read(&reply) {
            Ok(value) => return Ok(value),
            Err(faults) => faults,
        };
        if tries > repairs {
            let (model, wanted) = (asking.model.id().clone(), schema.name.clone());
            let reply = shorten(&reply, REPLY_SHOWN);
            return Err(NodeError::terminal(ExtractError { model, wanted, tries, faults, reply }));
        }
        // Earlier tries are left out: they would teach the mistakes again.
        request.messages.truncate(messages.len());
        request.messages.extend(correction(&reply, &faults));
    }
}

fn correction(reply: &str, faults: &[String]) -> impl Iterator<Item = Message> {
    // Providers refuse an empty message of the model.
    let said = (!reply.trim().is_empty()).then(|| Message::assistant(shorten(reply, REPLY_SENT_BACK)));
    let told = format!(
        "Your reply cannot be used:\n- {}\nReply again with the whole of it, corrected, and nothing else.",
        faults.join("\n- ")
    );
    said.into_iter().chain([Message::user(told)])
}
