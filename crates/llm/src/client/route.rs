//! The addresses that a client asks at: joined once, when it is made, since a URL takes longer to read than to copy.

use reqwest::Url;

use super::SetupError;
use crate::wire::dialect::Dialect;

/// A dialect, and the URLs of what it is asked for.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) dialect: Dialect,
    pub(super) whole: Url,
    pub(super) stream: Url,
    /// `None` if the service makes no vectors.
    pub(super) vectors: Option<Url>,
}

impl Route {
    /// Joins the paths of a dialect to a base URL, whose query they keep.
    pub(super) fn new(dialect: Dialect, base: &Url, model: &str) -> Result<Self, SetupError> {
        let of = |path: &str| join(base, path, model);
        Ok(Self {
            whole: of(dialect.path)?,
            stream: of(dialect.stream_path)?,
            vectors: dialect.embed_path.map(of).transpose()?,
            dialect,
        })
    }
}

fn join(base: &Url, path: &str, model: &str) -> Result<Url, SetupError> {
    let escape = |c: char| match c {
        '%' | '?' | '#' | ' ' => format!("%{:02X}", u32::from(c)),
        c => c.to_string(),
    };
    let path = path.replace("{model}", &model.chars().map(escape).collect::<String>());
    let bad = |error| SetupError::BadUrl { reason: format!("it cannot be extended by `{path}`: {error}") };
    let mut url = base.join(&path).map_err(bad)?;
    if let Some(query) = base.query() {
        let query = url.query().map_or_else(|| query.to_owned(), |own| format!("{query}&{own}"));
        url.set_query(Some(&query));
    }
    Ok(url)
}
