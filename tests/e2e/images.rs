//! Real programs are built, handed to engines and tools, and run there; they must act as they do on this
//! machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::engines::{Bundle, Docker, Podman};
use crate::layout::{Layout, text};
use crate::minimage::Workspace;
use crate::outcome::{Outcome, difference, none_of};
use crate::requirement::{CRUN, CURL, Component, PING, ROOT, RUNC, SKOPEO, SQLITE3, TCPDUMP, present};
use crate::sandbox::sandbox;

/// A program of this machine, with words that make it say the same thing wherever it runs.
struct Program {
    name: &'static str,
    words: &'static [&'static str],
    needs: Option<Component>,
}

const PROGRAMS: [Program; 5] = [
    Program { name: "bash", words: &["-c", "echo \"$BASH_VERSION\" {1..3}; exit 7"], needs: None },
    // Its own file and a link on the way to its loader: type, mode, owner, size, target.
    Program { name: "ls", words: &["-dln", "--time-style=+", "/usr/bin/ls", LOADER_LINK], needs: None },
    Program { name: "curl", words: &["-V"], needs: Some(CURL) },
    Program { name: "sqlite3", words: &[":memory:", "select sqlite_version(), 6*7"], needs: Some(SQLITE3) },
    Program { name: "tcpdump", words: &["--version"], needs: Some(TCPDUMP) },
];

const LOADER_LINK: &str = if cfg!(target_arch = "x86_64") { "/lib64" } else { "/lib" };

/// A built program: its archive, and the name that its image was given.
struct Built {
    /// Holds the directory of the archive.
    _workspace: Workspace,
    archive: PathBuf,
    tag: String,
    reference: String,
}

impl Program {
    /// Builds the program for `user`, whose name tells its image from those of other tests.
    fn build(&self, user: &str) -> Built {
        let workspace = Workspace::new();
        let reference = format!("e2e.test/{user}/{}:1.0", self.name);
        let command = ["build", self.name, "-t", &reference, "--"];
        let results = workspace.results(command.iter().chain(self.words));
        let file = format!("{}.oci.tar", self.name);
        assert_eq!(workspace.listing(), [file.as_str()]);
        let (named, digest) = results[0].split_once('@').unwrap();
        assert_eq!((results.len(), named), (1, reference.as_str()), "{results:?}");
        assert!(digest.starts_with("sha256:"), "{results:?}");
        Built { archive: workspace.path(file), _workspace: workspace, tag: "1.0".to_owned(), reference }
    }

    /// Returns what the program does on this machine.
    fn here(&self) -> Outcome {
        let empty = Workspace::new();
        Outcome::of(&mut empty.settle(Command::new(self.name), self.words))
    }
}

/// Builds each program for `user`; `run` must see it do what it does on this machine. `None` from it is a skip.
fn each_runs_as_here(user: &str, run: impl Fn(&Built) -> Option<Outcome>) {
    let mut differences = Vec::new();
    for program in PROGRAMS {
        if !present(program.needs.as_slice()) {
            continue;
        }
        let Some(inside) = run(&program.build(user)) else { return };
        let here = program.here();
        let difference = difference(program.name, ("here", &here.visible()), ("inside", &inside.visible()));
        differences.extend(difference.map(|difference| format!("{difference}\n{inside}")));
    }
    none_of(differences);
}

#[test]
fn docker_loads_and_runs() {
    let Some(docker) = Docker::client() else { return };
    each_runs_as_here("docker", |built| {
        assert_eq!(docker.load(&built.archive), [built.reference.as_str()]);
        Some(docker.run(&["run", "--rm", "--network", "none", &built.reference]))
    });
}

#[test]
fn podman_loads_and_runs() {
    let Some(podman) = Podman::with_storage("programs") else { return };
    each_runs_as_here("podman", |built| {
        assert_eq!(podman.load(&built.archive), [built.reference.as_str()]);
        Some(podman.run_image(&built.reference))
    });
}

#[test]
fn runc_runs_what_umoci_unpacks() {
    each_runs_as_here("runc", |built| {
        let layout = Layout::from_archive(&built.archive);
        Bundle::unpack(&layout.directory, &built.tag)?.run(RUNC)
    });
}

#[test]
fn crun_runs_what_umoci_unpacks() {
    each_runs_as_here("crun", |built| {
        let layout = Layout::from_archive(&built.archive);
        Bundle::unpack(&layout.directory, &built.tag)?.run(CRUN)
    });
}

/// All that the image holds is as it is on this machine: type, bytes, mode, owner, target of a link.
#[test]
fn unpacked_tree_is_as_here() {
    let mut differences = Vec::new();
    for program in PROGRAMS.iter().filter(|program| present(program.needs.as_slice())) {
        let built = program.build("tree");
        let layout = Layout::from_archive(&built.archive);
        let Some(bundle) = Bundle::unpack(&layout.directory, &built.tag) else { return };
        let rootfs = bundle.rootfs();
        let mut paths = Vec::new();
        walk(&rootfs, &rootfs, &mut paths);
        assert!(paths.len() > 5, "{paths:?}");
        for path in paths {
            let (inside, here) = (rootfs.join(&path), Path::new("/").join(&path));
            if written_by_us(&here) {
                continue;
            }
            let what = format!("{}: /{}", program.name, path.display());
            differences.extend(difference(
                &what,
                ("here", &nature(&here)),
                ("in the image", &nature(&inside)),
            ));
        }
    }
    none_of(differences);
}

/// Collects what is below `directory`, relative to `top`.
fn walk(top: &Path, directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        paths.push(entry.path().strip_prefix(top).unwrap().to_owned());
        if entry.file_type().unwrap().is_dir() {
            walk(top, &entry.path(), paths);
        }
    }
}

/// Returns whether `path` is one that images get from a template instead of this machine.
fn written_by_us(path: &Path) -> bool {
    let layout = ["/tmp", "/dev", "/proc", "/sys", "/run", "/etc"];
    layout.iter().any(|directory| path == Path::new(directory))
        || path.starts_with("/etc")
        || path.starts_with("/var/lib/dpkg")
}

/// Returns what the image must keep of a file.
fn nature(path: &Path) -> String {
    let Ok(file) = path.symlink_metadata() else { return "nothing".to_owned() };
    let owner = format!("{}:{}", file.uid(), file.gid());
    if file.is_symlink() {
        return format!("link to {} of {owner}", fs::read_link(path).unwrap().display());
    }
    let content =
        if file.is_dir() { "directory".to_owned() } else { crate::layout::digest(&fs::read(path).unwrap()) };
    format!("{content} of {owner}, {:04o}", file.permissions().mode() & 0o7777)
}

/// Skopeo reads the one file as both kinds of archive, and finds in it what stdout said.
#[test]
fn skopeo_inspects_both_kinds_of_archive() {
    if !present(&[ROOT, SKOPEO]) {
        return;
    }
    let workspace = Workspace::new();
    let results = workspace.results(["build", "bash", "-t", "e2e.test/skopeo/bash:1.0"]);
    let archive = workspace.path("bash.oci.tar");
    let image = Layout::from_archive(&archive).image();
    assert_eq!(results, [format!("e2e.test/skopeo/bash:1.0@{}", image.digest)]);

    let inspect = |words: &[&str], transport: &str| -> Value {
        let source = format!("{transport}:{}", archive.display());
        let words = ["--insecure-policy", "inspect"].iter().chain(words).copied().chain([source.as_str()]);
        serde_json::from_str(&sandbox().run("skopeo", words).stdout).unwrap()
    };
    assert_eq!(inspect(&[], "oci-archive")["Digest"], image.digest.as_str());
    assert_eq!(inspect(&["--config", "--raw"], "oci-archive"), image.config);
    assert_eq!(inspect(&["--config", "--raw"], "docker-archive"), image.config);
}

/// With no tag the file is called like the program; engines load it by its id.
#[test]
fn untagged_archive_runs() {
    let workspace = Workspace::new();
    let results = workspace.results(["build", "/bin/bash", "--", "-c", "exit 3"]);
    let archive = workspace.path("bash.oci.tar");
    let image = Layout::from_archive(&archive).image();
    assert_eq!(results, [image.digest.as_str()]);
    let id = text(&image.manifest["config"]["digest"]);

    if let Some(docker) = Docker::client() {
        assert_eq!(docker.load(&archive), [id.as_str()]);
        let ran = docker.run(&["run", "--rm", "--network", "none", &id]);
        assert_eq!(ran.status, 3, "{ran}");
    }
    if let Some(podman) = Podman::with_storage("untagged") {
        let names = podman.load(&archive);
        assert_eq!(names.len(), 1, "{names:?}");
        let ran = podman.run_image(&names[0]);
        assert_eq!(ran.status, 3, "{ran}");
    }
}

/// Each name of an image is a name in the engines, and a line on stdout.
#[test]
fn every_tag_is_loaded() {
    let workspace = Workspace::new();
    let tags = ["e2e.test/tags/one:1.0", "e2e.test/tags/two:2.0"];
    let results =
        workspace.results(["build", "bash", "-t", tags[0], "-t", tags[1], "-o", "type=oci,dest=all.tar"]);
    assert_eq!(workspace.listing(), ["all.tar"]);
    let layout = Layout::from_archive(&workspace.path("all.tar"));
    let digest = layout.image().digest;
    assert_eq!(results, tags.map(|tag| format!("{tag}@{digest}")));
    assert_eq!(layout.annotations("io.containerd.image.name"), tags);
    assert_eq!(layout.annotations("org.opencontainers.image.ref.name"), ["1.0", "2.0"]);

    let archive = workspace.path("all.tar");
    if let Some(docker) = Docker::client() {
        let mut names = docker.load(&archive);
        names.sort();
        assert_eq!(names, tags);
    }
    if let Some(podman) = Podman::with_storage("tags") {
        let mut names = podman.load(&archive);
        names.sort();
        assert_eq!(names, tags);
    }
}

/// A short name is the name that Docker's users mean by it.
#[test]
fn short_name_is_docker_hubs() {
    let workspace = Workspace::new();
    workspace.results(["build", "bash", "-t", "minimage-e2e", "-o", "type=docker,dest=short.tar"]);
    let archive = workspace.path("short.tar");
    if let Some(docker) = Docker::client() {
        assert_eq!(docker.load(&archive), ["minimage-e2e:latest"]);
    }
    if let Some(podman) = Podman::with_storage("short") {
        assert_eq!(podman.load(&archive), ["docker.io/library/minimage-e2e:latest"]);
    }
}

/// `tar=false` writes the layout as a directory, which umoci unpacks and Skopeo copies.
#[test]
fn layout_directory_is_read_by_others() {
    let workspace = Workspace::new();
    let results =
        workspace.results(["build", "bash", "-t", "e2e.test/dir:1.0", "-o", "type=oci,dest=out,tar=false"]);
    assert_eq!(workspace.listing(), ["out"]);
    let layout = Layout::open(&workspace.path("out"));
    let image = layout.image();
    assert_eq!(results, [format!("e2e.test/dir:1.0@{}", image.digest)]);

    if let Some(bundle) = Bundle::unpack(&layout.directory, "1.0") {
        let words = ["e2e.test", "is", "not", "a", "file"]; // the tree is usable without any runtime
        let shell = bundle.rootfs();
        let mut command = sandbox().command("chroot");
        command.arg(shell).args(["/usr/bin/bash", "-c", "echo \"$@\"", "bash"]).args(words);
        assert_eq!(Outcome::of(&mut command).success().stdout.trim(), words.join(" "));
    }
    if present(&[ROOT, SKOPEO]) {
        let from = format!("oci:{}:1.0", layout.directory.display());
        let to = format!("oci:{}:copy", workspace.path("copy").display());
        sandbox().run("skopeo", ["--insecure-policy", "copy", "--preserve-digests", &from, &to]);
        assert_eq!(Layout::open(&workspace.path("copy")).image().digest, image.digest);
    }
}

/// Words after the image's name replace Cmd and leave the entrypoint alone, as for every image.
#[test]
fn words_at_run_time_replace_cmd() {
    let Some(docker) = Docker::client() else { return };
    let workspace = Workspace::new();
    let reference = "e2e.test/words/bash:1.0";
    workspace.results(["build", "bash", "-t", reference, "--", "-c", "echo built in"]);
    docker.load(&workspace.path("bash.oci.tar"));
    let run = |words: &[&str]| {
        let all: Vec<&str> =
            ["run", "--rm", "--network", "none", reference].iter().chain(words).copied().collect();
        docker.run(&all).success().stdout
    };
    assert_eq!(run(&[]), "built in\n");
    assert_eq!(run(&["-c", "echo given"]), "given\n");
}

/// The file capabilities of the source are in the image: a user without rights may send what only they allow.
#[test]
fn ping_works_for_a_normal_user() {
    if !present(&[ROOT, PING]) {
        return;
    }
    let Some(docker) = Docker::client() else { return };
    let workspace = Workspace::new();
    let reference = "e2e.test/ping:1.0";
    workspace.results(["build", "ping", "-t", reference]);
    docker.load(&workspace.path("ping.oci.tar"));
    let ping = |more: &[&str]| {
        // Otherwise the kernel gives everybody sockets that need no capability.
        let sysctl = "net.ipv4.ping_group_range=1 0";
        let start = ["run", "--rm", "--network", "none", "--user", "1000:1000", "--sysctl", sysctl];
        let words: Vec<&str> =
            start.iter().chain(more).copied().chain([reference, "-c1", "127.0.0.1"]).collect();
        docker.run(&words)
    };
    let sent = ping(&[]);
    assert_eq!(sent.status, 0, "{sent}");
    let forbidden = ping(&["--cap-drop", "NET_RAW"]);
    assert_ne!(forbidden.status, 0, "{forbidden}");
}

/// Whatever two programs of this machine need of the C library, they share the layer that has it, and no other that
/// holds the programs.
#[test]
fn programs_share_the_layer_of_the_c_library() {
    let layers = |program: &str, layering: &str| {
        let workspace = Workspace::new();
        workspace.results(["build", program, "--layers", layering, "-o", "type=oci,dest=out.tar"]);
        let image = Layout::from_archive(&workspace.path("out.tar")).image();
        let names = image.layers.iter().map(|layer| layer.file_name().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    for layering in ["auto", "package"] {
        let (one, other) = (layers("bash", layering), layers("find", layering));
        assert_eq!(one[0], other[0], "{layering}");
        assert!(one.len() > 1 && one[1..] != other[1..], "{layering}: {one:?} {other:?}");
    }
    assert_ne!(layers("bash", "single"), layers("find", "single"));
}
