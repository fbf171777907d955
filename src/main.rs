//! The command `minimage`.

use std::process::ExitCode;

fn main() -> ExitCode {
    minimage::cli::run(std::env::args_os())
}
