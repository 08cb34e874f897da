//! The seed's program, line for line: a node that waits for a weather service, in a flow of its own.
//!
//! ```text
//! cargo run --example seed_weather
//! cargo run --example seed_weather -- --runs 2     # two at once take the time of one
//! ```
#![expect(clippy::print_stdout, reason = "what it prints is what it shows")]

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use flowstone::{
    BuildError,
    prelude::{Action, AsyncFlow, Duration, node},
};
use flowstone_examples::wait::millis;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

#[derive(Parser)]
struct Args {
    /// The time that the weather service takes for an answer, in milliseconds
    #[arg(long, value_name = "MS", default_value = "2000", value_parser = millis)]
    wait_ms: Duration,
    /// The number of flows that run at once, each for a city of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    runs: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SharedData {
    city_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weather_report: Option<String>,
}

/// The action that says that all is done; it has no edge, so the flow ends.
#[derive(Action)]
enum Weather {
    Done,
}

struct WeatherFetcherNode {
    wait: Duration,
}

#[node]
impl WeatherFetcherNode {
    fn prep(&self, shared: &SharedData) -> String {
        let city = shared.city_name.clone();
        println!("WeatherFetcherNode: Preparing to fetch weather for {city}.");
        city
    }

    async fn exec(&self, city: &str) -> String {
        println!("WeatherFetcherNode: Calling weather API for {city}...");
        tokio::time::sleep(self.wait).await; // simulates an API call
        let weather_data = format!("Sunny in {city}");
        println!("WeatherFetcherNode: Got weather: {weather_data}");
        weather_data
    }

    fn post(&self, shared: &mut SharedData, _city: String, weather_data: String) -> Weather {
        shared.weather_report = Some(weather_data);
        println!("WeatherFetcherNode: Weather report stored in shared.");
        Weather::Done
    }
}

pub(crate) fn flow(wait: Duration) -> Result<AsyncFlow<SharedData>, BuildError> {
    let mut weather_flow = AsyncFlow::builder("weather");
    let weather_node = weather_flow.add("fetch", WeatherFetcherNode { wait });
    weather_flow.start(weather_node);
    weather_flow.build()
}

/// The state to start with.
pub(crate) fn shared_data(city: &str) -> SharedData {
    SharedData { city_name: city.to_owned(), weather_report: None }
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args { wait_ms: wait, runs } = Args::parse();
    let weather_flow = flow(wait)?;

    let begun = Instant::now();
    let cities = ["London", "Paris", "Tokyo", "Lima"].iter().cycle();
    try_join_all(cities.take(runs).map(|city| run(&weather_flow, city))).await?;
    if runs > 1 {
        let (took, in_turn) = (begun.elapsed(), wait * u32::try_from(runs)?);
        println!("{runs} runs took {took:.1?} together; one after the other they wait {in_turn:.1?}.");
    }
    Ok(())
}

async fn run(weather_flow: &AsyncFlow<SharedData>, city: &str) -> Result<()> {
    let mut shared_data = shared_data(city);
    println!("Starting weather flow...");
    weather_flow.run_async(&mut shared_data).await?;
    println!("Weather flow finished.");
    println!("Final shared data: {}", serde_json::to_string(&shared_data)?);
    Ok(())
}
