//! Texts become vectors in chunks, in their order, each chunk once.

use flowstone_core::{AsyncFlow, BoxFuture, Context, Fault, NodeExt};
use flowstone_llm::{ChatModel, Embed, Embeddings, Model, ModelError, ModelId, Reply, Request, ScriptedModel};

#[derive(Default)]
struct Docs {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

fn docs(count: usize) -> Docs {
    Docs { texts: (0..count).map(|n| "x".repeat(n)).collect(), vectors: Vec::new() }
}

fn flow(model: &Model, chunk: usize) -> Result<AsyncFlow<Docs>, flowstone_core::BuildError> {
    let mut flow = AsyncFlow::builder("index");
    let embed =
        Embed::texts(model, |docs: &Docs| docs.texts.clone(), |docs: &mut Docs, vectors| docs.vectors = vectors);
    let embed = flow.add("embed", embed.chunk(chunk).parallel(4).journaled());
    flow.start(embed);
    flow.build()
}

#[tokio::test]
async fn vectors_are_made_in_chunks_and_come_in_the_order_of_the_texts() {
    let script = ScriptedModel::new([""; 0]).embedding(|text| vec![text.len() as f32]);
    let mut state = docs(7);

    flow(&Model::new(script.clone()), 3).unwrap().run_async(&mut state).await.unwrap();

    assert_eq!(state.vectors, (0..7).map(|n| vec![n as f32]).collect::<Vec<_>>());
    assert_eq!(script.embedded().iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
}

#[tokio::test]
async fn no_texts_are_no_calls() {
    let script = ScriptedModel::new([""; 0]).embedding(|_| vec![]);

    flow(&Model::new(script.clone()), 3).unwrap().run_async(&mut docs(0)).await.unwrap();

    assert!(script.embedded().is_empty());
}

#[test]
fn a_chunk_of_nothing_is_a_fault() {
    let error = flow(&Model::new(ScriptedModel::new([""; 0])), 0).unwrap_err();

    let message = "a chunk of no texts makes no vectors".to_owned();
    assert_eq!(error.faults(), [Fault::Node { node: "embed".to_owned(), message }]);
}

/// A model that loses a vector.
struct Lossy(ModelId);

impl ChatModel for Lossy {
    fn id(&self) -> &ModelId {
        &self.0
    }

    fn chat<'a>(&'a self, _: &'a Request, _: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
        Box::pin(async { Ok(Reply::of_text("no")) })
    }

    fn embed<'a>(&'a self, texts: &'a [String], _: &'a Context) -> BoxFuture<'a, Result<Embeddings, ModelError>> {
        Box::pin(async { Ok(Embeddings::new(vec![vec![0.0]; texts.len() - 1], None)) })
    }
}

#[tokio::test]
async fn a_wrong_number_of_vectors_is_an_error() {
    let model = Model::new(Lossy(ModelId::new("test", "lossy")));

    let error = flow(&model, 3).unwrap().run_async(&mut docs(3)).await.unwrap_err();

    assert!(
        error.report().ends_with("model `test:lossy`: the service sent what is no reply: 2 vectors for 3 texts"),
        "{}",
        error.report()
    );
}

#[tokio::test]
async fn a_vector_that_could_not_be_kept_is_an_error() {
    let model = Model::new(ScriptedModel::new([""; 0]).embedding(|_| vec![0.5, f32::INFINITY]));

    let error = flow(&model, 32).unwrap().run_async(&mut docs(1)).await.unwrap_err();

    assert!(error.report().contains("a vector with what is no number"), "{}", error.report());
}
