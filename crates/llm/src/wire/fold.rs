//! A reply as far as it has come: one accumulator, whether it comes whole or in pieces.
//!
//! `call` holds the calls of tools in it, `end` the reasons to end, and how the reply is made then.
//!
//! **Invariant:** what it holds is bounded: each byte and each part that a service adds is counted where it is added.

use serde_json::{Value, json};

use super::{
    Counted, Wire,
    frames::Heard,
    json,
    thoughts::{Leading, Part as Parted},
};
use crate::{error::Failure, request::Tokens};

mod call;
mod end;

use call::Call;
use end::End;

/// The bytes that a part is counted as beside its text, so that a reply of empty parts comes to an end, too.
const PART: usize = 64;

/// Where a part stands in its reply, by the numbers of its service.
pub(super) type At = (u64, u64);

/// The number of parts that had come at some time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize);

impl Mark {
    /// Before all of them.
    pub(super) const NOTHING: Self = Self(0);
}

/// A reply as far as it has come.
#[derive(Debug)]
pub(crate) struct Fold {
    wire: Wire,
    slots: Vec<Slot>,
    end: Option<End>,
    /// A service's words for why it says nothing.
    refusal: String,
    /// A service's words for why it ends.
    ending: String,
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
    /// State that only the service understands, before the part that it belongs to.
    Extra(Value),
}

impl Fold {
    /// Begins a reply of so many bytes at most. Pieces are kept to be taken, if they are `shown`.
    pub(crate) fn new(wire: Wire, limit: usize, shown: bool) -> Self {
        Self {
            wire,
            slots: Vec::new(),
            end: None,
            refusal: String::new(),
            ending: String::new(),
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

    /// Returns how far the reply has come.
    pub(crate) fn heard(&self) -> Heard {
        match () {
            () if self.ended => Heard::Over,
            () if self.has_end() => Heard::End,
            () => Heard::More,
        }
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

    /// Returns the counts so far.
    pub(crate) fn tokens(&self) -> Option<Tokens> {
        self.counted.tokens()
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
        let alone = self.slots.iter().all(|slot| slot.at == at || matches!(slot.what, What::Extra(_)));
        self.leading.take(text, alone, |part| parts.push(part));
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

    /// Adds the signature of the thoughts at a place.
    pub(super) fn signature(&mut self, at: At, text: &str) -> Result<(), Failure> {
        self.more(text.len())?;
        if let What::Thought { signature, .. } = self.thought_at(at)? {
            signature.push_str(text);
        }
        Ok(())
    }

    /// Adds state that only the service understands; it belongs to the part after it.
    pub(super) fn extra(&mut self, at: At, json: Value) -> Result<(), Failure> {
        self.more(json::size(&json) + PART)?;
        if !json::too_deep(&json) {
            self.slots.push(Slot { at, what: What::Extra(json) });
        }
        Ok(())
    }

    /// Returns the state at a place that only the service understands, to be added to; an empty object if there is
    /// none.
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

    /// Counts the JSON that is added to such state.
    pub(super) fn extra_grows(&mut self, json: &Value) -> Result<(), Failure> {
        self.more(json::size(json))
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

    /// Adds the service's words for why the reply ends.
    pub(super) fn ends_since(&mut self, words: &str) -> Result<(), Failure> {
        self.more(words.len())?;
        if self.ending.is_empty() {
            words.clone_into(&mut self.ending);
        }
        Ok(())
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

    /// Returns whether text has come at a place.
    pub(super) fn has_text(&self, at: At) -> bool {
        self.has(at, |what| matches!(what, What::Text(_))) || self.leading_at == Some(at)
    }

    /// Marks the parts that have come so far.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.slots.len())
    }

    /// Returns whether this text is a part that came before the mark, at whatever place.
    pub(super) fn has_said(&self, text: &str, mark: Mark) -> bool {
        self.slots[..mark.0].iter().any(|slot| matches!(&slot.what, What::Text(said) if said == text))
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

    /// Decides on the text that was held back, when nothing more comes.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        let mut parts = Vec::new();
        self.leading.end(|part| parts.push(part));
        let at = self.leading_at.unwrap_or_default();
        parts.into_iter().try_for_each(|part| self.parted(at, part))
    }

    fn parted(&mut self, at: At, part: Parted) -> Result<(), Failure> {
        match part {
            Parted::Thought(text) => self.add_thought(at, &text),
            Parted::Text(text) => self.add_text(at, text),
            Parted::Turned => {
                for slot in self.slots.iter_mut().filter(|slot| slot.at == at) {
                    if let What::Text(text) = &mut slot.what {
                        slot.what = What::Thought { text: std::mem::take(text), signature: String::new() };
                    }
                }
                Ok(())
            }
        }
    }

    fn add_text(&mut self, at: At, piece: String) -> Result<(), Failure> {
        if let Some(pieces) = &mut self.pieces {
            pieces.push(Piece::Text(piece.clone()));
        }
        let known = self.slots.iter_mut().rev().find_map(|slot| match &mut slot.what {
            What::Text(text) if slot.at == at => Some(text),
            _ => None,
        });
        match known {
            Some(text) => text.push_str(&piece),
            None => {
                self.slots.push(Slot { at, what: What::Text(piece) });
                self.more(PART)?;
            }
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
