//! The prices of tokens: [`Prices`], read from a data file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use flowstone_core::Usd;
use serde::Deserialize;
use serde_json::Value;

use crate::{error::ModelId, request::Tokens};

/// The prices of tokens, by model. The default knows no price.
///
/// A price is for a pattern of names, in which `*` stands for anything; of several that fit, the longest counts.
///
/// The file is JSON, with dollars for a million tokens:
///
/// ```
/// use flowstone_llm::{ModelId, Prices};
///
/// let prices = Prices::parse(r#"{
///     "as_of": "2025-10-01",
///     "prices": [
///         { "model": "openai:gpt-4o*", "input": 2.5, "cached_input": 1.25, "output": 10 },
///         { "model": "openai:gpt-4o-mini*", "input": 0.15, "cached_input": 0.075, "output": 0.6 }
///     ]
/// }"#)?;
/// let price = prices.of(&ModelId::new("openai", "gpt-4o-mini-2024-07-18")).expect("it is in the file");
/// assert_eq!(price.output.as_dollars(), 0.6);
/// # Ok::<(), flowstone_llm::PricesError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Prices {
    rows: Vec<(String, Price)>,
}

/// The prices of a million tokens of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Price {
    /// Those that are sent.
    pub input: Usd,
    /// Those that are sent and that the provider has at hand.
    pub cached_input: Usd,
    /// Those that are made.
    pub output: Usd,
}

/// An error of reading prices.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum PricesError {
    /// There is no such file, or it cannot be read.
    #[error("the prices in {} cannot be read", .path.display())]
    File { path: PathBuf, source: io::Error },
    /// It is no JSON, or not of this form.
    #[error("the prices are not JSON of the form {{\"as_of\": …, \"prices\": […]}}")]
    Form { source: serde_json::Error },
    /// A row cannot be understood.
    #[error("row {row} of the prices ({model}): {reason}")]
    Row { row: usize, model: String, reason: String },
}

/// The prices that come with the crate.
static BUILTIN: LazyLock<Arc<Prices>> = LazyLock::new(|| {
    Arc::new(Prices::parse(include_str!("prices.json")).expect("invariant: a test reads these prices"))
});

impl Prices {
    /// Returns the prices that come with this crate, of well-known models.
    ///
    /// They are list prices as of the day that `prices.json` names, without discounts, and providers change them: for a
    /// budget that matters, give your own.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        Arc::clone(&BUILTIN)
    }

    /// Reads a file of prices.
    ///
    /// # Errors
    ///
    /// [`PricesError`], which names the row.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, PricesError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| PricesError::File { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Reads prices from a text.
    ///
    /// # Errors
    ///
    /// [`PricesError`], which names the row.
    pub fn parse(text: &str) -> Result<Self, PricesError> {
        let file: File = serde_json::from_str(text).map_err(|source| PricesError::Form { source })?;
        let mut prices = Self::default();
        for (index, row) in file.prices.into_iter().enumerate() {
            let model = row.get("model").and_then(Value::as_str).unwrap_or("without a model").to_owned();
            let read = Row::deserialize(row).map_err(|error| error.to_string()).and_then(|row| row.price());
            let read = read.and_then(|price| match prices.rows.iter().any(|(pattern, _)| *pattern == model) {
                true => Err("it is there twice".to_owned()),
                false => Ok(price),
            });
            match read {
                Ok(price) => prices.rows.push((model, price)),
                Err(reason) => return Err(PricesError::Row { row: index + 1, model, reason }),
            }
        }
        Ok(prices)
    }

    /// Sets the price of the models that fit a pattern, as `openai:gpt-5-mini*`.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::Usd;
    /// use flowstone_llm::{Model, Price, Prices};
    ///
    /// let prices = Prices::clone(&Prices::builtin())
    ///     .with("gateway.example:*", Price::per_million(Usd::dollars(0.5), Usd::dollars(2.0)));
    /// let model = Model::named("https://gateway.example/v1#any")?.prices(prices);
    /// # Ok::<(), flowstone_llm::SetupError>(())
    /// ```
    #[must_use]
    pub fn with(mut self, pattern: &str, price: Price) -> Self {
        self.rows.retain(|(known, _)| known != pattern);
        self.rows.push((pattern.to_owned(), price));
        self
    }

    /// Returns the price of a model, if it is known.
    #[must_use]
    pub fn of(&self, model: &ModelId) -> Option<Price> {
        let name = model.to_string();
        let fitting = self.rows.iter().filter(|(pattern, _)| fits(pattern, &name));
        fitting.max_by_key(|(pattern, _)| pattern.len()).map(|(_, price)| *price)
    }
}

impl Price {
    /// Makes a price for a million tokens, those that the provider has at hand for the same.
    #[must_use]
    pub fn per_million(input: Usd, output: Usd) -> Self {
        Self { input, cached_input: input, output }
    }

    /// Sets the price of a million tokens that the provider has at hand.
    #[must_use]
    pub fn cached_input(mut self, cached: Usd) -> Self {
        self.cached_input = cached;
        self
    }

    /// Returns the cost of a call.
    pub(crate) fn cost(&self, tokens: &Tokens) -> Usd {
        let fresh = tokens.input.saturating_sub(tokens.cached_input);
        let parts = [(fresh, self.input), (tokens.cached_input, self.cached_input), (tokens.output, self.output)];
        let nanos: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(price.as_nanos())).sum();
        Usd::nanos((nanos / 1_000_000).try_into().unwrap_or(u64::MAX))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The day that they were looked up; for people.
    #[serde(rename = "as_of")]
    _as_of: String,
    /// Notes for people.
    #[serde(rename = "note", default)]
    _note: Option<String>,
    prices: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    model: String,
    input: f64,
    cached_input: Option<f64>,
    #[serde(default)]
    output: f64,
}

impl Row {
    fn price(&self) -> Result<Price, String> {
        if !self.model.contains(':') {
            return Err("the model has no provider: write `PROVIDER:NAME`".to_owned());
        }
        let price = Price::per_million(usd(self.input)?, usd(self.output)?);
        Ok(match self.cached_input {
            Some(cached) => price.cached_input(usd(cached)?),
            None => price,
        })
    }
}

fn usd(dollars: f64) -> Result<Usd, String> {
    // A number beyond this is no price of tokens, but a slip of the units.
    if (0.0..=100_000.0).contains(&dollars) {
        Ok(Usd::dollars(dollars))
    } else {
        Err(format!("{dollars} dollars for a million tokens is no price"))
    }
}

/// Returns `true` if a name fits a pattern, in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    true
}
