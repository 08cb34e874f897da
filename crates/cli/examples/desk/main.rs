//! A program with durable flows, and the command line that comes with them.
//!
//! ```text
//! desk run invoice --id march --state '{"lines":[120,80]}' --store desk.db
//! desk runs answer march --node approve yes --store desk.db
//! desk resume --store desk.db
//! ```

use std::process::ExitCode;

use flowstone_cli::Flows;
use flowstone_core::BuildError;

mod flows;

fn main() -> Result<ExitCode, BuildError> {
    let flows = Flows::new().with(flows::invoice()?).with(flows::year()?).with(flows::reminder()?);
    Ok(flowstone_cli::main(flows))
}
