//! Dockerfiles -> images, by a real buildkitd that gets minimage, and everything else, from a registry of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;

use crate::daemons::{Daemon, Witness};
use crate::engines::Docker;
use crate::frontend;
use crate::layout::{Image, Layout, text};
use crate::minimage::Workspace;
use crate::outcome::Outcome;
use crate::registry::Registry;
use crate::requirement::{BUILDKIT, DEBIAN, ROOT, TOOLCHAINS, archive, find, present};
use crate::sandbox::sandbox;

/// An image in the registry.
pub(crate) struct Pushed {
    /// What Docker runs.
    pub(crate) reference: String,
    pub(crate) digest: String,
    pub(crate) manifest: Value,
    pub(crate) config: Value,
}

/// A client of a buildkitd that all tests of this run share. docker.io is a registry of this run, with the frontend as
/// `minimage` and a small Debian as `debian`.
pub(crate) struct BuildKit {
    shared: &'static Shared,
    _witness: Witness,
}

struct Shared {
    builder: Builder,
    registry: Registry,
}

/// A buildkitd. What it has built goes with it.
pub(crate) struct Builder {
    daemon: Daemon,
    directory: PathBuf,
    socket: PathBuf,
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.daemon.kill();
        let _ = fs::remove_dir_all(&self.directory); // what stays goes with the sandbox
    }
}

impl BuildKit {
    /// Returns a client; skips if there is no buildkitd on this machine.
    pub(crate) fn client() -> Option<Self> {
        static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
        if !present(&[ROOT, BUILDKIT, DEBIAN]) {
            return None;
        }
        let shared = SHARED.get_or_init(Shared::start).as_ref()?;
        Some(Self { shared, _witness: shared.builder.daemon.witness() })
    }

    /// Returns the builder that all tests of this run share.
    pub(crate) fn builder(&self) -> &Builder {
        &self.shared.builder
    }

    /// Returns the registry that is docker.io.
    pub(crate) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Starts a builder that has built nothing yet; `name` is that of its directory.
    ///
    /// # Errors
    /// The daemon's log, if it cannot work with `snapshotter` on this machine.
    pub(crate) fn empty_builder(&self, name: &str, snapshotter: &str) -> Result<Builder, String> {
        Builder::start(name, &self.shared.registry, snapshotter)
    }

    /// Starts a builder that has built nothing yet, and that nobody else uses; `name` is that of its directory.
    pub(crate) fn own_builder(&self, name: &str) -> Builder {
        Builder::start_somehow(name, &self.shared.registry)
    }

    /// Starts a builder that has built nothing yet, as a user without rights.
    ///
    /// # Errors
    /// The daemon's log, if that does not work on this machine.
    pub(crate) fn rootless_builder(&self) -> Result<Builder, String> {
        let directory = sandbox().subdirectory("buildkit-rootless");
        let script = directory.join("rootless.sh");
        fs::write(&script, include_str!("rootless.sh")).unwrap();
        let mut command = sandbox().command("sh");
        command.arg(script).arg("outside").arg(&directory).arg(find("buildkitd").unwrap());
        Builder::start_by(command, &directory, &self.shared.registry, "native")
    }

    /// Builds the Dockerfile in `context` with more `words` for buildctl.
    pub(crate) fn build(&self, context: &Path, words: &[&str]) -> Outcome {
        self.builder().build(context, words)
    }

    /// Builds the Dockerfile in `context`, which must succeed. Returns the image, which lies in the workspace.
    pub(crate) fn image(&self, workspace: &Workspace, context: &Path, words: &[&str]) -> Image {
        self.builder().layout(workspace, context, words).image()
    }

    /// Builds the Dockerfile in `context`, which must succeed, and pushes the image.
    pub(crate) fn push(&self, context: &Path, words: &[&str], repository: &str, tag: &str) -> Pushed {
        let registry = &self.shared.registry;
        let reference = registry.reference(&format!("{repository}:{tag}"));
        let output =
            format!("type=image,name={reference},push=true,registry.insecure=true,oci-mediatypes=true");
        self.build(context, &[words, &["--output", &output]].concat()).success();
        self.pushed(repository, tag)
    }

    /// Returns the image that is in the registry as `tag` of `repository`.
    pub(crate) fn pushed(&self, repository: &str, tag: &str) -> Pushed {
        let registry = &self.shared.registry;
        let reference = registry.reference(&format!("{repository}:{tag}"));
        let stored = registry.manifest(repository, tag).unwrap();
        let manifest: Value = serde_json::from_slice(&stored.bytes).unwrap();
        let config = registry.blob(repository, &text(&manifest["config"]["digest"]));
        let config = serde_json::from_slice(&config).unwrap();
        Pushed { reference, digest: stored.digest, manifest, config }
    }

    /// Builds the Dockerfile in `context`, which must succeed, for several platforms, and pushes the index.
    pub(crate) fn push_index(&self, context: &Path, words: &[&str], name: &str) {
        let reference = self.shared.registry.reference(name);
        let output =
            format!("type=image,name={reference},push=true,registry.insecure=true,oci-mediatypes=true");
        self.build(context, &[words, &["--output", &output]].concat()).success();
    }

    /// Puts the image with compilers into the registry, once.
    pub(crate) fn push_toolchains(&self) {
        static PUSHED: OnceLock<()> = OnceLock::new();
        PUSHED.get_or_init(|| {
            // It is large, and only goes from here to here.
            let plain = ",compression=uncompressed,force-compression=true";
            self.shared.push_base("buildpack-deps", &archive(TOOLCHAINS), plain);
        });
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

/// Returns a client of a Docker 20.10, whose builder is the BuildKit of that time; it has the frontend as `minimage`, and
/// the base images, as local tags. Skips without it.
pub(crate) fn builder_of_2020() -> Option<Docker> {
    static FILLED: OnceLock<()> = OnceLock::new();
    let docker = Docker::client()?;
    if !present(&[DEBIAN, TOOLCHAINS]) {
        return None;
    }
    FILLED.get_or_init(|| {
        assert_eq!(docker.load(&frontend::archive(&Workspace::new())), ["minimage:latest"]);
        for (component, name) in [(DEBIAN, "debian:bookworm"), (TOOLCHAINS, "buildpack-deps:bookworm")] {
            docker.run(&["import", archive(component).to_str().unwrap(), name]).success();
        }
    });
    Some(docker)
}

fn unique() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

impl Shared {
    fn start() -> Option<Self> {
        let registry = Registry::start("docker.io")?;
        let builder = Builder::start_somehow("shared", &registry);
        let shared = Self { builder, registry };
        shared.push_base("debian", &archive(DEBIAN), "");
        frontend::push(&shared.registry.reference("library/minimage:latest"));
        Some(shared)
    }

    /// Puts a root filesystem into the registry, as its users would build one.
    fn push_base(&self, name: &str, rootfs: &Path, attributes: &str) {
        let context = sandbox().subdirectory(format!("base-{name}"));
        let root = context.join("root.tar");
        // Of an attempt that failed: a copy onto a link of itself would leave nothing of the archive.
        let _ = fs::remove_file(&root);
        fs::hard_link(rootfs, &root).or_else(|_| fs::copy(rootfs, &root).map(|_| ())).unwrap();
        fs::write(context.join("Dockerfile"), "FROM scratch\nADD root.tar /\nCMD [\"bash\"]\n").unwrap();
        let name = self.registry.reference(&format!("library/{name}:bookworm"));
        let output = format!(
            "type=image,name={name},push=true,registry.insecure=true,oci-mediatypes=true{attributes}"
        );
        self.builder.build(&context, &["--output", &output]).success();
    }
}

impl Builder {
    /// Starts a builder with overlays, or with copies where there are none.
    fn start_somehow(name: &str, registry: &Registry) -> Self {
        Self::start(name, registry, "overlayfs")
            .or_else(|overlay| {
                let copies = Self::start(&format!("{name}-copies"), registry, "native");
                copies.map_err(|copies| format!("{overlay}\n{copies}"))
            })
            .unwrap_or_else(|log| panic!("{log}"))
    }

    fn start(name: &str, registry: &Registry, snapshotter: &str) -> Result<Self, String> {
        let directory = sandbox().subdirectory(format!("buildkit-{name}"));
        let mut command = sandbox().command("buildkitd");
        // It mounts there, and is not the only one who does.
        command.env("TMPDIR", sandbox().subdirectory("buildkit-tmp"));
        Self::start_by(command, &directory, registry, snapshotter)
    }

    /// Starts a builder, of which `command` is the beginning.
    fn start_by(
        mut command: Command,
        directory: &Path,
        registry: &Registry,
        snapshotter: &str,
    ) -> Result<Self, String> {
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
        command.arg("--config").arg(&settings);
        let ready = |line: &str| line.contains("running server on").then_some(());
        let (daemon, ()) = Daemon::start("buildkitd", &mut command, ready)?;
        Ok(Self { daemon, directory: directory.to_owned(), socket })
    }

    /// Returns something that shows the log if the test that holds it fails.
    pub(crate) fn witness(&self) -> Witness {
        self.daemon.witness()
    }

    /// Returns a command that builds the Dockerfile in `context`, and tells its progress in `form`.
    pub(crate) fn command(&self, context: &Path, form: &str) -> Command {
        let mut command = sandbox().command("buildctl");
        command
            .args(["--addr", &format!("unix://{}", self.socket.display())])
            .args(["build", "--progress", form, "--frontend", "dockerfile.v0"])
            .args(["--local", &format!("context={}", context.display())])
            .args(["--local", &format!("dockerfile={}", context.display())]);
        command
    }

    /// Builds the Dockerfile in `context` with more `words` for buildctl.
    pub(crate) fn build(&self, context: &Path, words: &[&str]) -> Outcome {
        Outcome::of(self.command(context, "plain").args(words))
    }

    /// Builds with inputs and more `words` for the client that has words for them.
    pub(crate) fn build_with_inputs(&self, words: &[&str]) -> Outcome {
        let mut command = sandbox().command("frontend-inputs");
        Outcome::of(command.arg("--addr").arg(format!("unix://{}", self.socket.display())).args(words))
    }

    /// Builds the Dockerfile in `context`, which must succeed. Returns what is exported, which lies in the workspace.
    pub(crate) fn layout(&self, workspace: &Workspace, context: &Path, words: &[&str]) -> Layout {
        let archive = workspace.path(format!("image-{}.tar", unique()));
        let output = format!("type=oci,name=built,dest={}", archive.display());
        self.build(context, &[&["--output", &output], words].concat()).success();
        Layout::from_archive(&archive)
    }

    /// Builds the Dockerfile in `context`, which must succeed, and exports nothing. Returns the progress.
    pub(crate) fn progress(&self, context: &Path, words: &[&str]) -> Progress {
        Progress::read(&Outcome::of(self.command(context, "rawjson").args(words)).success())
    }
}

/// What a client is told of a build.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The names of the vertices, and whether their results were there before.
    pub(crate) vertices: BTreeMap<String, bool>,
    /// The texts of the warnings.
    pub(crate) warnings: Vec<String>,
    /// What was fetched or unpacked on the way, by the names that BuildKit gives it: digests of layers, mostly.
    pub(crate) fetched: BTreeSet<String>,
}

impl Progress {
    fn read(outcome: &Outcome) -> Self {
        let mut progress = Self::default();
        let documents = outcome.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for document in documents {
            for vertex in document["vertexes"].as_array().into_iter().flatten() {
                let is_cached = vertex["cached"] == true;
                progress
                    .vertices
                    .entry(text(&vertex["name"]))
                    .and_modify(|known| *known |= is_cached)
                    .or_insert(is_cached);
            }
            for status in document["statuses"].as_array().into_iter().flatten() {
                progress.fetched.insert(text(&status["id"]));
            }
            for warning in document["warnings"].as_array().into_iter().flatten() {
                let bytes = BASE64.decode(text(&warning["short"])).unwrap();
                progress.warnings.push(String::from_utf8(bytes).unwrap());
            }
        }
        progress
    }
}
