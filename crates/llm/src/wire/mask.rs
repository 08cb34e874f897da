//! The words of a service, made fit to be seen: without keys, in one line, and at most 300 characters.
//!
//! **Invariant:** nothing that a service says is in an error, a span or a store before it went through here.

use reqwest::Url;

use crate::{client::Key, error::Failure, request::Reply};

/// The most characters that are shown of what a service says.
const SAID: usize = 300;

/// The shortest value in the query of a URL that is taken for a key: longer than the date of a version.
const SHORTEST_KEY: usize = 12;

/// Texts that nobody may see.
#[derive(Debug)]
pub(crate) struct Mask(Vec<Key>);

impl Mask {
    /// Masks a key, the values of headers, and what may be a key in the query of a URL.
    pub(crate) fn new<'a>(key: Option<&'a Key>, headers: impl Iterator<Item = &'a Key>, base: &Url) -> Self {
        let written = base.query().unwrap_or_default().split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
        let meant = base.query_pairs().map(|(_, value)| value.into_owned());
        let of_url = written.map(str::to_owned).chain(meant).filter(|value| value.len() >= SHORTEST_KEY);
        let mut keys: Vec<Key> =
            key.into_iter().chain(headers).cloned().chain(of_url.map(|value| Key::new(&value))).collect();
        // One may be a part of another, whose rest would stay.
        keys.sort_by_key(|key| std::cmp::Reverse(key.expose().len()));
        Self(keys)
    }

    /// Returns the words of a service without keys, in one line, and not all of them if they are many.
    pub(crate) fn said(&self, text: &str) -> String {
        let text = self.0.iter().fold(text.to_owned(), |text, key| key.redact(&text));
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

    /// Masks what a failure says.
    pub(crate) fn failure(&self, mut failure: Failure) -> Failure {
        if let Some(said) = failure.said_mut() {
            *said = self.said(said);
        }
        failure
    }

    /// Masks what names a reply, which gets into spans, whether or not they show what is said.
    pub(crate) fn reply(&self, mut reply: Reply) -> Reply {
        // Most are fit to be seen as they are.
        let fit =
            |name: &str| self.0.is_empty() && name.len() <= SAID && name.bytes().all(|byte| byte.is_ascii_graphic());
        for name in [&mut reply.id, &mut reply.model].into_iter().flatten().filter(|name| !fit(name)) {
            *name = self.said(name);
        }
        reply
    }
}
