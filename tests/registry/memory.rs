//! The command line with little memory, and registries that send more than that, or blobs that are larger.

use std::fs;
use std::path::Path;
use std::process::Command;

use minimage::oci::{Named, Reference};

use super::Bench;
use super::stub::{Reply, Request, Stub, answer};
use crate::command::{Outcome, isolate, run};

/// How much a run may take, threads and all, in KiB.
const MEMORY: &str = "65536";
/// Larger than that.
const LAYER: usize = 80 << 20;

/// Runs minimage; what it asks of the system beyond [`MEMORY`] is denied, and ends it.
fn minimage(home: &Path, line: &str) -> Outcome {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -d {MEMORY}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_minimage")]);
    isolate(&mut command, home);
    run(command.args(line.split(' ')))
}

type Rule = fn(&Request) -> Option<Reply>;

fn endless(status: u16, media_type: &str) -> Reply {
    Reply::Endless(status, vec![("content-type".to_owned(), media_type.to_owned())])
}

#[test]
fn bodies_without_end() {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let cases: [(&str, Rule, &str); 5] = [
        ("manifest", |it| it.is("GET", "/manifests/").then(|| endless(200, INDEX)), "bad-manifest"),
        ("refusal", |it| it.is("GET", "/manifests/").then(|| endless(403, "text/plain")), "registry-denied"),
        (
            "blob",
            |it| it.is("GET", "/blobs/").then(|| endless(200, "application/octet-stream")),
            "size-mismatch",
        ),
        ("first answer", |it| (it.target == "/v2/").then(|| endless(200, "text/plain")), "image-not-found"),
        (
            "token",
            |it| match it.target.as_str() {
                "/v2/" => {
                    let realm = format!("Bearer realm=\"http://{}/token\"", it.header("host"));
                    answer(401, &[("www-authenticate", realm.as_str())], "")
                }
                target if target.starts_with("/token") => Some(endless(200, "application/json")),
                _ => None,
            },
            "bad-manifest",
        ),
    ];
    for (what, rule, code) in cases {
        let (bench, stub, home) = (Bench::new(), Stub::start(rule), tempfile::tempdir().unwrap());
        let plain = Stub::plain();
        bench.push(bench.options(), &bench.image(&[b"x"]), &[format!("{}/app:1", plain.address)]).unwrap();
        if what == "blob" {
            let (mut to, from) = (stub.content(), plain.content());
            to.manifests.clone_from(&from.manifests);
        }
        let pulled = minimage(home.path(), &format!("tree --no-cache --from {}/app:1 /x", stub.address));
        assert_eq!(pulled.code, Some(5), "{what}: {}", pulled.stderr);
        assert!(pulled.stderr.starts_with(&format!("error[{code}]")), "{what}: {}", pulled.stderr);
    }
}

/// What is pushed and pulled never lies in memory as a whole.
#[test]
fn a_layer_that_is_larger_than_memory() {
    let (bench, stub, home) = (Bench::new(), Stub::plain(), tempfile::tempdir().unwrap());
    let image = bench.image(&[&vec![0; LAYER]]);
    let name = format!("{}/app:1", stub.address);
    let names = [name.parse::<Reference>().unwrap()];
    bench.layout.enter(&Named { descriptor: &image, names: &names }).unwrap();
    let pushed = minimage(home.path(), &format!("push {} {name}", bench.layout.path().display()));
    assert_eq!(
        (pushed.code, pushed.stdout),
        (Some(0), format!("{name}@{}\n", image.digest())),
        "{}",
        pushed.stderr
    );
    assert!(stub.content().blobs.values().any(|blob| blob.len() == LAYER));
    fs::remove_dir_all(bench.layout.path()).unwrap();
    // There is no root filesystem in it; what counts is that it came.
    let pulled = minimage(home.path(), &format!("tree --no-cache --from {name} /x"));
    assert_eq!(pulled.code, Some(1), "{}", pulled.stderr);
    assert!(pulled.stderr.contains(": pulled 83.9 MB in "), "{}", pulled.stderr);
}
