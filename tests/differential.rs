//! The same questions to the real loaders and to minimage: the answers are the same, spelling included.

use std::io::Cursor;
use std::path::Path;

use minimage::path::show;
use minimage::rootfs::HostRootfs;

use crate::image_text::{image_of, layers};
use crate::oracle::{self, chroot_prefix, host_loader, ours};
use crate::require;
use crate::tree_text::{self, Tree, What};

#[test]
fn trees_are_read_as_the_real_loader_reads_them() {
    let prefix = match chroot_prefix() {
        Ok(prefix) => prefix,
        Err(reason) => return require::skip("chroot", &reason),
    };
    let mut failures = Vec::new();
    let mut asked = 0;
    for tree in tree_text::all() {
        if tree.not_traced.is_some() {
            continue;
        }
        let loaders = tree.items.iter().filter_map(|item| match item.what {
            What::Loader { is_musl, machine, .. } => Some((is_musl, machine)),
            _ => None,
        });
        let lacking: Vec<_> =
            loaders.filter(|(is_musl, machine)| host_loader(*is_musl, *machine).is_none()).collect();
        if let Some((is_musl, _)) = lacking.first() {
            let component = if *is_musl { "musl" } else { "glibc" };
            require::skip(component, &format!("{}: no loader of that kind here", tree.name));
            continue;
        }
        let top = tempfile::tempdir().expect("a directory");
        tree.to_disk(top.path(), host_loader);
        for path in tree.programs.iter().chain(&tree.libraries) {
            let (ours, interp) = ours(top.path(), path, &tree.search);
            let Some(interp) = interp.filter(|interp| top.path().join(&interp[1..]).exists()) else {
                continue;
            };
            let truth = oracle::truth(&prefix, top.path(), &interp, path, &tree.search);
            asked += 1;
            let shown = show(path);
            if !ours.agrees(&truth) {
                failures.push(format!("{} {shown}\n  loader:   {truth:?}\n  minimage: {ours:?}", tree.name));
            }
            let Some(image) = image(&tree, top.path()) else { continue };
            let in_image = oracle::truth(&prefix, image.path(), &interp, path, &tree.search);
            if !ours.agrees(&in_image) {
                failures
                    .push(format!("{} {shown}\n  in image: {in_image:?}\n  minimage: {ours:?}", tree.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {asked} answers differ\n{}", failures.len(), failures.join("\n"));
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
    let image = image_of(tree, &rootfs, layout.path())?;
    for tar in layers(layout.path(), &image.digest) {
        let mut archive = tar::Archive::new(Cursor::new(tar));
        archive.set_preserve_permissions(true);
        archive.unpack(unpacked.path()).expect("a tar that unpacks");
    }
    Some(unpacked)
}
