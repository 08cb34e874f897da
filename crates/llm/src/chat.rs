//! [`Chat`]: a node that asks a model for text: a turn of a conversation, or the answer to a prompt.

use std::{fmt, marker::PhantomData};

use flowstone_core::{AsyncNode, Context, IntoAction, NodeError, Result, State};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    agent::history::History,
    error::Failure,
    message::{Conversation, Message, Part, Role},
    model::Model,
    prompt::{Prompt, ask::Asking},
    request::{Finish, Options, Reply, Request},
};

/// A node that asks a model for text.
///
/// - [`Chat::turn`] goes on with the [`Conversation`] in the state.
/// - [`Chat::prompt`] fills in a [`Prompt`] from the state, and gives the answer to a closure.
///
/// Text is sent to listeners as it comes, see [`Delta`](crate::Delta), unless the node is [`quiet`](Self::quiet).
/// The node's policy says whether a call that failed is made again:
/// `Chat::turn(&model).retry(Retry::attempts(4).exponential(wait).jitter())`.
///
/// # Errors
///
/// Those of [`Model::chat`]; and [`ModelError`](crate::ModelError) with [`Failure::Filtered`], [`Failure::Cut`] (unless
/// [`allow_cut`](Self::allow_cut)) and, for an empty reply, [`Failure::Malformed`].
///
/// # Example
///
/// ```
/// use flowstone_core::AsyncFlow;
/// use flowstone_llm::{Chat, Conversation, Model, ScriptedModel};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = Model::new(ScriptedModel::new(["22 degrees."]));
///
/// let mut flow = AsyncFlow::builder("weather");
/// let reply = flow.add("reply", Chat::turn(&model).system("You know the weather."));
/// flow.start(reply);
///
/// let mut chat = Conversation::default();
/// chat.user("How warm is it?");
/// flow.build()?.run_async(&mut chat).await?;
/// assert_eq!(chat.last_text().as_deref(), Some("22 degrees."));
/// # Ok(())
/// # }
/// ```
pub struct Chat<K> {
    asking: Asking,
    stream: bool,
    allow_cut: bool,
    kind: K,
}

/// The kind of [`Chat::turn`].
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    history: History,
}

/// The kind of [`Chat::prompt`].
pub struct Prompted<S, F, R> {
    prompt: Prompt,
    post: F,
    types: PhantomData<fn(S) -> R>,
}

impl Chat<Turn> {
    /// Makes a node that goes on with the conversation in the state: it sends all of it, unless there is a
    /// [`history`](Self::history), and appends the reply.
    ///
    /// The state is a [`Conversation`], or has one (`AsRef<Conversation> + AsMut<Conversation>`). Its last message is
    /// one to be answered: of the user, or of tools; otherwise the node fails with [`NothingToAnswer`].
    #[must_use]
    pub fn turn(model: &Model) -> Self {
        Self::new(model, Turn { history: History::all() })
    }

    /// Sets how much of the conversation the model is given; the state keeps all of it. A history that sums up is for
    /// [agents](crate::agent), and an error of `build()` here.
    #[must_use]
    pub fn history(mut self, history: History) -> Self {
        self.kind.history = history;
        self
    }
}

impl<S, F, R> Chat<Prompted<S, F, R>>
where
    S: State,
    F: Fn(&mut S, String) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    /// Makes a node that asks a question about the state: `post` gets the answer, and may return an action.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::AsyncFlow;
    /// use flowstone_llm::{Chat, Model, ScriptedModel};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Essay {
    ///     topic: String,
    ///     draft: String,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let model = Model::new(ScriptedModel::new(["Rust is a language."]));
    /// let mut flow = AsyncFlow::builder("essay");
    /// let draft = Chat::prompt(&model, "Write about {{ topic }}.", |s: &mut Essay, text: String| s.draft = text);
    /// let draft = flow.add("draft", draft);
    /// flow.start(draft);
    ///
    /// let mut essay = Essay { topic: "Rust".into(), draft: String::new() };
    /// flow.build()?.run_async(&mut essay).await?;
    /// assert_eq!(essay.draft, "Rust is a language.");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn prompt(model: &Model, prompt: impl Into<Prompt>, post: F) -> Self {
        Self::new(model, Prompted { prompt: prompt.into(), post, types: PhantomData })
    }
}

impl<K> Chat<K> {
    fn new(model: &Model, kind: K) -> Self {
        Self { asking: Asking::new(model), stream: true, allow_cut: false, kind }
    }

    /// Sets the instructions: a [`Prompt`] over the state, too.
    #[must_use]
    pub fn system(mut self, system: impl Into<Prompt>) -> Self {
        self.asking.set_system(system);
        self
    }

    /// Sets how the model is to reply.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.asking.options = options;
        self
    }

    /// Asks for the text at once, not as it comes: for text that no person reads.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.stream = false;
        self
    }

    /// Takes a reply that was cut off at its most tokens for an answer.
    #[must_use]
    pub fn allow_cut(mut self) -> Self {
        self.allow_cut = true;
        self
    }

    fn request(&self, messages: impl IntoIterator<Item = Message>) -> Request {
        let request = Request::new(messages).options(self.asking.options.clone());
        if self.stream { request.streamed() } else { request }
    }

    async fn ask(&self, request: &Request, cx: &Context) -> Result<Reply> {
        let reply = self.asking.model.chat(request, cx).await?;
        // No tools were offered: a reply that only calls one is no answer.
        let says_nothing = reply.text().trim().is_empty();
        if self.allow_cut && reply.finish == Finish::Length && !says_nothing {
            return Ok(reply);
        }
        let reply = self.asking.whole(reply)?;
        // With the results of tools at hand, a model may have nothing to add.
        let results = request.messages.last().is_some_and(|last| last.role == Role::Tool);
        if says_nothing && !results {
            Err(self.asking.failed(Failure::Malformed { said: "it is empty".to_owned() }))
        } else {
            Ok(reply)
        }
    }
}

/// A conversation in which there is nothing for a model to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the conversation has nothing to answer: {}", match .last {
    None => "it is empty",
    Some(Role::Assistant) => "its last message is the model's own",
    Some(_) => "its last message is an instruction",
})]
#[non_exhaustive]
pub struct NothingToAnswer {
    /// The speaker of the last message, if there is one.
    pub last: Option<Role>,
}

impl<S> AsyncNode<S> for Chat<Turn>
where
    S: State + AsRef<Conversation> + AsMut<Conversation> + Serialize + DeserializeOwned,
{
    type Prep = Request;
    type Exec = Reply;
    type Action = ();

    fn check(&self) -> Result<()> {
        if self.kind.history.summarises_above().is_some() {
            return Err(NodeError::terminal("a turn sums up nothing: take `History::drop_above`, or an agent"));
        }
        if let Some(fault) = self.kind.history.fault() {
            return Err(NodeError::terminal(fault));
        }
        self.asking.check::<S>(None)
    }

    async fn prep(&self, shared: &S) -> Result<Request> {
        let chat: &Conversation = shared.as_ref();
        let last = chat.messages.last().map(|message| message.role);
        if !matches!(last, Some(Role::User | Role::Tool)) {
            return Err(NodeError::terminal(NothingToAnswer { last }));
        }
        let told = self.asking.told(shared, "")?;
        Ok(self.request(told.into_iter().chain(self.kind.history.view(&chat.messages))))
    }

    async fn exec(&self, request: &Request, cx: &Context) -> Result<Reply> {
        self.ask(request, cx).await
    }

    async fn post(&self, shared: &mut S, _: Request, reply: Reply) -> Result<()> {
        let mut message = reply.message;
        // Nobody would answer a call, and most providers refuse a conversation in which one has no result.
        message.parts.retain(|part| !matches!(part, Part::ToolCall(_)));
        shared.as_mut().messages.push(message);
        Ok(())
    }
}

impl<S, F, R> AsyncNode<S> for Chat<Prompted<S, F, R>>
where
    S: State + Serialize + DeserializeOwned,
    F: Fn(&mut S, String) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    type Prep = Request;
    type Exec = Reply;
    type Action = R::Action;

    fn check(&self) -> Result<()> {
        self.asking.check::<S>(Some(&self.kind.prompt))
    }

    async fn prep(&self, shared: &S) -> Result<Request> {
        Ok(self.request(self.asking.messages(&self.kind.prompt, shared, "")?))
    }

    async fn exec(&self, request: &Request, cx: &Context) -> Result<Reply> {
        self.ask(request, cx).await
    }

    async fn post(&self, shared: &mut S, _: Request, reply: Reply) -> Result<R::Action> {
        (self.kind.post)(shared, reply.text()).into_action()
    }
}

impl<K> fmt::Debug for Chat<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat").field("asking", &self.asking).finish_non_exhaustive()
    }
}

impl<S, F, R> fmt::Debug for Prompted<S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prompted").field(&self.prompt).finish()
    }
}
