//! The nodes with a real model behind them: a small one, which gets facts wrong, so that only shapes are looked at.
//!
//! `cargo xtask test --real-model` starts its server and names it in `FLOWSTONE_TEST_MODEL`; without that nothing is
//! tested, as a line says. The tests take turns, since what a server says depends a little on what else it says.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, or says why it does not begin"
)]

use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Once, PoisonError},
    time::{Duration, Instant},
};

use flowstone_core::{
    AsyncFlow, BuildError, CancellationToken, Context, Event, EventKind, NodeExt, RunError, RunOptions,
};
use flowstone_durable::{Reader, Runs, StepInfo};
use flowstone_llm::{Chat, Conversation, Delta, Extract, Model, Options};
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as Turns, MutexGuard};

const MODEL: &str = "FLOWSTONE_TEST_MODEL";
/// For the child of a test: the store that it is to drive.
const STORE: &str = "FLOWSTONE_TEST_STORE";

static TURNS: Turns<()> = Turns::const_new(());

/// Waits for its turn, and returns the model, if there is one.
async fn model() -> Option<(Model, MutexGuard<'static, ()>)> {
    static SAID: Once = Once::new();

    let Ok(name) = env::var(MODEL) else {
        SAID.call_once(|| eprintln!("not tested with a real model: {MODEL} is not set; see `cargo xtask model`"));
        return None;
    };
    Some((Model::named(&name).unwrap(), TURNS.lock().await))
}

/// The same reply each time, as far as the server can, and not for ever.
fn at_most(max_tokens: u32) -> Options {
    Options { temperature: Some(0.0), seed: Some(7), max_tokens: Some(max_tokens), ..Options::default() }
}

/// A turn of a conversation.
fn talk(model: &Model, max_tokens: u32) -> AsyncFlow<Conversation> {
    let mut flow = AsyncFlow::builder("talk");
    let reply = flow.add("reply", Chat::turn(model).options(at_most(max_tokens)).allow_cut());
    flow.start(reply);
    flow.build().unwrap()
}

fn asking(text: &str) -> Conversation {
    let mut chat = Conversation::default();
    chat.user(text);
    chat
}

/// Events of runs, with the time at which each was heard.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(Instant, Event)>>>);

impl Heard {
    fn options(&self) -> RunOptions {
        let heard = self.clone();
        RunOptions::new().listen(move |event: &Event| {
            heard.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), event.clone()));
        })
    }

    fn of<T>(&self, pick: impl Fn(Instant, &Event) -> Option<T>) -> Vec<T> {
        self.0.lock().unwrap().iter().filter_map(|(at, event)| pick(*at, event)).collect()
    }

    /// The pieces of text, and when they came.
    fn text(&self) -> Vec<(Instant, String)> {
        self.of(|at, event| match Delta::of_event(event)? {
            Delta::Text(text) => Some((at, text.to_owned())),
            _ => None,
        })
    }
}

#[tokio::test]
async fn a_conversation_goes_on() {
    let Some((model, _turn)) = model().await else { return };
    let (flow, heard) = (talk(&model, 40), Heard::default());
    let mut chat = asking("My name is Ada. Say hello to me.");

    flow.run_async_with(&mut chat, &heard.options()).await.unwrap();
    chat.user("Now say goodbye.");
    flow.run_async_with(&mut chat, &heard.options()).await.unwrap();

    let texts: Vec<String> = chat.messages.iter().map(|message| message.text()).collect();
    assert!(texts.len() == 4 && texts.iter().all(|text| !text.trim().is_empty()), "{texts:?}");
    let used = heard.of(|_, event| if let EventKind::Used { usage } = event.kind { Some(usage) } else { None });
    let [first, second] = used[..] else { panic!("two calls, not {used:?}") };
    assert!(first.output_tokens > 0 && second.input_tokens > first.input_tokens, "{used:?}");
}

#[tokio::test]
async fn text_comes_while_the_model_speaks() {
    let Some((model, _turn)) = model().await else { return };
    let heard = Heard::default();
    let mut chat = asking("Tell me about tea.");

    talk(&model, 40).run_async_with(&mut chat, &heard.options()).await.unwrap();

    let pieces = heard.text();
    let whole: String = pieces.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(Some(whole), chat.last_text());
    let took = pieces.last().unwrap().0 - pieces[0].0;
    assert!(pieces.len() > 10 && took > Duration::from_millis(50), "{} pieces within {took:?}", pieces.len());
}

/// An invoice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Invoice {
    /// The name of the company that sent it.
    vendor: String,
    /// The amount to be paid.
    total: f64,
    /// `true` if it is paid already.
    paid: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Inbox {
    texts: Vec<String>,
    invoices: Vec<Invoice>,
}

impl Inbox {
    fn new() -> Self {
        let vendors = ["Alder & Sons", "Dune Software", "Elm Catering", "Fjord Timber", "Gable Insurance", "Heron Ltd"];
        let text = |(number, vendor)| format!("{vendor}\nInvoice no. {number}\nTotal due: EUR {number}2.50\n");
        Self { texts: (1..).zip(vendors).map(text).collect(), invoices: Vec::new() }
    }
}

/// Reads all invoices of an inbox, two at a time.
fn extraction(model: &Model) -> Result<AsyncFlow<Inbox>, BuildError> {
    let items = |inbox: &Inbox| inbox.texts.clone();
    let read = Extract::each(model, "Read this invoice:\n{{ item }}", items, |inbox: &mut Inbox, invoices| {
        inbox.invoices = invoices;
    });
    let mut flow = AsyncFlow::builder("extraction");
    let read = flow.add("read", read.options(at_most(200)).parallel(2).journaled());
    flow.start(read);
    flow.build()
}

#[tokio::test]
async fn a_reply_fits_the_schema() {
    let Some((model, _turn)) = model().await else { return };
    let mut inbox = Inbox::new();
    inbox.texts.truncate(2);

    extraction(&model).unwrap().run_async(&mut inbox).await.unwrap();

    assert_eq!(inbox.invoices.len(), 2);
    assert!(inbox.invoices.iter().all(|invoice| !invoice.vendor.is_empty()), "{:?}", inbox.invoices);
}

#[tokio::test]
async fn eight_runs_at_once_are_all_answered() {
    let Some((model, _turn)) = model().await else { return };
    let (flow, heard) = (talk(&model, 16), Heard::default());
    let mut chats: Vec<_> = (1..=8).map(|number| asking(&format!("Say the number {number}."))).collect();

    let options = heard.options();
    let ended = join_all(chats.iter_mut().map(|chat| flow.run_async_with(chat, &options))).await;

    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert!(chats.iter().all(|chat| chat.messages.len() == 2));
    let begun = heard.of(|at, event| matches!(event.kind, EventKind::AttemptStarted).then_some(at));
    let first = heard.of(|at, event| matches!(event.kind, EventKind::VisitEnded { .. }).then_some(at))[0];
    assert!(begun.len() == 8 && begun.iter().all(|begun| *begun < first), "they take turns");
}

#[tokio::test]
async fn vectors_are_of_one_length() {
    let Some((model, _turn)) = model().await else { return };
    let texts = ["tea", "a cup of tea", "the stock exchange"].map(String::from);

    let vectors = model.embed(&texts, &Context::detached()).await.unwrap().vectors;

    assert_eq!(vectors.len(), 3);
    assert!(vectors.iter().all(|vector| vector.len() == vectors[0].len() && vector.iter().all(|x| x.is_finite())));
}

/// The server replies to two at once: only if it drops both is there an answer for a third before they have said all.
#[tokio::test]
async fn a_cancelled_call_ends_at_the_server_too() {
    let Some((model, _turn)) = model().await else { return };
    let (long, heard, stop) = (talk(&model, 3000), Heard::default(), CancellationToken::new());
    let mut chats = [asking("Write a long story about a ship."), asking("Write a long story about a mountain.")];

    let options = heard.options().cancel(stop.clone());
    let stopping = async {
        while heard.text().len() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        Instant::now()
    };
    let (ended, stopped) =
        tokio::join!(join_all(chats.iter_mut().map(|chat| long.run_async_with(chat, &options))), stopping);
    let took = stopped.elapsed();
    let next = talk(&model, 4);
    let mut chat = asking("Say yes.");
    let next = tokio::time::timeout(Duration::from_secs(20), next.run_async(&mut chat)).await;

    assert!(ended.iter().all(|ended| matches!(ended, Err(RunError::Cancelled { .. }))), "{ended:?}");
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    next.expect("the server still speaks to nobody").unwrap();
}

/// A child process, killed if it is not waited for.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs [`drives_a_store_if_it_is_told_to`] in a process of its own.
fn driver(store: &Path) -> Killed {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "drives_a_store_if_it_is_told_to"]).env(STORE, store).stdout(Stdio::null());
    Killed(command.spawn().unwrap())
}

/// The process that [`a_killed_run_asks_only_for_what_it_lacks`] kills; alone it does nothing.
#[tokio::test]
async fn drives_a_store_if_it_is_told_to() {
    let (Some(store), Ok(name)) = (env::var_os(STORE), env::var(MODEL)) else { return };
    let flow = extraction(&Model::named(&name).unwrap()).unwrap();

    let runs = Runs::open(store, flow).await.unwrap();

    runs.start("inbox", Inbox::new()).await.unwrap().finished().await.unwrap().ended().unwrap();
}

#[tokio::test]
async fn a_killed_run_asks_only_for_what_it_lacks() {
    let Some((model, _turn)) = model().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("inbox.db");
    let done = || Reader::open(&store).ok()?.items_done("inbox").ok();

    let begun = Instant::now();
    let child = driver(&store);
    while done().unwrap_or_default() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(120), "no two items within two minutes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(child);
    let kept = done().unwrap();
    let runs = Runs::open(&store, extraction(&model).unwrap()).await.unwrap();
    let run = runs.start("inbox", Inbox::default()).await.unwrap();
    let ended = run.finished().await.unwrap().ended().unwrap();

    assert_eq!(ended.state.invoices.len(), 6);
    let steps: Vec<StepInfo> = run.steps(1, 9).await.unwrap();
    let items = steps[0].items.unwrap();
    assert!((2..6).contains(&kept), "killed too late: {kept} items were done");
    assert_eq!((items.recorded, items.recalled), (6, kept));
}
