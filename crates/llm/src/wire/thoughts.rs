//! Thoughts in front of a text: some servers send what a model thinks as `<think>…</think>` before what it says.
//!
//! **Invariant:** only the beginning of a reply is looked at. A tag further on is text.

/// The tags that models are taught to think in.
const TAGS: [(&str, &str); 3] = [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<thought>", "</thought>")];

/// Parts a text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Leading {
    state: State,
    /// What is not decided yet.
    held: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but blanks, or what may become a tag.
    #[default]
    Begin,
    /// Behind an opening tag, until this one.
    Inside(&'static str),
    /// Behind the closing tag: blanks belong to neither.
    Behind,
    /// All that comes is text.
    Text,
}

/// What a piece turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Thought(String),
    Text(String),
}

impl Leading {
    /// Takes a piece, and gives what is decided.
    pub(super) fn take(&mut self, piece: &str, mut give: impl FnMut(Part)) {
        if self.state == State::Text {
            if !piece.is_empty() {
                give(Part::Text(piece.to_owned()));
            }
            return;
        }
        self.held.push_str(piece);
        while self.step(&mut give) {}
    }

    /// Gives what is left, at the end.
    pub(super) fn end(&mut self, mut give: impl FnMut(Part)) {
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Text) {
            _ if held.is_empty() => {}
            State::Inside(_) => give(Part::Thought(held)),
            State::Begin | State::Text => give(Part::Text(held)),
            State::Behind => {}
        }
    }

    /// Returns whether something is held that is not decided yet.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Decides as much as can be; returns whether there may be more.
    fn step(&mut self, give: &mut impl FnMut(Part)) -> bool {
        match self.state {
            State::Begin => {
                let begun = self.held.trim_start();
                if let Some((open, close)) = TAGS.iter().find(|(open, _)| begun.starts_with(open)) {
                    self.held = begun[open.len()..].to_owned();
                    self.state = State::Inside(close);
                    return true;
                }
                if TAGS.iter().any(|(open, _)| open.starts_with(begun)) {
                    return false;
                }
                self.state = State::Text;
                give(Part::Text(std::mem::take(&mut self.held)));
                false
            }
            State::Inside(close) => {
                if let Some(end) = self.held.find(close) {
                    let rest = self.held.split_off(end + close.len());
                    self.held.truncate(end);
                    let thought = std::mem::replace(&mut self.held, rest);
                    self.state = State::Behind;
                    if !thought.is_empty() {
                        give(Part::Thought(thought));
                    }
                    return true;
                }
                // What may be the beginning of the closing tag waits.
                let kept = (1..close.len()).rev().find(|&length| self.held.ends_with(&close[..length])).unwrap_or(0);
                let rest = self.held.split_off(self.held.len() - kept);
                let thought = std::mem::replace(&mut self.held, rest);
                if !thought.is_empty() {
                    give(Part::Thought(thought));
                }
                false
            }
            State::Behind => {
                let text = self.held.trim_start().to_owned();
                self.held.clear();
                if !text.is_empty() {
                    self.state = State::Text;
                    give(Part::Text(text));
                }
                false
            }
            State::Text => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text is, cut into pieces of so many characters.
    fn parted(text: &str, piece: usize) -> (String, String) {
        let (mut thoughts, mut said) = (String::new(), String::new());
        let mut leading = Leading::default();
        let mut give = |part| match part {
            Part::Thought(text) => thoughts.push_str(&text),
            Part::Text(text) => said.push_str(&text),
        };
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(piece) {
            leading.take(&piece.iter().collect::<String>(), &mut give);
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
        ] {
            for piece in 1..=text.len() {
                assert_eq!(parted(text, piece), (thoughts.to_owned(), said.to_owned()), "{text} by {piece}");
            }
        }
    }
}
