//! Images -> running programs: Docker, Podman, and the runtimes below them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::daemons::{Daemon, Witness};
use crate::outcome::Outcome;
use crate::requirement::{CONTAINERD, CRUN, Component, DOCKER, PODMAN, ROOT, UMOCI, find, present};
use crate::sandbox::sandbox;

/// A client of a dockerd that all tests of this run share.
pub(crate) struct Docker {
    client: PathBuf,
    socket: PathBuf,
    _witness: Witness,
}

impl Docker {
    /// Returns a client; skips if there is no dockerd on this machine.
    pub(crate) fn client() -> Option<Self> {
        static DAEMON: OnceLock<(Daemon, PathBuf)> = OnceLock::new();
        if !present(&[ROOT, DOCKER]) {
            return None;
        }
        let (daemon, socket) = DAEMON.get_or_init(Self::start);
        // Of several clients, the one that is packaged with the daemon speaks its version of the API for sure.
        let packaged = Some(PathBuf::from("/usr/bin/docker")).filter(|path| path.exists());
        let client = packaged.or_else(|| find("docker")).unwrap();
        Some(Self { client, socket: socket.clone(), _witness: daemon.witness() })
    }

    /// Starts dockerd; without overlay file systems (inside of a container, say) with plain copies.
    fn start() -> (Daemon, PathBuf) {
        Self::start_with("overlay2")
            .or_else(|overlay| Self::start_with("vfs").map_err(|copies| format!("{overlay}\n{copies}")))
            .unwrap_or_else(|log| panic!("{log}"))
    }

    fn start_with(driver: &str) -> Result<(Daemon, PathBuf), String> {
        let directory = sandbox().subdirectory(format!("docker-{driver}"));
        let (settings, socket) = (directory.join("daemon.json"), directory.join("docker.sock"));
        fs::write(&settings, "{}").unwrap();
        let mut command = sandbox().command("dockerd");
        command
            .args(["--config-file", settings.to_str().unwrap()])
            .args(["--host", &format!("unix://{}", socket.display())])
            .args(["--storage-driver", driver])
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--cgroup-parent", &sandbox().cgroup()])
            // No bridge, no filters, no forwarding: the network of this machine stays as it is.
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        let ready = |line: &str| line.contains("API listen on").then_some(());
        Daemon::start("dockerd", &mut command, ready).map(|(daemon, ())| (daemon, socket))
    }

    /// Runs the client.
    pub(crate) fn run(&self, words: &[&str]) -> Outcome {
        Outcome::of(
            Command::new(&self.client)
                .env_clear()
                .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
                .env("DOCKER_CONFIG", sandbox().subdirectory("docker-client"))
                // The builder that is BuildKit, of the same age as the daemon.
                .env("DOCKER_BUILDKIT", "1")
                .args(words),
        )
    }

    /// Returns what DOCKER_HOST is for it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Returns the socket of the containerd that it runs.
    pub(crate) fn containerd(&self) -> PathBuf {
        self.socket.with_file_name("exec").join("containerd/containerd.sock")
    }

    /// Loads an archive; returns the names or the image id that Docker reports for it.
    pub(crate) fn load(&self, archive: &Path) -> Vec<String> {
        loaded(&self.run(&["load", "--input", archive.to_str().unwrap()]).success())
    }
}

/// A containerd of its own.
pub(crate) struct Containerd {
    _daemon: Daemon,
    directory: PathBuf,
    _witness: Witness,
}

impl Containerd {
    /// Starts it; skips if there is none on this machine.
    pub(crate) fn start() -> Option<Self> {
        if !present(&[ROOT, CONTAINERD]) {
            return None;
        }
        let directory = sandbox().subdirectory(format!("containerd-{}", unique()));
        let (settings, shown) = (directory.join("config.toml"), directory.display());
        let text = format!(
            "version = 2\nroot = \"{shown}/root\"\nstate = \"{shown}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{shown}/socket\"\n"
        );
        fs::write(&settings, text).unwrap();
        let mut command = sandbox().command("containerd");
        command.arg("--config").arg(settings);
        let ready = |line: &str| line.contains("containerd successfully booted").then_some(());
        let (daemon, ()) =
            Daemon::start("containerd", &mut command, ready).unwrap_or_else(|log| panic!("{log}"));
        let witness = daemon.witness();
        Some(Self { _daemon: daemon, directory, _witness: witness })
    }

    /// Imports an archive, and returns the directories that make up the snapshot `chain_id`, the lowest first.
    pub(crate) fn unpacked(&self, archive: &Path, chain_id: &str) -> Vec<PathBuf> {
        let ctr = |words: &[&str]| {
            let mut command = sandbox().command("ctr");
            command.arg("--address").arg(self.directory.join("socket")).args(words);
            Outcome::of(&mut command).success().stdout
        };
        ctr(&["images", "import", archive.to_str().unwrap()]);
        let mounts = ctr(&["snapshots", "view", "--mounts", "view", chain_id]);
        let mounts: Value = serde_json::from_str(&mounts).unwrap();
        let options: Vec<String> = serde_json::from_value(mounts[0]["Options"].clone()).unwrap();
        match options.iter().find_map(|option| option.strip_prefix("lowerdir=")) {
            Some(directories) => directories.rsplit(':').map(PathBuf::from).collect(),
            None => vec![PathBuf::from(mounts[0]["Source"].as_str().unwrap())],
        }
    }
}

/// Podman with a storage of its own.
pub(crate) struct Podman {
    storage: PathBuf,
}

impl Podman {
    /// Returns a Podman whose storage is called `name`; skips if there is none on this machine.
    pub(crate) fn with_storage(name: &str) -> Option<Self> {
        if !present(&[ROOT, PODMAN]) {
            return None;
        }
        let configuration = sandbox().subdirectory("home/.config/containers");
        fs::write(configuration.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
            .unwrap();
        Some(Self { storage: sandbox().subdirectory(format!("podman-{name}")) })
    }

    /// Returns a command that runs it.
    fn command(&self) -> Command {
        let directory = |name: &str| self.storage.join(name);
        let mut command = sandbox().command("podman");
        command
            .arg("--root")
            .arg(directory("root"))
            .arg("--runroot")
            .arg(directory("run"))
            .arg("--tmpdir")
            .arg(directory("tmp"))
            // Plain copies work on every file system, and these images are small.
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, words: &[&str]) -> Outcome {
        Outcome::of(self.command().args(words))
    }

    /// Returns a directory with a `podman` in it that uses this storage.
    pub(crate) fn directory_in_path(&self) -> PathBuf {
        let directory = self.storage.join("bin");
        fs::create_dir_all(&directory).unwrap();
        let command = self.command();
        // By its path: by its name, the script would find itself.
        let podman = find("podman").unwrap();
        let words = command.get_args().skip(1);
        let words = [command.get_program(), podman.as_os_str()].into_iter().chain(words);
        let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        let home = sandbox().subdirectory("home");
        let script = format!("#!/bin/sh\nHOME={} exec {} \"$@\"\n", home.display(), words.join(" "));
        fs::write(directory.join("podman"), script).unwrap();
        fs::set_permissions(directory.join("podman"), Permissions::from_mode(0o755)).unwrap();
        directory
    }

    /// Runs a container of `image` to its end.
    pub(crate) fn run_image(&self, image: &str) -> Outcome {
        self.run(&["run", "--rm", "--network", "none", "--cgroups", "disabled", image])
    }

    /// Loads an archive; returns the names or the image id that Podman reports for it.
    pub(crate) fn load(&self, archive: &Path) -> Vec<String> {
        loaded(&self.run(&["load", "--input", archive.to_str().unwrap()]).success())
    }
}

/// Reads `Loaded image: NAME`, `Loaded image ID: ID` and `Loaded image(s): NAME,NAME`.
fn loaded(outcome: &Outcome) -> Vec<String> {
    let names = outcome.stdout.lines().filter_map(|line| line.strip_prefix("Loaded image"));
    let names = names.filter_map(|line| line.split_once(": "));
    names.flat_map(|(_, names)| names.split(',')).map(str::to_owned).collect()
}

/// An unpacked image with the description of how to run it, as umoci made them.
pub(crate) struct Bundle {
    directory: PathBuf,
}

impl Bundle {
    /// Unpacks `tag` of an OCI layout directory; skips if umoci is not on this machine.
    pub(crate) fn unpack(layout: &Path, tag: &str) -> Option<Self> {
        if !present(&[ROOT, UMOCI]) {
            return None;
        }
        let directory = layout.with_extension(format!("{tag}.bundle"));
        let image = format!("{}:{tag}", layout.display());
        sandbox().run("umoci", ["unpack", "--image", &image, directory.to_str().unwrap()]);
        Some(Self { directory })
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Runs the program of the image with `runtime`; skips if that is not on this machine.
    pub(crate) fn run(&self, runtime: Component) -> Option<Outcome> {
        if !present(&[ROOT, runtime]) {
            return None;
        }
        let path = self.directory.join("config.json");
        let mut description: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        // umoci describes a container at a terminal; tests have none.
        description["process"]["terminal"] = json!(false);
        let name = format!("{}-{:x}", runtime.name, unique());
        description["linux"]["cgroupsPath"] = json!(format!("{}/{name}", sandbox().cgroup()));
        fs::write(&path, description.to_string()).unwrap();

        let state = sandbox().subdirectory(format!("{}-state", runtime.name));
        let mut command = sandbox().command(runtime.name);
        if runtime == CRUN {
            command.arg("--cgroup-manager=disabled");
        }
        command.arg("--root").arg(state).args(["run", "--bundle"]).arg(&self.directory).arg(name);
        Some(Outcome::of(&mut command))
    }
}

fn unique() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
