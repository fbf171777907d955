//! `minimage load`: an image on this machine -> a container engine on this machine.

use std::env;

use clap::ValueEnum;
use thiserror::Error;
use tokio::runtime::Runtime;

use super::args::LoadArguments;
use super::connection::runtime;
use super::console::Console;
use super::{Outcome, boxed, docker, stored};
use crate::destination::{Containerd, Destination, Docker, DockerAddress, Podman};
use crate::explain::{Explain, Explanation, Failure};
use crate::oci::{Descriptor, Layout, Platform, Reference, Wanted, find, platform};

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

/// A name for an engine has a digest, which is not for anybody to choose.
#[derive(Debug, Error)]
#[error("`{name}` has a digest, and an engine knows images by tags")]
struct DigestInTag {
    name: Reference,
}

impl Explain for DigestInTag {
    fn explain(&self) -> Vec<Explanation> {
        let (name, tag) = (self.name.without_version(), self.name.tag().unwrap_or("TAG"));
        let fix = format!("name the image `{name}:{tag}`");
        vec![Explanation::new("usage", self.to_string()).fix(fix)]
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
        // If it is asked for, it is at least known where it would be.
        Some(EngineName::Docker) => {
            let found = docker::address(&|name| env::var_os(name)).map_err(boxed)?;
            found.or_else(|| Some(DockerAddress::Socket(docker::usual_socket())))
        }
        None => docker::address(&|name| env::var_os(name)).map_err(boxed)?,
        Some(EngineName::Podman | EngineName::Containerd) => None,
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

fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Returns what an engine gets of `image`: of an index, the image for `wanted`.
pub(super) fn for_engine(
    layout: &Layout,
    image: &Descriptor,
    wanted: &Platform,
    console: &mut Console,
) -> Result<Descriptor, Box<dyn Explain>> {
    let place = layout.path().display().to_string();
    let wanted_image = Wanted { name: None, platform: wanted };
    let chosen = find(layout, std::slice::from_ref(image), &wanted_image, &place).map_err(boxed)?;
    if chosen.digest() != image.digest() {
        console.say(&format!("  of its platforms, the engine gets {}", platform::shown(wanted)));
    }
    Ok(chosen)
}

pub(super) fn run(arguments: &LoadArguments, console: &mut Console) -> Outcome {
    if let Some(name) = arguments.tags.iter().find(|name| name.digest().is_some()) {
        return Err(boxed(DigestInTag { name: name.clone() }));
    }
    let stored = stored::open(&arguments.image)?;
    let host = platform::host();
    let wanted = arguments.platform.as_ref().unwrap_or(&host);
    let image = for_engine(&stored.layout, &stored.image, wanted, console)?;
    let names = if arguments.tags.is_empty() { &stored.names } else { &arguments.tags };
    let runtime = runtime()?;
    let engine = engine(arguments.to, &runtime)?;
    let published = engine.destination.publish(&stored.layout, &image, names).map_err(boxed)?;
    console.say(&format!("  to {}", engine.place));
    for line in published.lines() {
        console.line(&line)?;
    }
    Ok(())
}
