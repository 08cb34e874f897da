//! A model for tests: [`ScriptedModel`] replies what it is told to, and remembers what it was asked.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use flowstone_core::{BoxFuture, Context, Result};

use crate::{
    error::{Failure, ModelError, ModelId},
    model::{ChatModel, Embeddings},
    request::{Reply, Request},
    watch::delta::Delta,
};

/// A model without a model: it replies in order, or by a function of the request.
///
/// Clones share the script and what was asked, so that a test keeps one and gives another to a [`Model`](crate::Model).
///
/// # Example
///
/// ```
/// use flowstone_core::Context;
/// use flowstone_llm::{Message, Model, Reply, Request, ScriptedModel};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> flowstone_core::Result<()> {
/// let script = ScriptedModel::by(|request: &Request| {
///     let asked = request.messages.last().map(Message::text).unwrap_or_default();
///     Ok(Reply::of_text(if asked.contains("Rome") { "Italy" } else { "I do not know." }))
/// });
/// let model = Model::new(script.clone());
/// let reply = model.chat(&Request::new([Message::user("Where is Rome?")]), &Context::detached()).await?;
/// assert_eq!(reply.text(), "Italy");
/// assert_eq!(script.requests().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ScriptedModel {
    id: ModelId,
    wait: Duration,
    script: Arc<Script>,
}

type Rule = dyn Fn(&Request) -> Result<Reply, Failure> + Send + Sync;
type Vectors = dyn Fn(&str) -> Vec<f32> + Send + Sync;

struct Script {
    replies: Replies,
    vectors: OnceLock<Box<Vectors>>,
    requests: Mutex<Vec<Request>>,
    embedded: Mutex<Vec<Vec<String>>>,
}

enum Replies {
    InOrder {
        /// The number of replies that there were.
        count: usize,
        left: Mutex<VecDeque<Result<Reply, Failure>>>,
    },
    By(Box<Rule>),
}

impl ScriptedModel {
    /// Makes a model that gives these replies, one a call, and then fails.
    pub fn new<R: Into<Reply>>(replies: impl IntoIterator<Item = R>) -> Self {
        Self::sequence(replies.into_iter().map(|reply| Ok(reply.into())))
    }

    /// Makes a model that replies or fails like this, one a call, and then fails.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_llm::{Failure, Reply, ScriptedModel};
    ///
    /// let busy = Failure::RateLimited { retry_after: None, said: "slow down".into() };
    /// let script = ScriptedModel::sequence([Err(busy), Ok(Reply::of_text("Hello!").with_tokens(10, 2))]);
    /// assert_eq!(script.requests(), []);
    /// ```
    pub fn sequence(replies: impl IntoIterator<Item = Result<Reply, Failure>>) -> Self {
        let replies: VecDeque<_> = replies.into_iter().collect();
        Self::with(Replies::InOrder { count: replies.len(), left: Mutex::new(replies) })
    }

    /// Makes a model that replies by a rule; it gives the same to a run that goes on after a crash.
    pub fn by(rule: impl Fn(&Request) -> Result<Reply, Failure> + Send + Sync + 'static) -> Self {
        Self::with(Replies::By(Box::new(rule)))
    }

    fn with(replies: Replies) -> Self {
        let script =
            Script { replies, vectors: OnceLock::new(), requests: Mutex::default(), embedded: Mutex::default() };
        Self { id: ModelId::new("scripted", "script"), wait: Duration::ZERO, script: Arc::new(script) }
    }

    /// Lets each call take this long before it replies, by tokio's clock, which a test can pause: for tests of timeouts
    /// and cancellation. A call that is dropped meanwhile has been asked and has taken no reply.
    #[must_use]
    pub fn taking(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Lets the model make embeddings, too, by a function; a second one changes nothing.
    #[must_use]
    pub fn embedding(self, vector: impl Fn(&str) -> Vec<f32> + Send + Sync + 'static) -> Self {
        self.script.vectors.get_or_init(|| Box::new(vector));
        self
    }

    /// Returns what was asked so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.script.requests).clone()
    }

    /// Returns what was asked last.
    #[must_use]
    pub fn last_request(&self) -> Option<Request> {
        lock(&self.script.requests).last().cloned()
    }

    /// Returns the texts that were to be turned into vectors, call by call, in order.
    #[must_use]
    pub fn embedded(&self) -> Vec<Vec<String>> {
        lock(&self.script.embedded).clone()
    }

    /// Notes the request, waits, and takes the reply.
    async fn reply(&self, request: &Request) -> Result<Reply, Failure> {
        let number = {
            let mut requests = lock(&self.script.requests);
            requests.push(request.clone());
            requests.len()
        };
        self.wait().await;
        match &self.script.replies {
            Replies::By(rule) => rule(request),
            Replies::InOrder { count, left } => lock(left).pop_front().unwrap_or_else(|| {
                let said = format!("the script has {count} replies, and this is request number {number}");
                Err(Failure::Unscripted { said })
            }),
        }
    }

    async fn wait(&self) {
        // Without a wait no clock is needed, and no runtime that has one.
        if !self.wait.is_zero() {
            tokio::time::sleep(self.wait).await;
        }
    }
}

impl ChatModel for ScriptedModel {
    fn id(&self) -> &ModelId {
        &self.id
    }

    fn chat<'a>(&'a self, request: &'a Request, cx: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
        Box::pin(async move {
            let reply = self.reply(request).await.map_err(|failure| ModelError::new(self.id.clone(), failure))?;
            if request.stream {
                Delta::emit_words(&reply.text(), cx);
            }
            Ok(reply)
        })
    }

    fn embed<'a>(&'a self, texts: &'a [String], _: &'a Context) -> BoxFuture<'a, Result<Embeddings, ModelError>> {
        Box::pin(async move {
            let Some(vector) = self.script.vectors.get() else {
                let said = "the script has no embeddings: see `ScriptedModel::embedding`".to_owned();
                return Err(ModelError::new(self.id.clone(), Failure::Unscripted { said }));
            };
            lock(&self.script.embedded).push(texts.to_vec());
            self.wait().await;
            Ok(Embeddings::new(texts.iter().map(|text| vector(text)).collect(), None))
        })
    }
}

impl Delta<'_> {
    /// Sends a text that is there already as if it came word by word.
    pub(crate) fn emit_words(text: &str, cx: &Context) {
        for word in text.split_inclusive(' ') {
            Delta::Text(word).emit(cx);
        }
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::of_text(text)
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::of_text(text)
    }
}

impl fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedModel").field("asked", &lock(&self.script.requests).len()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
