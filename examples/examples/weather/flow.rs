//! The flows: one over a city, which looks it up and fetches its weather, and the one around it, for all cities.
//!
//! A city is journaled: in a store its run is kept visit by visit, so that what a service answered is not asked again.
//!
//! ```text
//! check ─▶ cities (16 at once: lookup ─▶ fetch │ suggest) ─▶ end
//!   ▲ └──────▶ ask ◀── unknown ──┘
//!   └───────────┘
//! ```

use std::iter::successors;

use flowstone::{BuildError, Child, prelude::*};
use flowstone_examples::{
    cities::closest,
    http::client::HttpError,
    open_meteo::{OpenMeteo, Place, Weather},
};
use serde::{Deserialize, Serialize};

/// The state of the flow over one city.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct City {
    pub(crate) asked: String,
    pub(crate) place: Option<Place>,
    pub(crate) weather: Option<Weather>,
    pub(crate) problem: Option<Problem>,
}

/// The reason why a city has no weather.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Problem {
    Unknown { did_you_mean: Option<String> },
    Failed { reason: String, no_network: bool },
}

/// The result of a lookup.
#[derive(Action)]
enum Found {
    Yes,
    No,
}

struct Lookup {
    service: OpenMeteo,
}

#[node]
impl Lookup {
    fn prep(&self, city: &City) -> String {
        city.asked.clone()
    }

    async fn exec(&self, asked: &str) -> Result<Option<Place>> {
        self.service.find(asked).await
    }

    fn post(&self, city: &mut City, _asked: String, place: Option<Place>) -> Found {
        city.place = place;
        if city.place.is_some() { Found::Yes } else { Found::No }
    }
}

struct Fetch {
    service: OpenMeteo,
}

#[node]
impl Fetch {
    fn prep(&self, city: &City) -> Result<Place> {
        Ok(city.place.clone().ok_or("no place was looked up")?)
    }

    async fn exec(&self, place: &Place) -> Result<Weather> {
        self.service.weather(place).await
    }

    fn post(&self, city: &mut City, _place: Place, weather: Weather) {
        city.weather = Some(weather);
    }
}

fn suggest(city: &mut City) {
    city.problem = Some(Problem::Unknown { did_you_mean: closest(&city.asked).map(str::to_owned) });
}

/// The limits of a request.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) attempts: u32,
    /// The time of one attempt.
    pub(crate) attempt: Duration,
    /// The time of all attempts and the waits between them.
    pub(crate) total: Duration,
}

pub(crate) fn city_flow(service: OpenMeteo, patience: Patience) -> Result<AsyncFlow<City>, BuildError> {
    let Patience { attempts, attempt, total } = patience;
    let retry = Retry::attempts(attempts).exponential(Duration::from_millis(100)).jitter();
    let lookup = Lookup { service: service.clone() };
    let lookup = lookup.retry(retry.clone()).timeout(attempt).total_timeout(total);
    let fetch = Fetch { service }.retry(retry).timeout(attempt).total_timeout(total);

    let mut flow = AsyncFlow::builder("city");
    let lookup = flow.add("lookup", lookup);
    let fetch = flow.add("fetch", fetch);
    let suggest = flow.add("suggest", suggest);
    flow.start(lookup);
    flow.route(lookup - Found::Yes >> fetch);
    flow.route(lookup - Found::No >> suggest);
    flow.build()
}

/// The state of the flow over all cities.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Trip {
    pub(crate) cities: Vec<City>,
}

impl Trip {
    pub(crate) fn add(&mut self, names: impl IntoIterator<Item = String>) {
        let city = |asked| City { asked, place: None, weather: None, problem: None };
        self.cities.extend(names.into_iter().map(city));
    }

    /// The cities that nothing is known of yet, in order.
    fn open(&mut self) -> impl Iterator<Item = &mut City> {
        self.cities.iter_mut().filter(|city| city.is_open())
    }

    /// The unknown cities, in order, and what they may mean.
    pub(crate) fn unknown(&self) -> Vec<Unknown> {
        let unknown = |city: &City| match &city.problem {
            Some(Problem::Unknown { did_you_mean }) => {
                Some(Unknown { asked: city.asked.clone(), did_you_mean: did_you_mean.clone() })
            }
            _ => None,
        };
        self.cities.iter().filter_map(unknown).collect()
    }
}

impl City {
    fn is_open(&self) -> bool {
        self.weather.is_none() && self.problem.is_none()
    }
}

#[derive(Action)]
enum Given {
    Cities,
    Nothing,
}

#[derive(Action)]
enum Round {
    Done,
    Unknown,
}

/// Asks a person: for the cities if there are none, else for what the unknown ones were meant to be.
///
/// The answer has a name for each unknown city, or an empty one to leave it out.
struct AskCities;

/// An unknown city, and the one that it may mean.
#[derive(Serialize, Deserialize)]
pub(crate) struct Unknown {
    pub(crate) asked: String,
    pub(crate) did_you_mean: Option<String>,
}

impl Ask<Trip> for AskCities {
    type Question = Vec<Unknown>;
    type Answer = Vec<String>;
    type Action = ();

    fn ask(&self, trip: &Trip) -> Result<Vec<Unknown>> {
        Ok(trip.unknown())
    }

    fn post(&self, trip: &mut Trip, answer: Vec<String>) -> Result<()> {
        if trip.cities.is_empty() {
            trip.add(answer);
            return Ok(());
        }
        let mut names = answer.into_iter();
        for city in trip.cities.iter_mut().filter(|city| matches!(city.problem, Some(Problem::Unknown { .. }))) {
            city.asked = names.next().ok_or("an answer has a name for each unknown city")?;
            city.problem = None;
        }
        trip.cities.retain(|city| !city.asked.is_empty());
        Ok(())
    }
}

fn check(trip: &mut Trip) -> Given {
    if trip.cities.is_empty() { Given::Nothing } else { Given::Cities }
}

fn fork(trip: &Trip) -> Vec<City> {
    trip.cities.iter().filter(|city| city.is_open()).cloned().collect()
}

fn join(trip: &mut Trip, children: Vec<Child<City>>) -> Round {
    for (city, child) in trip.open().zip(children) {
        *city = child.state;
        if let Err(error) = child.result {
            city.problem = Some(Problem::Failed { reason: explain(&error), no_network: is_unreachable(&error) });
        }
    }
    if trip.unknown().is_empty() { Round::Done } else { Round::Unknown }
}

pub(crate) fn trip_flow(city: AsyncFlow<City>) -> Result<AsyncFlow<Trip>, BuildError> {
    let mut flow = AsyncFlow::builder("weather");
    let check = flow.add("check", check);
    let ask = flow.add("ask", AskCities);
    let cities = flow.add("cities", city.batch_collect(fork, join).parallel(16).journaled());
    flow.start(check);
    flow.route(check - Given::Nothing >> ask);
    flow.route(check - Given::Cities >> cities);
    flow.route(cities - Round::Unknown >> ask);
    flow.route(cities - Round::Done >> END);
    flow.route(ask >> check);
    flow.build()
}

/// Says in one line why a city's run failed: the error that its node returned, and the cause at the bottom of it.
fn explain(error: &RunError) -> String {
    let RunError::Node { source, attempts, .. } = error else { return error.to_string() };
    let cause = successors(source.source(), |&error| error.source()).last();
    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    let plural = if *attempts == 1 { "" } else { "s" };
    format!("{source}{cause} ({attempts} attempt{plural})")
}

fn is_unreachable(error: &RunError) -> bool {
    let RunError::Node { source, .. } = error else { return false };
    matches!(source.downcast_ref(), Some(HttpError::Unreachable { .. }))
}
