//! The command line: arguments -> a result on standard output, everything for people on standard error.

mod args;
mod build;
mod cache;
mod connection;
mod console;
mod docker;
mod files;
mod load;
mod output;
mod platforms;
mod progress;
mod project;
mod push;
mod reports;
mod resolution;
mod results;
mod scratch;
mod selection;
mod source;
mod stored;
mod summary;
mod tree;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use self::args::{Arguments, Command, Format};
use self::console::Console;
use crate::destination::{PublishError, Published};
use crate::explain::Explain;
use crate::layer;

/// Runs minimage with `arguments`, the name of the program first, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words = args::normalized(arguments.into_iter().collect());
    let mut arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => return console::usage(&error),
    };
    let mut console = Console::new();
    if let Command::Build(options) = &arguments.command
        && options.names_nothing()
    {
        arguments = match project::completed(&words, options.pushed_to()).map(Arguments::with_project) {
            Ok(Ok(arguments)) => arguments,
            Ok(Err(error)) => return console::usage(&error),
            Err(error) => {
                console.failed(&*error);
                return ExitCode::from(error.failure() as u8);
            }
        };
    }
    console::start_logging(arguments.verbose);
    let outcome = match &arguments.command {
        Command::Build(options) => build::run(options, &mut console),
        Command::Tree(options) => tree::run(options, &mut console),
        Command::Why(options) => why::why(options, &mut console),
        Command::WhyNot(options) => why::why_not(options, &mut console),
        Command::Push(options) => push::run(options, &mut console),
        Command::Load(options) => load::run(options, &mut console),
        Command::Cache(command) => cache::run(command, &mut console),
        Command::Version(options) => console.line(&version(options.format)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.failed(&*error);
            ExitCode::from(error.failure() as u8)
        }
    }
}

/// Returns the version: of the program, and of the bytes that it writes.
fn version(format: Format) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match format {
        Format::Text => version.to_owned(),
        Format::Json => json!({ "version": version, "format": layer::FORMAT_VERSION }).to_string(),
    }
}

/// Returns the lines for scripts of what arrived, be it all or a part.
fn arrived(outcome: &Result<Published, PublishError>) -> Vec<String> {
    match outcome {
        Ok(published) => published.lines(),
        Err(PublishError::Partly(partly)) => partly.published.lines(),
        Err(_) => Vec::new(),
    }
}

/// What a command ends with.
type Outcome = Result<(), Box<dyn Explain>>;

fn boxed<E: Explain + 'static>(error: E) -> Box<dyn Explain> {
    Box::new(error)
}
