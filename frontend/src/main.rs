//! minimage as a BuildKit frontend: the client of the gateway, and the worker of the one step that it adds.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod proto;
mod gateway;
mod options;
mod variables;
mod instructions;
mod settings;
mod request;
mod inputs;
mod llb;
mod blame;
mod exec_form;
mod config;
mod build;
mod context;
mod project;
mod serve;
mod expand;
mod same;
mod served;
mod place;
mod application;
mod closure;
mod advice;
mod named;
mod minimise;
mod summary;
mod worker;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::gateway::{Gateway, GatewayError};
use crate::options::Options;
#[cfg(test)]
use trees::{cache_writer, elf_text, elf_writer, rpm_writer, tree_text};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some("step") => worker::run(&arguments.collect::<Vec<_>>()).map_err(Into::into),
        Some("project") => worker::run_project(&arguments.collect::<Vec<_>>()).map_err(Into::into),
        _ => serve().map_err(Box::<dyn Error>::from),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    let mut message = format!("minimage-frontend: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        message += &format!(": {error}");
        cause = error.source();
    }
    // If standard error is gone, the exit code still tells.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::FAILURE
}

/// Serves the daemon that started us. What is wrong with the build is an answer, too.
fn serve() -> Result<(), GatewayError> {
    let gateway = Gateway::connect()?;
    let options = Options::read(std::env::vars_os());
    let result = serve::build(&gateway, &options).map_err(build::ServeError::into_status);
    gateway.finish(result)
}

/// Root filesystems as text, with ELF files that are made on the spot.
#[cfg(test)]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "the integration tests of the library use all of it"
)]
#[path = "../../tests"]
mod trees {
    pub(crate) mod cache_writer;
    pub(crate) mod elf_text;
    pub(crate) mod elf_writer;
    pub(crate) mod rpm_writer;
    pub(crate) mod tree_text;
}
