//! A client for Open-Meteo's geocoding and forecast, or for a service that speaks like them.
//!
//! Its methods return [`flowstone::Result`], so that a node's `exec` is one line: each error says in its type whether
//! another attempt can help, and after what time.

use anyhow::{Result as Setup, bail};
use flowstone::{NodeError, Result};
use hyper::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::http::client::{Answer, Client};

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

/// The reason why an answer is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// An answer that is an error.
    #[error("the service answered {status}{}", Reason(.reason.as_ref()))]
    Refused {
        /// The status.
        status: StatusCode,
        /// The service's own words, if it has any.
        reason: Option<String>,
    },
    /// An answer that is no JSON, half of one, or not the one that was expected.
    #[error("the service sent a broken answer")]
    Garbled(#[source] serde_json::Error),
}

/// The client: cheap to clone, one for all nodes.
#[derive(Debug, Clone)]
pub struct OpenMeteo {
    http: Client,
    geocoding: String,
    forecast: String,
}

impl OpenMeteo {
    /// Makes a client for the real service, through the machine's proxy if it has one.
    ///
    /// # Errors
    ///
    /// If the machine has no certificates to check the service's with.
    #[cfg(feature = "live")]
    pub fn live() -> Setup<Self> {
        let (geocoding, forecast) = ("https://geocoding-api.open-meteo.com", "https://api.open-meteo.com");
        Ok(Self { http: Client::tls()?, geocoding: geocoding.to_owned(), forecast: forecast.to_owned() })
    }

    /// Makes a client for the real service.
    ///
    /// # Errors
    ///
    /// Always: this build has no TLS.
    #[cfg(not(feature = "live"))]
    pub fn live() -> Setup<Self> {
        bail!(crate::features::lacks("weather", "--live", "live"))
    }

    /// Makes a client for a service at a base URL, over plain HTTP, which answers both kinds of request.
    ///
    /// # Errors
    ///
    /// If the URL asks for TLS.
    pub fn at(url: &str) -> Setup<Self> {
        if url.starts_with("https:") {
            bail!("a service of one's own is asked over plain HTTP, and {url} is HTTPS");
        }
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { http: Client::plain(), geocoding: url.clone(), forecast: url })
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

        let (latitude, longitude) = (place.latitude.to_string(), place.longitude.to_string());
        let current = "temperature_2m,wind_speed_10m,weather_code";
        let query = [("latitude", &*latitude), ("longitude", &longitude), ("current", current)];
        let forecast: Forecast = self.get(&format!("{}/v1/forecast", self.forecast), &query).await?;
        Ok(forecast.current)
    }

    async fn get<T: DeserializeOwned>(&self, url: &str, query: &[(&str, &str)]) -> Result<T> {
        let answer = self.http.get(url, query).await?;
        if answer.status.is_success() {
            return Ok(serde_json::from_slice(&answer.body).map_err(ServiceError::Garbled)?);
        }
        Err(refused(&answer))
    }
}

/// Another attempt can help where the service failed, or was too slow or too busy; where the request is wrong it
/// cannot.
fn refused(answer: &Answer) -> NodeError {
    #[derive(Deserialize)]
    struct Refusal {
        reason: String,
    }

    let status = answer.status;
    let reason = serde_json::from_slice(&answer.body).ok().map(|refusal: Refusal| refusal.reason);
    let error = ServiceError::Refused { status, reason };
    let again = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if !status.is_server_error() && !again {
        return NodeError::terminal(error);
    }
    match answer.retry_after {
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
