//! The commands on runs: looking at them, and asking things of them.

use std::io::Write;

use comfy_table::Table;
use flowstone_durable::{Filter, Reader, RunInfo, Status};

use crate::{
    arguments::{ListArguments, RunsCommand},
    screen::{self, Screen, cell, cell_or_dash},
    stop::Result,
    view::{ListView, RunView},
    words::ago,
};

mod change;
pub(crate) mod question;
mod show;
mod state;

/// This program, for commands that can be copied.
#[derive(Clone, Copy)]
pub(crate) struct Program<'a> {
    /// Its name or its path, as it was called.
    pub(crate) typed: &'a str,
    /// `true` if it has flows, and so the command `resume`.
    pub(crate) drives: bool,
}

/// Does one of the commands.
pub(crate) fn runs<W: Write>(command: &RunsCommand, program: Program<'_>, screen: &mut Screen<W>) -> Result<()> {
    match command {
        RunsCommand::List(arguments) => list(arguments, screen),
        RunsCommand::Show(arguments) => show::show(arguments, program.typed, screen),
        RunsCommand::State(arguments) => state::state(arguments, screen),
        RunsCommand::Diff(arguments) => state::diff(arguments, screen),
        RunsCommand::Answer(arguments) => change::answer(arguments, program, screen),
        RunsCommand::Cancel(arguments) => change::cancel(arguments, program, screen),
        RunsCommand::Retry(arguments) => change::retry(arguments, program, screen),
        RunsCommand::Fork(arguments) => change::fork(arguments, program, screen),
        RunsCommand::Prune(arguments) => change::prune(arguments, screen),
        RunsCommand::Delete(arguments) => change::delete(arguments, screen),
    }
}

fn list<W: Write>(arguments: &ListArguments, screen: &mut Screen<W>) -> Result<()> {
    let reader = Reader::open(&arguments.common.store)?;
    let limit = arguments.limit as usize;
    // One more than is shown tells whether there is a next page.
    let mut runs = reader.list(&filter(arguments).limit(limit.saturating_add(1)))?;
    let more = runs.len() > limit;
    runs.truncate(limit);
    let next = runs.last().filter(|_| more).map(|run| run.cursor.to_string());

    if arguments.common.json {
        return screen.json(&ListView { runs: RunView::all(&runs), next });
    }
    if runs.is_empty() {
        return screen.line("no runs");
    }
    screen.table(table(&runs))?;
    if let Some(cursor) = next {
        screen.gap()?;
        screen.line(&format!("there are more: --after {cursor}"))?;
    }
    Ok(())
}

fn filter(arguments: &ListArguments) -> Filter {
    let mut filter = Filter::new();
    if let Some(flow) = &arguments.flow {
        filter = filter.flow(flow.clone());
    }
    for status in &arguments.status {
        filter = filter.status(*status);
    }
    if let Some(since) = arguments.since {
        filter = filter.since(since);
    }
    if let Some(until) = arguments.until {
        filter = filter.until(until);
    }
    if let Some(after) = arguments.after {
        filter = filter.after(after);
    }
    filter
}

/// A table of runs, one a row.
pub(crate) fn table(runs: &[RunInfo]) -> Table {
    let mut table = screen::table(&["ID", "FLOW", "STATUS", "STEP", "NODE", "STARTED", "CHANGED"]);
    for run in runs {
        let status = match run.wake_at {
            Some(wake_at) if run.status == Status::Sleeping => format!("sleeping, wakes {}", ago(wake_at)),
            _ => run.status.to_string(),
        };
        // `runs show` says why.
        let status = if run.refused.is_some() { format!("{status}, cannot go on") } else { status };
        table.add_row([
            cell(run.id.as_str()),
            cell(&run.flow),
            screen::status(run.status, &status),
            cell(run.step.to_string()),
            cell_or_dash(run.node.as_ref().map(|node| node.as_str())),
            cell(ago(run.created_at)),
            cell(ago(run.changed_at)),
        ]);
    }
    table
}
