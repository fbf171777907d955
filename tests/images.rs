//! Images of trees: bytes that stay the same from release to release, and what must hold of every image.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use minimage::closure::{Cause, Closure, Content};
use minimage::layer::{self, LayerPlan};
use minimage::oci::{Digest, Manifest};
use minimage::path::{RootPath, show};

use minimage::rootfs::{HostRootfs, Kind, Rootfs};
use minimage::spec::{Algorithm, Epoch, LayerOptions, Layering, Preloads, Search};
use serde_json::Value;

use crate::image_text::{self, blob, image_of, image_with};
use crate::tree_text::{self, Tree, testdata};
use crate::{answer, golden};

/// A change of these digests is a change of the image format, and must be announced as one.
#[test]
fn bytes_are_those_of_the_last_release() {
    golden::check(["app", "owners"].map(|name| {
        let tree = Tree::read(&testdata().join(format!("images/{name}.tree")));
        let directory = tempfile::tempdir().unwrap();
        let image = image_of(&tree, &tree.to_memory(), directory.path(), Layering::Single).unwrap();
        (format!("images/{name}.image"), image_text::text(directory.path(), &image.digest))
    }));
}

/// The same for every way to cut and compress layers.
#[test]
fn layers_are_those_of_the_last_release() {
    let tree = Tree::read(&testdata().join("images/layers.tree"));
    let (mut contents, mut digests) = (String::new(), String::new());
    for layering in ["single", "auto", "package", "2", "3", "5"] {
        for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::None] {
            let options = LayerOptions {
                layering: layering.parse().unwrap(),
                compression: algorithm.into(),
                threads: NonZeroUsize::MIN,
            };
            let directory = tempfile::tempdir().unwrap();
            let image = image_with(&tree, &tree.to_memory(), directory.path(), &options).unwrap();
            let lines = image_text::layer_lines(directory.path(), &image.digest);
            writeln!(digests, "{layering} {algorithm}: {}\n{lines}", image.digest).unwrap();
            if algorithm != Algorithm::Gzip {
                continue;
            }
            writeln!(contents, "{layering}").unwrap();
            for (line, tar) in lines.lines().zip(image_text::layers(directory.path(), &image.digest)) {
                let (name, _) = line.split_once(" application/").unwrap();
                writeln!(contents, "{name}\n{}", image_text::tar_text(&tar)).unwrap();
            }
        }
    }
    golden::check([
        ("images/layers.txt".to_owned(), contents),
        ("images/layers.digests".to_owned(), digests),
    ]);
}

/// Whatever else two programs need, the lowest layer is the same blob.
#[test]
fn images_with_the_same_c_library_share_its_layer() {
    let tree = Tree::read(&testdata().join("rootfs/shared-libc.tree"));
    let lowest = |layering: Layering, program: &[u8]| {
        let tree = Tree { programs: vec![program.to_vec()], ..tree.clone() };
        let directory = tempfile::tempdir().unwrap();
        let image = image_of(&tree, &tree.to_memory(), directory.path(), layering).unwrap();
        image_text::layer_lines(directory.path(), &image.digest).lines().next().unwrap().to_owned()
    };
    for layering in [Layering::Auto, Layering::PerPackage, "3".parse().unwrap()] {
        let one = lowest(layering, b"/usr/bin/one");
        assert!(one.starts_with("  minimage: C library "), "{one}");
        assert_eq!(one, lowest(layering, b"/usr/bin/two"), "{layering:?}");
    }
    assert_ne!(lowest(Layering::Single, b"/usr/bin/one"), lowest(Layering::Single, b"/usr/bin/two"));
}

#[test]
fn every_image_keeps_the_promises() {
    let mut made = 0;
    for tree in tree_text::all() {
        let rootfs = tree.to_memory();
        for layering in [Layering::Single, Layering::Auto] {
            let directory = tempfile::tempdir().unwrap();
            let Some(image) = image_of(&tree, &rootfs, directory.path(), layering) else { continue };
            made += 1;
            let closure = &image.resolution.closure;
            let offences = [
                closure_offences(closure),
                layout_offences(directory.path(), &image.digest),
                layer_offences(closure, &rootfs, &image_text::layers(directory.path(), &image.digest)),
            ]
            .concat();
            assert!(offences.is_empty(), "{} {layering:?}:\n  {}", tree.name, offences.join("\n  "));
        }
    }
    assert!(made > 100, "only {made} images");
}

/// The directory writer leaves what the tar writer packs: packed up again, it is the same layer.
#[test]
fn a_directory_packs_up_to_the_same_layer() {
    // Whoever runs the tests may give files to himself only.
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let epoch = Epoch::parse("1700000000").unwrap();
    let mut made = 0;
    for tree in tree_text::all() {
        let rootfs = tree.to_memory();
        let search = Search { preloads: Preloads::None, ..tree.search.clone() };
        let Ok(resolution) = answer::closure(&tree, &rootfs, &search) else { continue };
        made += 1;
        let mut plan = layer::plan(&resolution.closure, Layering::Single);
        for entry in plan.layers.iter_mut().flat_map(|layer| &mut layer.entries) {
            (entry.node.uid, entry.node.gid, entry.node.capability) = (uid, gid, None);
        }
        let directory = tempfile::tempdir().unwrap();
        layer::write_dir(&plan, &rootfs, epoch, directory.path()).unwrap();
        let written = HostRootfs::open_directory(directory.path()).unwrap();
        let repacked = LayerPlan { layers: vec![image_text::everything(&written)] };
        let diff_ids = |plan: &LayerPlan, rootfs: &dyn Rootfs| image_text::diff_ids(plan, rootfs, epoch);
        assert_eq!(diff_ids(&repacked, &written), diff_ids(&plan, &rootfs), "{}", tree.name);
        for entry in plan.layers.iter().flat_map(|layer| &layer.entries) {
            let metadata = directory.path().join(show(entry.path.relative())).symlink_metadata();
            if let Ok(metadata) = metadata {
                assert_eq!(metadata.mtime(), 1_700_000_000, "{} {}", tree.name, entry.path);
            }
        }
    }
    assert!(made > 50, "only {made} trees have an image");
}

/// Every entry has a reason, and each leads back to a root or to what every image has; parents are there.
fn closure_offences(closure: &Closure) -> Vec<String> {
    let mut offences = Vec::new();
    for (path, entry) in closure.entries() {
        if entry.reasons.is_empty() {
            offences.push(format!("{path} has no reason"));
        }
        let chain = closure.why(path);
        match chain.last().map(|demand| &demand.cause) {
            Some(Cause::Root(_) | Cause::Identity | Cause::Layout) => {}
            last => offences.push(format!("{path} leads to {last:?} after {} steps", chain.len())),
        }
        let parent = path.parent().filter(|parent| !parent.is_root());
        if parent.is_some_and(|parent| closure.entry(&parent).is_none()) {
            offences.push(format!("{path} has no parent"));
        }
    }
    offences
}

/// Every descriptor tells the size and digest of what it names; the config lists the digests of the tars.
fn layout_offences(directory: &Path, digest: &str) -> Vec<String> {
    let mut offences = Vec::new();
    let manifest_bytes = blob(directory, digest);
    let manifest: Manifest = serde_json::from_slice(&manifest_bytes).unwrap();
    if Digest::of(&manifest_bytes).to_string() != digest {
        offences.push("the manifest has another digest".to_owned());
    }
    for descriptor in manifest.layers().iter().chain([manifest.config()]) {
        let bytes = blob(directory, descriptor.digest().as_ref());
        if bytes.len() as u64 != descriptor.size() {
            offences.push(format!("{} has {} bytes", descriptor.digest(), bytes.len()));
        }
        if Digest::of(&bytes).to_string() != descriptor.digest().as_ref() {
            offences.push(format!("{} has another digest", descriptor.digest()));
        }
    }
    let config: Value =
        serde_json::from_slice(&blob(directory, manifest.config().digest().as_ref())).unwrap();
    let tars = image_text::layers(directory, digest);
    let diff_ids: Vec<_> = tars.iter().map(|tar| Value::from(Digest::of(tar).to_string())).collect();
    if config["rootfs"]["diff_ids"] != Value::from(diff_ids) {
        offences.push("diff_ids are not those of the tars".to_owned());
    }
    let blobs = std::fs::read_dir(directory.join("blobs/sha256")).unwrap().count();
    if blobs != manifest.layers().len() + 2 {
        offences.push(format!("there are {blobs} blobs"));
    }
    offences
}

/// Layers hold what the closure holds, with the bytes of the source: each path once, but for directories above what is in
/// several layers, and in each layer after its parent.
fn layer_offences(closure: &Closure, rootfs: &dyn Rootfs, tars: &[Vec<u8>]) -> Vec<String> {
    let mut offences = Vec::new();
    let mut seen_below: BTreeSet<RootPath> = BTreeSet::new();
    for tar in tars {
        let mut seen: BTreeSet<RootPath> = BTreeSet::new();
        let mut archive = tar::Archive::new(Cursor::new(tar));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path_bytes().into_owned();
            let name = [b"/".as_slice(), name.strip_suffix(b"/").unwrap_or(&name)].concat();
            let Some(path) = RootPath::from_normal(&name) else {
                offences.push(format!("{} is no path", show(&name)));
                continue;
            };
            let Some(known) = closure.entry(&path) else {
                offences.push(format!("{path} is not in the closure"));
                continue;
            };
            if path.parent().is_some_and(|parent| !parent.is_root() && !seen.contains(&parent)) {
                offences.push(format!("{path} comes before its parent"));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let expected = match &known.content {
                Content::None => Vec::new(),
                Content::Generated(bytes) => bytes.clone(),
                Content::Source(source) => {
                    let file = rootfs.open(source).unwrap();
                    minimage::formats::read_all(&*file, u64::MAX).unwrap().unwrap()
                }
            };
            let is_hard_link = entry.header().entry_type().is_hard_link();
            if is_hard_link {
                let target = [b"/", entry.link_name_bytes().unwrap().as_ref()].concat();
                if !seen.contains(&RootPath::from_normal(&target).unwrap()) {
                    offences.push(format!("{path} is a hard link to what comes later"));
                }
            } else if bytes != expected {
                offences.push(format!("{path} has other bytes"));
            }
            let is_above = known.node.kind == Kind::Directory && seen_below.contains(&path);
            if !seen.insert(path.clone()) || seen_below.contains(&path) && !is_above {
                offences.push(format!("{path} is there twice"));
            }
        }
        seen_below.extend(seen);
    }
    let missing = closure.entries().filter(|(path, _)| !seen_below.contains(*path));
    offences.extend(missing.map(|(path, _)| format!("{path} is in no layer")));
    offences
}
