//! The command line: arguments -> a result on standard output, everything for people on standard error.

mod args;
mod build;
mod output;
mod report;
mod reports;
mod tree;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use self::args::{Arguments, Command};
use self::report::Report;
use crate::explain::Explain;

/// Runs minimage with `arguments`, the name of the program first, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args::normalized(arguments.into_iter().collect())) {
        Ok(arguments) => arguments,
        Err(error) => return report::usage(&error),
    };
    report::start_logging(arguments.verbose);
    let mut report = Report::new();
    let outcome = match &arguments.command {
        Command::Build(options) => build::run(options, &mut report),
        Command::Tree(options) => tree::run(options, &mut report),
        Command::Why(options) => why::why(options, &mut report),
        Command::WhyNot(options) => why::why_not(options, &mut report),
        Command::Version => report.line(env!("CARGO_PKG_VERSION")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report.failed(&*error);
            ExitCode::from(error.failure() as u8)
        }
    }
}

/// What a command ends with.
type Outcome = Result<(), Box<dyn Explain>>;

fn boxed<E: Explain + 'static>(error: E) -> Box<dyn Explain> {
    Box::new(error)
}
