//! `weather` against services that misbehave: a clear line on standard error, an exit code, never a panic.
//!
//! Each test brings a service of its own, on a free loopback port, that answers as the test says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use flowstone::durable::{Filter, Reader, Requests, Status};
use serde_json::json;

const ROME: &str = r#"{"results":[{"name":"Rome","latitude":41.9,"longitude":12.5,"country":"Italy"}]}"#;
const SUN: &str = r#"{"current":{"temperature_2m":21.5,"wind_speed_10m":7.0,"weather_code":0}}"#;

/// The reply of a service to a request.
#[derive(Clone, Copy)]
enum Reply {
    /// Answers with a status line and headers, and a body of the right length.
    Answer(&'static str, &'static str),
    /// Announces more than it sends, and closes the connection.
    HalfAnswer(&'static str),
    /// Closes the connection.
    Close,
    /// Says nothing, and keeps the connection open until the service stops.
    Hang,
}

const OK: &str = "200 OK";

/// A service that answers each request line as a function says, and stops when it is dropped.
struct Service {
    listener: TcpListener,
    stopped: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn start(reply: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (stopped, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (accept, stop, log) = (listener.try_clone().unwrap(), Arc::clone(&stopped), Arc::clone(&requests));
        let thread = thread::spawn(move || {
            let mut hanging = Vec::new();
            while let Ok((connection, _)) = accept.accept() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let request = request_line(&connection);
                log.lock().unwrap().push(request.clone());
                hanging.extend(serve(connection, reply(&request)));
            }
        });
        Self { listener, stopped, requests, thread: Some(thread) }
    }

    /// The path and query of each request so far.
    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Runs the example against this service, without a terminal.
    fn ask(&self, arguments: &[&str]) -> Ended {
        weather(&[&["--service", &self.url(), "--timeout-ms", "300"], arguments].concat(), "")
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread, which waits for a connection.
        let _ = TcpStream::connect(self.listener.local_addr().unwrap());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// Reads a request up to the empty line, and returns its path and query.
fn request_line(connection: &TcpStream) -> String {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    lines.find(String::is_empty);
    first.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Replies, and gives back a connection that is to stay open. That the other side is gone already is no matter.
fn serve(mut connection: TcpStream, reply: Reply) -> Option<TcpStream> {
    let (status, length, body) = match reply {
        Reply::Hang => return Some(connection),
        Reply::Close => return None,
        Reply::Answer(status, body) => (status, body.len(), body),
        Reply::HalfAnswer(body) => (OK, body.len() * 2, body),
    };
    let _ = write!(connection, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = connection.shutdown(Shutdown::Write);
    None
}

/// The end of a run of the example.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    printed: String,
    errors: String,
}

/// Starts the example, without a terminal.
fn start(arguments: &[&str]) -> Child {
    let this = env::current_exe().unwrap();
    let examples = this.ancestors().nth(2).unwrap().join("examples");
    let program = examples.join("weather").with_extension(env::consts::EXE_EXTENSION);
    let mut command = Command::new(program);
    command.args(arguments).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built")
}

fn weather(arguments: &[&str], input: &str) -> Ended {
    let mut child = start(arguments);
    // A program that asks nothing may be gone before it has read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ended = Ended { code: output.status.code(), printed: text(output.stdout), errors: text(output.stderr) };
    assert!(!ended.errors.contains("panicked"), "{}", ended.errors);
    ended
}

/// All failed: nothing is printed, and standard error has this one line.
#[track_caller]
fn assert_failed(ended: &Ended, line: &str) {
    assert_eq!(ended.errors, format!("weather: {line}\n"));
    assert_eq!((ended.code, ended.printed.as_str()), (Some(1), ""));
}

#[test]
fn a_service_that_hangs_is_given_up_after_the_attempts() {
    let service = Service::start(|_| Reply::Hang);

    let ended = service.ask(&["Rome", "--attempts", "2"]);

    assert_failed(&ended, "Rome: the attempt timed out after 300ms (2 attempts)");
    assert_eq!(service.requests().len(), 2);
}

#[test]
fn a_service_that_always_fails_is_given_up_after_the_attempts() {
    let service = Service::start(|_| Reply::Answer("500 Internal Server Error", ""));

    let ended = service.ask(&["Rome", "--attempts", "3"]);

    assert_failed(&ended, "Rome: the service answered 500 Internal Server Error (3 attempts)");
    assert_eq!(service.requests().len(), 3);
}

#[test]
fn half_a_json_is_a_broken_answer() {
    let service = Service::start(|_| Reply::Answer(OK, &ROME[..40]));

    let ended = service.ask(&["Rome", "--attempts", "2"]);

    let cause = "EOF while parsing an object at line 1 column 40";
    assert_failed(&ended, &format!("Rome: the service sent a broken answer: {cause} (2 attempts)"));
}

#[test]
fn half_an_answer_is_a_broken_connection() {
    let service = Service::start(|_| Reply::HalfAnswer(ROME));

    let ended = service.ask(&["Rome", "--attempts", "2"]);

    let cause = "end of file before message length reached";
    assert_failed(&ended, &format!("Rome: the connection broke off: {cause} (2 attempts)"));
}

#[test]
fn a_closed_connection_is_tried_again() {
    let service = Service::start(|_| Reply::Close);

    let ended = service.ask(&["Rome", "--attempts", "2"]);

    assert!(ended.errors.starts_with("weather: Rome: the connection broke off: "), "{}", ended.errors);
    assert!(ended.errors.ends_with(" (2 attempts)\n"), "{}", ended.errors);
    assert_eq!(ended.code, Some(1));
}

#[test]
fn a_service_that_is_not_there_cannot_be_reached() {
    let gone = "127.0.0.1:1"; // no port that a test or another program was given

    let ended = weather(&["--service", &format!("http://{gone}"), "--attempts", "2", "Rome"], "");

    let line = format!("weather: Rome: {gone} cannot be reached: ");
    assert!(ended.errors.starts_with(&line), "{}", ended.errors);
    assert_eq!(ended.code, Some(1));
}

#[test]
fn a_service_without_a_url_is_no_service() {
    let ended = weather(&["--service", "next door", "Rome"], "");

    assert_failed(&ended, "Rome: `next door/v1/search` is no URL (1 attempt)");
}

#[test]
fn a_wrong_request_is_not_tried_again() {
    let service = Service::start(|_| Reply::Answer("400 Bad Request", r#"{"error":true,"reason":"No such name"}"#));

    let ended = service.ask(&["Rome", "--attempts", "5"]);

    assert_failed(&ended, "Rome: the service answered 400 Bad Request: No such name (1 attempt)");
}

#[test]
fn an_attempt_that_succeeds_makes_up_for_those_that_failed() {
    let failures = AtomicBool::new(true);
    let service = Service::start(move |request| match request {
        _ if failures.swap(false, Ordering::SeqCst) => Reply::Close,
        request if request.starts_with("/v1/search") => Reply::Answer(OK, ROME),
        _ => Reply::Answer(OK, SUN),
    });

    let ended = service.ask(&["Rome"]);

    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    assert!(ended.printed.contains("Rome") && ended.printed.contains("21.5 °C"), "{}", ended.printed);
    assert_eq!(service.requests().len(), 3);
}

#[test]
fn a_wait_beyond_the_time_of_the_request_is_not_begun() {
    let service = Service::start(|_| Reply::Answer("429 Too Many Requests\r\nretry-after: 3600", ""));

    let ended = service.ask(&["Rome", "--attempts", "5"]);

    assert_failed(&ended, "Rome: the service answered 429 Too Many Requests (1 attempt)");
}

#[test]
fn a_wait_without_end_is_not_begun() {
    let service = Service::start(|_| Reply::Answer("503 Busy\r\nretry-after: 18446744073709551615", ""));

    let ended = service.ask(&["Rome"]);

    assert_failed(&ended, "Rome: the service answered 503 Service Unavailable (1 attempt)");
}

#[test]
fn a_short_wait_that_the_service_asks_for_is_waited() {
    let first = AtomicBool::new(true);
    let service = Service::start(move |request| match request {
        _ if first.swap(false, Ordering::SeqCst) => Reply::Answer("429 Too Many Requests\r\nretry-after: 1", ""),
        request if request.starts_with("/v1/search") => Reply::Answer(OK, ROME),
        _ => Reply::Answer(OK, SUN),
    });

    let ended = service.ask(&["Rome", "--verbose"]);

    assert!(ended.errors.ends_with("429 Too Many Requests; trying again in 1000 ms\n"), "{}", ended.errors);
    assert_eq!(ended.code, Some(0));
}

#[test]
fn a_forecast_that_fails_takes_no_other_city_with_it() {
    let service = Service::start(|request| match request {
        request if request.contains("name=Rome") => Reply::Answer(OK, ROME),
        request if request.starts_with("/v1/search") => Reply::Answer("404 Not Found", ""),
        _ => Reply::Answer(OK, SUN),
    });

    let ended = service.ask(&["Oslo", "Rome"]);

    assert_eq!(ended.errors, "weather: Oslo: the service answered 404 Not Found (1 attempt)\n");
    assert!(ended.printed.contains("Rome") && !ended.printed.contains("Oslo"), "{}", ended.printed);
    assert_eq!(ended.code, Some(1));
}

#[test]
fn an_unknown_city_is_a_line_and_the_others_go_on() {
    let ended = weather(&["Pariss", "Oslo", "Atlantis", "--delay-ms", "1"], "");

    let made_up = "weather: from the program's own service, and made up; --live asks Open-Meteo\n";
    let lines = "weather: Pariss: no such city; did you mean Paris?\nweather: Atlantis: no such city\n";
    assert_eq!(ended.errors, format!("{made_up}{lines}"));
    assert!(ended.printed.contains("Norway") && !ended.printed.contains("France"), "{}", ended.printed);
    assert_eq!(ended.code, Some(1));
}

#[test]
fn without_a_city_and_a_terminal_there_is_nothing_to_do() {
    let ended = weather(&[], "");

    assert_eq!(ended.errors, "weather: no city given: name one or more, as in `weather London Paris`\n");
    assert_eq!((ended.code, ended.printed.as_str()), (Some(2), ""));
}

#[test]
fn a_city_without_a_name_is_refused() {
    let ended = weather(&["Oslo", " "], "");

    assert!(ended.errors.contains("a city has a name"), "{}", ended.errors);
    assert_eq!((ended.code, ended.printed.as_str()), (Some(2), ""));
}

#[test]
fn it_asks_for_cities_and_again_for_the_unknown_ones() {
    let answers = "Oslo, Pariss, Atlantis, Tokio\n\n\nTokyo\n";

    let ended = weather(&["--ask", "--delay-ms", "1"], answers);

    assert!(ended.errors.contains("No city is called “Pariss”"), "{}", ended.errors);
    let known = ["Oslo", "Paris", "Tokyo"].map(|city| ended.printed.contains(city));
    assert_eq!((ended.code, known), (Some(0), [true; 3]), "{}", ended.printed);
    assert!(!ended.printed.contains("Atlantis"), "{}", ended.printed);
}

#[test]
fn a_question_that_nobody_answers_leaves_the_city_unknown() {
    let ended = weather(&["--ask", "Pariss", "Oslo", "--delay-ms", "1"], "");

    assert!(ended.errors.ends_with("weather: Pariss: no such city; did you mean Paris?\n"), "{}", ended.errors);
    assert!(ended.printed.contains("Oslo"), "{}", ended.printed);
    assert_eq!(ended.code, Some(1));
}

#[test]
fn a_run_that_was_killed_goes_on_and_asks_no_city_again() {
    let (hangs, folder) = (Arc::new(AtomicBool::new(true)), tempfile::tempdir().unwrap());
    let oslo_hangs = Arc::clone(&hangs);
    let service = Service::start(move |request| match request {
        request if request.contains("name=Oslo") && oslo_hangs.load(Ordering::SeqCst) => Reply::Hang,
        request if request.starts_with("/v1/search") => Reply::Answer(OK, ROME),
        _ => Reply::Answer(OK, SUN),
    });
    let (url, store) = (service.url(), folder.path().join("weather.db"));
    let command = ["--service", &url, "--store", store.to_str().unwrap(), "Rome", "Oslo"];

    let mut killed = start(&command);
    for look in 0.. {
        let ended = |city: &flowstone::durable::RunInfo| city.status == Status::Ended;
        let children = Reader::open(&store).ok().and_then(|store| {
            let run = store.list(&Filter::new()).ok()?.pop()?;
            store.children(run.id).ok()
        });
        if children.is_some_and(|cities| cities.iter().any(ended)) {
            break;
        }
        assert!(look < 6000, "no city was kept in a minute");
        thread::sleep(Duration::from_millis(10));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    hangs.store(false, Ordering::SeqCst);
    let ended = weather(&command, "");

    assert!(ended.errors.ends_with("; not asked again: Rome\n"), "{}", ended.errors);
    assert_eq!(ended.code, Some(0));
    assert_eq!(service.requests().iter().filter(|request| request.contains("name=Rome")).count(), 1);
}

#[test]
fn a_run_that_waits_in_a_store_goes_on_with_an_answer_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("weather.db");
    let command = ["--delay-ms", "1", "--store", store.to_str().unwrap(), "Londn"];
    let waiting = weather(&command, "");
    let mut requests = Requests::open(&store).unwrap();
    let run = requests.reader().list(&Filter::new()).unwrap().remove(0).id;

    requests.answer(run, "ask", json!(["London"])).unwrap();
    let ended = weather(&command, "");

    assert!(waiting.errors.contains("waits for an answer"), "{}", waiting.errors);
    assert_eq!(waiting.code, Some(1));
    assert!(ended.printed.contains("London"), "{}", ended.errors);
    assert_eq!(ended.code, Some(0));
}
