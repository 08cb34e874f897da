//! [`Recorded`]: a model for tests that replies what another model once replied.
//!
//! ```text
//! record:  request ─▶ the model ─▶ reply          both into the cassette, a JSON file
//! replay:  request ─▶ its first entry that was not used yet ─▶ reply
//!                  └▶ none: an error that says what differs from the nearest
//! ```
//!
//! **Invariant:** a cassette holds requests and replies, as models see them: no key, no header, no address.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flowstone_core::{BoxFuture, Context, NodeError, Result};

use self::tape::{Entry, Tape};
use crate::{
    error::{Failure, ModelError, ModelId},
    model::{ChatModel, Embeddings, Model},
    request::{Reply, Request},
    watch::delta::Delta,
};

mod difference;
mod tape;

pub use tape::CassetteError;

/// A model that writes down what another replies, or replies what was written down.
///
/// The file, the cassette, is JSON for people: one entry for each call, with the request and its reply. Calls that
/// failed are not in it. In replay each entry is used once, so that a request that was made twice gets its first and
/// then its second reply; requests may come in any order. Whether a request asks for a stream makes no difference.
///
/// # Example
///
/// ```
/// use flowstone_core::Context;
/// use flowstone_llm::{Message, Model, Recorded, Request, ScriptedModel};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> flowstone_core::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("hello.json");
/// let (hello, cx) = (Request::new([Message::user("Hello!")]), Context::detached());
///
/// let real = Model::new(ScriptedModel::new(["Hi."])); // a test would take `Model::named("…")`
/// let recording = Model::new(Recorded::record(&path, &real)?);
/// recording.chat(&hello, &cx).await?;
///
/// let replay = Model::new(Recorded::replay(&path)?);
/// let reply = replay.chat(&hello, &cx).await?;
/// assert_eq!(reply.text(), "Hi.");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recorded {
    id: ModelId,
    from: From,
}

#[derive(Clone)]
enum From {
    Model(Arc<Recorder>),
    /// The entries, and which of them were used.
    Tape(Arc<Mutex<Tape>>),
}

struct Recorder {
    model: Model,
    path: PathBuf,
    tape: Mutex<Tape>,
}

impl Recorded {
    /// Begins a cassette, in place of one that is there, with what this model replies.
    ///
    /// The file is written after each call, whole and then put in its place. The model keeps its limits; text comes
    /// when the reply is whole.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn record(path: impl AsRef<Path>, model: &Model) -> Result<Self, CassetteError> {
        let (path, id) = (path.as_ref().to_owned(), model.id().clone());
        let tape = Tape::new(id.clone());
        tape.write(&path)?;
        let recorder = Recorder { model: model.clone(), path, tape: Mutex::new(tape) };
        Ok(Self { id, from: From::Model(Arc::new(recorder)) })
    }

    /// Replies what a cassette holds.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is no cassette: with the line.
    pub fn replay(path: impl AsRef<Path>) -> Result<Self, CassetteError> {
        let tape = Tape::read(path.as_ref())?;
        Ok(Self { id: tape.model.clone(), from: From::Tape(Arc::new(Mutex::new(tape))) })
    }

    fn failed(&self, failure: Failure) -> ModelError {
        ModelError::new(self.id.clone(), failure)
    }

    /// The failure of a model that was recorded.
    fn recorded_error(&self, error: NodeError) -> ModelError {
        let retryable = !error.is_terminal();
        match error.into_source().downcast::<ModelError>() {
            Ok(error) => *error,
            Err(source) => self.failed(Failure::Other { retryable, source }),
        }
    }

    /// Makes the call itself outside the run: who asked this model counts what it takes.
    async fn answer(&self, asked: Asked<'_>) -> Result<Entry, ModelError> {
        match &self.from {
            From::Tape(tape) => lock(tape).take(&asked).map_err(|said| self.failed(Failure::Unscripted { said })),
            From::Model(recorder) => {
                let entry = recorder.ask(asked).await.map_err(|error| self.recorded_error(error))?;
                let (kept, recorder) = (entry.clone(), Arc::clone(recorder));
                // A file is written on a thread that may wait.
                let written = tokio::task::spawn_blocking(move || recorder.keep(kept)).await;
                let failed = |source| self.failed(Failure::Other { retryable: false, source });
                written.map_err(|panic| failed(panic.into()))?.map_err(|error| failed(error.into()))?;
                Ok(entry)
            }
        }
    }
}

/// A request to a model.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Chat(&'a Request),
    Embed(&'a [String]),
}

impl Recorder {
    async fn ask(&self, asked: Asked<'_>) -> Result<Entry> {
        let cx = Context::detached();
        Ok(match asked {
            Asked::Chat(request) => {
                let reply = self.model.chat(request, &cx).await?;
                Entry::Chat { request: Box::new(request.clone()), reply: Box::new(reply) }
            }
            Asked::Embed(texts) => {
                let Embeddings { vectors, tokens } = self.model.embed(texts, &cx).await?;
                Entry::Embed { texts: texts.to_vec(), vectors, tokens }
            }
        })
    }

    fn keep(&self, entry: Entry) -> Result<(), CassetteError> {
        let mut tape = lock(&self.tape);
        tape.push(entry);
        tape.write(&self.path)
    }
}

impl ChatModel for Recorded {
    fn id(&self) -> &ModelId {
        &self.id
    }

    fn chat<'a>(&'a self, request: &'a Request, cx: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
        Box::pin(async move {
            let Entry::Chat { reply, .. } = self.answer(Asked::Chat(request)).await? else {
                return Err(self.failed(Failure::Malformed { said: "an entry of another kind".to_owned() }));
            };
            if request.stream {
                Delta::emit_words(&reply.text(), cx);
            }
            Ok(*reply)
        })
    }

    fn embed<'a>(&'a self, texts: &'a [String], _: &'a Context) -> BoxFuture<'a, Result<Embeddings, ModelError>> {
        Box::pin(async move {
            match self.answer(Asked::Embed(texts)).await? {
                Entry::Embed { vectors, tokens, .. } => Ok(Embeddings::new(vectors, tokens)),
                Entry::Chat { .. } => {
                    Err(self.failed(Failure::Malformed { said: "an entry of another kind".to_owned() }))
                }
            }
        })
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").field("id", &self.id).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
