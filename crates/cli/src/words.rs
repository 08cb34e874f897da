//! Times, durations and sizes in words, and text that cannot steer the terminal.

use std::{
    borrow::Cow,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use flowstone_core::{Usage, Usd};
use jiff::Timestamp;

/// A time as RFC 3339 in UTC, to the millisecond, which is what a store keeps.
pub(crate) fn exact(at: SystemTime) -> String {
    // Out of range only where the clock was years before 0 or after 9999.
    Timestamp::try_from(at).map_or_else(|_| "unknown".to_owned(), |at| format!("{at:.3}"))
}

/// A time for people: to the second, and how long ago.
pub(crate) fn at(at: SystemTime) -> String {
    let time = Timestamp::try_from(at).map_or_else(|_| "unknown".to_owned(), |at| format!("{at:.0}"));
    format!("{time} ({})", ago(at))
}

/// Says how long ago a time is, or how far ahead.
pub(crate) fn ago(at: SystemTime) -> String {
    let now = SystemTime::now();
    match (now.duration_since(at), at.duration_since(now)) {
        (Ok(past), _) if past < Duration::from_secs(1) => "now".to_owned(),
        (Ok(past), _) => format!("{} ago", roughly(past)),
        (_, Ok(ahead)) => format!("in {}", roughly(ahead)),
        // One of both holds, whatever the clock says.
        (Err(_), Err(_)) => "now".to_owned(),
    }
}

/// A duration by its largest unit.
fn roughly(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "under 1 s".to_owned(),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A duration to three figures, or by its two largest units.
pub(crate) fn took(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.is_zero() => "0".to_owned(),
        0 if duration < Duration::from_millis(1) => format!("{} µs", duration.as_micros()),
        0 => figures(duration.as_secs_f64() * 1e3, "ms"),
        1..60 => figures(duration.as_secs_f64(), "s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of bytes.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => figures(bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => figures(bytes as f64 / 1e6, "MB"),
        _ => figures(bytes as f64 / 1e9, "GB"),
    }
}

fn figures(number: f64, unit: &str) -> String {
    let places = if number < 9.95 { 1 } else { 0 };
    let number = format!("{number:.places$}");
    format!("{} {unit}", number.strip_suffix(".0").unwrap_or(&number))
}

/// A number of things: `1 run`, `2 runs`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}")
}

/// Says which calls, tokens and money were used, if any were.
pub(crate) fn used(usage: &Usage) -> Option<String> {
    let Usage { calls, input_tokens, output_tokens, cost } = usage;
    // Nothing is said of money where none is counted: the model may be free, or have no price that is known.
    let money = if *cost == Usd::default() { String::new() } else { format!(", {cost}") };
    let used = || format!("{}, {input_tokens} tokens in, {output_tokens} out{money}", counted(*calls, "call"));
    (*usage != Usage::default()).then(used)
}

/// Text without control characters, and so in one line.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if steers(character) {
            // Writing to a string cannot fail.
            let _ = write!(plain, "{}", character.escape_default());
        } else {
            plain.push(character);
        }
    }
    Cow::Owned(plain)
}

/// Returns `true` for a character that moves the cursor, or turns the direction of the text.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A word of a command line, in quotes if a shell would make something else of it.
pub(crate) fn for_shell(word: &str) -> Cow<'_, str> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(safe) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// JSON whose strings hold no character that steers the terminal: they are written as escapes, which means the same.
pub(crate) fn plain_json(text: &str) -> Cow<'_, str> {
    let loud = |character: char| steers(character) && character != '\n';
    if !text.contains(loud) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if loud(character) {
            // All of them are below 0x10000. Writing to a string cannot fail.
            let _ = write!(plain, "\\u{:04x}", u32::from(character));
        } else {
            plain.push(character);
        }
    }
    Cow::Owned(plain)
}

/// The beginning of a text, and how much was left out.
pub(crate) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}… ({} in all)", &text[..end], size(text.len() as u64))),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_figures_that_matter() {
        let cases = [
            (0, "0"),
            (840, "840 µs"),
            (1_500, "1.5 ms"),
            (12_345, "12 ms"),
            (3_420_000, "3.4 s"),
            (125_000_000, "2 min 5 s"),
            (11_520_000_000, "3 h 12 min"),
            (187_200_000_000, "2 d 4 h"),
        ];
        for (micros, words) in cases {
            assert_eq!(took(Duration::from_micros(micros)), words);
        }
    }

    #[test]
    fn money_is_told_where_there_is_some() {
        let tokens = Usage { calls: 2, input_tokens: 30, output_tokens: 4, ..Usage::default() };

        let told = [Usage::default(), tokens, Usage { cost: Usd::dollars(0.5), ..tokens }].map(|usage| used(&usage));

        let free = "2 calls, 30 tokens in, 4 out";
        assert_eq!(told, [None, Some(free.to_owned()), Some(format!("{free}, $0.50"))]);
    }

    #[test]
    fn sizes_have_the_figures_that_matter() {
        let cases =
            [(0, "0 B"), (999, "999 B"), (1_234, "1.2 kB"), (2_000, "2 kB"), (56_789, "57 kB"), (3_400_000, "3.4 MB")];
        for (bytes, words) in cases {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn times_are_told_from_now_on_both_sides() {
        let now = SystemTime::now();
        let second = Duration::from_secs(1);

        assert_eq!(ago(now), "now");
        assert_eq!(ago(now - second * 200), "3 min ago");
        assert_eq!(ago(now - second * 100_000), "27 h ago");
        assert_eq!(ago(now - second * 86_400 * 3), "3 days ago");
        assert_eq!(ago(now + second * 7_300), "in 2 h");
    }

    #[test]
    fn text_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m\nb\u{202e}"), "a\\u{1b}[31m\\nb\\u{202e}");
        assert_eq!(plain("Zürich ☂"), "Zürich ☂");
        assert_eq!(plain_json("{\n  \"a\": \"\u{9b}1m\u{202e}\"\n}"), "{\n  \"a\": \"\\u009b1m\\u202e\"\n}");
    }

    #[test]
    fn a_shell_takes_a_word_as_it_is() {
        assert_eq!(for_shell("trip-42"), "trip-42");
        assert_eq!(for_shell("y:0:months[1]"), "'y:0:months[1]'");
        assert_eq!(for_shell("it's"), r"'it'\''s'");
    }
}
