//! What a person sees: progress, questions, the table, and what went wrong.

use std::{
    io::{self, ErrorKind, Write, stdin, stdout},
    process::ExitCode,
};

use comfy_table::{CellAlignment, Table};
use flowstone::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    flow::{Problem, Trip, Unknown},
    name,
};

/// Whether there is somebody to ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Person {
    Here,
    Away,
}

/// A bar on standard error, which draws nothing into a pipe.
pub(crate) fn progress(cities: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {bar:20} {pos}/{len} cities {wide_msg}");
    let bar = ProgressBar::new(cities as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(80));
    bar
}

/// Shows something that happens in the run.
pub(crate) fn show(event: &Event, bar: &ProgressBar, verbose: bool) {
    match (&event.kind, &event.node) {
        (EventKind::ItemEnded { .. }, _) => bar.inc(1),
        (EventKind::Retry { reason, wait }, Some(node)) => {
            bar.set_message(format!("{node}: {reason}"));
            if verbose {
                let wait = wait.as_millis();
                bar.suspend(|| eprintln!("weather: {node}: {reason}; trying again in {wait} ms"));
            }
        }
        _ => {}
    }
}

/// Puts a question to whoever there is, and makes the bar one for the cities of the answer.
pub(crate) fn put(
    question: &serde_json::Value,
    person: Person,
    bar: &ProgressBar,
) -> anyhow::Result<Option<Vec<String>>> {
    if person == Person::Away {
        return Ok(None);
    }
    let answer = bar.suspend(|| answer(question))?;
    if let Some(answer) = &answer {
        bar.set_length(answer.len() as u64);
        bar.set_position(0);
    }
    Ok(answer)
}

/// Asks the person at the terminal; `None` if there is no more to be read.
///
/// Reading blocks this thread, which is fine: the run is paused, and nothing else is to be done.
fn answer(question: &serde_json::Value) -> anyhow::Result<Option<Vec<String>>> {
    let unknown: Vec<Unknown> = serde_json::from_value(question.clone())?;
    if unknown.is_empty() {
        let line = ask("Which cities? (with commas between them)")?;
        let names = |line: String| line.split(',').filter_map(|text| name(text).ok()).collect();
        return Ok(line.map(names));
    }
    let mut names = Vec::new();
    for Unknown { asked, did_you_mean } in unknown {
        let hint = match &did_you_mean {
            Some(name) => format!("Enter: {name}, -: leave it out"),
            None => "Enter: leave it out".to_owned(),
        };
        let line = ask(&format!("No city is called “{asked}”. Which one is it? ({hint})"))?;
        let Some(line) = line else { return Ok(None) };
        names.push(match line.as_str() {
            "" => did_you_mean.unwrap_or_default(),
            "-" => String::new(),
            name => name.to_owned(),
        });
    }
    Ok(Some(names))
}

fn ask(question: &str) -> io::Result<Option<String>> {
    let mut line = String::new();
    eprint!("{question} ");
    let read = stdin().read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

/// Draws a table of the cities that have their weather; nothing if there are none.
pub(crate) fn draw_table(trip: &Trip) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED.with_rounded_corners());
    table.set_header(["City", "Country", "Temperature", "Wind", "Sky"]);
    for column in [2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for city in &trip.cities {
        let (Some(place), Some(weather)) = (&city.place, &city.weather) else { continue };
        let temperature = format!("{:.1} °C", weather.temperature);
        let wind = format!("{:.1} km/h", weather.wind);
        table.add_row([&place.name, &place.country, &temperature, &wind, weather.sky()]);
    }
    if table.is_empty() { String::new() } else { table.to_string() }
}

/// Prints what there is to print. A reader who has seen enough, as `head` has, is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Says on standard error which cities have no weather and why, and returns the program's exit code.
pub(crate) fn complain(trip: &Trip, live: bool) -> ExitCode {
    let mut no_network = false;
    for city in &trip.cities {
        match &city.problem {
            None => continue,
            Some(Problem::Failed { reason, no_network: unreachable }) => {
                no_network |= unreachable;
                eprintln!("weather: {}: {reason}", city.asked);
            }
            Some(Problem::Unknown { did_you_mean: Some(name) }) => {
                eprintln!("weather: {}: no such city; did you mean {name}?", city.asked);
            }
            Some(Problem::Unknown { did_you_mean: None }) => eprintln!("weather: {}: no such city", city.asked),
        }
    }
    if no_network && live {
        eprintln!("weather: is there a network? Without --live the program brings its own weather service");
    }
    if trip.cities.is_empty() {
        eprintln!("weather: no city left to ask for");
        return ExitCode::FAILURE;
    }
    if trip.cities.iter().all(|city| city.weather.is_some()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
