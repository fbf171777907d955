//! What images tell of their packages, read by a scanner that knows nothing of minimage.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use minimage::packages;
use minimage::path::RootPath;
use minimage::rootfs::HostRootfs;
use serde_json::Value;

use crate::minimage::Workspace;
use crate::outcome::Outcome;
use crate::requirement::{self, DPKG, RPM, SYFT, present};

/// Packages with their versions.
type Packages = BTreeSet<(String, String)>;

/// Returns the packages that syft finds in `place`, all of the kind `kind`.
fn listed(place: &Path, kind: &str) -> Packages {
    let mut scan = Command::new(requirement::find("syft").unwrap());
    scan.args(["scan", "--output", "json"]).arg(format!("dir:{}", place.display()));
    let found = Outcome::of(scan.env("SYFT_CHECK_FOR_APP_UPDATE", "false")).success();
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let artifacts = found["artifacts"].as_array().unwrap().iter();
    artifacts
        .map(|artifact| {
            assert_eq!(artifact["type"], kind, "{artifact}");
            (word(&artifact["name"]), word(&artifact["version"]))
        })
        .collect()
}

/// Builds `roots` of `source` into the directory `image`; returns the packages of the files in the report. Directories
/// are nobody's alone.
fn image_of(workspace: &Workspace, source: &Path, roots: &[&str], image: &Path) -> Packages {
    let report = workspace.path("report.json");
    let mut words = vec!["build".to_owned(), "--from".to_owned(), source.display().to_string()];
    words.extend(["--report".to_owned(), report.display().to_string()]);
    words.extend(["--output".to_owned(), format!("type=local,dest={}", image.display())]);
    words.extend(roots.iter().map(|root| (*root).to_owned()));
    workspace.run(words).success();
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let entries = report["entries"].as_array().unwrap().iter();
    let files = entries.filter(|entry| entry["kind"] != "directory");
    let packages = files.filter_map(|entry| entry["package"].as_object());
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    packages.map(|package| (word(&package["name"]), word(&package["version"]))).collect()
}

#[test]
fn scanner_finds_the_debian_packages_that_files_came_from() {
    if !present(&[SYFT, DPKG]) {
        return;
    }
    let workspace = Workspace::new();
    let image = workspace.path("image");
    let expected = image_of(&workspace, Path::new("/"), &["curl", "--include=/etc/alternatives/awk"], &image);
    let query = |words: &[&str]| {
        let answer = Command::new("dpkg-query").args(words).output();
        String::from_utf8(answer.unwrap().stdout).unwrap()
    };
    let has = |name: &str| {
        let version = query(&["--show", "--showformat", "${Version}\n", name]);
        expected.contains(&(name.to_owned(), version.lines().next().unwrap().to_owned()))
    };
    // base-files has the licences and says which system it is; awk is a link of nobody to a program of mawk's.
    for name in ["base-files", "curl", "libc6", "libcurl4", "mawk"] {
        assert!(has(name), "{name} in {expected:?}");
    }
    assert_eq!(listed(&image, "deb"), expected);
    assert!(image.join("usr/share/doc/curl/copyright").is_file());
}

#[test]
fn scanner_finds_the_alpine_packages_that_files_came_from() {
    if !present(&[SYFT]) {
        return;
    }
    let workspace = Workspace::new();
    let (source, image) = (workspace.path("source"), workspace.path("image"));
    let installed = "C:Q1aaaaaaaaaaaaaaaaaaaaaaaaaaa=\nP:zlib\nV:1.3.1-r0\nA:x86_64\no:zlib\nL:Zlib\nF:lib\nR:libz.so.1\n\n\
        C:Q1bbbbbbbbbbbbbbbbbbbbbbbbbbb=\nP:busybox\nV:1.36.1-r29\nA:x86_64\no:busybox\nL:GPL-2.0-only\n\
        F:bin\nR:busybox\nF:etc\nR:securetty\n\n\
        C:Q1ccccccccccccccccccccccccccc=\nP:apk-tools\nV:2.14.4-r0\nA:x86_64\no:apk-tools\nF:sbin\nR:apk\n\n";
    for (path, text) in [
        ("lib/apk/db/installed", installed),
        ("lib/libz.so.1", ""),
        ("bin/busybox", ""),
        ("etc/securetty", ""),
        ("sbin/apk", ""),
        ("etc/os-release", "ID=alpine\nVERSION_ID=3.20.0\nPRETTY_NAME=\"Alpine\"\n"),
        ("etc/alpine-release", "3.20.0\n"),
    ] {
        put(&source.join(path), text);
    }
    let roots = ["--include=/bin/busybox", "--include=/lib/libz.so.1"];
    let expected = image_of(&workspace, &source, &roots, &image);
    let package = |name: &str, version: &str| (name.to_owned(), version.to_owned());
    assert_eq!(expected, [package("busybox", "1.36.1-r29"), package("zlib", "1.3.1-r0")].into());
    assert_eq!(listed(&image, "apk"), expected);
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const SPEC: &str = "\
Name: hello
Version: 2.0
Release: 3
Epoch: 1
Summary: A program
License: MIT
Provides: greeter
Requires: hello-libs = 1:2.0-3
%description
.
%package libs
Summary: Its library
Recommends: hello-data
%description libs
.
%package data
BuildArch: noarch
Summary: Its data
%description data
.
%package other
Summary: Nobody needs it
%description other
.
%install
cd %{buildroot}
mkdir -p usr/bin usr/lib64 usr/share/hello usr/share/licenses/hello var/lib/hello
echo hello >usr/bin/hello
echo libhello >usr/lib64/libhello.so.1
echo data >usr/share/hello/data
echo other >usr/bin/other
echo MIT >usr/share/licenses/hello/LICENSE
%files
%attr(4755,root,root) /usr/bin/hello
%license /usr/share/licenses/hello/LICENSE
%dir %attr(0750,daemon,daemon) /var/lib/hello
%ghost /var/lib/hello/state
%files libs
%attr(0755,root,root) /usr/lib64/libhello.so.1
%files data
/usr/share/hello
%files other
/usr/bin/other
";

/// Makes the packages of [`SPEC`] and installs them into a tree of their own, as rpm does it.
fn rpm_tree(workspace: &Workspace) -> PathBuf {
    let (top, tree) = (workspace.path("rpmbuild"), workspace.path("source"));
    let spec = top.join("hello.spec");
    put(&spec, SPEC);
    put(&tree.join("etc/os-release"), "ID=fedora\nVERSION_ID=40\n");
    let defined = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    let mut build = Command::new("rpmbuild");
    build.args(defined("_topdir", top.to_str().unwrap())).args(defined("debug_package", "%{nil}"));
    build.args(defined("__os_install_post", "%{nil}")).arg("-bb").arg(&spec);
    Outcome::of(&mut build).success();
    let mut files = Vec::new();
    for directory in ["RPMS/noarch", "RPMS/x86_64", "RPMS/aarch64"] {
        let Ok(entries) = fs::read_dir(top.join(directory)) else { continue };
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let mut install = Command::new("rpm");
    install.args(["--install", "--nodeps", "--noscripts", "--root"]).arg(&tree);
    install.args(defined("_dbpath", "/usr/lib/sysimage/rpm"));
    Outcome::of(install.args(files)).success();
    tree
}

#[test]
fn scanner_finds_the_rpm_packages_that_files_came_from() {
    if !present(&[SYFT, RPM]) {
        return;
    }
    let workspace = Workspace::new();
    let tree = rpm_tree(&workspace);
    let rootfs = HostRootfs::open_directory(&tree).unwrap();
    let db = packages::open(&rootfs).unwrap().expect("a database");
    let of = |path: &str| {
        let path = RootPath::from_normal(path.as_bytes()).unwrap();
        let owners = db.owners(&path).unwrap().into_iter().map(|id| db.package(id).name.clone());
        owners.collect::<Vec<_>>()
    };
    assert_eq!(of("/usr/bin/hello"), ["hello"]);
    assert_eq!(of("/usr/lib64/libhello.so.1"), ["hello-libs"]);
    assert_eq!(of("/usr/share/hello/data"), ["hello-data"]);
    assert_eq!(of("/etc/os-release"), [""; 0]);
    let family = packages::family(&*db, db.named("hello")[0]);
    let names: Vec<_> = family.into_iter().map(|id| db.package(id).name.as_str()).collect();
    assert_eq!(names, ["hello", "hello-libs", "hello-data"]);
    let modes: Vec<_> = db.files(db.named("hello")[0]).unwrap().into_iter().map(|file| file.mode).collect();
    assert_eq!(modes, [Some(0o4755), Some(0o644), Some(0o750)], "what is only claimed is left out");

    let image = workspace.path("image");
    let roots = ["--include=/usr/bin/hello", "--include=/usr/lib64/libhello.so.1"];
    let expected = image_of(&workspace, &tree, &roots, &image);
    let package = |name: &str| (name.to_owned(), "1:2.0-3".to_owned());
    assert_eq!(expected, [package("hello"), package("hello-data"), package("hello-libs")].into());
    assert_eq!(listed(&image, "rpm"), expected);
    assert!(image.join("usr/share/licenses/hello/LICENSE").is_file());
}
