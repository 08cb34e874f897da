//! [`Embed`]: a node that turns texts into vectors.

use std::{fmt, marker::PhantomData};

use flowstone_core::{AsyncBatchNode, Context, IntoAction, NodeError, Result, State};

use crate::{
    error::{Failure, ModelError},
    model::Model,
};

/// The texts that go into a call, unless told otherwise: every provider takes as many.
const CHUNK: usize = 32;

/// A batch node that turns texts into vectors, several texts a call: its items are the calls, so that
/// `.parallel(4).journaled()` has four under way at once and keeps each as it ends.
///
/// # Errors
///
/// Those of [`Model::embed`], and [`Failure::Malformed`] if there are not as many vectors as texts, or one has numbers
/// that are none.
///
/// # Example
///
/// ```
/// use flowstone_core::{AsyncFlow, NodeExt};
/// use flowstone_llm::{Embed, Model, ScriptedModel};
///
/// #[derive(Default)]
/// struct Docs {
///     texts: Vec<String>,
///     vectors: Vec<Vec<f32>>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = Model::new(ScriptedModel::new([""; 0]).embedding(|text| vec![text.len() as f32]));
///
/// let mut flow = AsyncFlow::builder("index");
/// let texts = |docs: &Docs| docs.texts.clone();
/// let embed = Embed::texts(&model, texts, |docs: &mut Docs, vectors| docs.vectors = vectors).chunk(2);
/// let embed = flow.add("embed", embed.parallel(4));
/// flow.start(embed);
///
/// let mut docs = Docs { texts: ["a", "bb", "ccc"].map(String::from).into(), ..Docs::default() };
/// flow.build()?.run_async(&mut docs).await?;
/// assert_eq!(docs.vectors, [[1.0], [2.0], [3.0]]);
/// # Ok(())
/// # }
/// ```
pub struct Embed<S, P, F, R> {
    model: Model,
    chunk: usize,
    texts: P,
    post: F,
    types: PhantomData<fn(S) -> R>,
}

impl<S, P, F, R> Embed<S, P, F, R>
where
    S: State,
    P: Fn(&S) -> Vec<String> + Send + Sync + 'static,
    F: Fn(&mut S, Vec<Vec<f32>>) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    /// Makes a node that turns these texts into vectors; `post` gets one for each text, in their order.
    #[must_use]
    pub fn texts(model: &Model, texts: P, post: F) -> Self {
        Self { model: model.clone(), chunk: CHUNK, texts, post, types: PhantomData }
    }

    /// Sets how many texts go into a call; 32 if not set. 0 is an error of `build()`.
    #[must_use]
    pub fn chunk(mut self, texts: usize) -> Self {
        self.chunk = texts;
        self
    }
}

impl<S, P, F, R> AsyncBatchNode<S> for Embed<S, P, F, R>
where
    S: State,
    P: Fn(&S) -> Vec<String> + Send + Sync + 'static,
    F: Fn(&mut S, Vec<Vec<f32>>) -> R + Send + Sync + 'static,
    R: IntoAction + 'static,
{
    type Item = Vec<String>;
    type Output = Vec<Vec<f32>>;
    type Outcome = Vec<Vec<f32>>;
    type Action = R::Action;

    fn check(&self) -> Result<()> {
        if self.chunk == 0 { Err(NodeError::terminal("a chunk of no texts makes no vectors")) } else { Ok(()) }
    }

    async fn prep(&self, shared: &S) -> Result<Vec<Vec<String>>> {
        let mut texts = (self.texts)(shared).into_iter();
        let chunks = std::iter::from_fn(|| Some(texts.by_ref().take(self.chunk).collect::<Vec<_>>()));
        Ok(chunks.take_while(|chunk| !chunk.is_empty()).collect())
    }

    async fn exec(&self, texts: &Vec<String>, cx: &Context) -> Result<Vec<Vec<f32>>> {
        let vectors = self.model.embed(texts, cx).await?.vectors;
        let said = if vectors.len() != texts.len() {
            format!("{} vectors for {} texts", vectors.len(), texts.len())
        } else if vectors.iter().flatten().any(|number| !number.is_finite()) {
            // A journal could not keep it: JSON has no such numbers.
            "a vector with what is no number".to_owned()
        } else {
            return Ok(vectors);
        };
        Err(ModelError::new(self.model.id().clone(), Failure::Malformed { said }).into_node_error())
    }

    async fn post(&self, shared: &mut S, _: Vec<Vec<String>>, vectors: Vec<Vec<Vec<f32>>>) -> Result<R::Action> {
        (self.post)(shared, vectors.into_iter().flatten().collect()).into_action()
    }
}

impl<S, P, F, R> fmt::Debug for Embed<S, P, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embed").field("model", &self.model).field("chunk", &self.chunk).finish_non_exhaustive()
    }
}
