//! The entries of a cassette, in memory and on disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Asked, difference::Difference};
use crate::{
    error::ModelId,
    request::{Reply, Request, Tokens},
};

/// The format of the file; files of an older one stay readable.
const VERSION: u32 = 1;

/// A fault of the file of a cassette.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum CassetteError {
    /// No such file, or one that cannot be read.
    #[error("the cassette `{}` cannot be read; record it first, with `Recorded::record`", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not what `Recorded::record` writes; the source says at which line.
    #[error("`{}` is no cassette", .path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// Written by a later version.
    #[error("the cassette `{}` has format {found}, and this version reads formats up to {VERSION}", .path.display())]
    TooNew { path: PathBuf, found: u32 },
    /// A file that cannot be written.
    #[error("the cassette `{}` cannot be written", .path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The calls of a model.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tape {
    cassette: u32,
    pub(super) model: ModelId,
    entries: Vec<Entry>,
    /// Which entries were used, by number; grown as they are.
    #[serde(skip)]
    used: Vec<bool>,
}

/// One call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Entry {
    Chat {
        request: Box<Request>,
        reply: Box<Reply>,
    },
    Embed {
        texts: Vec<String>,
        vectors: Vec<Vec<f32>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<Tokens>,
    },
}

impl Tape {
    pub(super) fn new(model: ModelId) -> Self {
        Self { cassette: VERSION, model, entries: Vec::new(), used: Vec::new() }
    }

    pub(super) fn read(path: &Path) -> Result<Self, CassetteError> {
        let unreadable = |source| CassetteError::Unreadable { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let malformed = |source| CassetteError::Malformed { path: path.to_owned(), source };

        #[derive(Deserialize)]
        struct Version {
            cassette: u32,
        }
        let Version { cassette: found } = serde_json::from_str(&text).map_err(malformed)?;
        if found > VERSION {
            return Err(CassetteError::TooNew { path: path.to_owned(), found });
        }
        let mut tape: Self = serde_json::from_str(&text).map_err(malformed)?;
        for entry in &mut tape.entries {
            if let Entry::Chat { request, .. } = entry {
                **request = asked_for(request);
            }
        }
        Ok(tape)
    }

    /// Writes the whole into a file beside, and puts that in its place.
    pub(super) fn write(&self, path: &Path) -> Result<(), CassetteError> {
        let write = || {
            let mut json = serde_json::to_string_pretty(self)?;
            json.push('\n');
            let mut beside = path.as_os_str().to_owned();
            beside.push(".part");
            fs::write(&beside, json)?;
            fs::rename(&beside, path)
        };
        write().map_err(|source| CassetteError::Unwritable { path: path.to_owned(), source })
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Uses the first entry of this request that was not used.
    pub(super) fn take(&mut self, asked: &Asked<'_>) -> Result<Entry, String> {
        let request;
        let asked = &match asked {
            Asked::Chat(one) => {
                request = asked_for(one);
                Asked::Chat(&request)
            }
            Asked::Embed(texts) => Asked::Embed(texts),
        };
        self.used.resize(self.entries.len(), false);
        let fits: Vec<usize> = (0..self.entries.len()).filter(|&number| self.entries[number].fits(asked)).collect();
        match fits.iter().find(|&&number| !self.used[number]) {
            Some(&number) => {
                self.used[number] = true;
                Ok(self.entries[number].clone())
            }
            None if fits.is_empty() => Err(self.nearest(asked)),
            None => Err(format!(
                "the request is in the cassette {} time{}, and was made once more: record again",
                fits.len(),
                if fits.len() == 1 { "" } else { "s" }
            )),
        }
    }

    /// Says what differs between a request and the one that is most like it.
    fn nearest(&self, asked: &Asked<'_>) -> String {
        let alike = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_kind_of(asked));
        let wanted = asked.json();
        let differences = alike.map(|(number, entry)| (number, Difference::between(&wanted, &entry.asked().json())));
        match differences.min_by_key(|(_, difference)| difference.size()) {
            Some((number, difference)) => format!(
                "the request is not in the cassette; it differs from entry {} of {}, the nearest, at {difference} \
                 (record again if that is right)",
                number + 1,
                self.entries.len()
            ),
            None => "the request is not in the cassette, nor one of its kind: record again".to_owned(),
        }
    }
}

impl Entry {
    fn asked(&self) -> Asked<'_> {
        match self {
            Self::Chat { request, .. } => Asked::Chat(request),
            Self::Embed { texts, .. } => Asked::Embed(texts),
        }
    }

    fn is_kind_of(&self, asked: &Asked<'_>) -> bool {
        matches!((self, asked), (Self::Chat { .. }, Asked::Chat(_)) | (Self::Embed { .. }, Asked::Embed(_)))
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        match (self, asked) {
            (Self::Chat { request, .. }, Asked::Chat(asked)) => **request == **asked,
            (Self::Embed { texts, .. }, Asked::Embed(asked)) => texts == asked,
            _ => false,
        }
    }
}

/// Returns the part of a request that has to be the same: a stream has the same reply, and no file has its timeout.
fn asked_for(request: &Request) -> Request {
    let mut request = request.clone();
    (request.stream, request.options.timeout) = (false, None);
    request
}

impl Asked<'_> {
    fn json(&self) -> Value {
        let json = match self {
            Self::Chat(request) => serde_json::to_value(request),
            Self::Embed(texts) => serde_json::to_value(texts),
        };
        json.unwrap_or_default()
    }
}
