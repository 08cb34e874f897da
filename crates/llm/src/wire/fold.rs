//! What has come so far of a reply: one accumulator, whether it comes whole or in pieces.
//!
//! **Invariant:** what it holds is bounded: each byte and each part that a service adds is counted where it is added.

use serde_json::{Map, Value, json};

use super::{
    Counted, Wire, json,
    thoughts::{Leading, Part as Parted},
};
use crate::{
    error::Failure,
    message::{Extra, Message, Part, Role, ToolCall},
    request::{Finish, Reply},
};

/// What a part is counted as beside its text, so that a reply of empty parts comes to an end, too.
const PART: usize = 64;

/// Where a part stands in its reply, by the numbers of its service.
pub(super) type At = (u64, u64);

/// What came so far.
#[derive(Debug)]
pub(crate) struct Fold {
    wire: Wire,
    slots: Vec<Slot>,
    end: Option<End>,
    /// A service's words for why it says nothing.
    refusal: String,
    counted: Counted,
    id: Option<String>,
    model: Option<String>,
    leading: Leading,
    /// Where the text stands whose beginning is not decided yet.
    leading_at: Option<At>,
    /// `true` once the service has said that nothing more comes.
    ended: bool,
    /// The most bytes.
    limit: usize,
    bytes: usize,
    /// Pieces to be shown, if they are wanted.
    pieces: Option<Vec<Piece>>,
}

/// A piece of a reply, to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Thought(String),
}

#[derive(Debug)]
struct Slot {
    at: At,
    what: What,
}

#[derive(Debug)]
enum What {
    Text(String),
    Thought {
        text: String,
        signature: String,
    },
    Call(Call),
    /// What only the service understands, before the part that it belongs to.
    Extra(Value),
}

/// A call as far as it has come.
#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: Arguments,
    signatures: Vec<String>,
    extra: Map<String, Value>,
}

#[derive(Debug)]
enum Arguments {
    /// JSON as text, which comes in pieces.
    Text(String),
    Json(Value),
}

impl Default for Arguments {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// Why a reply ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Stop,
    Length,
    Calls,
    Filtered,
    /// A reason that nobody knows.
    Unknown(String),
}

/// A call in a [`Fold`].
#[derive(Debug, Clone, Copy)]
pub(super) struct CallAt(usize);

impl Fold {
    /// Begins a reply of so many bytes at most. Pieces are kept for whoever takes them, if they are `shown`.
    pub(crate) fn new(wire: Wire, limit: usize, shown: bool) -> Self {
        Self {
            wire,
            slots: Vec::new(),
            end: None,
            refusal: String::new(),
            counted: Counted::default(),
            id: None,
            model: None,
            leading: Leading::default(),
            leading_at: None,
            ended: false,
            limit,
            bytes: 0,
            pieces: shown.then(Vec::new),
        }
    }

    /// Takes the pieces that came since the last time.
    pub(crate) fn pieces(&mut self) -> Vec<Piece> {
        self.pieces.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns whether the service has said why the reply ends; counts may still follow.
    pub(crate) fn has_end(&self) -> bool {
        self.end.is_some() || self.ended
    }

    /// Returns whether the service has said that nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.ended
    }

    /// Notes that nothing more comes.
    pub(crate) fn over(&mut self) {
        self.ended = true;
    }

    /// Names the reply, and the model that made it.
    pub(super) fn named(&mut self, id: &str, model: &str) -> Result<(), Failure> {
        for (name, given) in [(&mut self.id, id), (&mut self.model, model)] {
            if name.is_none() && !given.is_empty() {
                *name = Some(given.to_owned());
            }
        }
        self.more(0)
    }

    pub(super) fn count(&mut self, counted: Counted) {
        self.counted.add(counted);
    }

    /// Adds text.
    pub(super) fn text(&mut self, at: At, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.more(text.len())?;
        if self.leading_at.is_some_and(|first| first != at) {
            self.close()?;
        }
        self.leading_at = Some(at);
        let mut parts = Vec::new();
        self.leading.take(text, |part| parts.push(part));
        parts.into_iter().try_for_each(|part| self.parted(at, part))
    }

    /// Adds a thought.
    pub(super) fn thought(&mut self, at: At, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.more(text.len())?;
        self.add_thought(at, text)
    }

    /// Adds what proves the thoughts at a place.
    pub(super) fn signature(&mut self, at: At, text: &str) -> Result<(), Failure> {
        self.more(text.len())?;
        if let What::Thought { signature, .. } = self.thought_at(at)? {
            signature.push_str(text);
        }
        Ok(())
    }

    /// Adds what only the service understands; it belongs to the part after it.
    pub(super) fn extra(&mut self, at: At, json: Value) -> Result<(), Failure> {
        self.more(json::size(&json) + PART)?;
        if !json::too_deep(&json) {
            self.slots.push(Slot { at, what: What::Extra(json) });
        }
        Ok(())
    }

    /// Returns what only the service understands at a place, to be added to; an empty object if there is none.
    pub(super) fn extra_at(&mut self, at: At) -> Result<&mut Value, Failure> {
        let known = self.slots.iter().position(|slot| slot.at == at && matches!(slot.what, What::Extra(_)));
        let index = match known {
            Some(index) => index,
            None => {
                self.more(PART)?;
                self.slots.push(Slot { at, what: What::Extra(json!({})) });
                self.slots.len() - 1
            }
        };
        match &mut self.slots[index].what {
            What::Extra(json) => Ok(json),
            _ => unreachable!("invariant: the slot was found, or made, as an extra"),
        }
    }

    /// Counts what is added to an extra.
    pub(super) fn extra_grows(&mut self, json: &Value) -> Result<(), Failure> {
        self.more(json::size(json))
    }

    /// Begins a call.
    pub(super) fn begin_call(&mut self, at: At, id: &str, name: &str) -> Result<CallAt, Failure> {
        self.more(id.len() + name.len() + PART)?;
        let call = Call { id: id.to_owned(), name: name.to_owned(), ..Call::default() };
        self.slots.push(Slot { at, what: What::Call(call) });
        Ok(CallAt(self.slots.len() - 1))
    }

    /// Goes on with the call that a piece belongs to, or begins one.
    ///
    /// Services number the pieces of calls, name calls by ids, do both, or neither; some give every call the number 0.
    /// So an id that is new begins a call, and so does a second name once the call at its number is whole; if it repeats the
    /// id, too, it has to come with arguments, since some services end a call by its name.
    pub(super) fn piece_of_call(
        &mut self,
        number: Option<u64>,
        id: &str,
        name: &str,
        arguments: bool,
    ) -> Result<CallAt, Failure> {
        let last = self.slots.iter().rposition(|slot| matches!(slot.what, What::Call(_)));
        let is_call = |slot: &Slot, fits: &dyn Fn(&Call) -> bool| matches!(&slot.what, What::Call(call) if fits(call));
        let at_number =
            |number: u64| self.slots.iter().rposition(|slot| slot.at.1 == number && is_call(slot, &|_| true));
        let of_id = || self.slots.iter().rposition(|slot| is_call(slot, &|call| call.id == id));
        let known = match number {
            Some(number) => at_number(number),
            None if id.is_empty() => last,
            None => of_id(),
        };
        if let Some(index) = known
            && let What::Call(call) = &mut self.slots[index].what
            && call.goes_on(id, name, arguments)
        {
            let more =
                if call.id.is_empty() { id.len() } else { 0 } + if call.name.is_empty() { name.len() } else { 0 };
            if call.id.is_empty() {
                id.clone_into(&mut call.id);
            }
            if call.name.is_empty() {
                name.clone_into(&mut call.name);
            }
            self.more(more)?;
            return Ok(CallAt(index));
        }
        let next = || last.map_or(0, |last| self.slots[last].at.1.saturating_add(1));
        let number = number.unwrap_or_else(next);
        self.begin_call((CALLS, number), id, name)
    }

    /// Adds arguments: a piece of their text, or all of them as they are.
    pub(super) fn arguments(&mut self, call: CallAt, given: &Value) -> Result<(), Failure> {
        self.more(match given {
            Value::String(text) => text.len(),
            other => json::size(other),
        })?;
        let What::Call(call) = &mut self.slots[call.0].what else { return Ok(()) };
        match (given, &mut call.arguments) {
            (Value::Null, _) => {}
            (Value::String(piece), Arguments::Text(text)) => text.push_str(piece),
            // Some begin with the empty object, and send the text of the real one.
            (Value::String(piece), Arguments::Json(json)) if *json == json!({}) => {
                call.arguments = Arguments::Text(piece.clone());
            }
            (Value::String(_), Arguments::Json(_)) => {}
            (other, _) => call.arguments = Arguments::Json(other.clone()),
        }
        Ok(())
    }

    /// Adds what the service wants back with a call.
    pub(super) fn signed_call(&mut self, call: CallAt, signature: &str) -> Result<(), Failure> {
        self.more(signature.len())?;
        if let What::Call(call) = &mut self.slots[call.0].what {
            call.signatures.push(signature.to_owned());
        }
        Ok(())
    }

    /// Adds fields of a call that only the service understands.
    pub(super) fn extra_of_call(&mut self, call: CallAt, fields: Map<String, Value>) -> Result<(), Failure> {
        let bytes = fields.iter().map(|(name, value)| name.len() + json::size(value)).sum();
        self.more(bytes)?;
        if let What::Call(call) = &mut self.slots[call.0].what {
            call.extra.extend(fields);
        }
        Ok(())
    }

    /// Adds the service's words for why it says nothing.
    pub(super) fn refused(&mut self, words: &str) -> Result<(), Failure> {
        self.more(words.len())?;
        self.refusal.push_str(words);
        Ok(())
    }

    /// Adds such words, unless some have come in pieces.
    pub(super) fn refused_once(&mut self, words: &str) -> Result<(), Failure> {
        if self.refusal.is_empty() { self.refused(words) } else { Ok(()) }
    }

    /// Notes why the reply ends; an empty reason is none.
    pub(super) fn ends(&mut self, reason: &str) -> Result<(), Failure> {
        self.more(reason.len())?;
        let is_final = matches!(self.end, Some(End::Filtered | End::Unknown(_)));
        if !reason.is_empty() && !is_final {
            self.end = Some(End::of(reason));
        }
        Ok(())
    }

    /// Returns where the next part stands, for services that do not number parts.
    pub(super) fn next(&self) -> At {
        let places = self.slots.iter().map(|slot| slot.at).chain(self.leading_at);
        (places.map(|at| at.0).max().map_or(0, |at| at.saturating_add(1)), 0)
    }

    /// Returns where a text stands that goes on with the last part, if that is one of its kind.
    pub(super) fn going_on(&self, thought: bool) -> At {
        match self.slots.last() {
            _ if !thought && self.leading.holds() => self.leading_at.unwrap_or_default(),
            Some(Slot { at, what: What::Text(_) }) if !thought => *at,
            Some(Slot { at, what: What::Thought { .. } }) if thought => *at,
            _ => self.next(),
        }
    }

    /// Returns the call at a place.
    pub(super) fn call_at(&self, at: At) -> Option<CallAt> {
        self.slots.iter().rposition(|slot| slot.at == at && matches!(slot.what, What::Call(_))).map(CallAt)
    }

    /// Returns whether arguments of a call have come.
    pub(super) fn has_arguments(&self, call: CallAt) -> bool {
        let What::Call(call) = &self.slots[call.0].what else { return false };
        !matches!(&call.arguments, Arguments::Text(text) if text.is_empty())
    }

    /// Returns whether text has come at a place.
    pub(super) fn has_text(&self, at: At) -> bool {
        self.has(at, |what| matches!(what, What::Text(_))) || self.leading_at == Some(at)
    }

    /// Returns whether a thought has come at a place.
    pub(super) fn has_thought(&self, at: At) -> bool {
        self.has(at, |what| matches!(what, What::Thought { .. }))
    }

    /// Returns whether an extra has come at a place.
    pub(super) fn has_extra(&self, at: At) -> bool {
        self.has(at, |what| matches!(what, What::Extra(_)))
    }

    fn has(&self, at: At, is: impl Fn(&What) -> bool) -> bool {
        self.slots.iter().any(|slot| slot.at == at && is(&slot.what))
    }

    /// Decides what was held back, when nothing more comes.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        let mut parts = Vec::new();
        self.leading.end(|part| parts.push(part));
        let at = self.leading_at.unwrap_or_default();
        parts.into_iter().try_for_each(|part| self.parted(at, part))
    }

    /// Makes the reply. One that says nothing is an end if it follows `results` of tools, which the model may have nothing
    /// to add to.
    pub(crate) fn finish(mut self, results: bool) -> Result<Reply, Failure> {
        self.close()?;
        let said = std::mem::take(&mut self.refusal);
        match self.end.take() {
            Some(End::Unknown(reason)) => {
                Err(Failure::Broken { shown: false, said: format!("it ended with `{reason}`") })
            }
            Some(End::Filtered) => Err(Failure::Filtered { said: if said.is_empty() { self.words() } else { said } }),
            _ if !said.trim().is_empty() => Err(Failure::Filtered { said }),
            // Nothing at all is no end.
            end => self.reply(end == Some(End::Length), results && end.is_some()),
        }
    }

    fn reply(self, is_cut: bool, results: bool) -> Result<Reply, Failure> {
        let Self { wire, mut slots, counted, id, model, .. } = self;
        slots.sort_by_key(|slot| slot.at);
        let parts: Vec<Part> = slots.into_iter().filter_map(|slot| slot.what.part(wire)).collect();
        let calls = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
        let says = calls || parts.iter().any(|part| matches!(part, Part::Text(_)));
        // Some say `stop` when they wait for tools.
        let finish = match () {
            () if is_cut => Finish::Length,
            () if calls => Finish::ToolCalls,
            () => Finish::Stop,
        };
        if !says && finish != Finish::Length && !results {
            return Err(Failure::Malformed { said: "neither text nor a call of a tool".to_owned() });
        }
        let mut reply = Reply::new(Message { role: Role::Assistant, parts }, finish);
        (reply.tokens, reply.id, reply.model) = (counted.tokens(), id, model);
        Ok(reply)
    }

    /// What was said so far.
    fn words(&self) -> String {
        let text = |slot: &Slot| if let What::Text(text) = &slot.what { Some(text.clone()) } else { None };
        self.slots.iter().filter_map(text).collect()
    }

    fn parted(&mut self, at: At, part: Parted) -> Result<(), Failure> {
        match part {
            Parted::Thought(text) => self.add_thought(at, &text),
            Parted::Text(text) => self.add_text(at, text),
        }
    }

    fn add_text(&mut self, at: At, piece: String) -> Result<(), Failure> {
        let known = self.slots.iter_mut().rev().find_map(|slot| match &mut slot.what {
            What::Text(text) if slot.at == at => Some(text),
            _ => None,
        });
        match known {
            Some(text) => text.push_str(&piece),
            None => {
                self.slots.push(Slot { at, what: What::Text(piece.clone()) });
                self.more(PART)?;
            }
        }
        if let Some(pieces) = &mut self.pieces {
            pieces.push(Piece::Text(piece));
        }
        Ok(())
    }

    fn add_thought(&mut self, at: At, piece: &str) -> Result<(), Failure> {
        if let What::Thought { text, .. } = self.thought_at(at)? {
            text.push_str(piece);
        }
        if let Some(pieces) = &mut self.pieces {
            pieces.push(Piece::Thought(piece.to_owned()));
        }
        Ok(())
    }

    fn thought_at(&mut self, at: At) -> Result<&mut What, Failure> {
        let is = |slot: &Slot| slot.at == at && matches!(slot.what, What::Thought { .. });
        let index = match self.slots.iter().rposition(is) {
            Some(index) => index,
            None => {
                self.more(PART)?;
                let what = What::Thought { text: String::new(), signature: String::new() };
                self.slots.push(Slot { at, what });
                self.slots.len() - 1
            }
        };
        Ok(&mut self.slots[index].what)
    }

    fn more(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limit.saturating_add(PART * 8) {
            Err(Failure::TooLong { limit: self.limit })
        } else {
            Ok(())
        }
    }
}

/// Where the calls of OpenAI's chat completions stand: behind thoughts and text.
const CALLS: u64 = 2;

impl Call {
    /// Whether a piece with this id and this name, and with arguments or without, belongs to the call.
    fn goes_on(&self, id: &str, name: &str, arguments: bool) -> bool {
        let named = !id.is_empty() && !self.id.is_empty();
        if named && id != self.id {
            return false;
        }
        let whole = match &self.arguments {
            Arguments::Json(_) => true,
            Arguments::Text(text) if text.is_empty() => self.name != name,
            Arguments::Text(text) => serde_json::from_str::<Value>(text).is_ok(),
        };
        let begins = !name.is_empty() && !self.name.is_empty() && whole;
        !begins || (named && !arguments)
    }
}

impl What {
    fn part(self, wire: Wire) -> Option<Part> {
        match self {
            Self::Text(text) => (!text.is_empty()).then_some(Part::Text(text)),
            Self::Thought { text, signature } => {
                let signature = (!signature.is_empty()).then_some(signature);
                (!text.is_empty() || signature.is_some()).then_some(Part::Reasoning { text, signature })
            }
            Self::Extra(json) => {
                let empty = json.as_object().is_some_and(Map::is_empty);
                (!empty).then(|| Part::Extra(Extra { wire: wire.name().to_owned(), json }))
            }
            Self::Call(Call { id, name, arguments, signatures, extra }) => {
                let extra = (!extra.is_empty()).then(|| Extra { wire: wire.name().to_owned(), json: extra.into() });
                Some(Part::ToolCall(ToolCall { id, name, arguments: arguments.read(), signatures, extra }))
            }
        }
    }
}

impl Arguments {
    /// The arguments as JSON. What is none stays a text, and the model is told of it; so is what is too deep to be stored.
    fn read(self) -> Value {
        let (json, text) = match self {
            Self::Text(text) if text.trim().is_empty() => return json!({}),
            Self::Text(text) => (serde_json::from_str::<Value>(&text).ok(), Some(text)),
            Self::Json(json) => (Some(json), None),
        };
        match (json, text) {
            // A call of a tool without parameters comes with nothing at all from some.
            (Some(Value::Null), _) => json!({}),
            (Some(json), _) if !json::too_deep(&json) => json,
            (Some(json), None) => Value::String(json.to_string()),
            (_, text) => Value::String(text.unwrap_or_default()),
        }
    }
}

impl End {
    /// The reasons of all services: they differ in letters, and mean the same.
    fn of(reason: &str) -> Self {
        match reason.to_ascii_lowercase().as_str() {
            "stop" | "end" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "stop_token" | "complete"
            | "completed" | "done" | "finish" | "finished" | "finish_reason_stop" => Self::Stop,
            "length"
            | "max_tokens"
            | "max_output_tokens"
            | "model_length"
            | "max_length"
            | "token_limit"
            | "model_context_window_exceeded"
            | "context_window_exceeded" => Self::Length,
            "tool_calls" | "tool_call" | "tool_use" | "function_call" | "function_calls" => Self::Calls,
            "content_filter"
            | "content_filtered"
            | "safety"
            | "recitation"
            | "blocklist"
            | "prohibited_content"
            | "spii"
            | "language"
            | "refusal"
            | "guardrail_intervened"
            | "sensitive"
            | "image_safety"
            | "model_armor" => Self::Filtered,
            _ => Self::Unknown(reason.to_owned()),
        }
    }
}
