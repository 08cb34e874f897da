//! The program `flowstone`: the commands of [`flowstone_cli::main`] without flows of its own.

use std::process::ExitCode;

use flowstone_cli::Flows;

fn main() -> ExitCode {
    flowstone_cli::main(Flows::new())
}
