//! Results, summaries and errors -> what people and scripts read.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use thiserror::Error;
use tracing_subscriber::EnvFilter;

use super::Outcome;
use crate::explain::{Explain, Explanation, Failure, Fix};
use crate::oci::ReferenceError;
use crate::spec::{LayeringError, SourceError};

/// Where a command reports to: data to standard output, words to standard error.
pub(super) struct Console;

/// Standard output cannot be written.
#[derive(Debug, Error)]
#[error("cannot write to standard output")]
struct StdoutError {
    source: io::Error,
}

impl Explain for StdoutError {
    fn explain(&self) -> Vec<Explanation> {
        vec![Explanation::new("unwritable-output", self.to_string()).because_of(self)]
    }
}

impl Console {
    pub(super) fn new() -> Self {
        Self
    }

    /// Prints one line of data.
    pub(super) fn line(&mut self, line: &str) -> Outcome {
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        match written {
            Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
                Err(Box::new(StdoutError { source }))
            }
            // Whoever closed the pipe has read what they wanted.
            _ => Ok(()),
        }
    }

    /// Says one line to people. If standard error is gone, there is nobody to tell.
    pub(super) fn say(&mut self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Explains to people why the command failed.
    pub(super) fn failed(&mut self, error: &dyn Explain) {
        let explanations = error.explain();
        let texts: Vec<_> = explanations.iter().map(ToString::to_string).collect();
        self.say(&texts.join("\n\n"));
    }
}

/// Reports what clap has to say: help is a result, the rest a wrong usage.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let mut explanation = usage_explanation(&error.render().to_string());
    // Of two that do not go together, clap's fix has both.
    if error.kind() == ErrorKind::ArgumentConflict {
        explanation.fixes = vec!["leave one of them away".into()];
    }
    // clap shows what is wrong with a value, and not what to do.
    explanation.fixes.extend(error.source().map(fixes).unwrap_or_default());
    Console::new().say(&explanation.to_string());
    ExitCode::from(Failure::Usage as u8)
}

/// Returns what to do about `error`, an error of ours behind one of clap's.
fn fixes(error: &(dyn Error + 'static)) -> Vec<Fix> {
    let explained = [
        error.downcast_ref::<LayeringError>().map(Explain::explain),
        error.downcast_ref::<ReferenceError>().map(Explain::explain),
        error.downcast_ref::<SourceError>().map(Explain::explain),
    ];
    explained.into_iter().flatten().flatten().flat_map(|explanation| explanation.fixes).collect()
}

/// Returns what clap says, in the form that all errors have.
fn usage_explanation(text: &str) -> Explanation {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut explanation = Explanation::new("usage", first.strip_prefix("error: ").unwrap_or(first));
    for line in lines {
        explanation = if let Some(tip) = line.strip_prefix("tip: ") {
            explanation.fix(tip)
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            explanation.fix(format!("write `{usage}`"))
        } else if line.starts_with("For more information") {
            explanation
        } else {
            explanation.why(line)
        };
    }
    explanation
}

/// Sends logs to standard error: warnings, and more with each `-v`; `MINIMAGE_LOG` has the syntax of
/// tracing's `EnvFilter` and wins.
pub(super) fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "minimage=warn",
        1 => "minimage=info",
        2 => "minimage=debug",
        _ => "minimage=trace",
    };
    let filter = EnvFilter::try_from_env("MINIMAGE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
    let has_color = is_terminal && std::env::var_os("NO_COLOR").is_none();
    // Fails only if somebody who uses the library has set up logging already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(has_color)
        .without_time()
        .try_init();
}
