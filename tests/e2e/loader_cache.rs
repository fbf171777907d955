//! Libraries that a loader finds through its cache alone: the image has a cache of its own, and the real loader takes
//! it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::engines::Bundle;
use crate::layout::Layout;
use crate::minimage::Workspace;
use crate::outcome::Outcome;
use crate::requirement::{CC, ROOT, RUNC, UMOCI, present};

/// Where no loader looks by itself.
const HIDDEN: &str = "opt/hidden/lib";

/// Compiles `source` with the C library of this machine.
fn compile(source: &str, output: &Path, words: &[&str]) {
    let file = output.with_extension("c");
    fs::write(&file, source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.arg("-o").arg(output).arg(&file).args(words);
    Outcome::of(&mut compiler).success();
    fs::remove_file(file).unwrap();
}

/// Makes a tree with a program that needs a library in a directory which only its ld.so.conf names.
fn tree_with_hidden_library(workspace: &Workspace) -> std::path::PathBuf {
    let tree = workspace.path("tree");
    let hidden = tree.join(HIDDEN);
    fs::create_dir_all(&hidden).unwrap();
    fs::create_dir_all(tree.join("usr/bin")).unwrap();
    fs::create_dir_all(tree.join("etc")).unwrap();
    let library = hidden.join("libhidden.so.1");
    compile("int answer(void) { return 42; }", &library, &["-shared", "-fPIC", "-Wl,-soname,libhidden.so.1"]);
    let program = "#include <stdio.h>\nint answer(void);\nint main(void) { printf(\"%d\\n\", answer()); }";
    let app = tree.join("usr/bin/app");
    compile(program, &app, &[library.to_str().unwrap()]);
    // The loader and the C library, where the program and its loader expect them.
    let traced = Outcome::of(Command::new("ldd").arg(&app)).stdout;
    let paths = traced.split_whitespace().filter(|word| word.starts_with('/') && !word.contains("libhidden"));
    for path in paths {
        let copy = tree.join(path.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(path, copy).unwrap();
    }
    fs::write(tree.join("etc/ld.so.conf"), format!("/{HIDDEN}\n")).unwrap();
    tree
}

#[test]
fn image_has_a_cache_that_its_loader_takes() {
    if !present(&[CC, ROOT, UMOCI, RUNC]) {
        return;
    }
    let workspace = Workspace::new();
    let tree = tree_with_hidden_library(&workspace);
    let build = |flag: Option<&str>| {
        let words = ["build", "app", "--from", tree.to_str().unwrap(), "-t", "e2e.test/cache:1.0"];
        workspace.run(words.into_iter().chain(flag))
    };
    // Nobody has run ldconfig: the loader would not find the library either.
    assert_eq!(build(None).status, 1);
    let assumed = build(Some("--assume-ldconfig")).success();
    Outcome::of(Command::new("ldconfig").arg("-r").arg(&tree)).success();
    let found = build(None).success();
    assert_eq!(assumed.stdout, found.stdout, "what ldconfig does and what it would do");

    let layout = Layout::from_archive(&workspace.path("cache.oci.tar"));
    let Some(bundle) = Bundle::unpack(&layout.directory, "1.0") else { return };
    let (cache, source) = (bundle.rootfs().join("etc/ld.so.cache"), tree.join("etc/ld.so.cache"));
    assert_ne!(
        fs::read(cache).unwrap(),
        fs::read(source).unwrap(),
        "the cache of the source is never copied"
    );
    let Some(outcome) = bundle.run(RUNC) else { return };
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "42\n"), "{outcome}");
}
