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

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    cities::{CITIES, City, folded},
    http::server::{self, Call, Reply, serve},
};

/// The slowness and the unreliability of the service.
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
    serving: AbortHandle,
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
        let serving = tokio::spawn(serve(listener, move |call| answer(Arc::clone(&desk), call))).abort_handle();
        Ok(Self { url, serving })
    }

    /// Returns the service's base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The number of the first request: chosen so that of one in twenty failures the first comes early enough to be seen.
const FIRST_REQUEST: u64 = 17;

/// An answer as Open-Meteo words it, or its refusal.
type Answer = Result<Value, (StatusCode, String)>;

async fn answer(desk: Arc<Desk>, call: Call) -> Reply {
    let answer = match &*call.path {
        "/v1/search" => desk.admit().await.map(|()| search(&call)),
        "/v1/forecast" => desk.admit().await.and_then(|()| forecast(&call)),
        _ => Err((StatusCode::NOT_FOUND, "Not Found".to_owned())),
    };
    match answer {
        Ok(value) => server::json(StatusCode::OK, &value),
        Err((status, reason)) => server::json(status, &json!({ "error": true, "reason": reason })),
    }
}

/// The place that every request passes.
struct Desk {
    manners: Manners,
    requests: AtomicU64,
}

impl Desk {
    /// Takes its time, and fails as often as it should.
    async fn admit(&self) -> Result<(), (StatusCode, String)> {
        tokio::time::sleep(self.manners.delay).await;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let failures = self.manners.failures.min(100);
        if (number + 1) * failures / 100 > number * failures / 100 {
            let reason = "something went wrong, as it does at times";
            return Err((StatusCode::INTERNAL_SERVER_ERROR, reason.to_owned()));
        }
        Ok(())
    }
}

fn search(call: &Call) -> Value {
    let count = call.value("count").and_then(|count| count.parse().ok()).unwrap_or(10);
    let name = call.value("name").unwrap_or_default();
    let found: Vec<Value> = found(&name).take(count).map(in_json).collect();
    if found.is_empty() {
        // As in Open-Meteo, which leaves out what is empty.
        return json!({ "generationtime_ms": 0.1 });
    }
    json!({ "results": found, "generationtime_ms": 0.1 })
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

fn forecast(call: &Call) -> Answer {
    let refuse = |reason: &str| Err((StatusCode::BAD_REQUEST, reason.to_owned()));
    let degrees = |name| call.value(name).and_then(|value| value.parse::<f64>().ok());
    let (Some(latitude), Some(longitude)) = (degrees("latitude"), degrees("longitude")) else {
        return refuse("Parameters 'latitude' and 'longitude' are required");
    };
    if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
        return refuse("Latitude is -90 to 90°, longitude -180 to 180°");
    }
    let mut units = Map::from_iter([("time".to_owned(), json!("iso8601")), ("interval".to_owned(), json!("seconds"))]);
    let mut current =
        Map::from_iter([("time".to_owned(), json!("2026-03-20T12:00")), ("interval".to_owned(), json!(900))]);
    let asked = call.value("current").unwrap_or_default();
    for variable in asked.split(',').filter(|variable| !variable.is_empty()) {
        let Some((unit, value)) = measured(variable, latitude, longitude) else {
            return refuse(&format!("Cannot initialize weather variable from invalid value {variable}"));
        };
        units.insert(variable.to_owned(), json!(unit));
        current.insert(variable.to_owned(), value);
    }
    Ok(json!({
        "latitude": latitude,
        "longitude": longitude,
        "generationtime_ms": 0.1,
        "utc_offset_seconds": 0,
        "timezone": "GMT",
        "timezone_abbreviation": "GMT",
        "elevation": 0.0,
        "current_units": units,
        "current": current,
    }))
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
