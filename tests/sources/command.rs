//! The command line on images: each form of a source gives what the directory gives.

use std::fs;
use std::path::Path;

use minimage::oci::{Descriptor, Layout, Named, Reference};
use serde_json::json;

use super::tars::{Packing, Tar, image_of_tree};
use crate::command::{Outcome, minimage, run};
use crate::tree_text::Tree;

const TREE: &str =
    "include debian\n/app/main elf needed=libq.so.1 runpath=/opt\n/opt/libq.so.1 elf soname=libq.so.1\n";

fn tree() -> Tree {
    Tree::parse("app", TREE)
}

fn minimage_at(home: &Path, words: &[&str]) -> Outcome {
    run(minimage(home).args(words))
}

/// Puts the tree as an image called `app:1` into a layout below `home`, and returns the layout.
fn layout(home: &Path) -> (Layout, Descriptor) {
    let layout = Layout::create(&home.join("image")).unwrap();
    let image = image_of_tree(&layout, &tree(), Packing::Gzip);
    let names = ["registry.example/app:1".parse::<Reference>().unwrap()];
    layout.enter(&Named { descriptor: &image, names: &names }).unwrap();
    (layout, image)
}

/// Writes the layout as an archive; with docker's form of the same image in place of the index, if asked to.
fn archive(home: &Path, layout: &Layout, image: &Descriptor, is_docker: bool) -> Vec<u8> {
    let mut tar = Tar::default();
    for blob in layout.blobs_of(image).unwrap() {
        let digest = layout.digest_of(&blob).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut layout.open(&blob).unwrap(), &mut bytes).unwrap();
        let path = format!("blobs/sha256/{}", digest.hex());
        tar.pax(b'x', &[("path", path.as_bytes())]).member(b'0', "blob", "", &bytes);
    }
    if is_docker {
        let manifest: serde_json::Value = serde_json::from_slice(&layout.read(image).unwrap()).unwrap();
        let path =
            |blob: &serde_json::Value| blob["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let layers: Vec<String> = manifest["layers"].as_array().unwrap().iter().map(path).collect();
        // docker writes links for layers that it has already written.
        tar.member(b'2', "again.tar", "first.tar", b"");
        tar.pax(b'x', &[("linkpath", layers[0].as_bytes())]).member(b'2', "first.tar", "", b"");
        let layers = ["again.tar", &layers[1]];
        let list = json!([{ "Config": path(&manifest["config"]), "Layers": layers, "RepoTags": ["registry.example/app:1"] }]);
        tar.file("manifest.json", &list.to_string());
    } else {
        tar.file("index.json", &fs::read_to_string(home.join("image/index.json")).unwrap());
        tar.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    }
    tar.end()
}

/// The digest of what is built, and the tree of the program, are those of the directory, whatever the source is.
#[test]
fn every_form_of_a_source_is_the_same() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    tree().to_disk(&home.join("rootfs"), |_, _| None);
    let (layout, image) = layout(home);
    let (oci, docker) = (archive(home, &layout, &image, false), archive(home, &layout, &image, true));
    fs::write(home.join("oci.tar"), &oci).unwrap();
    fs::write(home.join("docker.tar"), &docker).unwrap();
    fs::write(home.join("docker.tar.gz"), super::gzip(&docker)).unwrap();
    let tree = |source: &str| {
        let outcome = minimage_at(home, &["tree", "--from", source, "--format", "json", "/app/main"]);
        assert_eq!(outcome.code, Some(0), "{source}: {}", outcome.stderr);
        outcome.stdout
    };
    let build = |source: &str, words: &[&str]| {
        let build = ["build", "--from", source, "-o", "type=oci,dest=out.tar", "/app/main"];
        let outcome = minimage_at(home, &[&build, words].concat());
        assert_eq!(outcome.code, Some(0), "{source}: {}", outcome.stderr);
        outcome.stdout
    };
    let directory = tree("./rootfs");
    let mut digests = Vec::new();
    for source in [
        "./image",
        "oci:image",
        "oci:image:1",
        "oci:image:registry.example/app:1",
        "./oci.tar",
        "oci-archive:oci.tar:1",
        "./docker.tar",
        "docker-archive:docker.tar.gz:registry.example/app:1",
    ] {
        assert_eq!(tree(source), directory, "{source}");
        digests.push(build(source, &[]));
        digests.push(build(source, &["--no-cache"]));
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
    // A program by its name is looked up in the image's own PATH, where `/app` is.
    assert_eq!(minimage_at(home, &["tree", "--from", "oci:image", "main"]).code, Some(0));
    let why = minimage_at(home, &["why", "/opt/libq.so.1"]);
    assert_eq!(why.code, Some(0), "{}", why.stderr);
    let why_not = minimage_at(home, &["why-not", "/etc/nothing"]);
    assert_eq!(why_not.stdout, "/etc/nothing: it is not in the source\n", "{}", why_not.stderr);
}

/// What cannot be a source says why, and with which code.
#[test]
fn sources_that_are_none() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (layout, image) = layout(home);
    layout.enter(&Named { descriptor: &image, names: &["x/other:2".parse().unwrap()] }).unwrap();
    fs::write(home.join("text"), "not a tar").unwrap();
    fs::write(home.join("empty.tar"), [0; 1024]).unwrap();
    fs::create_dir(home.join("directory")).unwrap();
    for (words, code, expected) in [
        (
            "--from oci:image:3",
            1,
            "error[image-not-found]: there is no image `3` in `image`\n    \
            why: there are: registry.example/app:1, docker.io/x/other:2\n    fix: name one of those that are there\n",
        ),
        (
            "--from ./text",
            1,
            "error[bad-archive]: `./text` is no archive of images\n    \
            why: `./text` is damaged\n    why: the tar ends in the middle of the member at 0\n    \
            fix: name an OCI archive, or a file that `docker save` wrote\n",
        ),
        (
            "--from ./empty.tar",
            1,
            "error[bad-archive]: `./empty.tar` has neither an `index.json` nor a `manifest.json`\n    \
            fix: name an OCI archive, or a file that `docker save` wrote\n",
        ),
        (
            "--from oci:directory",
            1,
            "error[bad-layout]: `directory` is not an OCI layout\n    \
            fix: name a directory with the files `oci-layout` and `index.json`\n",
        ),
        ("--from oci:image --platform linux/arm64", 1, "no-platform"),
    ] {
        let words: Vec<&str> = ["tree", "/app/main"].into_iter().chain(words.split(' ')).collect();
        let outcome = minimage_at(home, &words);
        assert_eq!(outcome.code, Some(code), "{words:?}: {}", outcome.stderr);
        if expected == "no-platform" {
            assert!(outcome.stderr.starts_with("error[no-platform]: the image `oci:"), "{}", outcome.stderr);
        } else {
            assert_eq!(outcome.stderr, expected, "{words:?}");
        }
    }
    // A word that is an image to us, and a directory to whoever wrote it. Nobody is asked: the proxy is not there.
    let mut command = minimage(home);
    command.args(["tree", "--from", "directory", "/app/main"]).env("https_proxy", "http://127.0.0.1:1");
    let outcome = run(&mut command);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    let fix = "\n    fix: for the path `directory` here, write `./directory`\n";
    assert!(outcome.stderr.contains(fix), "{}", outcome.stderr);
    // Words that are none at all are wrong usage.
    for word in ["dir:x", "oci:", "Upper"] {
        assert_eq!(minimage_at(home, &["tree", "--from", word, "x"]).code, Some(2), "{word}");
    }
    let insecure = minimage_at(home, &["tree", "--from", "x", "--insecure-registry", "ht tp", "x"]);
    assert_eq!(insecure.code, Some(2), "{}", insecure.stderr);
}
