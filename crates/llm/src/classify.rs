//! [`Classify`]: a node that lets a model pick one of its actions, or a label for each item.

use std::{fmt, marker::PhantomData, sync::Arc};

use flowstone_core::{AsyncBatchNode, AsyncNode, Choice, Context, IntoAction, NodeError, Result, State};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    extract::{Each, Item, repair},
    message::Message,
    model::Model,
    prompt::{Prompt, ask::Asking},
    request::Options,
    schema::{Schema, shorten},
};

/// The field of the reply.
const LABEL: &str = "label";

/// The most characters that are shown of a reply that is no label.
const SHOWN: usize = 80;

/// A node that lets a model pick one of the labels of `A`.
///
/// - [`Classify::prompt`] picks one for the state, which is the node's action: a routing node in one line.
/// - [`Classify::each`] picks one for each item: a batch node, for `.parallel(8).journaled()`.
///
/// The model is told the labels with the doc comments of their variants, and replies with one. A reply that names none
/// is repaired by the model, at most [`repairs`](Self::repairs) times; then the node fails with
/// [`ExtractError`](crate::ExtractError).
///
/// `A` is an enum with `#[derive(Action)]`; `S` follows from the flow: `Classify::<_, Topic>::prompt(…)`.
///
/// # Example
///
/// ```
/// use flowstone_core::{Action, AsyncFlow, Choice, END, Label};
/// use flowstone_llm::{Classify, Model, ScriptedModel};
/// use serde::{Deserialize, Serialize};
///
/// // `#[derive(Action)]` writes these two.
/// enum Topic {
///     Refund,
///     Other,
/// }
///
/// impl Label for Topic {
///     const NAMES: &'static [&'static str] = &["refund", "other"];
///     fn index(&self) -> Option<usize> {
///         Some(match self { Self::Refund => 0, Self::Other => 1 })
///     }
///     fn action(self) -> Action {
///         Self::NAMES[self.index().unwrap_or(0)].into()
///     }
/// }
///
/// impl Choice for Topic {
///     const ABOUT: &'static [&'static str] = &["The customer wants money back.", "Anything else."];
///     fn choose(index: usize) -> Option<Self> {
///         [Self::Refund, Self::Other].into_iter().nth(index)
///     }
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Ticket {
///     question: String,
///     refunded: bool,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = Model::new(ScriptedModel::new([r#"{"label": "refund"}"#]));
///
/// let mut flow = AsyncFlow::<Ticket>::builder("support");
/// let triage = flow.add("triage", Classify::<_, Topic>::prompt(&model, "What is this about? {{ question }}"));
/// let refund = flow.add("refund", |ticket: &mut Ticket| ticket.refunded = true);
/// flow.start(triage);
/// flow.route(triage - Topic::Refund >> refund);
/// flow.route(triage - Topic::Other >> END);
///
/// let mut ticket = Ticket { question: "It broke. I want my money back.".into(), refunded: false };
/// flow.build()?.run_async(&mut ticket).await?;
/// assert!(ticket.refunded);
/// # Ok(())
/// # }
/// ```
pub struct Classify<S, A, K = Routed<S, A>> {
    asking: Asking,
    prompt: Prompt,
    schema: Result<Arc<Schema>, String>,
    repairs: u32,
    kind: K,
    types: PhantomData<fn(S) -> A>,
}

/// The kind of [`Classify::prompt`].
pub struct Routed<S, A> {
    noted: Option<Arc<Noted<S, A>>>,
}

type Noted<S, A> = dyn Fn(&mut S, &A) + Send + Sync;

impl<S, A: Choice> Classify<S, A, Routed<S, A>> {
    /// Makes a node that asks which label fits.
    #[must_use]
    pub fn prompt(model: &Model, prompt: impl Into<Prompt>) -> Self {
        Self::new(model, prompt, Routed { noted: None })
    }

    /// Notes the label in the state, before it is followed.
    #[must_use]
    pub fn note(mut self, note: impl Fn(&mut S, &A) + Send + Sync + 'static) -> Self {
        self.kind.noted = Some(Arc::new(note));
        self
    }
}

impl<S, A, I, P, F, R> Classify<S, A, Each<S, I, P, F, R>>
where
    S: State,
    A: Choice,
    P: Fn(&S) -> Vec<I> + Send + Sync + 'static,
    F: Fn(&mut S, Vec<A>) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    /// Makes a batch node that asks which label fits each item, which the prompt calls `item`; `post` gets all labels,
    /// in the order of the items.
    ///
    /// # Example
    ///
    /// ```
    /// # use flowstone_core::{Action, Choice, Label};
    /// use flowstone_core::AsyncFlow;
    /// use flowstone_llm::{Classify, Model, ScriptedModel};
    ///
    /// # #[derive(Debug, PartialEq)]
    /// enum Mood { Good, Bad } // with `#[derive(Action)]`
    /// # impl Label for Mood {
    /// #     const NAMES: &'static [&'static str] = &["good", "bad"];
    /// #     fn index(&self) -> Option<usize> { Some(match self { Self::Good => 0, Self::Bad => 1 }) }
    /// #     fn action(self) -> Action { Self::NAMES[self.index().unwrap_or(0)].into() }
    /// # }
    /// # impl Choice for Mood {
    /// #     const ABOUT: &'static [&'static str] = &["", ""];
    /// #     fn choose(index: usize) -> Option<Self> { [Self::Good, Self::Bad].into_iter().nth(index) }
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let model = Model::new(ScriptedModel::new(["good", "bad"]));
    /// let rate = Classify::each(
    ///     &model,
    ///     "What mood is this? {{ item }}",
    ///     |_: &usize| vec!["Lovely!".to_owned(), "It broke.".to_owned()],
    ///     |bad: &mut usize, moods: Vec<Mood>| *bad = moods.iter().filter(|mood| **mood == Mood::Bad).count(),
    /// );
    /// let mut flow = AsyncFlow::builder("rate");
    /// let rate = flow.add("rate", rate);
    /// flow.start(rate);
    ///
    /// let mut bad = 0;
    /// flow.build()?.run_async(&mut bad).await?;
    /// assert_eq!(bad, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn each(model: &Model, prompt: impl Into<Prompt>, items: P, post: F) -> Self {
        Self::new(model, prompt, Each::new(items, post))
    }
}

impl<S, A: Choice, K> Classify<S, A, K> {
    fn new(model: &Model, prompt: impl Into<Prompt>, kind: K) -> Self {
        let schema = Schema::choice(LABEL, LABEL, A::NAMES).map(Arc::new);
        let (asking, prompt, repairs) = (Asking::new(model), prompt.into(), repair::REPAIRS);
        Self { asking, prompt, schema, repairs, kind, types: PhantomData }
    }

    /// Sets what the model is told first; the labels are added to it. A [`Prompt`] over what the other is over.
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

    /// Sets how often the model is told that its reply names no label; 2 if not set.
    #[must_use]
    pub fn repairs(mut self, repairs: u32) -> Self {
        self.repairs = repairs;
        self
    }

    fn schema(&self) -> Result<&Schema> {
        self.schema.as_deref().map_err(|fault| NodeError::terminal(fault.as_str()))
    }

    fn messages(&self, values: &impl Serialize) -> Result<Vec<Message>> {
        self.asking.messages(&self.prompt, values, &labels::<A>())
    }

    /// Asks for the number of a label.
    async fn ask(&self, messages: &[Message], cx: &Context) -> Result<usize> {
        repair::ask(&self.asking, messages, self.schema()?, self.repairs, read::<A>, cx).await
    }
}

impl<S, A> AsyncNode<S> for Classify<S, A, Routed<S, A>>
where
    S: State + Serialize + DeserializeOwned,
    A: Choice,
{
    type Prep = Vec<Message>;
    /// The number of the label.
    type Exec = usize;
    type Action = A;

    fn check(&self) -> Result<()> {
        self.schema()?;
        self.asking.check::<S>(Some(&self.prompt))
    }

    async fn prep(&self, shared: &S) -> Result<Vec<Message>> {
        self.messages(shared)
    }

    async fn exec(&self, messages: &Vec<Message>, cx: &Context) -> Result<usize> {
        self.ask(messages, cx).await
    }

    async fn post(&self, shared: &mut S, _: Vec<Message>, index: usize) -> Result<A> {
        let label = chosen(index)?;
        if let Some(note) = &self.kind.noted {
            note(shared, &label);
        }
        Ok(label)
    }
}

impl<S, A, I, P, F, R> AsyncBatchNode<S> for Classify<S, A, Each<S, I, P, F, R>>
where
    S: State,
    A: Choice,
    I: Serialize + DeserializeOwned + Send + Sync + 'static,
    P: Fn(&S) -> Vec<I> + Send + Sync + 'static,
    F: Fn(&mut S, Vec<A>) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    type Item = I;
    /// The name of the label: a store may keep it for a program whose labels have another order.
    type Output = String;
    type Outcome = String;
    type Action = R::Action;

    fn check(&self) -> Result<()> {
        self.schema()?;
        self.asking.check_named::<I>("item", &self.prompt)
    }

    async fn prep(&self, shared: &S) -> Result<Vec<I>> {
        Ok(self.kind.items(shared))
    }

    async fn exec(&self, item: &I, cx: &Context) -> Result<String> {
        let index = self.ask(&self.messages(&Item { item })?, cx).await?;
        Ok(A::NAMES.get(index).copied().unwrap_or_default().to_owned())
    }

    async fn post(&self, shared: &mut S, _: Vec<I>, names: Vec<String>) -> Result<R::Action> {
        let label = |name: String| match A::NAMES.iter().position(|known| *known == name) {
            Some(index) => chosen(index),
            None => Err(NodeError::terminal(none::<A>(&name))),
        };
        let labels = names.into_iter().map(label).collect::<Result<Vec<A>>>()?;
        self.kind.post(shared, labels).into_action()
    }
}

/// Returns the label of a number.
fn chosen<A: Choice>(index: usize) -> Result<A> {
    A::choose(index).ok_or_else(|| NodeError::terminal(format!("there is no label number {index}")))
}

fn labels<A: Choice>() -> String {
    let label = |(index, name): (usize, &&str)| match A::ABOUT.get(index).filter(|about| !about.is_empty()) {
        Some(about) => format!("- `{name}`: {about}"),
        None => format!("- `{name}`"),
    };
    let labels: Vec<String> = A::NAMES.iter().enumerate().map(label).collect();
    let labels = labels.join("\n");
    format!(
        "Pick the one label that fits best:\n{labels}\nReply with JSON only, and no other text: {{\"{LABEL}\": \"…\"}}."
    )
}

#[derive(Deserialize)]
struct Labelled {
    label: String,
}

/// Reads a label: as JSON, or bare.
fn read<A: Choice>(reply: &str) -> Result<usize, Vec<String>> {
    let bare = reply.trim().trim_matches(['"', '\'', '`', '*', '.']);
    if let Some(index) = index::<A>(bare) {
        return Ok(index);
    }
    let Labelled { label } = Schema::read_as_is(reply).map_err(|_| vec![none::<A>(bare)])?;
    index::<A>(&label).ok_or_else(|| vec![none::<A>(&label)])
}

/// Finds a label by its name; case does not count, unless two names differ in nothing else.
fn index<A: Choice>(label: &str) -> Option<usize> {
    let exact = A::NAMES.iter().position(|name| *name == label);
    let alike = |name: &&str| name.to_lowercase() == label.to_lowercase();
    exact.or_else(|| match A::NAMES.iter().filter(|name| alike(name)).count() {
        1 => A::NAMES.iter().position(alike),
        _ => None,
    })
}

fn none<A: Choice>(label: &str) -> String {
    let names: Vec<String> = A::NAMES.iter().map(|name| format!("`{name}`")).collect();
    format!("`{}` is none of the labels {}", shorten(label, SHOWN), names.join(", "))
}

impl<S, A, K> fmt::Debug for Classify<S, A, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classify").field("asking", &self.asking).field("prompt", &self.prompt).finish_non_exhaustive()
    }
}

impl<S, A> fmt::Debug for Routed<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Routed")
    }
}
