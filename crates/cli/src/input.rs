//! Arguments that are more than words: times, lengths of time, JSON, files, places in a state.

use std::{
    io::Read,
    str::FromStr,
    time::{Duration, SystemTime},
};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use flowstone_durable::Status;
use jiff::{Span, SpanRelativeTo, Timestamp, civil::Date, tz::TimeZone};
use serde_json::Value;

use crate::stop::{Result, Stop};

/// Reads a point in time: RFC 3339, a date in UTC, or how long ago it is.
pub(crate) fn time(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.into());
    }
    if let Ok(date) = text.parse::<Date>() {
        let midnight = date.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(midnight.timestamp().into());
    }
    let ago =
        length(text).map_err(|_| "no time: give RFC 3339 (2025-06-01T12:00:00Z), a date or how long ago (2h, 7d)")?;
    SystemTime::now().checked_sub(ago).ok_or_else(|| "too long ago".to_owned())
}

/// Reads a length of time, as `30d`, `12h` or `1h 30min`.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    let wrong = "no length of time: give it as 30d, 12h or 90min";
    let span: Span = text.parse().map_err(|_| wrong)?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong)?;
    Duration::try_from(length).map_err(|_| "a length of time is not negative".to_owned())
}

/// The number of rows to show: one or more.
pub(crate) type Window = u32;

pub(crate) fn window() -> impl TypedValueParser<Value = Window> {
    clap::value_parser!(u32).range(1..)
}

/// Reads a status, and offers those that there are.
pub(crate) fn status() -> impl TypedValueParser<Value = Status> {
    PossibleValuesParser::new(Status::ALL.map(Status::name)).try_map(|name| name.parse::<Status>())
}

/// JSON from an argument.
pub(crate) enum Given {
    Json(Value),
    /// No JSON, but it may be meant as a text.
    Word(String),
}

/// Reads JSON that is typed, in a file (`@FILE`) or on stdin (`-`).
pub(crate) fn json(argument: &str, what: &str) -> Result<Value> {
    match word_or_json(argument, what)? {
        Given::Json(value) => Ok(value),
        Given::Word(word) => Err(no_json(&word, what)),
    }
}

/// As [`json`], but leaves a typed word to the caller that may be a text without its quotes.
pub(crate) fn word_or_json(argument: &str, what: &str) -> Result<Given> {
    let text = match (argument, argument.strip_prefix('@')) {
        ("-", _) => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Stop::because(&format!("{what} cannot be read from stdin"), &error))?;
            text
        }
        (_, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| Stop::because(&format!("{what} cannot be read from `{file}`"), &error))?,
        (typed, None) => match serde_json::from_str(typed) {
            Ok(value) => return Ok(Given::Json(value)),
            Err(_) if is_word(typed) => return Ok(Given::Word(typed.to_owned())),
            Err(_) => return Err(no_json(typed, what)),
        },
    };
    serde_json::from_str(&text).map(Given::Json).map_err(|error| Stop::because(&format!("{what} is no JSON"), &error))
}

/// Returns `true` for a text that cannot be meant as an object, a list or a quoted text.
fn is_word(text: &str) -> bool {
    !text.trim().is_empty() && !text.trim_start().starts_with(['{', '[', '"'])
}

fn no_json(text: &str, what: &str) -> Stop {
    let why = serde_json::from_str::<Value>(text).err().map_or_else(String::new, |error| format!(": {error}"));
    Stop::failed(format!("{what} is no JSON{why} (a text is written in quotes: '\"text\"')"))
}

/// A value for a place in a state, as `/city="Rome"`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pointed {
    pointer: String,
    value: Value,
}

impl FromStr for Pointed {
    type Err = String;

    /// The pointer ends at the first `=` after which there is JSON, since a key may hold that sign, too.
    fn from_str(text: &str) -> Result<Self, String> {
        let signs = text.char_indices().filter(|(_, character)| *character == '=');
        for (at, _) in signs {
            let (pointer, json) = (&text[..at], &text[at + 1..]);
            let Ok(value) = serde_json::from_str(json) else { continue };
            if pointer.is_empty() || pointer.starts_with('/') {
                return Ok(Self { pointer: pointer.to_owned(), value });
            }
            return Err(format!("`{pointer}` is no JSON pointer: it begins with `/`"));
        }
        Err("no change: give /POINTER=JSON, as /count=3 or '/city=\"Rome\"'".to_owned())
    }
}

impl Pointed {
    /// Puts the value in its place: over what is there, as a new key of an object, or at the end of a list.
    pub(crate) fn put(&self, state: &mut Value) -> Result<()> {
        let Self { pointer, value } = self;
        if let Some(place) = state.pointer_mut(pointer) {
            *place = value.clone();
            return Ok(());
        }
        let nothing = || Stop::failed(format!("the state has no place `{pointer}` to change"));
        let (parent, key) = pointer.rsplit_once('/').ok_or_else(nothing)?;
        match state.pointer_mut(parent) {
            Some(Value::Object(object)) => {
                object.insert(key.replace("~1", "/").replace("~0", "~"), value.clone());
                Ok(())
            }
            Some(Value::Array(list)) if key == "-" => {
                list.push(value.clone());
                Ok(())
            }
            _ => Err(nothing()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_exact_or_relative() {
        let second = Duration::from_secs(1);
        let noon = SystemTime::UNIX_EPOCH + second * 1_748_779_200;

        assert_eq!(time("2025-06-01T12:00:00Z").unwrap(), noon);
        assert_eq!(time("2025-06-01T14:00:00+02:00").unwrap(), noon);
        assert_eq!(time("2025-06-01").unwrap(), noon - second * 43_200);
        let two_hours_ago = time("2h").unwrap();
        let ago = SystemTime::now().duration_since(two_hours_ago).unwrap();
        assert!(ago >= second * 7_200 && ago < second * 7_260, "{ago:?}");
        assert!(time("yesterday").unwrap_err().starts_with("no time"));
    }

    #[test]
    fn lengths_of_time_are_not_negative() {
        assert_eq!(length("30d").unwrap(), Duration::from_hours(720));
        assert_eq!(length("1h 30min").unwrap(), Duration::from_mins(90));
        assert!(length("-2h").is_err());
        assert!(length("2").is_err());
        assert!(length("1 month").is_err());
    }

    #[test]
    fn a_change_has_a_pointer_and_json() {
        assert_eq!(change("/a/b=1"), Ok(Pointed { pointer: "/a/b".to_owned(), value: json!(1) }));
        assert_eq!(change("/a=b=\"c=d\""), Ok(Pointed { pointer: "/a=b".to_owned(), value: json!("c=d") }));
        assert_eq!(change("={}"), Ok(Pointed { pointer: String::new(), value: json!({}) }));
        assert!(change("a=1").unwrap_err().contains("begins with `/`"));
        assert!(change("/city=Rome").unwrap_err().starts_with("no change"));
    }

    #[test]
    fn a_change_puts_adds_and_appends_but_makes_no_parents() {
        let mut state = json!({ "city": "Oslo", "days": [1, 2] });

        for text in ["/city=\"Rome\"", "/days/0=7", "/days/-=3", "/a~1b=null"] {
            change(text).unwrap().put(&mut state).unwrap();
        }

        assert_eq!(state, json!({ "city": "Rome", "days": [7, 2, 3], "a/b": null }));
        assert!(change("/days/9=1").unwrap().put(&mut state).is_err());
        assert!(change("/x/y=1").unwrap().put(&mut state).is_err());
    }

    fn change(text: &str) -> Result<Pointed, String> {
        text.parse()
    }
}
