//! minimage as a BuildKit frontend.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::FAILURE
}
