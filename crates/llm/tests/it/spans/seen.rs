//! Something to watch, and a subscriber of `tracing` that keeps what it sees.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, OnceLock},
};

use flowstone_core::{AsyncFlow, AsyncNode, BoxFuture, Context, Result, RunOptions};
use flowstone_llm::{ChatModel, Delta, Message, Model, ModelError, ModelId, Options, Reply, Request, Tokens, ToolCall};
use serde_json::json;
use tracing::{
    Dispatch, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context as LayerContext, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// A node that calls a model once.
pub(crate) struct Asks(pub(crate) Model, pub(crate) Request);

impl AsyncNode<Vec<String>> for Asks {
    type Prep = ();
    type Exec = Reply;
    type Action = ();

    async fn prep(&self, _: &Vec<String>) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<Reply> {
        self.0.chat(&self.1, cx).await
    }

    async fn post(&self, said: &mut Vec<String>, (): (), reply: Reply) -> Result<()> {
        said.push(reply.text());
        Ok(())
    }
}

/// Runs a flow of one node that asks a model.
pub(crate) async fn run(model: Model, request: Request, options: &RunOptions) -> Vec<String> {
    let mut flow = AsyncFlow::builder("trip");
    let ask = flow.add("ask", Asks(model, request));
    flow.start(ask);
    let flow: AsyncFlow<Vec<String>> = flow.build().unwrap();
    let mut said = Vec::new();
    // Some fail, and are looked at from outside.
    let _ = flow.run_async_with(&mut said, options).await;
    said
}

/// Another client, with a name of its own and a reply that says everything.
pub(crate) struct Client(pub(crate) ModelId);

impl ChatModel for Client {
    fn id(&self) -> &ModelId {
        &self.0
    }

    fn chat<'a>(&'a self, _: &'a Request, cx: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
        Box::pin(async move {
            Delta::Text("12 degrees.").emit(cx);
            let mut reply = Reply::of_text("12 degrees.");
            reply.tokens = Some(Tokens { input: 9, output: 4, cached_input: 5, reasoning: 2 });
            (reply.id, reply.model) = (Some("r-1".to_owned()), Some("m-2026".to_owned()));
            Ok(reply)
        })
    }
}

/// A request with a word in each of its places that must not be seen by default.
pub(crate) fn request() -> Request {
    let options = Options {
        temperature: Some(0.5),
        top_p: Some(0.9),
        max_tokens: Some(50),
        stop: vec!["END".to_owned()],
        seed: Some(7),
        ..Options::default()
    };
    let call = ToolCall::new("c1", "weather", json!({ "city": "hidden-argument" }));
    let mut messages = vec![Message::system("hidden-system"), Message::user("hidden-question")];
    messages.push(Reply::of_calls([call]).message);
    Request::new(messages).options(options)
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

/// Keeps each span with the names of those around it, and all of its fields.
#[derive(Clone, Default)]
pub(crate) struct Spans {
    seen: Arc<Mutex<Vec<(Id, Seen)>>>,
    blind: bool,
}

impl Spans {
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().map(|(_, seen)| seen.clone()).collect()
    }

    /// The fields of the only span of a name.
    pub(crate) fn of(&self, name: &str) -> Seen {
        let mut found: Vec<_> =
            self.all().into_iter().filter(|seen| seen.path.rsplit('>').next() == Some(name)).collect();
        assert_eq!(found.len(), 1, "spans `{name}` of {:?}", self.all());
        found.remove(0)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn enabled(&self, about: &Metadata<'_>, _: LayerContext<'_, S>) -> bool {
        about.target() == "flowstone" && !self.blind
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: LayerContext<'_, S>) {
        let scope = cx.span_scope(id).expect("a new span is in its registry");
        let path: Vec<_> = scope.from_root().map(|span| span.name()).collect();
        let mut seen = Seen { path: path.join(">"), ..Seen::default() };
        attributes.record(&mut seen);
        self.seen.lock().unwrap().push((id.clone(), seen));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: LayerContext<'_, S>) {
        let mut all = self.seen.lock().unwrap();
        let (_, seen) = all.iter_mut().rev().find(|(of, _)| of == id).expect("a span is made before it is told more");
        values.record(seen);
    }
}

/// Keeps a second, idle subscriber. With just one, `tracing` asks the thread that first comes by a place whether it is
/// of interest; that may be another test's, which nobody watches, and the place would stay silent.
pub(crate) fn idle_beside() {
    static IDLE: OnceLock<Dispatch> = OnceLock::new();
    IDLE.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
}

/// Returns the spans that are made while something runs on this thread.
pub(crate) fn watch<F: Future>(blind: bool, run: impl FnOnce() -> F) -> (Spans, F::Output) {
    let spans = Spans { blind, ..Spans::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    idle_beside();
    let _watched = tracing_subscriber::registry().with(spans.clone()).set_default();
    let output = runtime.block_on(run());
    (spans, output)
}
