//! A client for Open-Meteo's geocoding and forecast, or for a service that speaks like them.
//!
//! Its methods return [`flowstone::Result`], so that a node's `exec` is one line: each error says in its type whether
//! another attempt can help, and after what time.

use std::time::Duration;

use flowstone::{NodeError, Result};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::http::{client, plain_client, retry_after};

/// A place as the geocoding knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// The country's name; places that belong to none have none.
    #[serde(default)]
    pub country: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// The weather at a place now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weather {
    /// Degrees Celsius, two metres above the ground.
    #[serde(rename = "temperature_2m")]
    pub temperature: f64,
    /// Kilometres an hour, ten metres above the ground.
    #[serde(rename = "wind_speed_10m")]
    pub wind: f64,
    /// The sky and what falls from it, as a WMO code.
    #[serde(rename = "weather_code")]
    pub code: u8,
}

impl Weather {
    /// Says the code in words.
    #[must_use]
    pub fn sky(&self) -> &'static str {
        match self.code {
            0 => "clear",
            1 => "mostly clear",
            2 => "partly cloudy",
            3 => "overcast",
            45 | 48 => "fog",
            51..=57 => "drizzle",
            61..=67 => "rain",
            71..=77 => "snow",
            80..=82 => "rain showers",
            85 | 86 => "snow showers",
            95..=99 => "thunderstorm",
            _ => "unknown",
        }
    }
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// No connection: no network, no such host, nobody listens.
    #[error("{host} cannot be reached")]
    Unreachable {
        /// The host.
        host: String,
        /// What the connection failed of.
        source: reqwest::Error,
    },
    /// The connection ended before the answer did.
    #[error("the connection broke off")]
    BrokenOff(#[source] reqwest::Error),
    /// An answer that is an error.
    #[error("the service answered {status}{}", Reason(.reason.as_ref()))]
    Refused {
        /// The status.
        status: StatusCode,
        /// What the service said of it.
        reason: Option<String>,
    },
    /// An answer of more than a megabyte.
    #[error("the service does not stop answering")]
    TooLong,
    /// An answer that is no JSON, half of one, or not the one that was expected.
    #[error("the service sent a broken answer")]
    Garbled(#[source] serde_json::Error),
}

/// The client: cheap to clone, one for all nodes.
#[derive(Debug, Clone)]
pub struct OpenMeteo {
    http: reqwest::Client,
    geocoding: String,
    forecast: String,
}

impl OpenMeteo {
    /// Makes a client for the real service, through the machine's proxy if it has one.
    ///
    /// # Errors
    ///
    /// If the machine has no certificates to check the service's with.
    pub fn live() -> reqwest::Result<Self> {
        let http = client().build()?;
        let (geocoding, forecast) = ("https://geocoding-api.open-meteo.com", "https://api.open-meteo.com");
        Ok(Self { http, geocoding: geocoding.to_owned(), forecast: forecast.to_owned() })
    }

    /// Makes a client for a service at a base URL, which answers both kinds of request.
    ///
    /// # Errors
    ///
    /// As for [`live`](Self::live), if the URL begins with `https`.
    pub fn at(url: &str) -> reqwest::Result<Self> {
        let url = url.trim_end_matches('/').to_owned();
        let builder = if url.starts_with("https") { client().no_proxy() } else { plain_client() };
        Ok(Self { http: builder.build()?, geocoding: url.clone(), forecast: url })
    }

    /// Finds the best known place of a name; `None` if there is none.
    ///
    /// # Errors
    ///
    /// A [`ServiceError`], terminal if another attempt cannot help.
    pub async fn find(&self, name: &str) -> Result<Option<Place>> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            results: Vec<Place>,
        }

        let query = [("name", name), ("count", "1"), ("language", "en")];
        let found: Found = self.get(&format!("{}/v1/search", self.geocoding), &query).await?;
        Ok(found.results.into_iter().next())
    }

    /// Reads the weather at a place.
    ///
    /// # Errors
    ///
    /// A [`ServiceError`], terminal if another attempt cannot help.
    pub async fn weather(&self, place: &Place) -> Result<Weather> {
        #[derive(Deserialize)]
        struct Forecast {
            current: Weather,
        }

        let query = [
            ("latitude", place.latitude.to_string()),
            ("longitude", place.longitude.to_string()),
            ("current", "temperature_2m,wind_speed_10m,weather_code".to_owned()),
        ];
        let forecast: Forecast = self.get(&format!("{}/v1/forecast", self.forecast), &query).await?;
        Ok(forecast.current)
    }

    async fn get<T: DeserializeOwned>(&self, url: &str, query: &(impl Serialize + ?Sized)) -> Result<T> {
        let response = self.http.get(url).query(query).send().await.map_err(|error| no_answer(url, error))?;
        let status = response.status();
        let wait = retry_after(response.headers());
        let body = read(response).await?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&body).map_err(ServiceError::Garbled)?);
        }
        Err(refused(status, wait, &body))
    }
}

/// Reads the body of an answer, which is small if it is an answer.
async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, ServiceError> {
    const MOST: usize = 1 << 20;

    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| ServiceError::BrokenOff(error.without_url()))? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST {
            return Err(ServiceError::TooLong);
        }
    }
    Ok(body)
}

fn no_answer(url: &str, error: reqwest::Error) -> NodeError {
    let source = error.without_url();
    if source.is_builder() {
        return NodeError::terminal(format!("`{url}` is no URL"));
    }
    if !source.is_connect() {
        return ServiceError::BrokenOff(source).into();
    }
    let host = url.split('/').nth(2).unwrap_or(url).to_owned();
    ServiceError::Unreachable { host, source }.into()
}

/// Another attempt can help where the service failed, or was too slow or too busy; where the request is wrong it cannot.
fn refused(status: StatusCode, wait: Option<Duration>, body: &[u8]) -> NodeError {
    #[derive(Deserialize)]
    struct Refusal {
        reason: String,
    }

    let reason = serde_json::from_slice(body).ok().map(|refusal: Refusal| refusal.reason);
    let error = ServiceError::Refused { status, reason };
    let again = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if !status.is_server_error() && !again {
        return NodeError::terminal(error);
    }
    match wait {
        Some(wait) => NodeError::new(error).with_retry_after(wait),
        None => error.into(),
    }
}

/// The part of a message that gives the service's own words, on one line.
struct Reason<'a>(Option<&'a String>);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(reason) = self.0 else { return Ok(()) };
        let line: String = reason.chars().filter(|letter| !letter.is_control()).take(200).collect();
        write!(f, ": {line}")
    }
}
