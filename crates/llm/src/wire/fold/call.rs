//! Calls of tools as they come: whole, in numbered pieces, in pieces that only an id tells apart, or in none of these
//! ways.

use serde_json::{Map, Value, json};

use super::{
    super::{Wire, json},
    At, Fold, Mark, PART, Slot, What,
};
use crate::{
    error::Failure,
    message::{Extra, Part, ToolCall},
};

/// Where the calls of OpenAI's chat completions stand: behind thoughts and text.
const CALLS: u64 = 2;

/// A call in a [`Fold`].
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) struct CallAt(usize);

/// A call as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Call {
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

impl Fold {
    /// Begins a call.
    pub(in crate::wire) fn begin_call(&mut self, at: At, id: &str, name: &str) -> Result<CallAt, Failure> {
        self.more(id.len() + name.len() + PART)?;
        let call = Call { id: id.to_owned(), name: name.to_owned(), ..Call::default() };
        self.slots.push(Slot { at, what: What::Call(call) });
        Ok(CallAt(self.slots.len() - 1))
    }

    /// Goes on with the call that a piece belongs to, or begins one.
    ///
    /// Services number the pieces of calls, name calls by ids, do both, or neither; some give every call the number 0.
    /// So an id that is new begins a call, and so does a second name once the call at its number is whole; if it
    /// repeats the id, too, it has to come with arguments, since some services end a call by its name.
    pub(in crate::wire) fn piece_of_call(
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
    pub(in crate::wire) fn arguments(&mut self, call: CallAt, given: &Value) -> Result<(), Failure> {
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
    pub(in crate::wire) fn signed_call(&mut self, call: CallAt, signature: &str) -> Result<(), Failure> {
        self.more(signature.len())?;
        if let What::Call(call) = &mut self.slots[call.0].what {
            call.signatures.push(signature.to_owned());
        }
        Ok(())
    }

    /// Adds fields of a call that only the service understands.
    pub(in crate::wire) fn extra_of_call(&mut self, call: CallAt, fields: Map<String, Value>) -> Result<(), Failure> {
        let bytes = fields.iter().map(|(name, value)| name.len() + json::size(value)).sum();
        self.more(bytes)?;
        if let What::Call(call) = &mut self.slots[call.0].what {
            call.extra.extend(fields);
        }
        Ok(())
    }

    /// Returns the call at a place.
    pub(in crate::wire) fn call_at(&self, at: At) -> Option<CallAt> {
        self.slots.iter().rposition(|slot| slot.at == at && matches!(slot.what, What::Call(_))).map(CallAt)
    }

    /// Returns the call at a place that has no other id, or else the call of this id that came before the mark.
    pub(in crate::wire) fn call_of(&self, at: At, id: &str, mark: Mark) -> Option<CallAt> {
        let find = |slots: &[Slot], fits: &dyn Fn(At, &Call) -> bool| {
            let is = |slot: &Slot| matches!(&slot.what, What::Call(call) if fits(slot.at, call));
            slots.iter().rposition(is).map(CallAt)
        };
        let here =
            find(&self.slots, &|place, call| place == at && (id.is_empty() || call.id.is_empty() || call.id == id));
        here.or_else(|| find(&self.slots[..mark.0], &|_, call| !id.is_empty() && call.id == id))
    }

    /// Returns the call that came last.
    pub(in crate::wire) fn last_call(&self) -> Option<CallAt> {
        self.slots.iter().rposition(|slot| matches!(slot.what, What::Call(_))).map(CallAt)
    }

    /// Returns whether arguments of a call have come.
    pub(in crate::wire) fn has_arguments(&self, call: CallAt) -> bool {
        let What::Call(call) = &self.slots[call.0].what else { return false };
        !matches!(&call.arguments, Arguments::Text(text) if text.is_empty())
    }
}

impl Call {
    pub(super) fn part(self, wire: Wire) -> Part {
        let Self { id, name, arguments, signatures, extra } = self;
        let extra = (!extra.is_empty()).then(|| Extra { wire: wire.name().to_owned(), json: extra.into() });
        Part::ToolCall(ToolCall { id, name, arguments: arguments.read(), signatures, extra })
    }

    /// Returns `true` if a piece with this id and this name, and with arguments or without, belongs to the call.
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

impl Arguments {
    /// The arguments as JSON. What is none stays a text, and the model is told of it; so is what is too deep to be
    /// stored.
    fn read(self) -> Value {
        let (json, text) = match self {
            Self::Text(text) if text.trim().is_empty() => return json!({}),
            Self::Text(text) => (serde_json::from_str::<Value>(&text).ok(), Some(text)),
            Self::Json(json) => (Some(json), None),
        };
        match (json, text) {
            // A call of a tool without parameters comes with nothing at all from some.
            (Some(Value::Null), _) => json!({}),
            (Some(Value::String(inner)), _) if serde_json::from_str::<Map<String, Value>>(&inner).is_ok() => {
                // Some write them as a text twice.
                Self::Text(inner).read()
            }
            (Some(json), _) if !json::too_deep(&json) => json,
            (Some(json), None) => Value::String(json.to_string()),
            (_, text) => Value::String(text.unwrap_or_default()),
        }
    }
}
