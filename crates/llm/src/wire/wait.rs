//! When a service wants to be called again, and how much it has left: as headers, dates, or words say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::HeaderMap;
use serde_json::Value;

/// The longest wait that a service is granted; a clock can be moved by as much.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The most bytes of a service's words that are searched for a wait.
const WORDS: usize = 4_000;

/// The beginnings of the headers that say what is left.
const PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];

/// The headers that say how many requests are left, and when there are more. A gateway that counts nothing else does
/// not say of what.
const REQUESTS: [(&str, &str); 3] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
];

/// The same for tokens.
const TOKENS: [(&str, &str); 2] = [
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
];

/// The requests and tokens that a service has left, as the headers of its answers say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests, and when there are more.
    pub requests: Option<(u64, Duration)>,
    /// Tokens, and when there are more.
    pub tokens: Option<(u64, Duration)>,
}

impl Allowance {
    /// Reads `x-ratelimit-remaining-*` and `x-ratelimit-reset-*`, and Anthropic's names for them.
    pub(crate) fn read(headers: &HeaderMap, now: SystemTime) -> Option<Self> {
        // Most services say nothing of it.
        if !headers.keys().any(|name| PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))) {
            return None;
        }
        let of = |(left, reset): &(&str, &str)| {
            let left = text(headers, left)?.parse::<f64>().ok().filter(|left| *left >= 0.0)?;
            Some((left as u64, when(text(headers, reset)?, now)?))
        };
        let allowance = Self { requests: REQUESTS.iter().find_map(of), tokens: TOKENS.iter().find_map(of) };
        (allowance != Self::default()).then_some(allowance)
    }
}

/// Reads when a service has more of what it says that it has none of.
pub(super) fn until_more(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let left = Allowance::read(headers, now)?;
    [left.requests, left.tokens].into_iter().flatten().filter(|(left, _)| *left == 0).map(|(_, reset)| reset).max()
}

/// Reads `retry-after-ms`, and `Retry-After` as seconds, whole or not, or as a date: the longer one.
pub(super) fn in_headers(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let milliseconds = text(headers, "retry-after-ms").and_then(|text| number(text, 0.001).or_else(|| span(text)));
    milliseconds.max(text(headers, "retry-after").and_then(|text| when(text, now)))
}

/// The names that services have for a wait, in small letters and without `_` and `-`.
const NAMES: [&str; 7] =
    ["retryafter", "retrydelay", "retryin", "retryafterseconds", "waitseconds", "quotaresetdelay", "secondsuntilretry"];
const NAMES_OF_MILLISECONDS: [&str; 3] = ["retryafterms", "retryaftermilliseconds", "retryaftermillis"];

/// The deepest that a wait may stand in an answer: in the error, its details or its metadata, and their headers.
const DEEPEST: usize = 6;

/// Reads a wait out of what a service says: a field for it, or words like `try again in 7.8s`; the longest.
pub(super) fn in_body(body: Option<&Value>, said: &str) -> Option<Duration> {
    body.and_then(|body| in_fields(body, DEEPEST)).max(in_words(said))
}

fn in_fields(value: &Value, left: usize) -> Option<Duration> {
    match value {
        _ if left == 0 => None,
        Value::Array(values) => values.iter().filter_map(|value| in_fields(value, left - 1)).max(),
        Value::Object(fields) => {
            let wait = |(name, value): (&String, &Value)| {
                let name: String =
                    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect();
                match name.as_str() {
                    name if NAMES.contains(&name) => as_wait(value, 1.0),
                    name if NAMES_OF_MILLISECONDS.contains(&name) => as_wait(value, 0.001),
                    _ => in_fields(value, left - 1),
                }
            };
            fields.iter().filter_map(wait).max()
        }
        _ => None,
    }
}

/// A number of units, a span, or seconds with a fraction in billionths.
fn as_wait(value: &Value, unit: f64) -> Option<Duration> {
    match value {
        Value::Number(number) => seconds(number.as_f64()? * unit),
        Value::String(text) => number(text.trim(), unit).or_else(|| when(text, SystemTime::now())),
        Value::Object(fields) => {
            let part = |name| fields.get(name).and_then(|part| part.as_f64().or_else(|| part.as_str()?.parse().ok()));
            seconds(part("seconds")? + part("nanos").unwrap_or(0.0) / 1e9)
        }
        _ => None,
    }
}

/// A wait in words: a span behind one of these, and one of the small words that lead to it.
fn in_words(said: &str) -> Option<Duration> {
    const ASKS: [&str; 5] = ["try again", "retry", "wait", "available", "reset"];
    const LEADS: [&str; 5] = [" in ", " after ", " for ", " least ", "wait "];
    /// The most bytes between what is asked and the span.
    const NEAR: usize = 64;
    let said = said[..said.floor_char_boundary(WORDS)].to_ascii_lowercase();
    let near = ASKS.iter().flat_map(|words| said.match_indices(words)).map(|(at, _)| &said[at..]);
    let spans = near.flat_map(|near| {
        let begins = &near[..near.floor_char_boundary(NEAR)];
        let leads = LEADS.iter().flat_map(|lead| begins.match_indices(lead));
        leads.filter_map(|(at, lead)| span(&near[at + lead.len()..])).collect::<Vec<_>>()
    });
    spans.max()
}

/// A span of time at the beginning of a text: `7.8s`, `1m26.4s`, `20ms`, `34 seconds`, `2 minutes`, `about 5 s`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    rest = ["about ", "for ", "at least "].iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest);
    let (mut sum, mut found) = (0.0, false);
    loop {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let Ok(number) = rest[..digits].trim_end_matches('.').parse::<f64>() else { break };
        let behind = rest[digits..].trim_start();
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let unit = match &behind[..letters] {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => break,
        };
        (sum, found) = (sum + number * unit, true);
        rest = behind[letters..].trim_start();
    }
    if found { seconds(sum) } else { None }
}

/// Seconds, from now or from 1970, a span, or a date.
fn when(text: &str, now: SystemTime) -> Option<Duration> {
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let from_now = |number: f64| if number >= 1e12 { number / 1e3 - since_1970 } else { number - since_1970 };
    let number = text.parse::<f64>().ok().map(|number| if number >= 1e9 { from_now(number) } else { number });
    number.and_then(seconds).or_else(|| span(text)).or_else(|| {
        let at = UNIX_EPOCH + Duration::from_secs(date(text).or_else(|| iso_date(text))?);
        // A time that is past is now.
        Some(at.duration_since(now).unwrap_or_default().min(LONGEST))
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

fn number(text: &str, unit: f64) -> Option<Duration> {
    text.parse::<f64>().ok().and_then(|number| seconds(number * unit))
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST.as_secs_f64())).ok()
}

/// Reads a date as HTTP writes it, `Sun, 06 Nov 1994 08:49:37 GMT`, as seconds since 1970.
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let sound = (1970..10_000).contains(&year) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if words.next() != Some("GMT") || !sound {
        return None;
    }
    let seconds = days_to(year, month, day)? * 86_400;
    Some(seconds + hour * 3_600 + minute * 60 + second)
}

/// Reads `2026-01-31T08:49:37Z`, with a fraction or not, as seconds since 1970.
fn iso_date(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (day, clock) = text.split_once('T')?;
    let numbers = |text: &str, by| text.split(by).map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
    let (day, clock) = (numbers(day, '-')?, numbers(clock.split('.').next()?, ':')?);
    let ([year, month, day], [hour, minute, second]) = (day.as_slice(), clock.as_slice()) else { return None };
    let sound = (1970..10_000).contains(year) && (1..=12).contains(month) && (1..=31).contains(day);
    if !sound || *hour >= 24 || *minute >= 60 || *second > 60 {
        return None;
    }
    Some(days_to(*year, *month, *day)? * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The days from 1970 to a date.
fn days_to(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that begin in March have their leap day at their end, so that days are counted without cases.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.checked_sub(DAYS_TO_1970)
}

/// From 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("it is a value of a header"));
        // 06 Nov 1994 08:49:37
        in_headers(&headers, UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn a_wait_is_read_in_each_of_its_forms() {
        for (name, value, expected) in [
            ("retry-after", "7", Some(Duration::from_secs(7))),
            ("retry-after", " 0.25 ", Some(Duration::from_millis(250))),
            ("retry-after-ms", "1500", Some(Duration::from_millis(1500))),
            ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT", Some(Duration::from_secs(30))),
            ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT", Some(Duration::ZERO)),
            ("retry-after", "Thu, 29 Feb 2096 00:00:00 GMT", Some(LONGEST)),
            ("retry-after", "-3", Some(Duration::ZERO)),
            ("retry-after", "1e300", Some(LONGEST)),
            ("retry-after", "NaN", None),
            ("retry-after", "soon", None),
            ("retry-after", "Sun, 06 Nov 0000 08:00:00 GMT", None),
            ("retry-after", "Sun, 06 Nov 99999999999999999999 08:00:00 GMT", None),
        ] {
            assert_eq!(wait(name, value), expected, "{name}: {value}");
        }
    }

    #[test]
    fn a_wait_is_read_in_words_and_fields_and_the_longest_counts() {
        let body = |json| Some(serde_json::from_str::<Value>(json).expect("it is JSON"));
        for (json, said, expected) in [
            ("{}", "Rate limit reached. Please try again in 7.8s. Visit us.", Some(Duration::from_millis(7_800))),
            ("{}", "Please try again in 1m26.4s.", Some(Duration::from_millis(86_400))),
            ("{}", "please retry in 34.07s", Some(Duration::from_millis(34_070))),
            ("{}", "try again in 20ms", Some(Duration::from_millis(20))),
            ("{}", "Retry after 30 seconds, or wait 2 minutes", Some(Duration::from_secs(120))),
            ("{}", "Try again in a while", None),
            (
                r#"{"error":{"details":[{"@type":"RetryInfo","retryDelay":"13.5s"}]}}"#,
                "",
                Some(Duration::from_millis(13_500)),
            ),
            (r#"[{"error":{"details":[{"retryDelay":"3s"}]}}]"#, "try again in 5s", Some(Duration::from_secs(5))),
            (r#"{"error":{"retry_after":2}}"#, "", Some(Duration::from_secs(2))),
            (r#"{"retry_after_ms":250}"#, "", Some(Duration::from_millis(250))),
            (r#"{"error":{"metadata":{"headers":{"Retry-After":"9"}}}}"#, "", Some(Duration::from_secs(9))),
            (r#"{"error":{"retryDelay":"7.8s"}}"#, "", Some(Duration::from_millis(7_800))),
            (r#"{"retry_delay":{"seconds":7,"nanos":500000000}}"#, "", Some(Duration::from_millis(7_500))),
            (
                r#"{"error":{"details":[{"metadata":{"quotaResetDelay":"373.8ms"}},{"retryDelay":"2s"}]}}"#,
                "",
                Some(Duration::from_secs(2)),
            ),
            ("{}", "Please try again in 1m2.5s.", Some(Duration::from_millis(62_500))),
            ("{}", "Please retry your request after 30 seconds.", Some(Duration::from_secs(30))),
            ("{}", "Try again after at least 5 s", Some(Duration::from_secs(5))),
            ("{}", "Your limit will reset in 3 minutes", Some(Duration::from_secs(180))),
            ("{}", "You have to wait 20 seconds", Some(Duration::from_secs(20))),
            ("{}", "It retried 3 times in vain", None),
            ("{}", "wait for a few tokens of 200 ms", None),
        ] {
            assert_eq!(in_body(body(json).as_ref(), said), expected, "{json} {said}");
        }
    }

    #[test]
    fn what_is_left_is_read_as_two_services_say_it() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m2s"),
            ("anthropic-ratelimit-tokens-remaining", "5000"),
            ("anthropic-ratelimit-tokens-reset", "1994-11-06T08:49:47Z"),
        ] {
            headers.insert(name, value.parse().expect("it is a value of a header"));
        }

        let left = Allowance::read(&headers, now).expect("there is some");

        assert_eq!(left.requests, Some((0, Duration::from_secs(62))));
        assert_eq!(left.tokens, Some((5_000, Duration::from_secs(10))));
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date("Tue, 29 Feb 2000 12:00:00 GMT"), Some(951_825_600));
        assert_eq!(date("Mon, 01 Mar 2100 00:00:00 GMT"), Some(4_107_542_400));
    }
}
