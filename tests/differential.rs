//! The same questions to the real loaders and to minimage: the answers are the same, spelling included.

use std::io::Cursor;
use std::path::Path;

use minimage::path::show;
use minimage::rootfs::HostRootfs;
use minimage::spec::Layering;

use crate::image_text::{image_of, layers};
use crate::oracle::{chroot_prefix, host_loader, ours, truth};
use crate::require;
use crate::tree_text::{self, Tree, What};

#[test]
fn trees_are_read_as_the_real_loader_reads_them() {
    let prefix = match chroot_prefix() {
        Ok(prefix) => prefix,
        Err(reason) => return require::skip("chroot", &reason),
    };
    let trees: Vec<_> = tree_text::all().into_iter().filter(|tree| tree.not_traced.is_none()).collect();
    // Most of the time goes into starting loaders: several at once.
    let differences: Vec<String> = std::thread::scope(|scope| {
        let shares = trees.chunks(trees.len().div_ceil(4));
        let threads: Vec<_> = shares
            .map(|share| {
                scope.spawn(|| share.iter().flat_map(|tree| differences(tree, &prefix)).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a share of the trees")).collect()
    });
    assert!(differences.is_empty(), "{} answers differ\n{}", differences.len(), differences.join("\n"));
}

/// Returns where minimage and the loader of this machine differ about `tree`, as it is and as an image.
fn differences(tree: &Tree, prefix: &[&str]) -> Vec<String> {
    let loaders = tree.items.iter().filter_map(|item| match item.what {
        What::Loader { is_musl, machine, .. } => Some((is_musl, machine)),
        _ => None,
    });
    let lacking: Vec<_> =
        loaders.filter(|(is_musl, machine)| host_loader(*is_musl, *machine).is_none()).collect();
    if let Some((is_musl, _)) = lacking.first() {
        let component = if *is_musl { "musl" } else { "glibc" };
        require::skip(component, &format!("{}: no loader of that kind here", tree.name));
        return Vec::new();
    }
    let top = tempfile::tempdir().expect("a directory");
    tree.to_disk(top.path(), host_loader);
    let image = image(tree, top.path());
    let mut differences = Vec::new();
    for path in tree.programs.iter().chain(&tree.libraries) {
        let (ours, interp) = ours(top.path(), path, &tree.search);
        let Some(interp) = interp.filter(|interp| top.path().join(&interp[1..]).exists()) else { continue };
        let places = [("source", Some(&top)), ("image", image.as_ref())];
        for (place, directory) in places {
            let Some(directory) = directory else { continue };
            let truth = truth(prefix, directory.path(), &interp, path, &tree.search);
            if !ours.agrees(&truth) {
                let (name, path) = (&tree.name, show(path));
                differences
                    .push(format!("{name}, {place}: {path}\n  loader:   {truth:?}\n  minimage: {ours:?}"));
            }
        }
    }
    differences
}

/// Unpacks the image of `tree`, which is at `top`; `None` if there is none that loads the same: an image never has the
/// list of preloads.
fn image(tree: &Tree, top: &Path) -> Option<tempfile::TempDir> {
    if tree.items.iter().any(|item| item.path == b"/etc/ld.so.preload") || tree.programs.is_empty() {
        return None;
    }
    let (layout, unpacked) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let rootfs = HostRootfs::open_directory(top).expect("a directory");
    let image = image_of(tree, &rootfs, layout.path(), Layering::Single)?;
    for tar in layers(layout.path(), &image.digest) {
        let mut archive = tar::Archive::new(Cursor::new(tar));
        archive.set_preserve_permissions(true);
        archive.unpack(unpacked.path()).expect("a tar that unpacks");
    }
    Some(unpacked)
}
