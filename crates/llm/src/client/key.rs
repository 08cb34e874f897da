//! The key of a service: where it is read, and how it stays unseen.

use std::{env, fmt};

use crate::error::Failure;

/// The variable whose key a server is given that was named by its URL.
const URL_VARIABLE: &str = "FLOWSTONE_API_KEY";

/// The text that takes the place of a key.
const REDACTED: &str = "[key]";

/// A key, which no message shows.
#[derive(Clone)]
pub(crate) struct Key(String);

/// Where the key of a service is read. It is read at each call, so that a program can be built, and its flows drawn,
/// without one.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// It was given.
    Given(Key),
    /// The variable of a provider, which takes no call without it.
    Variable(&'static str),
    /// Of a server that was named by its URL: if there is one. A provider's key is never sent there.
    Url,
    /// It takes none.
    None,
}

impl Key {
    pub(crate) fn new(key: &str) -> Self {
        Self(key.trim().to_owned())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether a header may hold it.
    pub(crate) fn fits_header(&self) -> bool {
        reqwest::header::HeaderValue::from_str(&self.0).is_ok()
    }

    /// Takes the key out of what a server says.
    pub(crate) fn redact(&self, text: &str) -> String {
        // A key of a few letters is part of many words, and no secret.
        if self.0.len() < 4 { text.to_owned() } else { text.replace(&self.0, REDACTED) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl KeySource {
    pub(crate) fn read(&self) -> Result<Option<Key>, Failure> {
        match self {
            Self::Given(key) => Ok(Some(key.clone())),
            Self::Variable(variable) => match of_variable(variable) {
                Some(key) => Ok(Some(key)),
                None => Err(Failure::NoKey { variable: (*variable).to_owned() }),
            },
            Self::Url => Ok(of_variable(URL_VARIABLE)),
            Self::None => Ok(None),
        }
    }
}

fn of_variable(variable: &str) -> Option<Key> {
    env::var(variable).ok().map(|key| Key::new(&key)).filter(|key| !key.0.is_empty())
}
