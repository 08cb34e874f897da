//! A reply as it comes: each piece is sent on at once, and the reply is made at the end.
//!
//! **Invariant:** what was shown is not taken back. A failure after the first piece says so, and is not tried again.

use std::{collections::BTreeMap, sync::Arc};

use flowstone_core::Context;
use futures_util::StreamExt;
use genai::{
    adapter::AdapterKind,
    chat::{ChatFrameSink, ChatStreamEvent, ContentPart, MessageContent, StreamEnd, ToolCall},
};
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{
    Client, Service,
    failure::{Faults, once_shown},
    frames::Frames,
    reply, request, speaks_openai,
};
use crate::{
    delta::Delta,
    error::Failure,
    request::{Reply, Request},
};

impl Client {
    /// Makes a call whose text is sent on as it comes.
    pub(super) async fn stream(&self, request: &Request, cx: &Context) -> Result<Reply, Failure> {
        let limit = request.options.timeout.unwrap_or(self.timeout);
        let kind = self.kind_for(request);
        let key = self.key.read()?;
        let target = self.target(kind, Service::Chat, key.as_ref())?;
        let asked = request::chat(request, kind)?;
        let frames = Arc::new(Frames::new(speaks_openai(kind), self.max_reply_bytes));
        let mut options = request::options(request, kind, &self.id.name)?;
        options.raw_frame_sink = Some(Arc::clone(&frames) as Arc<dyn ChatFrameSink>);
        options.capture_tool_calls = Some(!speaks_openai(kind));
        let faults = Faults { key: key.as_ref(), base: &self.base, limit, kind };

        let client = self.door.client()?;
        let begun = client.exec_chat_stream(target, asked, Some(&options)).with_subscriber(Dispatch::none());
        let mut events = begun.await.map_err(|error| faults.of(error))?.stream;
        let (calls, limit_bytes) = (BTreeMap::new(), self.max_reply_bytes);
        let mut heard = Heard { bytes: 0, calls, shown: false, limit: limit_bytes, frames: &frames };
        let end = loop {
            let next = tokio::time::timeout(limit, events.next().with_subscriber(Dispatch::none()));
            let failure = match next.await {
                Err(_) => Failure::TimedOut { limit },
                Ok(None) => Failure::Broken { shown: false, said: "the stream ended in the middle".to_owned() },
                Ok(Some(Err(error))) => faults.of(error),
                Ok(Some(Ok(ChatStreamEvent::End(end)))) => break end,
                Ok(Some(Ok(event))) => match heard.event(event, cx) {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
            };
            return Err(if heard.shown { once_shown(failure) } else { failure });
        };
        drop(events);
        let reply = heard.more(0).and_then(|()| ended(end, &faults, &frames));
        reply.map_err(|failure| if heard.shown { once_shown(failure) } else { failure })
    }
}

/// What came so far.
struct Heard<'a> {
    bytes: usize,
    /// The length of the arguments of each call, as genai puts them together.
    calls: BTreeMap<String, usize>,
    shown: bool,
    limit: usize,
    frames: &'a Frames,
}

impl Heard<'_> {
    fn event(&mut self, event: ChatStreamEvent, cx: &Context) -> Result<(), Failure> {
        match event {
            ChatStreamEvent::Chunk(chunk) => {
                self.more(chunk.content.len())?;
                self.show(Delta::Text(&chunk.content), cx);
            }
            ChatStreamEvent::ReasoningChunk(chunk) => {
                self.more(chunk.content.len())?;
                self.show(Delta::Reasoning(&chunk.content), cx);
            }
            // Those of OpenAI's interface come in pieces, which `frames` counts.
            ChatStreamEvent::ToolCallChunk(_) if self.frames.bytes() > 0 => self.more(0)?,
            ChatStreamEvent::ToolCallChunk(chunk) => self.call(chunk.tool_call)?,
            ChatStreamEvent::Start
            | ChatStreamEvent::ThoughtSignatureChunk(_)
            | ChatStreamEvent::Heartbeat
            | ChatStreamEvent::End(_) => {}
        }
        Ok(())
    }

    fn show(&mut self, delta: Delta<'_>, cx: &Context) {
        self.shown |= cx.heard();
        delta.emit(cx);
    }

    /// Counts a call as far as it has come; it comes again, longer, with each piece.
    fn call(&mut self, call: ToolCall) -> Result<(), Failure> {
        let length = call.fn_name.len() + call.fn_arguments.as_str().map_or(0, str::len);
        let before = self.calls.insert(call.call_id, length).unwrap_or(0);
        self.more(length.saturating_sub(before))
    }

    fn more(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes.saturating_add(self.frames.bytes()) > self.limit {
            Err(Failure::TooLong { limit: self.limit })
        } else {
            Ok(())
        }
    }
}

/// Makes the reply of what the end of a stream holds.
fn ended(end: StreamEnd, faults: &Faults<'_>, frames: &Frames) -> Result<Reply, Failure> {
    use AdapterKind::{Gemini, GeminiIx, Ollama, OpenAIResp};
    // genai makes an end of its own for these when a stream just stops; a real one says why it ends, or what it took.
    let told = match faults.kind {
        Gemini | GeminiIx | OpenAIResp => end.captured_stop_reason.is_some(),
        Ollama => end.captured_stop_reason.is_some() || end.captured_usage.is_some(),
        _ => true,
    };
    if !told {
        return Err(Failure::Broken { shown: false, said: "the stream ended in the middle".to_owned() });
    }
    let mut content = end.captured_content.map(MessageContent::into_parts).unwrap_or_default();
    content.extend(frames.calls().into_iter().map(ContentPart::ToolCall));
    let parts = reply::parts(content, end.captured_reasoning_content);
    let usage = end.captured_usage.unwrap_or_default();
    let mut reply = reply::finished(parts, end.captured_stop_reason, &usage, faults)?;
    reply.id = end.captured_response_id;
    frames.name(&mut reply);
    Ok(reply::without_key(reply, faults))
}
