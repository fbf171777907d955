//! minimage as a BuildKit frontend: so far the shell that the gateway client and the worker will live in.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    // If standard error is gone, the exit code still tells.
    let _ = writeln!(io::stderr(), "minimage-frontend {}: serves no builds yet", env!("CARGO_PKG_VERSION"));
    ExitCode::FAILURE
}
