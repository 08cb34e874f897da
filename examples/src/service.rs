//! A weather service that speaks as Open-Meteo does, on a free port of this machine.
//!
//! Both of Open-Meteo's services are in one: `/v1/search` finds a city, `/v1/forecast` tells its weather. The data are
//! made up, and the same every time; so are the failures, of which there are exactly as many as asked for, evenly
//! spread.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, sync::oneshot};

use crate::cities::{CITIES, City, folded};

/// How slow and how unreliable the service is.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// The time that each answer takes.
    pub delay: Duration,
    /// Of a hundred requests, how many are answered with an error 500; more than 100 means all.
    pub failures: u64,
}

/// A running service, which stops when it is dropped.
#[derive(Debug)]
pub struct Service {
    url: String,
    /// The service serves until the other end hears that this one is gone.
    _alive: oneshot::Sender<()>,
}

impl Service {
    /// Starts a service on a free loopback port. It lives in the tokio runtime of the caller.
    ///
    /// # Errors
    ///
    /// If no port can be opened.
    pub async fn start(manners: Manners) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let desk = Arc::new(Desk { manners, requests: AtomicU64::new(FIRST_REQUEST) });
        let app = Router::new().route("/v1/search", get(search)).route("/v1/forecast", get(forecast)).with_state(desk);
        let (alive, gone) = oneshot::channel();
        let serve = axum::serve(listener, app).with_graceful_shutdown(async {
            let _ = gone.await;
        });
        tokio::spawn(serve.into_future());
        Ok(Self { url, _alive: alive })
    }

    /// Returns the service's base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The number of the first request: chosen so that of one in twenty failures the first comes early enough to be seen.
const FIRST_REQUEST: u64 = 17;

type Answer = (StatusCode, Json<Value>);

/// What every request passes.
struct Desk {
    manners: Manners,
    requests: AtomicU64,
}

impl Desk {
    /// Takes its time, and fails as often as it should.
    async fn admit(&self) -> Result<(), Answer> {
        tokio::time::sleep(self.manners.delay).await;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let failures = self.manners.failures.min(100);
        if (number + 1) * failures / 100 > number * failures / 100 {
            return Err(refusal(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong, as it does at times"));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    name: String,
    count: Option<usize>,
}

async fn search(State(desk): State<Arc<Desk>>, Query(search): Query<Search>) -> Result<Json<Value>, Answer> {
    desk.admit().await?;
    let found: Vec<Value> = found(&search.name).take(search.count.unwrap_or(10)).map(in_json).collect();
    if found.is_empty() {
        // As in Open-Meteo, which leaves out what is empty.
        return Ok(Json(json!({ "generationtime_ms": 0.1 })));
    }
    Ok(Json(json!({ "results": found, "generationtime_ms": 0.1 })))
}

/// One letter finds nothing, two a city of that name, three and more also those that begin with them.
fn found(name: &str) -> impl Iterator<Item = &'static City> {
    let name = folded(name);
    let letters = name.chars().count();
    CITIES.iter().filter(move |city| {
        let known = folded(city.name);
        (letters >= 2 && known == name) || (letters >= 3 && known.starts_with(&name))
    })
}

fn in_json(city: &City) -> Value {
    json!({
        "name": city.name,
        "latitude": city.latitude,
        "longitude": city.longitude,
        "elevation": city.elevation,
        "feature_code": "PPL",
        "country_code": city.country_code,
        "timezone": city.timezone,
        "country": city.country,
    })
}

#[derive(Deserialize)]
struct Forecast {
    latitude: Option<f64>,
    longitude: Option<f64>,
    #[serde(default)]
    current: String,
}

async fn forecast(State(desk): State<Arc<Desk>>, Query(asked): Query<Forecast>) -> Result<Json<Value>, Answer> {
    desk.admit().await?;
    let (Some(latitude), Some(longitude)) = (asked.latitude, asked.longitude) else {
        return Err(refusal(StatusCode::BAD_REQUEST, "Parameters 'latitude' and 'longitude' are required"));
    };
    if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
        return Err(refusal(StatusCode::BAD_REQUEST, "Latitude is -90 to 90°, longitude -180 to 180°"));
    }
    let mut units = Map::from_iter([("time".to_owned(), json!("iso8601")), ("interval".to_owned(), json!("seconds"))]);
    let mut current =
        Map::from_iter([("time".to_owned(), json!("2026-03-20T12:00")), ("interval".to_owned(), json!(900))]);
    for variable in asked.current.split(',').filter(|variable| !variable.is_empty()) {
        let Some((unit, value)) = measured(variable, latitude, longitude) else {
            let reason = format!("Cannot initialize weather variable from invalid value {variable}");
            return Err(refusal(StatusCode::BAD_REQUEST, &reason));
        };
        units.insert(variable.to_owned(), json!(unit));
        current.insert(variable.to_owned(), value);
    }
    Ok(Json(json!({
        "latitude": latitude,
        "longitude": longitude,
        "generationtime_ms": 0.1,
        "utc_offset_seconds": 0,
        "timezone": "GMT",
        "timezone_abbreviation": "GMT",
        "elevation": 0.0,
        "current_units": units,
        "current": current,
    })))
}

/// The weather is colder towards the poles; the rest follows from the place in a way that looks like chance.
fn measured(variable: &str, latitude: f64, longitude: f64) -> Option<(&'static str, Value)> {
    const SKIES: [u8; 10] = [0, 1, 2, 3, 3, 45, 51, 61, 80, 95];

    let place = latitude.to_bits() ^ longitude.to_bits().rotate_left(17);
    let chance = (place ^ (place >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Some(match variable {
        "temperature_2m" => ("°C", tenths(31.0 - latitude.abs() * 0.45 + (chance % 80) as f64 / 10.0 - 4.0)),
        "wind_speed_10m" => ("km/h", tenths(2.0 + (chance / 80 % 300) as f64 / 10.0)),
        "weather_code" => ("wmo code", json!(SKIES[(chance / 24_000 % 10) as usize])),
        _ => return None,
    })
}

fn tenths(value: f64) -> Value {
    json!((value * 10.0).round() / 10.0)
}

/// An error as Open-Meteo words it.
fn refusal(status: StatusCode, reason: &str) -> Answer {
    (status, Json(json!({ "error": true, "reason": reason })))
}
