//! `--load=podman`, `--load=containerd`: the image in an engine that is spoken to through its command.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::archive::{self, ArchiveKind, WriteError};
use super::{Destination, PublishError, Published};
use crate::oci::{Descriptor, Layout, Reference};

/// How much of what a command says is kept, in bytes.
const WORDS_MAX: u64 = 64 << 10;
/// How many of its last lines are shown.
const LINES_MAX: usize = 5;

/// The images of Podman, Buildah and CRI-O of this user.
#[derive(Debug, Clone, Copy)]
pub struct Podman;

/// The images of containerd.
#[derive(Debug, Clone)]
pub struct Containerd {
    /// Whose images: `default`, or `k8s.io` for Kubernetes.
    pub namespace: String,
}

impl Destination for Podman {
    fn publish(
        &self,
        layout: &Layout,
        image: &Descriptor,
        names: &[Reference],
    ) -> Result<Published, PublishError> {
        let mut command = Command::new("podman");
        command.args(["load", "--quiet"]);
        load("Podman", &mut command, layout, image, names)
    }
}

impl Destination for Containerd {
    fn publish(
        &self,
        layout: &Layout,
        image: &Descriptor,
        names: &[Reference],
    ) -> Result<Published, PublishError> {
        let mut command = Command::new("ctr");
        command.args(["--namespace", &self.namespace, "images", "import", "-"]);
        load("containerd", &mut command, layout, image, names)
    }
}

/// Runs `command` with the archive of `image` as its input.
fn load(
    engine: &'static str,
    command: &mut Command,
    layout: &Layout,
    image: &Descriptor,
    names: &[Reference],
) -> Result<Published, PublishError> {
    let error = |source| PublishError::Command { command: command_name(engine), source };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(error)?;
    let (written, said) = converse(&mut child, layout, image, names);
    let status = child.wait().map_err(error)?;
    if !status.success() {
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.iter().skip(lines.len().saturating_sub(LINES_MAX));
        let messages = last.map(|line| crate::path::show(line.as_bytes())).collect();
        return Err(PublishError::Engine { engine, status: status.to_string(), messages });
    }
    match written {
        Ok(()) => Ok(Published { digest: layout.digest_of(image)?, names: names.to_vec() }),
        Err(WriteError::Layout(error)) => Err(error.into()),
        Err(WriteError::Io(source)) => Err(error(source)),
    }
}

/// Writes the archive to the command, and listens to what it says meanwhile.
fn converse(
    child: &mut Child,
    layout: &Layout,
    image: &Descriptor,
    names: &[Reference],
) -> (Result<(), WriteError>, String) {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    thread::scope(|scope| {
        let listener = scope.spawn(|| {
            let mut words = Vec::new();
            if let Some(mut stderr) = stderr {
                // What cannot be read is not there to be shown.
                let _ = stderr.by_ref().take(WORDS_MAX).read_to_end(&mut words);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            String::from_utf8_lossy(&words).into_owned()
        });
        let written = stdin.map_or(Ok(()), |stdin| {
            let mut pipe = std::io::BufWriter::with_capacity(1 << 20, stdin);
            archive::write(layout, image, names, ArchiveKind::OciAndDocker, &mut pipe)
                .and_then(|()| Ok(pipe.flush()?))
        });
        (written, listener.join().unwrap_or_default())
    })
}

fn command_name(engine: &str) -> &'static str {
    if engine == "containerd" { "ctr" } else { "podman" }
}
