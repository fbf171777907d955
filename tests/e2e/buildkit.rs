//! Dockerfiles -> images, by a real buildkitd that gets minimage, and everything else, from a registry of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::daemons::{Daemon, Witness};
use crate::engines::Docker;
use crate::frontend;
use crate::layout::{Image, Layout};
use crate::minimage::Workspace;
use crate::outcome::Outcome;
use crate::registry::Registry;
use crate::requirement::{BUILDKIT, DEBIAN, ROOT, debian_archive, present};
use crate::sandbox::sandbox;

/// A client of a buildkitd that all tests of this run share. docker.io is a registry of this run, with the frontend as
/// `minimage` and a small Debian as `debian`.
pub(crate) struct BuildKit {
    shared: &'static Shared,
    _witness: Witness,
}

struct Shared {
    daemon: Daemon,
    socket: PathBuf,
    registry: Registry,
}

impl BuildKit {
    /// Returns a client; skips if there is no buildkitd on this machine.
    pub(crate) fn client() -> Option<Self> {
        static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
        if !present(&[ROOT, BUILDKIT, DEBIAN]) {
            return None;
        }
        let shared = SHARED.get_or_init(Shared::start).as_ref()?;
        Some(Self { shared, _witness: shared.daemon.witness() })
    }

    /// Builds the Dockerfile in `context` with more `words` for buildctl.
    pub(crate) fn build(&self, context: &Path, words: &[&str]) -> Outcome {
        self.shared.build(context, words)
    }

    /// Builds the Dockerfile in `context`, which must succeed. Returns the image, which lies in the workspace.
    pub(crate) fn image(&self, workspace: &Workspace, context: &Path, words: &[&str]) -> Image {
        let archive = workspace.path(format!("image-{}.tar", unique()));
        let output = format!("type=oci,name=built,dest={}", archive.display());
        self.build(context, &[&["--output", &output], words].concat()).success();
        Layout::from_archive(&archive).image()
    }

    /// Returns the reference of the base image that Dockerfiles call `debian:bookworm`.
    pub(crate) fn debian(&self) -> String {
        self.shared.registry.reference("library/debian:bookworm")
    }

    /// Builds the Dockerfile in `context`, which must succeed, and runs what comes of it; skips without Docker.
    pub(crate) fn run(&self, workspace: &Workspace, context: &Path) -> Option<Outcome> {
        let docker = Docker::client()?;
        let number = unique();
        let (name, archive) = (format!("e2e.test/{number}"), workspace.path(format!("docker-{number}.tar")));
        let output = format!("type=docker,name={name},dest={}", archive.display());
        self.build(context, &["--output", &output]).success();
        docker.load(&archive);
        Some(docker.run(&["run", "--rm", "--network", "none", &name]))
    }
}

fn unique() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

impl Shared {
    fn start() -> Option<Self> {
        let registry = Registry::start("docker.io")?;
        let (daemon, socket) = Self::start_with(&registry, "overlayfs")
            .or_else(|overlay| {
                Self::start_with(&registry, "native").map_err(|copies| format!("{overlay}\n{copies}"))
            })
            .unwrap_or_else(|log| panic!("{log}"));
        let shared = Self { daemon, socket, registry };
        shared.push_debian();
        frontend::push(&shared.registry.reference("library/minimage:latest"));
        Some(shared)
    }

    fn start_with(registry: &Registry, snapshotter: &str) -> Result<(Daemon, PathBuf), String> {
        let directory = sandbox().subdirectory(format!("buildkit-{snapshotter}"));
        let (settings, socket) = (directory.join("buildkitd.toml"), directory.join("buildkitd.sock"));
        let address = registry.address();
        let text = format!(
            "root = {root:?}\n\
             [grpc]\naddress = [\"unix://{socket}\"]\n\
             [worker.containerd]\nenabled = false\n\
             [worker.oci]\nsnapshotter = {snapshotter:?}\n\
             [registry.\"docker.io\"]\nmirrors = [\"{address}\"]\n\
             [registry.\"{address}\"]\nhttp = true\n",
            root = directory.join("root"),
            socket = socket.display(),
        );
        fs::write(&settings, text).unwrap();
        let mut command = sandbox().command("buildkitd");
        // It mounts there, and is not the only one who does.
        command.arg("--config").arg(&settings).env("TMPDIR", sandbox().subdirectory("buildkit-tmp"));
        let ready = |line: &str| line.contains("running server on").then_some(());
        Daemon::start("buildkitd", &mut command, ready).map(|(daemon, ())| (daemon, socket))
    }

    /// Puts the base image into the registry, as its users would build one.
    fn push_debian(&self) {
        let context = sandbox().subdirectory("debian");
        let archive = context.join("debian.tar");
        fs::hard_link(debian_archive(), &archive)
            .or_else(|_| fs::copy(debian_archive(), &archive).map(|_| ()))
            .unwrap();
        fs::write(context.join("Dockerfile"), "FROM scratch\nADD debian.tar /\nCMD [\"bash\"]\n").unwrap();
        let name = self.registry.reference("library/debian:bookworm");
        let output = format!("type=image,name={name},push=true,registry.insecure=true");
        self.build(&context, &["--output", &output]).success();
    }

    fn build(&self, context: &Path, words: &[&str]) -> Outcome {
        let mut command = sandbox().command("buildctl");
        command
            .args(["--addr", &format!("unix://{}", self.socket.display())])
            .args(["build", "--progress", "plain", "--frontend", "dockerfile.v0"])
            .args(["--local", &format!("context={}", context.display())])
            .args(["--local", &format!("dockerfile={}", context.display())])
            .args(words);
        Outcome::of(&mut command)
    }
}
