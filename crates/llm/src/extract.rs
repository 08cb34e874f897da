//! [`Extract`]: a node that asks a model for a value of a type.
//!
//! ```text
//! type ─▶ schema ─▶ request ─▶ reply ─▶ fits the schema? the type? the user's rule? ─▶ post
//!                      ▲                                   │ no, at most `repairs` times
//!                      └────── what is wrong with it ──────┘
//! ```

use std::{fmt, marker::PhantomData, sync::Arc};

use flowstone_core::{AsyncBatchNode, AsyncNode, Context, IntoAction, NodeError, Result, State};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    message::Message,
    model::Model,
    prompt::{Prompt, ask::Asking},
    request::Options,
    schema::{HasSchema, Schema},
};

pub(crate) mod repair;

pub use repair::ExtractError;

/// A node that asks a model for a value of the type `T`.
///
/// - [`Extract::prompt`] makes one value of what a [`Prompt`] says of the state.
/// - [`Extract::each`] makes one of each item: a batch node, for `.parallel(8).journaled()`.
///
/// The type's JSON schema is sent with the request, and told in words, for models that know no schemas; doc comments of
/// the type and its fields are part of it. A reply that does not fit is repaired by the model itself: it is told what
/// is wrong, at most [`repairs`](Self::repairs) times.
///
/// # Errors
///
/// [`ExtractError`] when no reply can be used, and the errors of [`Model::chat`]; [`Failure::Filtered`] and
/// [`Failure::Cut`] at once.
///
/// [`Failure::Filtered`]: crate::Failure::Filtered
/// [`Failure::Cut`]: crate::Failure::Cut
///
/// # Example
///
/// ```
/// use flowstone_core::AsyncFlow;
/// use flowstone_llm::{Extract, Model, ScriptedModel};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
/// struct Invoice {
///     /// Who wrote it.
///     seller: String,
///     /// In cents.
///     total: u64,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Doc {
///     text: String,
///     invoice: Option<Invoice>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The model is told that its first reply lacks `total`.
/// let model = Model::new(ScriptedModel::new([r#"{"seller": "Ink Ltd"}"#, r#"{"seller": "Ink Ltd", "total": 990}"#]));
///
/// let mut flow = AsyncFlow::builder("invoice");
/// let read = Extract::prompt(&model, "Read this invoice:\n{{ text }}", |doc: &mut Doc, invoice: Invoice| {
///     doc.invoice = Some(invoice);
/// });
/// let read = flow.add("read", read);
/// flow.start(read);
///
/// let mut doc = Doc { text: "Ink Ltd, $9.90".into(), invoice: None };
/// flow.build()?.run_async(&mut doc).await?;
/// assert_eq!(doc.invoice, Some(Invoice { seller: "Ink Ltd".into(), total: 990 }));
/// # Ok(())
/// # }
/// ```
pub struct Extract<T, K> {
    asking: Asking,
    prompt: Prompt,
    /// A fault of the schema is said when the flow is built.
    schema: Result<Arc<Schema>, String>,
    repairs: u32,
    rule: Option<Arc<Rule<T>>>,
    kind: K,
}

type Rule<T> = dyn Fn(&T) -> Result<(), String> + Send + Sync;

/// The kind of [`Extract::prompt`].
pub struct One<S, F, R> {
    post: F,
    types: PhantomData<fn(S) -> R>,
}

/// The kind of [`Extract::each`] and [`Classify::each`](crate::Classify::each).
pub struct Each<S, I, P, F, R> {
    items: P,
    post: F,
    types: PhantomData<fn(S, I) -> R>,
}

impl<S, I, P: Fn(&S) -> Vec<I>, F, R> Each<S, I, P, F, R> {
    pub(crate) fn new(items: P, post: F) -> Self {
        Self { items, post, types: PhantomData }
    }

    pub(crate) fn items(&self, shared: &S) -> Vec<I> {
        (self.items)(shared)
    }

    pub(crate) fn post<T>(&self, shared: &mut S, outputs: Vec<T>) -> R
    where
        F: Fn(&mut S, Vec<T>) -> R,
    {
        (self.post)(shared, outputs)
    }
}

impl<S, T, F, R> Extract<T, One<S, F, R>>
where
    S: State,
    T: HasSchema + DeserializeOwned,
    F: Fn(&mut S, T) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    /// Makes a node that asks for one value; `post` gets it, and may return an action.
    #[must_use]
    pub fn prompt(model: &Model, prompt: impl Into<Prompt>, post: F) -> Self {
        Self::new(model, prompt, One { post, types: PhantomData })
    }
}

impl<S, T, I, P, F, R> Extract<T, Each<S, I, P, F, R>>
where
    S: State,
    T: HasSchema + DeserializeOwned,
    P: Fn(&S) -> Vec<I> + Send + Sync + 'static,
    F: Fn(&mut S, Vec<T>) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    /// Makes a batch node that asks for one value of each item, which the prompt calls `item`; `post` gets all values,
    /// in the order of the items.
    ///
    /// The item may be a struct, if the prompt is to say more.
    #[must_use]
    pub fn each(model: &Model, prompt: impl Into<Prompt>, items: P, post: F) -> Self {
        Self::new(model, prompt, Each::new(items, post))
    }
}

impl<T, K> Extract<T, K> {
    fn new(model: &Model, prompt: impl Into<Prompt>, kind: K) -> Self
    where
        T: HasSchema,
    {
        let schema = Schema::of::<T>().map(Arc::new);
        Self { asking: Asking::new(model), prompt: prompt.into(), schema, repairs: repair::REPAIRS, rule: None, kind }
    }

    /// Sets the instructions, to which the form of the reply is added. A [`Prompt`] over the same values as the other
    /// one.
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

    /// Sets how often the model is told what is wrong with its reply, of each item; 2 if not set.
    #[must_use]
    pub fn repairs(mut self, repairs: u32) -> Self {
        self.repairs = repairs;
        self
    }

    /// Sets a rule that a value has to keep; the model is told the rule's error.
    #[must_use]
    pub fn check(mut self, rule: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.rule = Some(Arc::new(rule));
        self
    }

    fn schema(&self) -> Result<&Schema> {
        self.schema.as_deref().map_err(|fault| NodeError::terminal(fault.as_str()))
    }

    fn messages(&self, values: &impl Serialize) -> Result<Vec<Message>> {
        let sent = &self.schema()?.sent;
        let how = format!("Reply with JSON only, and no other text. It has to fit this JSON schema:\n{sent}");
        self.asking.messages(&self.prompt, values, &how)
    }

    async fn ask(&self, messages: &[Message], cx: &Context) -> Result<T>
    where
        T: DeserializeOwned,
    {
        let schema = self.schema()?;
        let read = |reply: &str| {
            let value = schema.read(reply)?;
            match &self.rule {
                Some(rule) => rule(&value).map(|()| value).map_err(|fault| vec![fault]),
                None => Ok(value),
            }
        };
        repair::ask(&self.asking, messages, schema, self.repairs, read, cx).await
    }
}

impl<S, T, F, R> AsyncNode<S> for Extract<T, One<S, F, R>>
where
    S: State + Serialize + DeserializeOwned,
    T: DeserializeOwned + Send + 'static,
    F: Fn(&mut S, T) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    type Prep = Vec<Message>;
    type Exec = T;
    type Action = R::Action;

    fn check(&self) -> Result<()> {
        self.schema()?;
        self.asking.check::<S>(Some(&self.prompt))
    }

    async fn prep(&self, shared: &S) -> Result<Vec<Message>> {
        self.messages(shared)
    }

    async fn exec(&self, messages: &Vec<Message>, cx: &Context) -> Result<T> {
        self.ask(messages, cx).await
    }

    async fn post(&self, shared: &mut S, _: Vec<Message>, value: T) -> Result<R::Action> {
        (self.kind.post)(shared, value).into_action()
    }
}

/// The values that the prompt of a batch node is over.
#[derive(Serialize)]
pub(crate) struct Item<'a, I> {
    pub(crate) item: &'a I,
}

impl<S, T, I, P, F, R> AsyncBatchNode<S> for Extract<T, Each<S, I, P, F, R>>
where
    S: State,
    T: DeserializeOwned + Send + 'static,
    I: Serialize + DeserializeOwned + Send + Sync + 'static,
    P: Fn(&S) -> Vec<I> + Send + Sync + 'static,
    F: Fn(&mut S, Vec<T>) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    type Item = I;
    type Output = T;
    type Outcome = T;
    type Action = R::Action;

    fn check(&self) -> Result<()> {
        self.schema()?;
        self.asking.check_named::<I>("item", &self.prompt)
    }

    async fn prep(&self, shared: &S) -> Result<Vec<I>> {
        Ok(self.kind.items(shared))
    }

    async fn exec(&self, item: &I, cx: &Context) -> Result<T> {
        self.ask(&self.messages(&Item { item })?, cx).await
    }

    async fn post(&self, shared: &mut S, _: Vec<I>, values: Vec<T>) -> Result<R::Action> {
        self.kind.post(shared, values).into_action()
    }
}

impl<T, K> fmt::Debug for Extract<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extract").field("asking", &self.asking).field("prompt", &self.prompt).finish_non_exhaustive()
    }
}

impl<S, F, R> fmt::Debug for One<S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("One")
    }
}

impl<S, I, P, F, R> fmt::Debug for Each<S, I, P, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Each")
    }
}
