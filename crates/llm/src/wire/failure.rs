//! The errors of services, as [`Failure`]; the table of statuses is in its docs.
//!
//! The words of a service are in these failures as they came: [`Mask`](super::mask::Mask) makes them fit to be seen.

use std::{error::Error, time::Duration, time::SystemTime};

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;

use super::{
    json::{field, get},
    wait,
};
use crate::error::Failure;

/// Reads an answer that has another status than 200.
pub(crate) fn of_status(status: StatusCode, headers: &HeaderMap, body: &str) -> Failure {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let said = match json.as_ref().and_then(message) {
        Some(message) => message.to_owned(),
        None if body.trim().is_empty() => status.canonical_reason().unwrap_or("nothing").to_owned(),
        None => body.to_owned(),
    };
    let in_headers = wait::in_headers(headers, SystemTime::now());
    let kinds = json.as_ref().map(kinds).unwrap_or_default();
    let more =
        if status == StatusCode::TOO_MANY_REQUESTS { wait::until_more(headers, SystemTime::now()) } else { None };
    let waits = in_headers.max(wait::in_body(json.as_ref(), &said)).max(more);
    of_code(status.as_u16(), &kinds, waits, said)
}

fn of_code(code: u16, kinds: &[String], retry_after: Option<Duration>, said: String) -> Failure {
    let is = |words: &[&str]| kinds.iter().any(|kind| words.iter().any(|word| kind.contains(word)));
    match code {
        400 | 413 | 422 | 500 if overflows(kinds, &said) => Failure::ContextOverflow { said },
        400..=499 if is(FILTERED) => Failure::Filtered { said },
        // There is no money left, which no wait brings back.
        402 => Failure::Refused { status: code, said },
        429 if is(&["insufficient_quota"]) => Failure::Refused { status: code, said },
        // Google says so with the status of a wrong request.
        400 if is(&["api_key_invalid"]) => Failure::Refused { status: code, said },
        401 | 403 => Failure::Refused { status: code, said },
        404 => Failure::NotFound { said },
        429 => Failure::RateLimited { retry_after, said },
        408 | 409 | 425 | 500.. => Failure::Unavailable { status: code, retry_after, said },
        300..=399 => {
            let said =
                "it sends the call elsewhere, which is not followed: give the URL of the service itself".to_owned();
            Failure::Invalid { status: code, said }
        }
        _ => Failure::Invalid { status: code, said },
    }
}

/// The error in a frame, if there is one: as an event of a stream, or under the status 200.
pub(super) fn in_frame(frame: &Value) -> Option<Failure> {
    let is_error = ["type", "object"].iter().filter_map(|name| text_of(frame, name)).any(is_error);
    let has_error = get(frame, "error").filter(|error| says(error)).is_some()
        || get(frame, "errors").and_then(|errors| errors.get(0)).filter(|error| says(error)).is_some()
        || frame.get(0).is_some_and(|first| get(first, "error").filter(|error| says(error)).is_some());
    (is_error || has_error).then(|| of_event(frame))
}

/// Returns `true` for a field that is an error; an empty one, or one of empty fields, is none.
fn says(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => values.iter().any(says),
        Value::Object(fields) => fields.values().any(says),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Returns `true` for a type that is that of an error: `error`, `overloaded_error`, `response.error`.
fn is_error(kind: &str) -> bool {
    kind.strip_suffix("error").is_some_and(|before| before.is_empty() || before.ends_with(['_', '.']))
}

/// The words of a frame that is no reply, as some services answer under the status 200.
pub(super) fn in_words(frame: &Value) -> Option<Failure> {
    message(frame).map(|_| of_event(frame))
}

/// A frame without anything that is known.
pub(super) fn unknown(frame: &Value) -> Failure {
    in_words(frame).unwrap_or_else(|| Failure::Malformed { said: frame.to_string() })
}

/// An error that came as an event of a stream, or under the status 200.
pub(crate) fn of_event(body: &Value) -> Failure {
    let kinds = kinds(body);
    let said = message(body).map_or_else(|| body.to_string(), str::to_owned);
    let is = |words: &[&str]| kinds.iter().any(|kind| words.iter().any(|word| kind.contains(word)));
    let retry_after = wait::in_body(Some(body), &said);
    match () {
        () if overflows(&kinds, &said) => Failure::ContextOverflow { said },
        () if is(FILTERED) => Failure::Filtered { said },
        () if is(&["overloaded"]) => Failure::Unavailable { status: 529, retry_after, said },
        () if is(&["insufficient_quota", "billing"]) => Failure::Refused { status: 402, said },
        () if is(&["rate_limit", "resource_exhausted", "too_many"]) => Failure::RateLimited { retry_after, said },
        () if is(&["authentication", "permission", "unauthenticated", "unauthorized", "invalid_api_key"]) => {
            Failure::Refused { status: 401, said }
        }
        () if is(&["not_found"]) => Failure::NotFound { said },
        () if is(&["server_error", "api_error", "internal", "unavailable", "timeout"]) => {
            Failure::Unavailable { status: number(body).filter(|code| *code >= 500).unwrap_or(500), retry_after, said }
        }
        () if is(&["invalid_request", "invalid_argument"]) => Failure::Invalid { status: 400, said },
        () => match number(body) {
            Some(code) if (400..1000).contains(&code) => of_code(code, &kinds, retry_after, said),
            _ => Failure::Broken { shown: false, said },
        },
    }
}

/// Returns `true` if the kinds, or the words, are those for a prompt that is longer than the model takes.
fn overflows(kinds: &[String], said: &str) -> bool {
    const KINDS: [&str; 6] = [
        "context_length_exceeded",
        "exceed_context_size",
        "context_window_exceeded",
        "request_too_large",
        "string_above_max_length",
        "context_overflow",
    ];
    const WORDS: [&str; 25] = [
        "context length",
        "context window",
        "context size",
        "context limit",
        "context_length",
        "maximum prompt length",
        "maximum input length",
        "maximum number of tokens allowed",
        "prompt is too long",
        "prompt too long",
        "input is too long",
        "input too long",
        "input length exceeds",
        "too many tokens",
        "reduce the length of the messages",
        "exceeds the available context",
        "longer than the maximum number of tokens",
        "exceeds the limit of tokens",
        "maximum model length",
        "exceeded model token limit",
        "prompt token count of",
        "range of input length should be",
        "max_new_tokens` must be <=",
        "`inputs` must have less than",
        "maximum allowed input length",
    ];
    if kinds.iter().any(|kind| KINDS.iter().any(|word| kind.contains(word))) {
        return true;
    }
    let said = said.get(..said.floor_char_boundary(2_000)).unwrap_or_default().to_ascii_lowercase();
    // A limit on tokens in a minute is another matter, and so is one on the reply.
    if said.contains("per minute") || said.contains("rate limit") || said.contains("per day") {
        return false;
    }
    WORDS.iter().any(|word| said.contains(word))
}

const FILTERED: &[&str] = &["content_filter", "content_policy", "responsibleaipolicyviolation"];

/// An error of the client for HTTP.
pub(crate) fn of_http(error: reqwest::Error, limit: Duration) -> Failure {
    // A URL may hold secrets.
    let error = error.without_url();
    let said = causes(&error);
    if error.is_connect() {
        let said = if error.is_timeout() {
            format!("no connection within {:?}", super::transport::CONNECT_TIMEOUT)
        } else {
            said
        };
        Failure::Unreachable { said }
    } else if error.is_timeout() {
        Failure::TimedOut { limit }
    } else if error.is_builder() {
        Failure::Unsupported { said: format!("the request cannot be written: {said}") }
    } else {
        Failure::Broken { shown: false, said }
    }
}

/// Turns a failure into one that is not tried again, since a part of the reply was shown, which nobody takes back.
pub(crate) fn once_shown(failure: Failure) -> Failure {
    let said = match failure {
        Failure::Broken { said, .. } => said,
        Failure::TimedOut { limit } => format!("nothing more came within {limit:?}"),
        failure @ (Failure::RateLimited { .. }
        | Failure::Unavailable { .. }
        | Failure::Unreachable { .. }
        | Failure::Malformed { .. }) => failure.to_string(),
        failure => return failure,
    };
    Failure::Broken { shown: true, said }
}

/// An error and its causes, in one line.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// The error in a body: some put it into a field, some into the first of a list, Google into an array.
fn inner(body: &Value) -> &Value {
    let body = body.get(0).unwrap_or(body);
    field(body, "error").or_else(|| field(body, "errors")?.get(0)).unwrap_or(body)
}

fn message(body: &Value) -> Option<&str> {
    let error = inner(body);
    let fields = ["message", "detail", "error", "error_description", "msg"];
    // A gateway puts the words of the service behind it beside its own, which say less.
    let raw = field(error, "metadata").and_then(|metadata| text_of(metadata, "raw"));
    error.as_str().or(raw).or_else(|| fields.iter().find_map(|field| text_of(error, field)))
}

fn text_of<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    get(value, field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The words for its kind, in small letters.
fn kinds(body: &Value) -> Vec<String> {
    let error = inner(body);
    let fields = ["type", "code", "status"];
    let own = fields.iter().filter_map(|name| text_of(error, name));
    // Google names the reason in the details, Azure in an error inside of the error.
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let reasons = details.filter_map(|detail| text_of(detail, "reason"));
    let inside = field(error, "innererror").and_then(|inner| text_of(inner, "code"));
    own.chain(reasons).chain(inside).map(str::to_ascii_lowercase).collect()
}

fn number(body: &Value) -> Option<u16> {
    let error = inner(body);
    let of = |name: &&str| {
        let number = error.get(*name)?;
        number.as_u64().or_else(|| number.as_str()?.trim().parse().ok())?.try_into().ok()
    };
    ["code", "status", "status_code"].iter().find_map(of)
}
