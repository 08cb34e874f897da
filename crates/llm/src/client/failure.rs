//! Errors of genai, HTTP and the services, as [`Failure`]; the table of statuses is in its docs.
//!
//! **Invariant:** nothing that a server says is shown before the key is taken out of it.

use std::{error::Error, time::Duration, time::SystemTime};

use genai::{BoxError, adapter::AdapterKind, webc};
use reqwest::{StatusCode, Url, header::HeaderMap};
use serde_json::Value;

use super::{key::Key, retry_after};
use crate::error::Failure;

/// The most characters that are shown of what a service says.
const SAID: usize = 300;

/// What is needed to say what went wrong in a call.
#[derive(Debug)]
pub(super) struct Faults<'a> {
    pub(super) key: Option<&'a Key>,
    /// Its query may hold a key, too.
    pub(super) base: &'a Url,
    pub(super) limit: Duration,
    pub(super) kind: AdapterKind,
}

impl Faults<'_> {
    pub(super) fn of(&self, error: genai::Error) -> Failure {
        use genai::Error as E;
        match error {
            E::WebModelCall { webc_error, .. } | E::WebAdapterCall { webc_error, .. } => self.of_web(webc_error),
            E::WebStream { error, .. } => self.of_stream(error),
            E::HttpError { status, body, headers, .. } => self.of_status(status, &headers, &body),
            E::ChatResponse { body, .. } => self.of_event(&body),
            E::ChatResponseGeneration { response_body, cause, .. } => {
                of_body(&response_body, self).unwrap_or_else(|| Failure::Malformed { said: self.said(&cause) })
            }
            // genai says in this way, too, that OpenAI's newer interface has given up.
            E::StreamParse { serde_error, .. } if self.kind == AdapterKind::OpenAIResp => {
                Failure::Broken { shown: false, said: self.said(&serde_error.to_string()) }
            }
            E::AdapterNotSupported { feature, .. } => {
                Failure::Unsupported { said: format!("{feature} of this provider") }
            }
            E::MessageContentTypeNotSupported { cause, .. } => Failure::Unsupported { said: cause.to_owned() },
            error @ (E::ChatReqHasNoMessages { .. }
            | E::LastChatMessageIsNotUser { .. }
            | E::MessageRoleNotSupported { .. }
            | E::JsonModeWithoutInstruction
            | E::CacheBreakpointNoEligibleContent { .. }) => {
                Failure::Unsupported { said: self.said(&error.to_string()) }
            }
            error => Failure::Malformed { said: self.said(&error.to_string()) },
        }
    }

    fn of_web(&self, error: webc::Error) -> Failure {
        match error {
            webc::Error::ResponseFailedStatus { status, body, headers } => self.of_status(status, &headers, &body),
            webc::Error::ResponseFailedNotJson { content_type, body } => {
                Failure::Malformed { said: format!("`{}` and no JSON: {}", self.said(&content_type), self.said(&body)) }
            }
            webc::Error::ResponseFailedInvalidJson { body, cause } => {
                Failure::Malformed { said: format!("broken JSON ({cause}): {}", self.said(&body)) }
            }
            webc::Error::Reqwest(error) => self.of_http(error),
            error @ webc::Error::JsonValueExt(_) => Failure::Malformed { said: self.said(&error.to_string()) },
        }
    }

    fn of_stream(&self, error: BoxError) -> Failure {
        // The status of a stream that never began is inside of its first item.
        let error = match error.downcast::<genai::Error>() {
            Ok(error) => return self.of(*error),
            Err(error) => error,
        };
        match error.downcast::<reqwest::Error>() {
            Ok(error) => self.of_http(*error),
            Err(error) if error.is::<std::string::FromUtf8Error>() || error.is::<std::str::Utf8Error>() => {
                Failure::Malformed { said: "what is no UTF-8".to_owned() }
            }
            Err(error) => Failure::Broken { shown: false, said: self.said(&causes(&*error)) },
        }
    }

    fn of_http(&self, error: reqwest::Error) -> Failure {
        // A URL may hold what is nobody's business.
        let error = error.without_url();
        let said = self.said(&causes(&error));
        if error.is_connect() {
            let said = if error.is_timeout() {
                format!("no connection within {:?}", super::http::CONNECT_TIMEOUT)
            } else {
                said
            };
            Failure::Unreachable { said }
        } else if error.is_timeout() {
            Failure::TimedOut { limit: self.limit }
        } else if error.is_builder() {
            Failure::Unsupported { said: format!("the request cannot be written: {said}") }
        } else {
            Failure::Broken { shown: false, said }
        }
    }

    fn of_status(&self, status: StatusCode, headers: &HeaderMap, body: &str) -> Failure {
        let code = status.as_u16();
        let json: Option<Value> = serde_json::from_str(body).ok();
        let said = match json.as_ref().and_then(message) {
            Some(message) => self.said(message),
            None if body.trim().is_empty() => status.canonical_reason().unwrap_or("nothing").to_owned(),
            None => self.said(body),
        };
        let kinds = json.as_ref().map(kinds).unwrap_or_default();
        let is = |words: &[&str]| kinds.iter().any(|kind| words.iter().any(|word| kind.contains(word)));
        let retry_after = retry_after::of(headers, SystemTime::now());
        match code {
            400..=499 if is(FILTERED) => Failure::Filtered,
            // There is no money left, which no wait brings back.
            402 => Failure::Refused { status: code, said },
            429 if is(&["insufficient_quota"]) => Failure::Refused { status: code, said },
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

    /// An error that came as an event of a stream, or under the status 200.
    fn of_event(&self, body: &Value) -> Failure {
        let kinds = kinds(body);
        let said = message(body).map_or_else(|| self.said(&body.to_string()), |message| self.said(message));
        let is = |words: &[&str]| kinds.iter().any(|kind| words.iter().any(|word| kind.contains(word)));
        let code = || number(body).and_then(|code| StatusCode::from_u16(code).ok());
        match () {
            () if is(FILTERED) => Failure::Filtered,
            () if is(&["overloaded"]) => Failure::Unavailable { status: 529, retry_after: None, said },
            () if is(&["insufficient_quota", "billing"]) => Failure::Refused { status: 402, said },
            () if is(&["rate_limit", "resource_exhausted", "too_many"]) => {
                Failure::RateLimited { retry_after: None, said }
            }
            () if is(&["authentication", "permission", "unauthenticated", "invalid_api_key"]) => {
                Failure::Refused { status: 401, said }
            }
            () if is(&["not_found"]) => Failure::NotFound { said },
            () if is(&["server_error", "api_error", "internal", "unavailable", "timeout"]) => {
                Failure::Unavailable { status: code().map_or(500, |code| code.as_u16()), retry_after: None, said }
            }
            () if is(&["invalid_request", "invalid_argument"]) => Failure::Invalid { status: 400, said },
            () => match code() {
                Some(code) if code.as_u16() >= 400 => self.of_status(code, &HeaderMap::new(), &body.to_string()),
                _ => Failure::Broken { shown: false, said },
            },
        }
    }

    /// Takes the key out of a text, and what may be one in the query of the URL.
    pub(super) fn without_key(&self, text: &str) -> String {
        let mut text = self.key.map_or_else(|| text.to_owned(), |key| key.redact(text));
        let written = self.base.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let meant = self.base.query_pairs().map(|(_, value)| value.into_owned());
        for value in written.map(|(_, value)| value.to_owned()).chain(meant).filter(|value| value.len() >= SHORTEST_KEY)
        {
            text = Key::new(&value).redact(&text);
        }
        text
    }

    /// What a service says: without the key, in one line, and not all of it if it is much.
    pub(super) fn said(&self, text: &str) -> String {
        let text = self.without_key(text);
        let mut words = String::new();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
            if words.len() > SAID * 4 {
                break;
            }
        }
        match words.char_indices().nth(SAID) {
            Some((end, _)) => format!("{}…", &words[..end]),
            None => words,
        }
    }
}

/// The shortest value in the query of a URL that is taken for a key: longer than the date of a version.
const SHORTEST_KEY: usize = 12;

const FILTERED: &[&str] = &["content_filter", "content_policy"];

/// What a body under the status 200 has to say if it is no reply.
pub(super) fn of_body(body: &Value, faults: &Faults<'_>) -> Option<Failure> {
    if body.pointer("/promptFeedback/blockReason").is_some() {
        return Some(Failure::Filtered);
    }
    body.get("error").filter(|error| !error.is_null()).map(|_| faults.of_event(body))
}

/// What is left of a failure after a part of the reply was shown: nobody takes that back, so no attempt follows.
pub(super) fn once_shown(failure: Failure) -> Failure {
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

/// An error and what is behind it, in one line.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
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

/// The error in a body: some put it into a field, Google into an array.
fn inner(body: &Value) -> &Value {
    let body = body.get(0).unwrap_or(body);
    body.get("error").filter(|error| !error.is_null()).unwrap_or(body)
}

fn message(body: &Value) -> Option<&str> {
    let error = inner(body);
    let fields = ["message", "detail", "error"];
    error.as_str().or_else(|| fields.iter().find_map(|field| error.get(field).and_then(Value::as_str)))
}

/// The words for its kind.
fn kinds(body: &Value) -> Vec<String> {
    let error = inner(body);
    let fields = ["type", "code", "status"];
    fields.iter().filter_map(|field| error.get(field).and_then(Value::as_str)).map(str::to_ascii_lowercase).collect()
}

fn number(body: &Value) -> Option<u16> {
    let error = inner(body);
    ["code", "status"].iter().find_map(|field| error.get(field)?.as_u64()?.try_into().ok())
}
