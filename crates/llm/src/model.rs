//! The model: the trait [`ChatModel`] that clients implement, and the handle [`Model`] that nodes hold.
//!
//! ```text
//! node ─▶ Model::chat ─▶ limits ─▶ budget ─▶ ChatModel::chat ─▶ the service
//!                                              └ text as it comes: cx.emit
//!            cx.spend(tokens, cost) ◀──────────┘
//! ```

pub(crate) mod estimate;
pub(crate) mod limits;
pub(crate) mod prices;

use std::{fmt, sync::Arc};

use flowstone_core::{BoxFuture, Context, Result, Usage};

use crate::{
    error::{Failure, ModelError, ModelId},
    model::limits::Limits,
    model::prices::{Price, Prices},
    request::{Reply, Request, Tokens},
    watch::span::Call,
    wire::Allowance,
};

/// A client of a model, behind a [`Model`].
///
/// Implement it to put another client there. It makes one call and gives up at the first failure: retries, limits and
/// budgets are not its business.
///
/// # Cancel safety
///
/// A call is cancelled by dropping its future, which has to end the request.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no client of a model",
    note = "implement `ChatModel`, or name a model: `Model::named(\"openai:gpt-5\")`"
)]
pub trait ChatModel: Send + Sync + 'static {
    /// Returns its name in errors, spans and prices.
    fn id(&self) -> &ModelId;

    /// Makes one call. If the request asks for a stream and [somebody listens](Context::listening), text is sent as it
    /// comes, with [`Delta::emit`](crate::Delta::emit).
    fn chat<'a>(&'a self, request: &'a Request, cx: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>>;

    /// Turns texts into vectors, one for each, in their order. By default the model cannot.
    fn embed<'a>(&'a self, texts: &'a [String], cx: &'a Context) -> BoxFuture<'a, Result<Embeddings, ModelError>> {
        let _ = (texts, cx);
        let failure = Failure::Unsupported { said: "it makes no embeddings".to_owned() };
        Box::pin(std::future::ready(Err(ModelError::new(self.id().clone(), failure))))
    }

    /// Takes the allowance that the service named last. By default there is none.
    #[doc(hidden)]
    fn allowance(&self) -> Option<Allowance> {
        None
    }
}

/// The vectors of some texts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Embeddings {
    /// One for each text, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// The tokens that they took, if the provider says.
    pub tokens: Option<Tokens>,
}

impl Embeddings {
    /// Makes embeddings.
    #[must_use]
    pub fn new(vectors: Vec<Vec<f32>>, tokens: Option<Tokens>) -> Self {
        Self { vectors, tokens }
    }
}

/// A model as nodes hold it: a client with its limits and its prices. Clones share all of it.
///
/// # Example
///
/// ```
/// use flowstone_core::Context;
/// use flowstone_llm::{Message, Model, Request, ScriptedModel};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> flowstone_core::Result<()> {
/// let model = Model::new(ScriptedModel::new(["Hello!"]));
/// let reply = model.chat(&Request::new([Message::user("Hi")]), &Context::detached()).await?;
/// assert_eq!(reply.text(), "Hello!");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Model {
    client: Arc<dyn ChatModel>,
    limits: Arc<Limits>,
    /// The price of its tokens, looked up once.
    price: Option<Price>,
}

impl Model {
    /// Makes a model of a client, without limits, and with the [built-in prices](Prices::builtin).
    pub fn new(client: impl ChatModel) -> Self {
        let price = Prices::builtin().of(client.id());
        Self { client: Arc::new(client), limits: Arc::default(), price }
    }

    /// Bounds how often and how much it is called, by all clones together.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Sets the prices of its tokens.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "limits are given so, too")]
    pub fn prices(mut self, prices: Prices) -> Self {
        self.price = prices.of(self.id());
        self
    }

    /// Returns its name in errors, spans and prices.
    #[must_use]
    pub fn id(&self) -> &ModelId {
        self.client.id()
    }

    /// Returns the price of its tokens, if it is known.
    pub(crate) fn price(&self) -> Option<Price> {
        self.price
    }

    /// Returns the usage of a call that gave this reply: for bounds that are narrower than the run's budget.
    pub(crate) fn usage(&self, request: &Request, reply: &Reply) -> Usage {
        self.usage_of(reply.tokens.unwrap_or_else(|| request.estimate().with_output(reply)))
    }

    fn usage_of(&self, tokens: Tokens) -> Usage {
        let cost = self.price.map(|price| price.cost(&tokens)).unwrap_or_default();
        Usage { calls: 1, input_tokens: tokens.input, output_tokens: tokens.output, cost }
    }

    /// Makes one call, when limits and budget allow it.
    ///
    /// # Errors
    ///
    /// Those of the client, as [`ModelError`], and [`OverBudget`](flowstone_core::OverBudget): the error says whether
    /// and when to try again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the call, which is counted.
    pub async fn chat(&self, request: &Request, cx: &Context) -> Result<Reply> {
        let permit = self.limits.admit(|| request.estimate().tokens()).await;
        self.afford(cx)?;
        let call = Call::chat(self.id(), request, cx);
        let mut spending = Spending::begin(cx);
        let result = call.run(self.client.chat(request, cx)).await;
        let usage = match &result {
            Ok(reply) => Some(self.usage(request, reply)),
            Err(error) => error.tokens.map(|tokens| self.usage_of(tokens)),
        };
        if let Some(usage) = usage {
            spending.usage = usage;
            permit.used(usage.tokens());
        }
        self.leave_alone(result.as_ref().err());
        call.end(&result);
        result.map_err(ModelError::into_node_error)
    }

    /// Turns texts into vectors, when limits and budget allow it.
    ///
    /// # Errors
    ///
    /// As [`chat`](Self::chat).
    pub async fn embed(&self, texts: &[String], cx: &Context) -> Result<Embeddings> {
        let estimate = || Tokens::of_texts(texts.iter().map(String::as_str));
        let permit = self.limits.admit(|| estimate().tokens()).await;
        self.afford(cx)?;
        let call = Call::embeddings(self.id(), cx);
        let mut spending = Spending::begin(cx);
        let result = call.run(self.client.embed(texts, cx)).await;
        if let Ok(embeddings) = &result {
            spending.usage = self.usage_of(embeddings.tokens.unwrap_or_else(estimate));
            permit.used(spending.usage.input_tokens);
        }
        self.leave_alone(result.as_ref().err());
        call.end_embeddings(&result);
        result.map_err(ModelError::into_node_error)
    }

    /// Lets all clones wait if the service asks to be left alone, or says that it has nothing left.
    fn leave_alone(&self, error: Option<&ModelError>) {
        if let Some(left) = self.client.allowance() {
            self.limits.left_is(&left);
        }
        if let Some(wait) = error.and_then(ModelError::retry_after) {
            self.limits.close_for(wait);
        }
    }

    /// Fails if the run may not make one more call, or nobody could tell.
    fn afford(&self, cx: &Context) -> Result<()> {
        if let Some(limit) = cx.budget().and_then(|budget| budget.cost)
            && self.price.is_none()
        {
            let error = ModelError::new(self.id().clone(), Failure::NoPrice { limit });
            return Err(error.into_node_error());
        }
        cx.afford()
    }
}

flowstone_core::__no_node!(Model: timeout, total_timeout, retry, parallel =>
    "retries and timeouts belong to the node that asks the model: `Chat::new(model).retry(Retry::attempts(3))`"
);

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("id", self.id()).finish_non_exhaustive()
    }
}

/// Tells the run the usage of a call when it is over, also if it fails or is dropped.
struct Spending<'a> {
    cx: &'a Context,
    usage: Usage,
}

impl<'a> Spending<'a> {
    fn begin(cx: &'a Context) -> Self {
        Self { cx, usage: Usage { calls: 1, ..Usage::default() } }
    }
}

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        self.cx.spend(self.usage);
    }
}
