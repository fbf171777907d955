//! Names of components -> are they here? If not, the test skips; `MINIMAGE_REQUIRE` turns the skip into a
//! failure.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// Something outside of this package that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Component {
    /// What `MINIMAGE_REQUIRE` calls it.
    pub(crate) name: &'static str,
    programs: &'static [&'static str],
}

pub(crate) const REGISTRY: Component = Component { name: "registry", programs: &["docker-registry"] };
pub(crate) const DOCKER: Component =
    Component { name: "docker", programs: &["dockerd", "docker", "containerd", "runc"] };
pub(crate) const CONTAINERD: Component = Component { name: "containerd", programs: &["containerd", "ctr"] };
pub(crate) const PODMAN: Component = Component { name: "podman", programs: &["podman"] };
pub(crate) const SKOPEO: Component = Component { name: "skopeo", programs: &["skopeo"] };
pub(crate) const UMOCI: Component = Component { name: "umoci", programs: &["umoci"] };
pub(crate) const RUNC: Component = Component { name: "runc", programs: &["runc"] };
pub(crate) const CRUN: Component = Component { name: "crun", programs: &["crun"] };
/// A second registry and another client, built by `install.sh`.
pub(crate) const CRANE: Component = Component { name: "crane", programs: &["crane"] };
/// Built by `install.sh`, as no distribution of today has it.
pub(crate) const BUILDKIT: Component = Component {
    name: "buildkit",
    programs: &["buildkitd", "buildctl", "frontend-inputs", "newuidmap", "runc"],
};
/// The root filesystem of a small Debian with a few programs, made by `install.sh`.
pub(crate) const DEBIAN: Component = Component { name: "debian", programs: &[] };
/// The root filesystem of a Debian with compilers, made by `install.sh`.
pub(crate) const TOOLCHAINS: Component = Component { name: "toolchains", programs: &[] };
/// The root filesystem of a small Debian for another architecture, made by `install.sh`.
pub(crate) const DEBIAN_ARM64: Component = Component { name: "debian-arm64", programs: &[] };
pub(crate) const CC: Component = Component { name: "cc", programs: &["cc"] };
pub(crate) const GIT: Component = Component { name: "git", programs: &["git"] };
pub(crate) const PING: Component = Component { name: "ping", programs: &["ping"] };
pub(crate) const CURL: Component = Component { name: "curl", programs: &["curl"] };
pub(crate) const SQLITE3: Component = Component { name: "sqlite3", programs: &["sqlite3"] };
pub(crate) const TCPDUMP: Component = Component { name: "tcpdump", programs: &["tcpdump"] };
/// What the images are made of that people have put together by hand.
pub(crate) const TEXT_TOOLS: Component =
    Component { name: "text-tools", programs: &["tar", "gzip", "bzip2", "xz", "jq", "xmllint", "tidy"] };
pub(crate) const WEB_SERVER: Component = Component { name: "web-server", programs: &["mini_httpd"] };
pub(crate) const NETWORK_TOOLS: Component = Component {
    name: "network-tools",
    programs: &[
        "arp",
        "arping",
        "bridge",
        "conntrack",
        "curl",
        "delv",
        "dig",
        "ethtool",
        "fping",
        "host",
        "ifconfig",
        "ip",
        "mtr",
        "nc",
        "ncat",
        "netstat",
        "nmap",
        "nslookup",
        "nstat",
        "openssl",
        "ping",
        "route",
        "socat",
        "ss",
        "tc",
        "tcpdump",
        "telnet",
        "tracepath",
        "traceroute",
        "whois",
    ],
};
pub(crate) const DPKG: Component = Component { name: "dpkg", programs: &["dpkg-query"] };
pub(crate) const RPM: Component = Component { name: "rpm", programs: &["rpm", "rpmbuild"] };
/// A scanner, put there by `install.sh`.
pub(crate) const SYFT: Component = Component { name: "syft", programs: &["syft"] };
/// The right to make namespaces and mounts, and to become another user.
pub(crate) const ROOT: Component = Component { name: "root", programs: &[] };

const ALL: [Component; 26] = [
    REGISTRY,
    DOCKER,
    CONTAINERD,
    PODMAN,
    SKOPEO,
    UMOCI,
    RUNC,
    CRUN,
    CRANE,
    BUILDKIT,
    DEBIAN,
    TOOLCHAINS,
    DEBIAN_ARM64,
    CC,
    CURL,
    GIT,
    PING,
    SQLITE3,
    TCPDUMP,
    TEXT_TOOLS,
    WEB_SERVER,
    NETWORK_TOOLS,
    DPKG,
    RPM,
    SYFT,
    ROOT,
];

/// Returns whether all of `needed` are here. If not, says what is missing, and the caller ends its test.
///
/// Fails the test instead if `MINIMAGE_REQUIRE` names one of `needed`, or is `all`.
pub(crate) fn present(needed: &[Component]) -> bool {
    let required = required();
    let reasons: Vec<String> = needed.iter().filter_map(|component| component.missing()).collect();
    if reasons.is_empty() {
        return true;
    }
    let reasons = reasons.join(", ");
    assert!(!needed.iter().any(|component| required.contains(component)), "required: {reasons}");
    // Not `eprintln!`: libtest would swallow it, and a skip nobody sees looks like a pass.
    let test = std::thread::current().name().unwrap_or("e2e").to_owned();
    io::stderr().write_all(format!("{test}: skipped: {reasons}\n").as_bytes()).expect("stderr is open");
    false
}

impl Component {
    /// Returns whether it is on this machine.
    pub(crate) fn is_here(self) -> bool {
        self.missing().is_none()
    }

    /// Returns the root filesystem that it is, as a tar archive.
    fn archive(self) -> Option<PathBuf> {
        let is_archive = [DEBIAN, TOOLCHAINS, DEBIAN_ARM64].contains(&self);
        is_archive.then(|| tools().join(format!("{}.tar", self.name)))
    }

    fn missing(self) -> Option<String> {
        if self == ROOT {
            let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
            return (!root).then(|| "no root rights".to_owned());
        }
        if let Some(archive) = self.archive() {
            return (!archive.is_file()).then(|| format!("no {}", archive.display()));
        }
        self.programs
            .iter()
            .find(|program| find(program).is_none())
            .map(|program| format!("no {program} in PATH"))
    }
}

/// Returns what `MINIMAGE_REQUIRE` lists; an unknown name fails, as it would guard nothing.
fn required() -> Vec<Component> {
    let list = env::var("MINIMAGE_REQUIRE").unwrap_or_default();
    if list == "all" {
        return ALL.to_vec();
    }
    let known = |name: &str| {
        ALL.into_iter()
            .find(|component| component.name == name)
            .unwrap_or_else(|| panic!("MINIMAGE_REQUIRE: no component is called `{name}`"))
    };
    list.split(',').filter(|name| !name.is_empty()).map(known).collect()
}

/// Returns where `install.sh` keeps what it makes itself.
fn tools() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_default().join("minimage-e2e")
}

/// Returns the root filesystem that `component` is, as a tar archive.
pub(crate) fn archive(component: Component) -> PathBuf {
    component.archive().unwrap_or_else(|| panic!("{} is no root filesystem", component.name))
}

/// Returns `PATH` with the programs that `install.sh` made.
pub(crate) fn path() -> Option<OsString> {
    let path = env::var_os("PATH")?;
    env::join_paths(env::split_paths(&path).chain([tools().join("bin")])).ok()
}

/// Returns where `program` is in [`path`].
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let runnable = |path: &PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&path()?).map(|directory| directory.join(program)).find(runnable)
}
