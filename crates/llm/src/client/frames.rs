//! What genai makes nothing of, or the wrong thing, in the frames of a stream: names, and pieces of calls.
//!
//! genai puts the calls of OpenAI's interface at the place that the service names, and makes room up to there: a number
//! out of nowhere takes all memory, and the process with it. So the pieces are put together here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef, ToolCall};
use serde_json::Value;

use crate::request::Reply;

/// Looks at the frames of one stream.
#[derive(Debug)]
pub(super) struct Frames {
    /// The id of the reply, and the name of the model, as the first frame has them.
    first: OnceLock<(Option<String>, Option<String>)>,
    /// Of OpenAI's interface.
    calls: Option<Mutex<Calls>>,
}

/// Calls as far as they have come.
#[derive(Debug, Default)]
struct Calls {
    by_index: BTreeMap<u64, ToolCall>,
    bytes: usize,
    limit: usize,
}

impl Frames {
    /// Looks for names, and for calls of so many bytes at most, if the stream is of OpenAI's interface.
    pub(super) fn new(openai: bool, limit: usize) -> Self {
        let calls = openai.then(|| Mutex::new(Calls { limit, ..Calls::default() }));
        Self { first: OnceLock::new(), calls }
    }

    /// Names the reply.
    pub(super) fn name(&self, reply: &mut Reply) {
        if let Some((id, model)) = self.first.get() {
            reply.id = reply.id.take().or_else(|| id.clone());
            reply.model.clone_from(model);
        }
    }

    /// Returns how many bytes the calls have so far.
    pub(super) fn bytes(&self) -> usize {
        self.calls.as_ref().map_or(0, |calls| lock(calls).bytes)
    }

    /// Returns the calls, whole now.
    pub(super) fn calls(&self) -> Vec<ToolCall> {
        let Some(calls) = &self.calls else { return Vec::new() };
        let mut calls: Vec<_> = std::mem::take(&mut lock(calls).by_index).into_values().collect();
        for call in &mut calls {
            // What is no JSON stays text, and the model is told of it.
            if let Some(Ok(arguments)) = call.fn_arguments.as_str().map(serde_json::from_str) {
                call.fn_arguments = arguments;
            }
        }
        calls
    }
}

impl ChatFrameSink for Frames {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        self.first.get_or_init(|| names(&frame.json().unwrap_or_default()));
        // Most frames are text, and are not read twice.
        if let Some(calls) = &self.calls
            && frame.data.contains("\"tool_calls\"")
            && let Some(Value::Array(pieces)) =
                frame.json().and_then(|mut frame| frame.pointer_mut("/choices/0/delta/tool_calls").map(Value::take))
        {
            let mut calls = lock(calls);
            pieces.iter().for_each(|piece| calls.add(piece));
        }
    }
}

impl Calls {
    fn add(&mut self, piece: &Value) {
        let text = |path| piece.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (id, name, arguments) = (text("/id"), text("/function/name"), text("/function/arguments"));
        self.bytes = self.bytes.saturating_add(1 + id.len() + name.len() + arguments.len());
        if self.bytes > self.limit {
            return;
        }
        // Some do not count: a piece with an id begins the next call, and one without goes on with the last.
        let last = self.by_index.keys().next_back().copied();
        let next = if id.is_empty() { last.unwrap_or(0) } else { last.map_or(0, |last| last.saturating_add(1)) };
        let index = piece.get("index").and_then(Value::as_u64).unwrap_or(next);
        let call = self.by_index.entry(index).or_insert_with(|| ToolCall {
            call_id: format!("call_{index}"),
            fn_name: String::new(),
            fn_arguments: Value::String(String::new()),
            thought_signatures: None,
        });
        if !id.is_empty() {
            id.clone_into(&mut call.call_id);
        }
        if !name.is_empty() {
            name.clone_into(&mut call.fn_name);
        }
        if let Value::String(so_far) = &mut call.fn_arguments {
            so_far.push_str(arguments);
        }
    }
}

fn names(frame: &Value) -> (Option<String>, Option<String>) {
    let within = ["", "/message", "/response"];
    let text = |names: &[&str]| {
        let mut paths = within.iter().flat_map(|outer| names.iter().map(move |name| format!("{outer}/{name}")));
        paths.find_map(|path| frame.pointer(&path).and_then(Value::as_str).map(str::to_owned))
    };
    (text(&["id", "responseId"]), text(&["model", "modelVersion"]))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
