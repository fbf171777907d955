//! The same questions to the real loaders and to minimage: the answers are the same, spelling included.

use minimage::path::show;

use crate::oracle::{chroot_prefix, host_loader, ours, truth};
use crate::require;
use crate::tree_text::{self, What};

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
            let truth = truth(&prefix, top.path(), &interp, path, &tree.search);
            asked += 1;
            if !ours.agrees(&truth) {
                let path = show(path);
                failures.push(format!("{} {path}\n  loader:   {truth:?}\n  minimage: {ours:?}", tree.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {asked} answers differ\n{}", failures.len(), failures.join("\n"));
}
