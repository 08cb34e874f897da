//! Thoughts in front of a text: some servers send what a model thinks as `<think>…</think>` before what it says.
//!
//! Some send the closing tag only, since the template of their model puts the opening one into the prompt. Nobody can
//! know before it comes: whoever listens has heard the thoughts as text by then, but the reply has them as thoughts.
//! See `docs/decisions/0030-a-closing-tag-ends-a-thought.md`.
//!
//! **Invariant:** only the first tag is looked at. Any tag behind it is text.

/// The tags that models are taught to think in.
const TAGS: [(&str, &str); 3] = [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<thought>", "</thought>")];

/// Parts a text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Leading {
    state: State,
    /// Text that is not decided yet.
    held: String,
    /// The last letter that was given as text.
    last: Option<char>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has come but blanks, or the beginning of a tag.
    #[default]
    Begin,
    /// The text stands behind an opening tag, until this one.
    Inside(&'static str),
    /// The closing tag has come: blanks belong to neither.
    Behind,
    /// There was no opening tag, and no closing tag so far.
    Watched,
    /// All that comes is text.
    Text,
}

/// A piece, once it is decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Thought(String),
    Text(String),
    /// All that was given as text so far is a thought.
    Turned,
}

impl Leading {
    /// Takes a piece, and gives each part that is decided. The text is `alone` if nothing stands in the reply before
    /// it.
    pub(super) fn take(&mut self, piece: &str, alone: bool, mut give: impl FnMut(Part)) {
        if self.state == State::Text {
            if !piece.is_empty() {
                give(Part::Text(piece.to_owned()));
            }
            return;
        }
        self.held.push_str(piece);
        while self.step(alone, &mut give) {}
    }

    /// Gives the rest, at the end.
    pub(super) fn end(&mut self, mut give: impl FnMut(Part)) {
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Text) {
            _ if held.is_empty() => {}
            State::Inside(_) => give(Part::Thought(held)),
            State::Begin | State::Watched | State::Text => give(Part::Text(held)),
            State::Behind => {}
        }
    }

    /// Returns `true` while something is held that is not decided yet.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Decides as much as can be; returns `true` if there may be more.
    fn step(&mut self, alone: bool, give: &mut impl FnMut(Part)) -> bool {
        match self.state {
            State::Begin => self.begin(),
            State::Inside(close) => self.inside(close, give),
            State::Behind => {
                let text = self.held.trim_start().to_owned();
                self.held.clear();
                if !text.is_empty() {
                    self.state = State::Text;
                    give(Part::Text(text));
                }
                false
            }
            State::Watched => self.watched(alone, give),
            State::Text => {
                if self.holds() {
                    give(Part::Text(std::mem::take(&mut self.held)));
                }
                false
            }
        }
    }

    fn begin(&mut self) -> bool {
        let begun = self.held.trim_start();
        if let Some((open, close)) = TAGS.iter().find(|(open, _)| begun.starts_with(open)) {
            self.held = begun[open.len()..].to_owned();
            self.state = State::Inside(close);
            return true;
        }
        if TAGS.iter().any(|(open, _)| open.starts_with(begun)) {
            return false;
        }
        // A tag in JSON, or in a block of code, is a part of it.
        self.state = if begun.starts_with(['{', '[', '`', '"']) { State::Text } else { State::Watched };
        true
    }

    fn inside(&mut self, close: &str, give: &mut impl FnMut(Part)) -> bool {
        let end = self.held.find(close);
        if let Some(end) = end {
            self.thought(end, close.len(), give);
            self.state = State::Behind;
            return true;
        }
        // The beginning of the closing tag waits.
        let kept = begun_at_end(&self.held, close);
        self.thought(self.held.len() - kept, 0, give);
        false
    }

    /// Looks for a closing tag whose opening tag is in the prompt, where templates put it.
    fn watched(&mut self, alone: bool, give: &mut impl FnMut(Part)) -> bool {
        // Most texts have no tag at all, nor the beginning of one.
        if !self.held.contains('<') {
            self.last = self.held.chars().next_back().or(self.last);
            if self.holds() {
                give(Part::Text(std::mem::take(&mut self.held)));
            }
            return false;
        }
        let tags = || TAGS.iter().flat_map(|(open, close)| [(*open, false), (*close, true)]);
        let first = tags().filter_map(|(tag, closes)| Some((self.held.find(tag)?, tag, closes))).min();
        let Some((at, tag, closes)) = first else {
            let kept = tags().map(|(tag, _)| begun_at_end(&self.held, tag)).max().unwrap_or(0);
            let rest = self.held.split_off(self.held.len() - kept);
            let text = std::mem::replace(&mut self.held, rest);
            self.last = text.chars().next_back().or(self.last);
            if !text.is_empty() {
                give(Part::Text(text));
            }
            return false;
        };
        let last = self.held[..at].chars().next_back().or(self.last);
        if alone && closes && !matches!(last, Some('`' | '"' | '\'')) {
            give(Part::Turned);
            self.thought(at, tag.len(), give);
            self.state = State::Behind;
        } else {
            // Tags are what it speaks of.
            self.state = State::Text;
        }
        true
    }

    /// Gives what is held up to a place as a thought, and leaves out the tag behind it.
    fn thought(&mut self, end: usize, tag: usize, give: &mut impl FnMut(Part)) {
        let rest = self.held.split_off(end + tag);
        self.held.truncate(end);
        let thought = std::mem::replace(&mut self.held, rest);
        if !thought.is_empty() {
            give(Part::Thought(thought));
        }
    }
}

/// Returns how many bytes at the end of a text may be the beginning of a tag.
fn begun_at_end(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|&length| text.ends_with(&tag[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts a text that comes in pieces of so many characters: the thoughts, and the text.
    fn parted(text: &str, piece: usize) -> (String, String) {
        let (mut thoughts, mut said) = (String::new(), String::new());
        let mut leading = Leading::default();
        let mut give = |part| match part {
            Part::Thought(text) => thoughts.push_str(&text),
            Part::Text(text) => said.push_str(&text),
            Part::Turned => thoughts = std::mem::take(&mut said),
        };
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(piece) {
            leading.take(&piece.iter().collect::<String>(), true, &mut give);
        }
        leading.end(give);
        (thoughts, said)
    }

    #[test]
    fn thoughts_in_front_are_parted_from_the_text_wherever_it_is_cut() {
        for (text, thoughts, said) in [
            ("<think>Hm, <b>?</think>\n\nOslo.", "Hm, <b>?", "Oslo."),
            ("\n<thinking>ö</thinking>{}", "ö", "{}"),
            ("<think></think>Oslo.", "", "Oslo."),
            ("<think>never ends </thi", "never ends </thi", ""),
            ("<thin ice", "", "<thin ice"),
            ("Use <think>x</think>.", "", "Use <think>x</think>."),
            ("  ", "", "  "),
            ("<think>a</think> <think>b</think>", "a", "<think>b</think>"),
            ("Hm, Rome?\n</think>\n\nItaly.", "Hm, Rome?\n", "Italy."),
            ("</think>Italy.", "", "Italy."),
            ("Hm</think>Close it by </think>.", "Hm", "Close it by </think>."),
            ("Close it by `</think>`.", "", "Close it by `</think>`."),
            ("{\"tag\": \"x</think>\"}", "", "{\"tag\": \"x</think>\"}"),
            ("1 < 2 </thin ice", "", "1 < 2 </thin ice"),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(parted(text, piece), (thoughts.to_owned(), said.to_owned()), "{text} by {piece}");
            }
        }
    }
}
