//! From arguments to an exit code: [`main`].

use std::{
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::{FromArgMatches, Subcommand, builder::PossibleValuesParser};

use crate::{
    arguments::{BareCommand, Command, NewArguments, OwnCommand, ResumeArguments, RunArguments},
    drive,
    flows::Flows,
    graph, new,
    runs::{self, Program},
    screen::Screen,
    stop::{Result, Stop, one_line},
    words::for_shell,
};

/// Does what the arguments of the process ask for, and returns its exit code: the whole `main` of a program with
/// durable flows.
///
/// With flows it has the commands of `flowstone`, and `run` and `resume`, which drive runs of these flows in a store
/// file. The exit code is 0 if that went well, 1 if it failed, 2 if the arguments are wrong, 130 after Ctrl-C.
///
/// # Example
///
/// ```
/// use std::process::ExitCode;
///
/// use flowstone_cli::Flows;
/// use flowstone_core::{BuildError, Flow};
///
/// // The `main` of the program `counter`: `counter run count --id a --state 41 --store counts.db`
/// fn program() -> Result<ExitCode, BuildError> {
///     Ok(flowstone_cli::main(flows()?))
/// }
///
/// fn flows() -> Result<Flows, BuildError> {
///     let mut count = Flow::builder("count");
///     let add = count.add("add", |n: &mut u32| *n += 1);
///     count.start(add);
///     Ok(Flows::new().with(count.build()?))
/// }
///
/// assert!(flows().is_ok());
/// ```
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "flows are made for this call: `main(Flows::new().with(flow))`")]
pub fn main(flows: Flows) -> ExitCode {
    let mut screen = Screen::stdout();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let (program, typed) = (name(&arguments), typed(&arguments));
    let mut command = command(&program, &flows);
    if let Some(name) = flows.named_twice() {
        return code(Err(Stop::failed(format!("this program has two flows of the name `{name}`"))), &mut command);
    }
    let matches = match command.try_get_matches_from_mut(&arguments) {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let done = match asked(&matches, &flows) {
        Ok(Asked::New(arguments)) => new::new(&arguments, &mut screen),
        Ok(Asked::Run(arguments)) => drive::run(&arguments, &flows, &typed, &mut screen),
        Ok(Asked::Resume(arguments)) => drive::resume(&arguments, &flows, &typed, &mut screen),
        Ok(Asked::Every(Command::Runs(runs))) => {
            let program = Program { typed: &typed, drives: !flows.is_empty() };
            runs::runs(&runs, program, &mut screen)
        }
        Ok(Asked::Every(Command::Graph(arguments))) => graph::graph(&arguments, &flows, &mut screen),
        Ok(Asked::Every(Command::Completions { shell })) => completions(shell, &mut command, &mut screen),
        Err(error) => return usage(&error),
    };
    // The output comes before the reason why it ended.
    let flushed = screen.flush();
    code(done.and(flushed), &mut command)
}

/// A command, of whichever program.
enum Asked {
    New(NewArguments),
    Run(RunArguments),
    Resume(ResumeArguments),
    Every(Command),
}

fn asked(matches: &clap::ArgMatches, flows: &Flows) -> Result<Asked, clap::Error> {
    if flows.is_empty() {
        return BareCommand::from_arg_matches(matches).map(|command| match command {
            BareCommand::New(arguments) => Asked::New(arguments),
            BareCommand::Every(command) => Asked::Every(command),
        });
    }
    OwnCommand::from_arg_matches(matches).map(|command| match command {
        OwnCommand::Run(arguments) => Asked::Run(arguments),
        OwnCommand::Resume(arguments) => Asked::Resume(arguments),
        OwnCommand::Every(command) => Asked::Every(command),
    })
}

/// The program in a command that can be copied: as it was called, by its name or its path.
fn typed(arguments: &[OsString]) -> String {
    let program = arguments.first().map_or_else(|| "flowstone".into(), |program| program.to_string_lossy());
    for_shell(&program).into_owned()
}

/// The name of this program in its help.
fn name(arguments: &[OsString]) -> String {
    let path = arguments.first().map(Path::new).and_then(Path::file_name);
    let name = path.map_or_else(|| "flowstone".into(), |name| name.to_string_lossy());
    name.strip_suffix(std::env::consts::EXE_SUFFIX).unwrap_or(&name).to_owned()
}

fn command(program: &str, flows: &Flows) -> clap::Command {
    let command = clap::Command::new(program.to_owned()).subcommand_required(true).arg_required_else_help(true);
    let names = flows.names();
    let command = if names.is_empty() {
        BareCommand::augment_subcommands(command)
            .version(env!("CARGO_PKG_VERSION"))
            .about("Looks into a store of durable runs, and acts on them")
            .after_help("A program that runs its flows has `run` and `resume`, too: see `flowstone::cli::main`.")
    } else {
        OwnCommand::augment_subcommands(command)
            .about(format!("Runs flows that survive a crash: {}", names.join(", ")))
            .mut_subcommand("run", |run| {
                run.mut_arg("flow", |flow| flow.value_parser(PossibleValuesParser::new(names)))
            })
    };
    named(command, program)
}

/// Lets the examples in the help call this program by its name.
fn named(command: clap::Command, program: &str) -> clap::Command {
    let help = command.get_after_help().map(ToString::to_string);
    let command = match help {
        Some(help) => command.after_help(help.replace("flowstone ", &format!("{program} "))),
        None => command,
    };
    command.mut_subcommands(|inner| named(inner, program))
}

fn completions<W: Write>(
    shell: clap_complete::Shell,
    command: &mut clap::Command,
    screen: &mut Screen<W>,
) -> Result<()> {
    let name = command.get_name().to_owned();
    // First into memory, since the generator panics if the reader of a pipe has gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    screen.raw(&script)
}

/// Prints help, or the fault of the arguments.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to be told if this fails.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn code(done: Result<()>, command: &mut clap::Command) -> ExitCode {
    match done {
        Ok(()) | Err(Stop::PipeClosed) => ExitCode::SUCCESS,
        Err(Stop::Failed(message)) => {
            complain(&format!("error: {}", one_line(&message)));
            ExitCode::FAILURE
        }
        Err(Stop::Usage(message)) => usage(&command.error(clap::error::ErrorKind::MissingRequiredArgument, message)),
        Err(Stop::Signalled(signal)) => {
            complain(&format!("{}: what was committed stays, and `resume` goes on from there", signal.word()));
            ExitCode::from(signal.code())
        }
    }
}

fn complain(message: &str) {
    // Nobody is left to be told if this fails.
    drop(writeln!(io::stderr(), "{message}"));
}
