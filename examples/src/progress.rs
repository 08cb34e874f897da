//! A line on the terminal that says how far a program is.

use std::{
    io::{self, IsTerminal, Write, stderr},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The widest that the line is drawn: beyond the edge of a terminal it could not be taken back.
const WIDTH: usize = 78;

/// The width of the bar, in letters.
const BAR: u64 = 24;

/// A line on standard error, drawn where that is a terminal and nowhere else.
#[derive(Debug)]
pub struct Progress {
    drawn: bool,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    done: u64,
    all: u64,
    things: &'static str,
    message: String,
}

impl Progress {
    /// Begins with nothing done of `all` things.
    #[must_use]
    pub fn new(all: u64, things: &'static str) -> Self {
        let line = Line { done: 0, all, things, message: String::new() };
        Self { drawn: stderr().is_terminal(), line: Mutex::new(line) }
    }

    /// Returns `true` where the line is seen by nobody.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        !self.drawn
    }

    /// Begins anew, with nothing done of `all` things.
    pub fn begin(&self, all: u64) {
        self.change(|line| (line.done, line.all) = (0, all));
    }

    /// Says how many are done.
    pub fn set(&self, done: u64) {
        self.change(|line| line.done = done);
    }

    /// Counts one more that is done.
    pub fn one_more(&self) {
        self.change(|line| line.done += 1);
    }

    /// Writes a text behind the counts.
    pub fn say(&self, message: impl Into<String>) {
        self.change(|line| line.message = message.into());
    }

    /// Takes the line away, does something that writes or asks, and draws the line again.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        let line = self.line();
        self.put("");
        let done = work();
        self.put(&line.text());
        done
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.put("");
    }

    fn change(&self, change: impl FnOnce(&mut Line)) {
        let mut line = self.line();
        change(&mut line);
        self.put(&line.text());
    }

    fn put(&self, text: &str) {
        if self.drawn {
            // A terminal that has gone away is nobody's loss.
            let _: io::Result<()> = write!(stderr(), "\r\x1b[K{text}").and_then(|()| stderr().flush());
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn text(&self) -> String {
        let Self { done, all, things, message } = self;
        let full = (done * BAR / (*all).max(1)).min(BAR) as usize;
        let bar = "█".repeat(full) + &"·".repeat(BAR as usize - full);
        let text = format!("{bar} {done}/{all} {things} {message}");
        text.chars().filter(|letter| !letter.is_control()).take(WIDTH).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_and_has_no_control_characters() {
        let line = Line { done: 1, all: 2, things: "cities", message: format!("\x1b[2Ja\n{}", "b".repeat(200)) };

        let text = line.text();

        assert!(text.starts_with("████████████············ 1/2 cities [2Jab"), "{text}");
        assert_eq!(text.chars().count(), WIDTH);
    }

    #[test]
    fn more_than_all_and_none_of_none_are_drawn_too() {
        let text = |done, all| Line { done, all, things: "", message: String::new() }.text();

        assert!(text(3, 2).starts_with(&"█".repeat(BAR as usize)));
        assert!(text(0, 0).starts_with('·'));
    }
}
