//! Calls of a model on loopback: beside the same done by hand, with `reqwest` and `serde_json`.
//!
//! Both ends of each connection are in this process: a thousand calls at once take some two thousand open files.

use std::{sync::LazyLock, time::Duration};

use flowstone::{
    AsyncFlow, AsyncNode, Context, Event, Result, RunOptions,
    llm::{Delta, Message, Model, Reply, Request},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{mpsc, watch},
};

use super::sure;

const QUESTION: &str = "How warm is it in Rome?";

const REPLY: &str = r#"{"id":"c1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"It is 22 degrees in Rome."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":8,"total_tokens":20}}"#;

const FIRST: &str = concat!(
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
    r#"data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"It "},"finish_reason":null}]}"#,
    "\n\n"
);

/// One runtime for all rounds: connections belong to it, and are kept between rounds on both sides.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| sure(tokio::runtime::Builder::new_multi_thread().enable_all().build()));

/// The service's way of answering.
#[derive(Clone, Copy)]
enum Answer {
    /// With a reply.
    Whole,
    /// With the first piece of one, and then nothing.
    First,
    /// Not at all; it counts who waits.
    Never,
}

/// A service, on a port of its own, and how many of its callers wait.
struct Service {
    port: u16,
    waiting: watch::Receiver<usize>,
}

static WHOLE: LazyLock<Service> = LazyLock::new(|| serve(Answer::Whole));
static FIRSTS: LazyLock<Service> = LazyLock::new(|| serve(Answer::First));
static NEVER: LazyLock<Service> = LazyLock::new(|| serve(Answer::Never));

fn serve(answer: Answer) -> Service {
    let listener = sure(std::net::TcpListener::bind("127.0.0.1:0"));
    sure(listener.set_nonblocking(true));
    let port = sure(listener.local_addr()).port();
    let (counts, waiting) = watch::channel(0);
    RUNTIME.spawn(async move {
        let listener = sure(TcpListener::from_std(listener));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_all(stream, answer, counts.clone()));
        }
    });
    Service { port, waiting }
}

/// Answers the requests of a connection until the other side has gone.
async fn answer_all(mut stream: TcpStream, answer: Answer, waiting: watch::Sender<usize>) {
    sure(stream.set_nodelay(true));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", REPLY.len());
    let mut buffer = vec![0; 2048];
    // Requests are small enough to come in one piece, and end with the brace of their JSON.
    while let Ok(count) = stream.read(&mut buffer).await {
        match (count, answer) {
            (0, _) => break,
            (_, Answer::Whole) if buffer[count - 1] == b'}' => {
                let _gone = stream.write_all(format!("{head}{REPLY}").as_bytes()).await;
            }
            (_, Answer::First) if buffer[count - 1] == b'}' => {
                let _gone = stream.write_all(FIRST.as_bytes()).await;
            }
            (_, Answer::Never) if buffer[count - 1] == b'}' => waiting.send_modify(|waiting| *waiting += 1),
            _ => {}
        }
    }
}

struct Speak {
    model: Model,
    request: Request,
}

impl AsyncNode<Option<Reply>> for Speak {
    type Prep = ();
    type Exec = Reply;
    type Action = ();

    async fn prep(&self, _: &Option<Reply>) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<Reply> {
        self.model.chat(&self.request, cx).await
    }

    async fn post(&self, state: &mut Option<Reply>, (): (), reply: Reply) -> Result<()> {
        *state = Some(reply);
        Ok(())
    }
}

fn flow(service: &Service) -> AsyncFlow<Option<Reply>> {
    let model = sure(Model::named(&format!("http://127.0.0.1:{}/v1#m", service.port)));
    let request = Request::new([Message::user(QUESTION)]).streamed();
    let mut flow = AsyncFlow::builder("speak");
    let speak = flow.add("speak", Speak { model, request });
    flow.start(speak);
    sure(flow.build())
}

fn http() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1_000);
    sure(builder.connect_timeout(Duration::from_secs(10)).build())
}

/// The client for HTTP by itself, with a pool of connections like ours.
static BARE: LazyLock<reqwest::Client> = LazyLock::new(http);

/// A request by hand, with nothing more in it than ours sends.
fn bare(service: &Service, stream: bool) -> reqwest::RequestBuilder {
    let url = format!("http://127.0.0.1:{}/v1/chat/completions", service.port);
    let mut body = json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": QUESTION }] });
    if stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    BARE.post(url).header("content-type", "application/json").body(body.to_string())
}

pub(super) fn call(n: usize) {
    let flow = flow(&WHOLE);
    let calls = (0..n).map(|_| {
        let flow = flow.clone();
        RUNTIME.spawn(async move {
            let mut reply = None;
            sure(flow.run_async(&mut reply).await);
            assert!(reply.is_some());
        })
    });
    RUNTIME.block_on(join_all(calls.collect::<Vec<_>>())).into_iter().for_each(sure);
}

pub(super) fn call_limit(n: usize) {
    let calls = (0..n).map(|_| {
        let request = bare(&WHOLE, false);
        RUNTIME.spawn(async move {
            let bytes = sure(sure(request.send().await).bytes().await);
            let reply: Value = sure(serde_json::from_slice(&bytes));
            assert!(reply["choices"][0]["message"]["content"].is_string());
        })
    });
    RUNTIME.block_on(join_all(calls.collect::<Vec<_>>())).into_iter().for_each(sure);
}

pub(super) fn first_token(n: usize) {
    let flow = flow(&FIRSTS);
    RUNTIME.block_on(async {
        for _ in 0..n {
            let (sends, mut first) = mpsc::channel(1);
            let options = RunOptions::new().listen(move |event: &Event| {
                if Delta::of_event(event).is_some() {
                    sure(sends.try_send(()));
                }
            });
            let mut state = None;
            tokio::select! {
                heard = first.recv() => assert!(heard.is_some()),
                ended = flow.run_async_with(&mut state, &options) => drop(sure(ended)),
            }
        }
    });
}

pub(super) fn first_token_limit(n: usize) {
    RUNTIME.block_on(async {
        for _ in 0..n {
            let mut answer = sure(bare(&FIRSTS, true).send().await);
            // The first event comes in one piece.
            let event = sure(answer.chunk().await).expect("there is one");
            let data = event.strip_prefix(b"data: ").expect("it has data");
            let event: Value = sure(serde_json::from_slice(data.trim_ascii_end()));
            assert!(event["choices"][0]["delta"]["content"].is_string());
        }
    });
}

pub(super) fn waiting(n: usize) {
    let flow = flow(&NEVER);
    let call = || {
        let flow = flow.clone();
        async move { drop(flow.run_async(&mut None).await) }
    };
    all_wait(n, call);
}

pub(super) fn waiting_limit(n: usize) {
    let (http, url) = (http(), format!("http://127.0.0.1:{}/v1/chat/completions", NEVER.port));
    let call = || {
        let body = json!({ "model": "m", "stream": false, "messages": [] }).to_string();
        let request = http.post(&url).header("content-type", "application/json").body(body);
        async move { drop(request.send().await) }
    };
    all_wait(n, call);
}

/// Starts n calls, and gives them up when all of them wait.
fn all_wait<F: Future<Output = ()> + Send + 'static>(n: usize, call: impl Fn() -> F) {
    let mut waiting = NEVER.waiting.clone();
    let before = *waiting.borrow();
    let calls: Vec<_> = (0..n).map(|_| RUNTIME.spawn(call())).collect();
    drop(sure(RUNTIME.block_on(waiting.wait_for(|now| *now >= before + n))));
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    RUNTIME.block_on(join_all(calls));
}
