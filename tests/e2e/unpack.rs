//! One image -> the files that each engine and tool makes of it: the same ones, to the last attribute, and those of its
//! layers.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use serde_json::Value;

use crate::engines::{Containerd, Docker, Podman};
use crate::layout::{Layout, digest};
use crate::minimage::Workspace;
use crate::outcome::{difference, none_of};
use crate::requirement::{ROOT, SKOPEO, UMOCI, present};
use crate::sandbox::sandbox;

/// Path inside -> everything that an engine must keep of it.
type Files = BTreeMap<Vec<u8>, String>;

const EPOCH: &str = "1700000000";
/// CAP_NET_RAW, permitted and effective, as version 2 of `linux/capability.h` has it.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CAPABILITY: &str = "security.capability";
const LONG: &str = "opt/a-directory-with-a-long-name/and-another-one-below-it/and-so-on-until-there-are/more-than-one-hundred-bytes";

/// Makes a tree of programs with all that a layer can hold, which belong to a package and so keep what they have.
fn source(top: &Path) {
    let directory = |name: &str, mode| {
        fs::create_dir_all(top.join(name)).unwrap();
        fs::set_permissions(top.join(name), Permissions::from_mode(mode)).unwrap();
    };
    for (name, mode) in [("bin", 0o755), (LONG, 0o755), ("opt/set", 0o2750), ("var/lib/dpkg/info", 0o755)] {
        directory(name, mode);
    }
    let program = |name: &[u8], mode, owner| {
        let path = top.join(Path::new(std::ffi::OsStr::from_bytes(name)));
        fs::write(&path, static_program(name)).unwrap();
        chown(&path, Some(owner), Some(owner + 1)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let ping = program(b"bin/ping", 0o755, 0);
    rustix::fs::setxattr(&ping, CAPABILITY, &NET_RAW, XattrFlags::empty()).unwrap();
    fs::hard_link(&ping, top.join("bin/ping4")).unwrap();
    program(b"bin/su", 0o4711, 1234);
    program("bin/käse".as_bytes(), 0o755, 70_000_000);
    program(b"opt/set/caf\xe9", 0o2555, 5);
    program(format!("{LONG}/tool").as_bytes(), 0o700, 6);
    symlink(format!("../{LONG}/tool"), top.join("bin/far")).unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"set/caf\xe9"), top.join("opt/link")).unwrap();

    let status = "Package: all\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
    fs::write(top.join("var/lib/dpkg/status"), status).unwrap();
    let mut list =
        format!("/bin/ping\n/bin/ping4\n/bin/su\n/bin/käse\n/bin/far\n/opt/link\n/opt/set\n/{LONG}/tool\n")
            .into_bytes();
    list.extend(b"/opt/set/caf\xe9\n");
    fs::write(top.join("var/lib/dpkg/info/all.list"), list).unwrap();
}

/// Returns an ELF file that needs nobody, and that tells itself from others.
pub(crate) fn static_program(name: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, 2), (18, 62), (20, 1), (52, 64), (54, 56), (58, 64)] {
        bytes[at] = value;
    }
    bytes.extend(name);
    bytes
}

#[test]
fn all_unpack_the_same_files() {
    if !present(&[ROOT]) {
        return;
    }
    for layering in ["single", "auto", "package"] {
        let workspace = Workspace::new();
        let (top, reference) = (workspace.path("root"), format!("e2e.test/unpack/{layering}:1.0"));
        source(&top);
        let mut build =
            workspace.command(["build", "--from", "./root", "--layers", layering, "-t", &reference]);
        build.args(["-o", "type=docker,dest=image.tar", "/bin/ping", "/bin/ping4", "/bin/su", "/bin/far"]);
        build.args(["/bin/käse", "/opt/link", "--allow-sensitive"]).env("SOURCE_DATE_EPOCH", EPOCH);
        crate::outcome::Outcome::of(&mut build).success();
        let archive = workspace.path("image.tar");
        let layout = Layout::from_archive(&archive);

        let expected = of_layers(&layout.image().layers);
        for (path, what) in [("bin/ping", "file 0755 0:1 "), ("bin/su", "file 4711 1234:1235 ")] {
            let found = &expected[path.as_bytes()];
            assert!(found.starts_with(what) && found.contains(EPOCH), "{path}: {found}");
        }
        assert!(
            expected[b"bin/ping4".as_slice()]
                .ends_with("= bin/ping, capability 0100000200200000000000000000000000000000")
        );

        let mut found: Vec<(&str, Files)> = Vec::new();
        found.extend(docker(&archive, &reference).map(|files| ("docker", files)));
        found.extend(podman(&archive, &reference).map(|files| ("podman", files)));
        found.extend(containerd(&archive, &layout).map(|files| ("containerd", files)));
        found.extend(umoci(&workspace, &archive).map(|files| ("skopeo and umoci", files)));
        let text = shown(&expected);
        none_of(
            found.iter().filter_map(|(name, files)| {
                difference(layering, ("the layers", &text), (name, &shown(files)))
            }),
        );
    }
}

fn docker(archive: &Path, reference: &str) -> Option<Files> {
    let docker = Docker::client()?;
    docker.load(archive);
    let inspect = ["image", "inspect", "--format", "{{json .GraphDriver.Data}}", reference];
    let data: Value = serde_json::from_str(&docker.run(&inspect).success().stdout).unwrap();
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    // Plain copies are in one directory; the directories of an overlay come from the top down.
    let directories = [text("Dir"), text("UpperDir"), text("LowerDir")].join(":");
    let directories: Vec<PathBuf> =
        directories.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    assert!(!directories.is_empty(), "{data}");
    Some(directories.iter().rev().flat_map(|directory| of_directory(directory)).collect())
}

fn podman(archive: &Path, reference: &str) -> Option<Files> {
    let podman = Podman::with_storage("unpack")?;
    podman.load(archive);
    let mounted = podman.run(&["image", "mount", reference]).success().stdout;
    Some(of_directory(Path::new(mounted.trim())))
}

fn containerd(archive: &Path, layout: &Layout) -> Option<Files> {
    let containerd = Containerd::start()?;
    let diff_ids = layout.image().config["rootfs"]["diff_ids"].clone();
    let diff_ids: Vec<String> = serde_json::from_value(diff_ids).unwrap();
    // The name of what all layers make together (image-spec, config.md, "Layer ChainID").
    let chain = diff_ids.into_iter().reduce(|chain, diff_id| digest(format!("{chain} {diff_id}").as_bytes()));
    let directories = containerd.unpacked(archive, &chain.unwrap());
    Some(directories.iter().flat_map(|directory| of_directory(directory)).collect())
}

fn umoci(workspace: &Workspace, archive: &Path) -> Option<Files> {
    if !present(&[ROOT, SKOPEO, UMOCI]) {
        return None;
    }
    let copy = workspace.path("copy");
    let (from, to) =
        (format!("oci-archive:{}:1.0", archive.display()), format!("oci:{}:1.0", copy.display()));
    sandbox().run("skopeo", ["--insecure-policy", "copy", &from, &to]);
    let bundle = workspace.path("bundle");
    let image = format!("{}:1.0", copy.display());
    sandbox().run("umoci", ["unpack", "--image", &image, bundle.to_str().unwrap()]);
    Some(of_directory(&bundle.join("rootfs")))
}

fn shown(files: &Files) -> String {
    files.iter().map(|(path, what)| format!("{} {what}\n", path.escape_ascii())).collect()
}

/// One path, before it is known what other names it has.
struct File {
    path: Vec<u8>,
    what: String,
    capability: Option<Vec<u8>>,
    /// The same for all names of one file.
    same: Vec<u8>,
}

/// Names each file by the first of its names.
fn named(mut files: Vec<File>) -> Files {
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let mut first: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for file in &files {
        first.entry(file.same.clone()).or_insert_with(|| file.path.clone());
    }
    let line = |file: File| {
        let mut line = format!("{} = {}", file.what, first[&file.same].escape_ascii());
        if let Some(capability) = file.capability {
            let hex: String = capability.iter().map(|byte| format!("{byte:02x}")).collect();
            line += &format!(", capability {hex}");
        }
        (file.path, line)
    };
    files.into_iter().map(line).collect()
}

/// Returns what layers hold, the lowest first.
fn of_layers(layers: &[PathBuf]) -> Files {
    let mut all = Files::new();
    for layer in layers {
        let mut files: Vec<File> = Vec::new();
        let blob = flate2::read::MultiGzDecoder::new(fs::File::open(layer).unwrap());
        let mut archive = tar::Archive::new(blob);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path_bytes().strip_suffix(b"/").unwrap_or(&entry.path_bytes()).to_vec();
            let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
            let mut capability = None;
            for record in entry.pax_extensions().unwrap().into_iter().flatten() {
                let record = record.unwrap();
                if record.key_bytes() == b"SCHILY.xattr.security.capability" {
                    capability = Some(record.value_bytes().to_vec());
                }
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let header = entry.header();
            if header.entry_type().is_hard_link() {
                let target = files.iter().find(|file| file.path == link).unwrap();
                let (what, same) = (target.what.clone(), target.same.clone());
                files.push(File { path, what, capability, same });
                continue;
            }
            let kind = match header.entry_type() {
                tar::EntryType::Directory => "directory".to_owned(),
                tar::EntryType::Symlink => format!("link to {}", link.escape_ascii()),
                _ => format!("file {}", digest(&bytes)),
            };
            let what = what(
                &kind,
                header.mode().unwrap(),
                (header.uid().unwrap(), header.gid().unwrap()),
                header.mtime().unwrap() as i64,
            );
            files.push(File { same: path.clone(), path, what, capability });
        }
        all.extend(named(files));
    }
    all
}

/// Returns what is below `top`.
fn of_directory(top: &Path) -> Files {
    let mut files = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let (kind, mode) = if metadata.is_dir() {
                open.push(path.clone());
                ("directory".to_owned(), metadata.mode())
            } else if metadata.is_symlink() {
                (
                    format!(
                        "link to {}",
                        fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii()
                    ),
                    0o777,
                )
            } else {
                (format!("file {}", digest(&fs::read(&path).unwrap())), metadata.mode())
            };
            let mut value = [0; 64];
            let capability = rustix::fs::lgetxattr(&path, CAPABILITY, &mut value[..])
                .ok()
                .map(|len| value[..len].to_vec());
            let inside = path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
            let owner = (metadata.uid().into(), metadata.gid().into());
            files.push(File {
                path: inside,
                what: what(&kind, mode, owner, metadata.mtime()),
                capability,
                same: metadata.ino().to_le_bytes().to_vec(),
            });
        }
    }
    named(files)
}

fn what(kind: &str, mode: u32, owner: (u64, u64), mtime: i64) -> String {
    let (kind, rest) = kind.split_once(' ').unwrap_or((kind, ""));
    format!("{kind} {:04o} {}:{} @{mtime} {rest}", mode & 0o7777, owner.0, owner.1)
}
