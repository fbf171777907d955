//! The same programs make the same image, whoever builds, wherever and however.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::layout::Layout;
use crate::minimage::{MINIMAGE, Workspace};
use crate::outcome::{Outcome, difference, none_of};
use crate::requirement::{ROOT, present};
use crate::unpack::static_program;

/// A way to run minimage that must not matter: words in front of its command line, and variables.
struct Way {
    name: &'static str,
    before: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
}

const NOBODY: u32 = 65534;

const WAYS: [Way; 7] = [
    Way { name: "umask 077", before: &["sh", "-c", "umask 077; exec \"$@\"", "sh"], variables: &[] },
    Way { name: "umask 000", before: &["sh", "-c", "umask 000; exec \"$@\"", "sh"], variables: &[] },
    Way { name: "other time zone", before: &[], variables: &[("TZ", "Asia/Kathmandu")] },
    Way {
        name: "other language",
        before: &[],
        variables: &[("LANG", "tr_TR.UTF-8"), ("LC_ALL", "tr_TR.UTF-8"), ("LANGUAGE", "tr")],
    },
    Way { name: "one processor", before: &["taskset", "1"], variables: &[("RAYON_NUM_THREADS", "1")] },
    Way {
        name: "other user",
        before: &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"],
        variables: &[("USER", "nobody"), ("LOGNAME", "nobody")],
    },
    Way {
        name: "no home",
        before: &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"],
        variables: &[("HOME", "/nonexistent")],
    },
];

/// Returns what `way` builds, in a directory and with a cache of its own.
fn built(way: &Way, program: &Path) -> String {
    let workspace = Workspace::new();
    for name in ["", "home", "a", "a/b"] {
        fs::create_dir_all(workspace.path(name)).unwrap();
        chown(workspace.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let build =
        ["build", "bash", "curl", "ls", "-t", "e2e.test/repeat:1.0", "-o", "type=oci,dest=a/b/out.tar"];
    let mut words = way.before.iter().map(AsRef::as_ref).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    let mut command = workspace.settle(command, build);
    Outcome::of(command.envs(way.variables.iter().copied())).success();
    Layout::from_archive(&workspace.path("a/b/out.tar")).image().description()
}

#[test]
fn nothing_around_the_build_reaches_the_image() {
    if !present(&[ROOT, crate::requirement::CURL]) {
        return;
    }
    let shared = Workspace::new();
    let program = shared.path("minimage"); // a copy that every user can reach
    fs::copy(MINIMAGE, &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();

    let plain = built(&Way { name: "plain", before: &[], variables: &[] }, &program);
    none_of(
        WAYS.iter().filter_map(|way| {
            difference("builds differ", ("plain", &plain), (way.name, &built(way, &program)))
        }),
    );
}

/// What a package has in a directory that is not open to everybody is left out for root as well.
#[test]
fn closed_directories_are_closed_to_all() {
    if !present(&[ROOT]) {
        return;
    }
    let source = Workspace::new();
    for name in ["usr/bin", "usr/lib/tool/closed", "var/lib/dpkg/info"] {
        fs::create_dir_all(source.path(name)).unwrap();
    }
    let files = ["usr/bin/tool", "usr/lib/tool/data", "usr/lib/tool/closed/data"];
    for name in files {
        fs::write(source.path(name), static_program(name.as_bytes())).unwrap();
        fs::set_permissions(source.path(name), Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(source.path("usr/lib/tool/closed"), Permissions::from_mode(0o700)).unwrap();
    let status = "Package: tool\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
    fs::write(source.path("var/lib/dpkg/status"), status).unwrap();
    fs::write(source.path("var/lib/dpkg/info/tool.list"), files.map(|file| format!("/{file}\n")).concat())
        .unwrap();
    let program = source.path("minimage");
    fs::copy(MINIMAGE, &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();

    let built = |before: &[&str]| {
        let workspace = Workspace::new();
        fs::create_dir_all(workspace.path("home")).unwrap();
        for name in ["", "home"] {
            chown(workspace.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let from = source.path("");
        let words = before.iter().map(AsRef::as_ref).chain([program.as_os_str()]);
        let mut command = Command::new("env");
        command.args(words).args(["build", "--from"]).arg(from);
        let build = ["tool", "-t", "e2e.test/closed:1.0", "-o", "type=oci,dest=out.tar"];
        Outcome::of(&mut workspace.settle(command, build)).success();
        let image = Layout::from_archive(&workspace.path("out.tar")).image();
        image.description()
    };
    let root = built(&[]);
    assert!(root.contains("usr/lib/tool/data") && !root.contains("closed/"), "{root}");
    let nobody = built(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    none_of(difference("builds differ", ("root", &root), ("nobody", &nobody)));
}

/// The archive as a whole repeats too, also over one that is there already.
#[test]
fn archive_repeats() {
    let workspace = Workspace::new();
    let archive = || {
        workspace.results(["build", "bash", "-t", "e2e.test/repeat:1.0"]);
        fs::read(workspace.path("repeat.oci.tar")).unwrap()
    };
    let first = archive();
    assert!(archive() == first, "two archives of the same build differ");
}
