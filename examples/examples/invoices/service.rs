//! The extraction service: HTTP, slow and flaky, and it writes down what it served.
//!
//! Of a hundred requests about 3 are told to come back in a second, 6 fail, and 1 gets no answer at all; which, follows
//! from the seed. The fourth request for an invoice is always served, also when the service was started anew in
//! between. In the file of counts each request leaves a line: the number of the invoice, and what became of it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    future,
    io::{self, Read, Write, stdin},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use clap::Args;
use flowstone_examples::{
    http::server::{self, Call, Reply},
    wait::millis,
};
use hyper::{
    StatusCode,
    header::{HeaderValue, RETRY_AFTER},
};
use tokio::{net::TcpListener, sync::oneshot};

use super::{flow::Invoice, texts::random};

/// Serve extractions until standard input ends; the first line that is printed is the address.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// The port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The file that gets a line for each request
    #[arg(long, value_name = "FILE")]
    counts: PathBuf,
    /// The seed of the failures
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// The time that an answer takes, in milliseconds
    #[arg(long, value_name = "MS", default_value = "20", value_parser = millis)]
    latency: Duration,
}

pub(crate) async fn serve(args: &ServiceArgs) -> anyhow::Result<()> {
    let desk = Desk::open(&args.counts, args.seed, args.latency)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await?;
    println!("http://{}", listener.local_addr()?);

    let (end, ended) = oneshot::channel();
    // A thread of its own, since reading blocks, and is not waited for should serving fail.
    thread::spawn(move || end.send(io::copy(&mut stdin(), &mut io::sink())));
    tokio::select! {
        () = answer_all(desk, listener) => Ok(()),
        _ = ended => Ok(()),
    }
}

/// Answers all that comes, for as long as it is polled.
pub(crate) async fn answer_all(desk: Desk, listener: TcpListener) {
    let desk = Arc::new(desk);
    server::serve(listener, move |call| extract(Arc::clone(&desk), call)).await;
}

pub(crate) struct Desk {
    seed: u64,
    latency: Duration,
    counts: File,
    /// The number of requests for each invoice, those to earlier processes included.
    requests: Mutex<HashMap<u32, u64>>,
}

async fn extract(desk: Arc<Desk>, call: Call) -> Reply {
    let invoice = if call.path == "/extract" { read(&call.body) } else { None };
    let Some(invoice) = invoice else {
        return server::text(StatusCode::UNPROCESSABLE_ENTITY, "this is no invoice");
    };
    tokio::time::sleep(desk.latency).await;
    let outcome = match desk.chance(invoice.number) {
        0..3 => "busy",
        3..9 => "failed",
        9 => "hung",
        _ => "served",
    };
    // One write, so that no kill and no other process divides it; and before the answer, so that none goes uncounted.
    let counted = (&desk.counts).write_all(format!("{} {outcome}\n", invoice.number).as_bytes());
    match (counted, outcome) {
        (Ok(()), "served") => server::json(StatusCode::OK, &invoice),
        (Ok(()), "busy") => {
            let mut reply = server::text(StatusCode::SERVICE_UNAVAILABLE, "");
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            reply
        }
        (Ok(()), "hung") => future::pending().await,
        _ => server::text(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

impl Desk {
    /// Opens the file of counts, and reads how often each invoice was asked for.
    pub(crate) fn open(counts: &Path, seed: u64, latency: Duration) -> io::Result<Self> {
        let mut counts = OpenOptions::new().create(true).read(true).append(true).open(counts)?;
        let mut text = String::new();
        counts.read_to_string(&mut text)?;
        let mut requests = HashMap::new();
        for number in text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()) {
            *requests.entry(number).or_default() += 1;
        }
        Ok(Self { seed, latency, counts, requests: Mutex::new(requests) })
    }

    /// Draws from a hundred for this request.
    fn chance(&self, number: u32) -> u64 {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let request = requests.entry(number).or_default();
        *request += 1;
        if *request > 3 { 99 } else { random(self.seed, number, *request) % 100 }
    }
}

/// Reads an invoice in either of the two layouts that there are.
fn read(text: &str) -> Option<Invoice> {
    let after = |label: &str| text.split_once(label).map(|(_, rest)| rest);
    let word = |rest: &str| rest.split_whitespace().next().map(str::to_owned);
    let (whole, cents) = after("EUR ").and_then(word)?.split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    let vendor = after("From: ").unwrap_or(text).lines().next()?;
    Some(Invoice {
        number: after("Invoice no. ").or_else(|| after("INVOICE ")).and_then(word)?.parse().ok()?,
        vendor: vendor.to_owned(),
        date: after("Date: ").or_else(|| after(" of ")).and_then(word)?,
        cents: whole.parse::<u64>().ok()? * 100 + cents.parse::<u64>().ok()?,
    })
}
