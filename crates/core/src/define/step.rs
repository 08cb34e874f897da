//! Nodes from closures: a function of the state, and [`step`] with three phases.

use std::{future::Future, marker::PhantomData, sync::Arc};

use crate::{
    context::Context,
    define::add::{Added, AwaitedNode, IntoNode, NodeIn, SyncNode},
    graph::{About, NodeKind},
    node::{AsyncNode, Node, State},
    outcome::Visited,
    policy::Policy,
    visit::body::{Body, SyncBody, edge},
    words::{
        action::Label,
        error::{NodeError, Phase, Result},
    },
};

/// A value that a closure may end a visit with: an action, or a result of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an action",
    note = "return `()`, an enum with `#[derive(Action)]`, `Action`, or a `Result` of one of them"
)]
pub trait IntoAction {
    /// The action.
    type Action: Label;

    /// Makes a result of it.
    ///
    /// # Errors
    ///
    /// The closure's own.
    fn into_action(self) -> Result<Self::Action>;
}

impl<A: Label> IntoAction for A {
    type Action = A;

    fn into_action(self) -> Result<A> {
        Ok(self)
    }
}

impl<A: Label> IntoAction for Result<A, NodeError> {
    type Action = A;

    fn into_action(self) -> Self {
        self
    }
}

/// A node of three closures, made by [`step`].
#[derive(Debug, Clone)]
pub struct Step<P, E, O> {
    prep: P,
    exec: E,
    post: O,
}

/// Makes a node of three closures.
///
/// - `prep: Fn(&S) -> P` reads the state;
/// - `exec` works without it: `Fn(&P) -> Result<E>`, or, for an async node,
///   `FnOnce(P) -> impl Future<Output = Result<E>>`, for which the closure and `P` are `Clone`, since every attempt
///   gets its own;
/// - `post: Fn(&mut S, P, E) -> A` writes back, and returns an action or a result of one.
///
/// The parameters' types have to be written out.
///
/// # Example
///
/// ```
/// use flowstone_core::{Flow, NodeExt, Retry, step};
///
/// let mut flow = Flow::builder("parse");
/// let parse = step(
///     |text: &String| text.clone(),
///     |text: &String| Ok(text.trim().parse::<u32>()?),
///     |text: &mut String, _, number: u32| *text = format!("{}", number + 1),
/// );
/// let parse = flow.add("parse", parse.retry(Retry::attempts(2)));
/// flow.start(parse);
///
/// let mut text = " 41 ".to_owned();
/// flow.build()?.run(&mut text)?;
/// assert_eq!(text, "42");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn step<P, E, O>(prep: P, exec: E, post: O) -> Step<P, E, O> {
    Step { prep, exec, post }
}

/// The kind of a function of the state, for [`IntoNode`].
#[derive(Debug)]
pub struct Function<R>(PhantomData<R>);

/// The kind of a [`step`], for [`IntoNode`].
#[derive(Debug)]
pub struct Steps<T>(PhantomData<T>);

/// The kind of a [`step`] whose `exec` awaits, for [`IntoNode`].
#[derive(Debug)]
pub struct AsyncSteps<T>(PhantomData<T>);

struct Call<F>(Arc<F>);

impl<F> Clone for Call<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: State, F, R> SyncBody<S> for Call<F>
where
    F: Fn(&mut S) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    fn visit(&self, shared: &mut S, cx: &mut Context) -> Visited {
        cx.phase = Phase::Post;
        match (self.0)(shared).into_action() {
            Ok(action) => edge(action, cx),
            Err(error) => Err(cx.failed(error)),
        }
    }

    fn share(&self) -> Box<dyn SyncBody<S>> {
        Box::new(self.clone())
    }
}

#[diagnostic::do_not_recommend]
impl<S, K, F, R> IntoNode<S, K, Function<R>> for F
where
    S: State,
    F: Fn(&mut S) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    type Action = R::Action;

    fn into_node(self) -> Added<S> {
        let about = About::new(NodeKind::Function, R::Action::NAMES, Policy::default());
        Added::node(about, Body::sync(Call(Arc::new(self))))
    }
}

/// A step with the types `T` of its phases, which its closures do not name.
#[derive(Debug)]
pub struct Typed<P, E, O, T> {
    step: Step<P, E, O>,
    types: PhantomData<fn() -> T>,
}

impl<P, E, O, T> From<Step<P, E, O>> for Typed<P, E, O, T> {
    fn from(step: Step<P, E, O>) -> Self {
        Self { step, types: PhantomData }
    }
}

impl<S, P, E, O, PV, EV, R> Node<S> for Typed<P, E, O, (PV, EV, R)>
where
    S: State,
    P: Fn(&S) -> PV + Send + Sync + 'static,
    PV: Send + Sync + 'static,
    E: Fn(&PV) -> Result<EV> + Send + Sync + 'static,
    EV: Send + 'static,
    O: Fn(&mut S, PV, EV) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    type Prep = PV;
    type Exec = EV;
    type Action = R::Action;

    fn prep(&self, shared: &S) -> Result<PV> {
        Ok((self.step.prep)(shared))
    }

    fn exec(&self, prep: &PV, _: &Context) -> Result<EV> {
        (self.step.exec)(prep)
    }

    fn post(&self, shared: &mut S, prep: PV, exec: EV) -> Result<R::Action> {
        (self.step.post)(shared, prep, exec).into_action()
    }
}

impl<S, P, E, O, PV, F, EV, R> AsyncNode<S> for Typed<P, E, O, (PV, F, EV, R)>
where
    S: State,
    P: Fn(&S) -> PV + Send + Sync + 'static,
    PV: Clone + Send + Sync + 'static,
    E: FnOnce(PV) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<EV>> + Send + 'static,
    EV: Send + 'static,
    O: Fn(&mut S, PV, EV) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    type Prep = PV;
    type Exec = EV;
    type Action = R::Action;

    async fn prep(&self, shared: &S) -> Result<PV> {
        Ok((self.step.prep)(shared))
    }

    async fn exec(&self, prep: &PV, _: &Context) -> Result<EV> {
        (self.step.exec.clone())(prep.clone()).await
    }

    async fn post(&self, shared: &mut S, prep: PV, exec: EV) -> Result<R::Action> {
        (self.step.post)(shared, prep, exec).into_action()
    }
}

#[diagnostic::do_not_recommend]
impl<S, K, Kept, P, E, O, T> NodeIn<S, K, Steps<T>, Kept> for Step<P, E, O>
where
    Typed<P, E, O, T>: NodeIn<S, K, SyncNode, Kept>,
{
    type Action = <Typed<P, E, O, T> as NodeIn<S, K, SyncNode, Kept>>::Action;

    fn with_policy(self, policy: Policy) -> Added<S> {
        Typed::from(self).with_policy(policy)
    }
}

#[diagnostic::do_not_recommend]
impl<S, K, Kept, P, E, O, T> NodeIn<S, K, AsyncSteps<T>, Kept> for Step<P, E, O>
where
    Typed<P, E, O, T>: NodeIn<S, K, AwaitedNode, Kept>,
{
    type Action = <Typed<P, E, O, T> as NodeIn<S, K, AwaitedNode, Kept>>::Action;

    fn with_policy(self, policy: Policy) -> Added<S> {
        Typed::from(self).with_policy(policy)
    }
}
