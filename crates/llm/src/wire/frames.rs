//! Frames out of bytes: events of a stream, lines, or a whole body.
//!
//! A service may answer otherwise than it was asked to: with an error where events were wanted, with events where a
//! whole reply was. So the first byte decides, and what the service calls it.
//!
//! **Invariant:** bytes are counted as they come. What has no end, of any kind, ends at its bound; a silence ends with
//! any byte, also one that says nothing.

use std::{
    ops::ControlFlow,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use reqwest::{Response, header::CONTENT_TYPE};
use serde_json::{Deserializer, Value};
use sse_frames::{Error as SseError, Sse, SseByteStream};
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{failure, transport::Bounds};
use crate::error::Failure;

/// The longest that a service may be silent once it has said why the reply ends: counts may follow, and are not worth
/// more.
const TAIL: Duration = Duration::from_secs(5);

/// The mark that ends a stream of OpenAI's kind.
const DONE: &str = "[DONE]";

/// The most times that lines are read which are not whole JSON yet: a body in many lines would be read again for each.
const LOOKS: u32 = 64;

/// The most bytes that are shown of an answer that is no JSON.
const SHOWN: usize = 4_096;

/// The mark of the order of bytes, in front of a text in UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The names of the fields of an event, each of which begins a line; the empty one is that of a comment.
const FIELDS: [&str; 5] = ["data", "event", "id", "retry", ""];

/// The bytes of the longest of them.
const LONGEST_FIELD: usize = 5;

/// A function that takes frames.
pub(crate) type Take<'a> = &'a mut (dyn FnMut(&Value) -> Result<Heard, Failure> + Send);

/// The progress of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// More is to come.
    More,
    /// The reason for its end has come; counts may follow.
    End,
    /// All there is.
    Over,
}

/// The form in which an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Whole, or with the mark that ends a stream.
    Whole,
    /// As frames, the last of which says whether it is whole.
    Frames,
}

/// A body that is read.
#[derive(Debug)]
pub(crate) struct Body {
    response: Response,
    bounds: Bounds,
    seen: Arc<Seen>,
}

/// The progress of a body, for those who read it and those who take its frames.
#[derive(Debug, Default)]
struct Seen {
    bytes: AtomicUsize,
    /// Since the last frame.
    of_frame: AtomicUsize,
    /// `true` once the reason for its end has come.
    end: AtomicBool,
    /// `true` once the service has closed it.
    closed: AtomicBool,
}

impl Body {
    pub(crate) fn new(response: Response, bounds: Bounds) -> Self {
        Self { response, bounds, seen: Arc::default() }
    }

    /// Reads all frames.
    pub(crate) async fn frames(mut self, streamed: bool, take: Take<'_>) -> Result<Came, Failure> {
        let kind = self.response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (events, kind) = (kind.contains("event-stream"), kind.to_owned());
        let (first, begun) = self.begin().await?;
        match first {
            None if streamed => Err(cut_off()),
            None => Err(Failure::Malformed { said: "an empty answer".to_owned() }),
            Some(b'{' | b'[') if streamed || events => Box::pin(self.lines(begun, take)).await,
            Some(b'{' | b'[') => self.whole(begun, take).await,
            Some(first) if first != b'<' && (events || streamed && begins_event(&begun)) => {
                Box::pin(self.events(begun, &kind, take)).await
            }
            Some(_) => {
                let said = Box::pin(self.rest(begun, SHOWN)).await;
                Err(words_only(&kind, &said))
            }
        }
    }

    /// Reads what a service says that is no reply.
    pub(crate) async fn words(mut self) -> String {
        let most = self.bounds.answer;
        let said = self.rest(Vec::new(), most).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Reads until there is something that is no blank; returns it, and all that came.
    async fn begin(&mut self) -> Result<(Option<u8>, Vec<u8>), Failure> {
        let mut begun = Vec::new();
        loop {
            let Some(chunk) = self.chunk().await? else {
                let first = begun.trim_ascii_start().first().copied();
                return Ok((first, begun));
            };
            begun.extend_from_slice(&chunk);
            let said = begun.strip_prefix(MARK).unwrap_or(&begun);
            if let Some(&first) = said.iter().find(|byte| !byte.is_ascii_whitespace()) {
                // A mark of the order of bytes may be cut, and so may the name of a field.
                if b"{[<:".contains(&first) || said.trim_ascii_start().len() > LONGEST_FIELD {
                    begun.drain(..begun.len() - said.len());
                    return Ok((Some(first), begun));
                }
            }
        }
    }

    /// Reads what follows, as far as it comes, and so many bytes at most.
    async fn rest(&mut self, mut begun: Vec<u8>, most: usize) -> Vec<u8> {
        while begun.len() < most
            && let Ok(Some(chunk)) = self.chunk().await
        {
            begun.extend_from_slice(&chunk);
        }
        begun.truncate(most);
        begun
    }

    /// Reads a body of JSON to its end.
    async fn whole(mut self, mut body: Vec<u8>, take: Take<'_>) -> Result<Came, Failure> {
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        let mut count = 0;
        for value in Deserializer::from_slice(&body).into_iter::<Value>() {
            let value = value.map_err(|error| no_json(&error, &body))?;
            count += 1;
            give(value, take)?;
        }
        Ok(if count == 1 { Came::Whole } else { Came::Frames })
    }

    /// Reads JSON that comes a line at a time, or in lines.
    async fn lines(mut self, begun: Vec<u8>, take: Take<'_>) -> Result<Came, Failure> {
        let (mut pending, mut looks, mut count) = (Vec::new(), 0, 0);
        let mut chunk = Bytes::from(begun);
        loop {
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                pending.extend_from_slice(piece);
                if pending.len() > self.bounds.frame {
                    return Err(Failure::TooLong { limit: self.bounds.frame });
                }
                let is_whole = piece.ends_with(b"\n") && pending.trim_ascii_end().ends_with(b"}");
                if !is_whole || looks > LOOKS {
                    continue;
                }
                match serde_json::from_slice(&pending) {
                    Ok(value) => {
                        pending.clear();
                        (looks, count) = (0, count + 1);
                        if self.heard(give(value, take)?) {
                            return Ok(Came::Whole);
                        }
                    }
                    Err(error) if error.is_eof() => looks += 1,
                    Err(error) => return Err(no_json(&error, &pending)),
                }
            }
            match self.chunk().await {
                Ok(Some(more)) => chunk = more,
                Ok(None) => break,
                Err(_) if self.seen.end.load(Ordering::Relaxed) => return Ok(Came::Frames),
                Err(failure) => return Err(failure),
            }
        }
        if pending.trim_ascii().is_empty() {
            return Ok(Came::Frames);
        }
        match serde_json::from_slice(&pending) {
            Ok(value) => give(value, take).map(|_| if count == 0 { Came::Whole } else { Came::Frames }),
            Err(error) if error.is_eof() => Err(cut_off()),
            Err(error) => Err(no_json(&error, &pending)),
        }
    }

    /// Reads server-sent events.
    async fn events(self, begun: Vec<u8>, kind: &str, take: Take<'_>) -> Result<Came, Failure> {
        let seen = Arc::clone(&self.seen);
        let words = (!begins_event(&begun)).then(|| begun[..begun.len().min(SHOWN)].to_vec());
        let mut any = false;
        seen.of_frame.store(begun.len(), Ordering::Relaxed);
        let chunks = stream::unfold((self, Some(Bytes::from(begun))), Self::next);
        let chunks = pin!(chunks);
        let mut events = pin!(SseByteStream::new(chunks));
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(_) if seen.end.load(Ordering::Relaxed) => return Ok(Came::Frames),
                Err(error) => return Err(stopped(error)),
            };
            seen.of_frame.store(0, Ordering::Relaxed);
            any |= event.data.is_some();
            match seen.event(&event, take)? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(()) => {
                    // The connection can be used again if its end is there already.
                    while let Some(Some(Ok(_))) = events.next().now_or_never() {}
                    return Ok(Came::Whole);
                }
            }
        }
        match words {
            // An answer that calls itself events, and has none, is a service's words.
            Some(words) if !any => Err(words_only(kind, &words)),
            _ => Ok(Came::Frames),
        }
    }

    /// Notes what was heard; returns whether it is over.
    fn heard(&self, heard: Heard) -> bool {
        self.seen.heard(heard)
    }

    /// The next bytes of events, and what comes behind them.
    async fn next((mut body, begun): (Self, Option<Bytes>)) -> Option<(Result<Bytes, Stopped>, (Self, Option<Bytes>))> {
        if let Some(begun) = begun {
            return Some((Ok(begun), (body, None)));
        }
        if body.seen.closed.load(Ordering::Relaxed) {
            return None;
        }
        let next = match body.chunk().await {
            Ok(Some(chunk)) => Ok(chunk),
            // The last event may lack the empty line behind it.
            Ok(None) => Ok(Bytes::from_static(b"\n\n")),
            Err(failure) => Err(Stopped(failure)),
        };
        Some((next, (body, None)))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.seen.next(&mut self.response, self.bounds).await
    }
}

impl Seen {
    /// Reads what comes next.
    async fn next(&self, response: &mut Response, bounds: Bounds) -> Result<Option<Bytes>, Failure> {
        let end = self.end.load(Ordering::Relaxed);
        let limit = if end { bounds.silence.min(TAIL) } else { bounds.silence };
        let chunk = bounds.wait(limit, response.chunk().with_subscriber(Dispatch::none())).await?;
        let chunk = chunk.map_err(|error| failure::of_http(error, limit))?;
        let Some(chunk) = chunk else {
            self.closed.store(true, Ordering::Relaxed);
            return Ok(None);
        };
        let bytes = self.bytes.fetch_add(chunk.len(), Ordering::Relaxed).saturating_add(chunk.len());
        let of_frame = self.of_frame.fetch_add(chunk.len(), Ordering::Relaxed).saturating_add(chunk.len());
        match () {
            () if bytes > bounds.answer => Err(Failure::TooLong { limit: bounds.answer }),
            () if of_frame > bounds.frame.saturating_add(chunk.len()) => Err(Failure::TooLong { limit: bounds.frame }),
            () => Ok(Some(chunk)),
        }
    }

    /// Takes an event; breaks where the stream is over.
    fn event(&self, event: &Sse, take: Take<'_>) -> Result<ControlFlow<()>, Failure> {
        let Some(data) = event.data.as_deref() else { return Ok(ControlFlow::Continue(())) };
        let mut values = Deserializer::from_str(data).into_iter::<Value>();
        loop {
            let read = values.byte_offset();
            match values.next() {
                None => return Ok(ControlFlow::Continue(())),
                Some(Ok(value)) if event.event.as_deref() == Some("error") => return Err(failure::of_event(&value)),
                Some(Ok(value)) => {
                    if self.heard(give(value, take)?) {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Some(Err(_)) if data[read..].trim_start().starts_with(DONE) => return Ok(ControlFlow::Break(())),
                Some(Err(_)) if event.event.as_deref() == Some("error") => {
                    return Err(Failure::Broken { shown: false, said: data.to_owned() });
                }
                Some(Err(error)) if error.is_eof() && self.closed.load(Ordering::Relaxed) => return Err(cut_off()),
                Some(Err(error)) => return Err(no_json(&error, data.as_bytes())),
            }
        }
    }

    fn heard(&self, heard: Heard) -> bool {
        self.end.fetch_or(heard != Heard::More, Ordering::Relaxed);
        heard == Heard::Over
    }
}

/// Gives a frame on; a list is several.
fn give(value: Value, take: Take<'_>) -> Result<Heard, Failure> {
    match value {
        Value::Array(frames) if !frames.is_empty() => {
            let mut heard = Heard::More;
            for frame in &frames {
                heard = take(frame)?;
            }
            Ok(heard)
        }
        frame => take(&frame),
    }
}

/// An error that ends the bytes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(Failure);

fn stopped(error: SseError) -> Failure {
    match error {
        SseError::Body(cause) => match cause.downcast::<Stopped>() {
            Ok(stopped) => stopped.0,
            Err(cause) => Failure::Broken { shown: false, said: cause.to_string() },
        },
        SseError::Utf8Parse(_) => Failure::Malformed { said: "what is no UTF-8".to_owned() },
        error => Failure::Malformed { said: error.to_string() },
    }
}

/// Returns `true` if a text begins as events do: with the name of a field, and a colon or nothing more behind it.
fn begins_event(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    FIELDS.iter().filter_map(|field| text.strip_prefix(field.as_bytes())).any(|behind| {
        matches!(behind.first(), Some(b':'))
            || matches!(behind.first(), Some(b'\n' | b'\r')) && behind.len() < text.len()
    })
}

fn words_only(kind: &str, said: &[u8]) -> Failure {
    Failure::Malformed { said: format!("`{kind}` and no JSON: {}", String::from_utf8_lossy(said)) }
}

fn cut_off() -> Failure {
    Failure::Broken { shown: false, said: "the stream ended in the middle".to_owned() }
}

fn no_json(error: &serde_json::Error, body: &[u8]) -> Failure {
    let body = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    Failure::Malformed { said: format!("broken JSON ({error}): {body}") }
}
