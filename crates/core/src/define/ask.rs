//! Pauses for people: the [`Ask`] node, and the [`Pause`] that a run returns when it reaches one.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    context::Context,
    node::State,
    outcome::{Detour, Visit, Visited},
    visit::body::{SyncBody, edge},
    words::{
        action::Label,
        codec::storable,
        error::{NodeError, Phase, Result},
        guard::report,
        pause::{Pause, Paused, Reply},
    },
};

/// A node whose `exec` is done by somebody outside.
///
/// A run that reaches it calls [`ask`](Self::ask) and returns [`Outcome::Paused`](crate::Outcome::Paused); nothing
/// of it runs or waits. [`resume`](crate::AsyncFlow::resume) gives the answer to [`post`](Self::post) and goes on from
/// there: nothing is run again.
///
/// # Example
///
/// ```
/// use flowstone_core::{Ask, Flow, Result, Outcome};
///
/// struct Approve;
///
/// impl Ask<Vec<String>> for Approve {
///     type Question = String;
///     type Answer = bool;
///     type Action = ();
///
///     fn ask(&self, shared: &Vec<String>) -> Result<String> {
///         Ok(format!("post {} invoices?", shared.len()))
///     }
///     fn post(&self, shared: &mut Vec<String>, answer: bool) -> Result<()> {
///         if !answer { shared.clear() }
///         Ok(())
///     }
/// }
///
/// let mut flow = Flow::builder("post");
/// let approve = flow.add("approve", Approve);
/// flow.start(approve);
/// let flow = flow.build()?;
///
/// let mut invoices = vec!["a".to_owned(), "b".to_owned()];
/// let Outcome::Paused(pause) = flow.run(&mut invoices)? else { panic!("it asks") };
/// assert_eq!(pause.question(), "post 2 invoices?");
///
/// flow.resume(&mut invoices, pause, false)?;
/// assert!(invoices.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a pause of a flow over `{S}`",
    note = "a pause of a flow over `{S}` implements `Ask<{S}>`"
)]
pub trait Ask<S>: Send + Sync + 'static {
    /// The type of the question, as plain data.
    type Question: Serialize;
    /// The type of the answer, as plain data.
    type Answer: DeserializeOwned;
    /// The type of the action that `post` returns.
    type Action: Label;

    /// Checks the node itself, once, when it is added to a flow; see [`Node::check`](crate::Node::check).
    ///
    /// # Errors
    ///
    /// An error is a fault of `build()` that names the node.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Makes the question. Called once per visit.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn ask(&self, shared: &S) -> Result<Self::Question>;

    /// Returns the JSON schema of the answer, for whoever draws a form; `true`, the default, describes anything.
    ///
    /// With the feature `schema` it is made of the type: `schema_of::<Self::Answer>()`, where that derives
    /// `JsonSchema`.
    fn schema(&self) -> Value {
        Value::Bool(true)
    }

    /// Returns the JSON schema of the answer to this question, where it depends on the state: the ids that it may name,
    /// for example. By default it is [`schema`](Self::schema). Called once per visit, after [`ask`](Self::ask).
    fn schema_for(&self, shared: &S) -> Value {
        let _ = shared;
        self.schema()
    }

    /// Checks an answer of the right type against the state. Called before [`post`](Self::post). By default every
    /// answer fits.
    ///
    /// # Errors
    ///
    /// An error leaves the question open and the state untouched: [`RunError::Answer`](crate::RunError::Answer).
    fn accepts(&self, shared: &S, answer: &Self::Answer) -> Result<()> {
        let _ = (shared, answer);
        Ok(())
    }

    /// Returns how long the question stands; `None`, the default, means for ever. Called once per visit, after
    /// [`ask`](Self::ask).
    ///
    /// A driver that keeps runs goes on without an answer when the time is over, also after a restart. In memory the
    /// caller holds the [`Pause`], and calls [`expire`](crate::AsyncFlow::expire).
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    /// use flowstone_core::{Ask, Flow, Outcome, Result};
    ///
    /// struct Approve;
    ///
    /// impl Ask<String> for Approve {
    ///     type Question = String;
    ///     type Answer = bool;
    ///     type Action = ();
    ///
    ///     fn ask(&self, _: &String) -> Result<String> { Ok("publish?".to_owned()) }
    ///     fn expires(&self, _: &String) -> Option<Duration> { Some(Duration::from_hours(48)) }
    ///     fn expired(&self, text: &mut String) -> Result<()> { text.push_str(": nobody said no"); Ok(()) }
    ///     fn post(&self, text: &mut String, yes: bool) -> Result<()> {
    ///         text.push_str(if yes { ": yes" } else { ": no" });
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut flow = Flow::builder("publish");
    /// let approve = flow.add("approve", Approve);
    /// flow.start(approve);
    /// let flow = flow.build()?;
    ///
    /// let mut text = "draft".to_owned();
    /// let Outcome::Paused(pause) = flow.run(&mut text)? else { panic!("it asks") };
    /// assert_eq!(pause.expires(), Some(Duration::from_hours(48)));
    /// flow.expire(&mut text, pause)?; // when that time is over
    /// assert_eq!(text, "draft: nobody said no");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn expires(&self, shared: &S) -> Option<Duration> {
        let _ = shared;
        None
    }

    /// Goes on without an answer, since the question has expired, and returns the action to follow. Called instead of
    /// [`post`](Self::post).
    ///
    /// # Errors
    ///
    /// An error ends the run. By default it is [`QuestionExpired`].
    fn expired(&self, shared: &mut S) -> Result<Self::Action> {
        let _ = shared;
        Err(NodeError::terminal(QuestionExpired))
    }

    /// Writes the answer back, and returns the action to follow. Called once per visit.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn post(&self, shared: &mut S, answer: Self::Answer) -> Result<Self::Action>;
}

/// A question that expired, at a node that does nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the question expired before there was an answer: give the node an `expired`, or run it again to ask once more"
)]
#[non_exhaustive]
pub struct QuestionExpired;

/// An [`Ask`] node: its visit ends in a pause, and goes on with the answer.
pub(crate) struct Asking<N>(pub(crate) Arc<N>);

impl<N> Clone for Asking<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: State, N: Ask<S>> SyncBody<S> for Asking<N> {
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited {
        let question = self.0.ask(shared).map_err(|error| cx.failed(error))?;
        let question = storable(&question).map_err(|error| cx.failed(NodeError::terminal(error)))?;
        let schema = storable(&self.0.schema_for(shared)).map_err(|error| cx.failed(NodeError::terminal(error)))?;
        let (position, node, expires) = (cx.position(), cx.node(), self.0.expires(shared));
        let pause = Pause(Box::new(Paused { position, node, question, schema, expires, run: cx.to_paused() }));
        Err(Box::new(Detour::Waits(Visit::Pause(pause))))
    }

    fn fits(&self, answer: &Value) -> Option<Result<(), serde_json::Error>> {
        Some(N::Answer::deserialize(answer).map(drop))
    }

    fn answer(&self, shared: &mut S, reply: Reply, cx: &mut Context) -> Option<Visited> {
        let answer = match reply {
            Reply::Answer(answer) => Some(answer.and_then(serde_json::from_value).and_then(|answer| {
                let accepted = self.0.accepts(shared, &answer);
                accepted.map(|()| answer).map_err(|unfit| serde::de::Error::custom(report(unfit.source_ref())))
            })),
            Reply::Expired => None,
        };
        cx.phase = Phase::Post;
        let action = match answer {
            Some(Err(unfit)) => return Some(Err(Box::new(Detour::Unfit(unfit)))),
            Some(Ok(answer)) => self.0.post(shared, answer),
            None => self.0.expired(shared),
        };
        Some(match action {
            Ok(action) => edge(action, cx),
            Err(error) => Err(cx.failed(error)),
        })
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Box::new(self.clone())
    }
}
