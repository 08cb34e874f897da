//! The screen: progress, questions, the table, and the cities that went wrong.

use std::{
    array,
    io::{self, ErrorKind, Write, stdin, stdout},
    iter,
    process::ExitCode,
};

use flowstone::prelude::*;
use flowstone_examples::progress::Progress;

use super::{
    flow::{City, Problem, Trip, Unknown},
    name,
};

/// The person at the terminal, or that nobody is there to ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Person {
    Here,
    Away,
}

/// Shows something that happens in the run.
pub(crate) fn show(event: &Event, bar: &Progress, verbose: bool) {
    match (&event.kind, &event.node) {
        (EventKind::ItemEnded { .. }, _) => bar.one_more(),
        (EventKind::Retry { reason, wait }, Some(node)) => {
            bar.say(format!("{node}: {reason}"));
            if verbose {
                let wait = wait.as_millis();
                bar.aside(|| eprintln!("weather: {node}: {reason}; trying again in {wait} ms"));
            }
        }
        _ => {}
    }
}

/// Puts a question to whoever there is, and makes the bar one for the cities of the answer.
pub(crate) fn put(question: &serde_json::Value, person: Person, bar: &Progress) -> anyhow::Result<Option<Vec<String>>> {
    if person == Person::Away {
        return Ok(None);
    }
    let answer = bar.aside(|| answer(question))?;
    if let Some(answer) = &answer {
        bar.begin(answer.len() as u64);
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
    let row = |city: &City| {
        let (place, weather) = (city.place.as_ref()?, city.weather.as_ref()?);
        let (temperature, wind) = (format!("{:.1} °C", weather.temperature), format!("{:.1} km/h", weather.wind));
        Some([place.name.clone(), place.country.clone(), temperature, wind, weather.sky().to_owned()])
    };
    let rows: Vec<_> = trip.cities.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = ["City", "Country", "Temperature", "Wind", "Sky"].map(str::to_owned);
    let all = || iter::once(&header).chain(&rows);
    let widths: [usize; 5] =
        array::from_fn(|column| all().map(|row| row[column].chars().count()).max().unwrap_or_default());

    let rule = |left, cross: &str, right, dash: &str| {
        let parts = widths.map(|width| dash.repeat(width + 2));
        format!("{left}{}{right}", parts.join(cross))
    };
    let line = |row: &[String; 5]| {
        let cell = |column: usize| {
            let (text, width) = (&row[column], widths[column]);
            // Numbers stand at the right.
            if matches!(column, 2 | 3) { format!(" {text:>width$} ") } else { format!(" {text:<width$} ") }
        };
        format!("│{}│", array::from_fn::<_, 5, _>(cell).join("┆"))
    };
    let mut lines = vec![rule("╭", "┬", "╮", "─"), line(&header), rule("╞", "╪", "╡", "═")];
    lines.extend(rows.iter().map(line));
    lines.push(rule("╰", "┴", "╯", "─"));
    lines.join("\n")
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
