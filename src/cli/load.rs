//! `minimage load`: an image on this machine -> a container engine on this machine.

use std::env;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use thiserror::Error;
use tokio::runtime::Runtime;

use super::args::LoadArguments;
use super::connection::runtime;
use super::console::Console;
use super::{Outcome, boxed, stored};
use crate::destination::{Containerd, Destination, Docker, DockerAddress, Podman};
use crate::explain::{Explain, Explanation, Failure};

/// An engine that keeps images on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(super) enum EngineName {
    /// Docker, through its socket; no client is needed.
    Docker,
    /// Podman, and everything else that shares its storage, through its command.
    Podman,
    /// containerd, through its command `ctr`.
    Containerd,
}

/// There is no engine to load into.
#[derive(Debug, Error)]
#[error("no container engine is found on this machine")]
struct NoEngine;

impl Explain for NoEngine {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("no-engine", self.to_string())
                .why("there is no socket of Docker, and neither `podman` nor `ctr` in PATH")
                .fix("start Docker, or say where it is with DOCKER_HOST")
                .fix("or write a file with `-o type=docker,dest=FILE`"),
        ]
    }

    fn failure(&self) -> Failure {
        Failure::Outside
    }
}

/// DOCKER_HOST is of a kind that is not spoken.
#[derive(Debug, Error)]
#[error("DOCKER_HOST is `{address}`, which is neither `unix://PATH` nor `tcp://HOST:PORT`")]
struct UnknownAddress {
    address: String,
}

impl Explain for UnknownAddress {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("usage", self.to_string())
                .fix("write a file with `-o type=docker,dest=FILE`, and load it there with `docker load`"),
        ]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// An engine, and what to call it.
pub(super) struct Engine<'a> {
    pub(super) destination: Box<dyn Destination + 'a>,
    pub(super) place: String,
}

/// Returns the engine called `name`; without a name, the first that this machine has.
pub(super) fn engine<'a>(
    name: Option<EngineName>,
    runtime: &'a Runtime,
) -> Result<Engine<'a>, Box<dyn Explain>> {
    let docker = match name {
        Some(EngineName::Docker) | None => docker_address(name)?,
        _ => None,
    };
    if let Some(address) = docker {
        let place = format!("docker at {address}");
        return Ok(Engine { destination: Box::new(Docker { address, runtime }), place });
    }
    match name {
        Some(EngineName::Podman) => Ok(podman()),
        Some(EngineName::Containerd) => Ok(containerd()),
        _ if is_in_path("podman") => Ok(podman()),
        _ if is_in_path("ctr") => Ok(containerd()),
        _ => Err(boxed(NoEngine)),
    }
}

fn podman<'a>() -> Engine<'a> {
    Engine { destination: Box::new(Podman), place: "podman".to_owned() }
}

fn containerd<'a>() -> Engine<'a> {
    let namespace = env::var("CONTAINERD_NAMESPACE").unwrap_or_else(|_| "default".to_owned());
    let place = format!("containerd, namespace {namespace}");
    Engine { destination: Box::new(Containerd { namespace }), place }
}

/// Returns where Docker is, if it is anywhere; where it would be, if it was asked for.
fn docker_address(name: Option<EngineName>) -> Result<Option<DockerAddress>, Box<dyn Explain>> {
    if let Ok(address) = env::var("DOCKER_HOST")
        && !address.is_empty()
    {
        return match (address.strip_prefix("unix://"), address.strip_prefix("tcp://")) {
            (Some(path), _) => Ok(Some(DockerAddress::Socket(path.into()))),
            (_, Some(host)) => Ok(Some(DockerAddress::Host(host.trim_end_matches('/').to_owned()))),
            _ => Err(boxed(UnknownAddress { address })),
        };
    }
    let usual = PathBuf::from("/var/run/docker.sock");
    // Where Docker listens that runs without root.
    let own = env::var_os("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("docker.sock"));
    let found = own.into_iter().chain([usual.clone()]).find(|path| path.exists());
    Ok(found.or_else(|| name.is_some().then_some(usual)).map(DockerAddress::Socket))
}

fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

pub(super) fn run(arguments: &LoadArguments, console: &mut Console) -> Outcome {
    let stored = stored::open(&arguments.image)?;
    let names = if arguments.tags.is_empty() { &stored.names } else { &arguments.tags };
    let runtime = runtime()?;
    let engine = engine(arguments.to, &runtime)?;
    let published = engine.destination.publish(&stored.layout, &stored.image, names).map_err(boxed)?;
    console.say(&format!("  to {}", engine.place));
    for line in published.lines() {
        console.line(&line)?;
    }
    Ok(())
}
