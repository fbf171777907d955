//! Each rule of the loaders as a small tree of its own: the whole answer, compared with a golden text.

use minimage::rootfs::MemoryRootfs;

use crate::{answer, golden, tree_text};

#[test]
fn every_tree_has_its_answer() {
    golden::check(tree_text::all().into_iter().map(|tree| {
        let rootfs: MemoryRootfs = tree.to_memory();
        (format!("rootfs/{}.answer", tree.name), answer::of_tree(&tree, &rootfs))
    }));
}

#[test]
fn every_answer_has_its_tree() {
    let names: Vec<_> = tree_text::all().into_iter().map(|tree| tree.name).collect();
    let directory = tree_text::testdata().join("golden/rootfs");
    for entry in std::fs::read_dir(directory).expect("there are golden files") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(names.contains(&name), "{} is the answer to nothing", path.display());
    }
}
