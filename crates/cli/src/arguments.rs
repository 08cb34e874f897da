//! The commands and their arguments, with their help.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use flowstone_durable::{Cursor, Status};

use crate::input::{Pointed, Window, length, status, time, window};

/// The commands of every program.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at the runs of a store, and act on them
    #[command(
        subcommand,
        subcommand_required = true,
        arg_required_else_help = true,
        after_help = "These commands work beside the process that drives the store, and without it.\n\n\
                      Example:\n  flowstone runs list --store trips.db --status failed"
    )]
    Runs(RunsCommand),
    /// Show the flows of a store: nodes, edges, and the nodes that start over after a crash
    #[command(after_help = "Examples:\n  flowstone graph --store trips.db\n  \
                            flowstone graph --store trips.db --flow trip --dot | dot -Tsvg > trip.svg")]
    Graph(GraphArguments),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  source <(flowstone completions bash)")]
    Completions {
        /// The shell to write it for
        shell: Shell,
    },
}

/// The commands of the program `flowstone`, which has no flows.
#[derive(Debug, Subcommand)]
pub(crate) enum BareCommand {
    /// Write a small project in a new folder: a flow, its store, its tests
    #[command(after_help = "Example:\n  flowstone new digest --path ../flowstone")]
    New(NewArguments),
    #[command(flatten)]
    Every(Command),
}

#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// The name of the package, and of its folder
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Take flowstone from this checkout, not the version that is published
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,
}

/// The commands of a program with flows of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum OwnCommand {
    /// Start a run and drive it until it ends or waits
    #[command(
        after_help = "The id is yours: if there is a run of this flow with it, that run goes on, and `--state` is not \
                            used.\nA question of the run is printed with the command that answers it.\nExit code 1 if the run fails or is cancelled. Ctrl-C stops between two commits; what was \
                            committed stays.\n\nExample:\n  flowstone run trip --id trip-42 --state '{\"city\":\"Rome\"}' \
                            --store trips.db"
    )]
    Run(RunArguments),
    /// Go on with every unfinished run, until each ends or waits
    #[command(
        after_help = "Exit code 1 if a run fails, is cancelled or cannot go on. Ctrl-C stops between two commits; what \
                            was committed stays.\n\nExample:\n  flowstone resume --store trips.db"
    )]
    Resume(ResumeArguments),
    #[command(flatten)]
    Every(Command),
}

/// The commands on runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    #[command(after_help = "Times are RFC 3339, a date, or how long ago: 30min, 2h, 7d.\n\n\
                            Example:\n  flowstone runs list --store trips.db --status failed --status paused --since 2h")]
    List(ListArguments),
    /// Show a run: its steps, its open question, why it failed
    #[command(after_help = "It prints the sizes of states, not what is in them: see `runs state`.\n\n\
                            Example:\n  flowstone runs show trip-42 --store trips.db")]
    Show(ShowArguments),
    /// Print the state of a run as JSON
    #[command(after_help = "Example:\n  flowstone runs state trip-42 --step 3 --store trips.db")]
    State(StateArguments),
    /// Print what changed in the state between two steps
    #[command(
        after_help = "One line a change: `+` added, `-` removed, `~` replaced. With --json: a JSON patch (RFC 6902).\n\n\
                            Example:\n  flowstone runs diff trip-42 2 3 --store trips.db"
    )]
    Diff(DiffArguments),
    /// Answer the question of a paused run
    #[command(
        after_help = "The answer is checked against the schema of the question, which `runs show` prints. It is given \
                            once.\n\nExamples:\n  flowstone runs answer trip-42 --node approve true --store trips.db\n  \
                            flowstone runs answer trip-42 --node review @review.json --store trips.db\n  \
                            flowstone runs answer march --node 'review[3]/approve' true --store invoices.db"
    )]
    Answer(AnswerArguments),
    /// Cancel a run that has not ended
    #[command(after_help = "Example:\n  flowstone runs cancel trip-42 --store trips.db")]
    Cancel(RunArgument),
    /// Let a run go on that failed or was cancelled, from the node where it stopped and with its finished items
    #[command(after_help = "Example:\n  flowstone runs retry trip-42 --store trips.db")]
    Retry(RunArgument),
    /// Start a new run from a step of another, with changes to its state
    #[command(
        after_help = "A value is JSON, so a text is in quotes. The place is a JSON pointer (RFC 6901); `-` at the end of a \
                            list appends.\n\nExample:\n  flowstone runs fork trip-42 --step 3 --to trip-43 \
                            --set '/city=\"Rome\"' --store trips.db"
    )]
    Fork(ForkArguments),
    /// Delete finished runs by age or count; the file shrinks
    #[command(
        after_help = "Without --status, runs that ended or were cancelled are deleted. Runs that are under way are never deleted.\n\n\
                            Example:\n  flowstone runs prune --older-than 30d --keep 1000 --dry-run --store trips.db"
    )]
    Prune(PruneArguments),
    /// Delete a run that is not under way, with its history
    #[command(after_help = "Example:\n  flowstone runs delete trip-42 --store trips.db")]
    Delete(RunArgument),
}

/// Which store, and how to print.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The store file
    #[arg(long, value_name = "FILE", env = "FLOWSTONE_STORE", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) store: PathBuf,
    /// Print one JSON document, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// A run.
#[derive(Debug, Args)]
pub(crate) struct RunArgument {
    /// The id of the run
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only runs of this flow
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,
    /// Only runs in this status; can be given again
    #[arg(long, value_name = "STATUS", value_parser = status())]
    pub(crate) status: Vec<Status>,
    /// Only runs that were started at this time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<std::time::SystemTime>,
    /// Only runs that were started before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<std::time::SystemTime>,
    /// At most so many runs
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = window())]
    pub(crate) limit: Window,
    /// Go on after the page before, with the cursor that it ended with
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<Cursor>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The id of the run
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Show steps from this one on, instead of the last ones
    #[arg(long, value_name = "STEP")]
    pub(crate) from: Option<u64>,
    /// Show at most so many steps
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = window())]
    pub(crate) limit: Window,
    /// List the children of the run: the runs that its batch flows made
    #[arg(long)]
    pub(crate) children: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct StateArguments {
    /// The id of the run
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The state after this step, not after the last
    #[arg(long, value_name = "N")]
    pub(crate) step: Option<u64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// The id of the run
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The step to compare
    #[arg(value_name = "A")]
    pub(crate) from: u64,
    /// The step to compare it with
    #[arg(value_name = "B")]
    pub(crate) to: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArguments {
    /// The id of the run, or of the child that asks
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The node that asks, as `runs show` names it; not needed where one question is open
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// The step of the run that asks, so that no later question of the node is answered
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<u64>,
    /// The answer: JSON, @FILE, or - for stdin; a bare word is a text where the question takes one
    #[arg(value_name = "ANSWER", allow_hyphen_values = true)]
    pub(crate) answer: String,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct ForkArguments {
    /// The id of the run to begin from
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The step to begin from; 0 is the start
    #[arg(long, value_name = "STEP")]
    pub(crate) step: u64,
    /// The id of the new run
    #[arg(long, value_name = "NEWID")]
    pub(crate) to: String,
    /// Change the state at a JSON pointer; can be given again
    #[arg(long, value_name = "/POINTER=JSON")]
    pub(crate) set: Vec<Pointed>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = true, args = ["older_than", "keep"])]
pub(crate) struct PruneArguments {
    /// Spare runs that finished less than this ago, as 30d or 12h
    #[arg(long, value_name = "AGE", value_parser = length)]
    pub(crate) older_than: Option<std::time::Duration>,
    /// Spare the newest so many of them
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,
    /// Delete runs in this status, not those that ended or were cancelled; can be given again
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Vec<Finished>,
    /// Only runs of this flow
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// The statuses of a run that can be pruned.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Finished {
    Ended,
    Failed,
    Cancelled,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArguments {
    /// Only this flow
    #[arg(long, value_name = "NAME")]
    pub(crate) flow: Option<String>,
    #[command(flatten)]
    pub(crate) form: GraphForm,
    /// The store file; a program with flows of its own shows those without it
    #[arg(long, value_name = "FILE", env = "FLOWSTONE_STORE", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) store: Option<PathBuf>,
}

/// The form in which a graph is printed.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct GraphForm {
    /// Print a Mermaid flowchart
    #[arg(long)]
    pub(crate) mermaid: bool,
    /// Print it in Graphviz's DOT language
    #[arg(long)]
    pub(crate) dot: bool,
    /// Print one JSON document, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The flow to run
    #[arg(value_name = "FLOW")]
    pub(crate) flow: String,
    /// The id of the run
    #[arg(long, value_name = "ID")]
    pub(crate) id: String,
    /// The state to start with: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "STATE", default_value = "{}", allow_hyphen_values = true)]
    pub(crate) state: String,
    #[command(flatten)]
    pub(crate) resume: ResumeArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    /// Wait through questions and sleeps, too, until runs end, fail or are cancelled
    #[arg(long)]
    pub(crate) wait: bool,
    /// Append what happens to this file, an event a line, as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) events: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}
