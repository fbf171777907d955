//! Registries of two makers, and clients of four: what one pushed, the others pull, with the same digests.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use serde_json::json;

use crate::certificates;
use crate::engines::Podman;
use crate::minimage::{Message, Workspace};
use crate::outcome::Outcome;
use crate::registry::{LOGIN, OtherRegistry, Registry};
use crate::requirement::{CRANE, NETWORK_TOOLS, ROOT, SKOPEO, find, present};
use crate::sandbox::sandbox;

fn build<'a>(reference: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["build", "bash", "--push", reference], words, &["--", "-c", "echo it runs"]].concat()
}

/// Returns the digest that a result line ends with.
fn digest(results: &[String]) -> &str {
    results[0].split_once('@').unwrap().1
}

/// crane, skopeo and podman see the digest that was printed, and podman runs the image.
#[test]
fn every_client_pulls_the_same_digest() {
    let Some(registry) = Registry::start("clients") else { return };
    let workspace = Workspace::new();
    let reference = registry.reference("app:1");
    let results = workspace.results(build(&reference, &[]));
    if present(&[ROOT, CRANE]) {
        let crane = find("crane").unwrap();
        let told = Outcome::of(Command::new(&crane).args(["digest", &reference])).success();
        assert_eq!(told.stdout.trim_end(), digest(&results));
        Outcome::of(Command::new(&crane).args(["validate", "--remote", &reference])).success();
    }
    if present(&[ROOT, SKOPEO]) {
        let words =
            ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{reference}")];
        assert_eq!(sandbox().run("skopeo", words).stdout.trim_end(), digest(&results));
    }
    if let Some(podman) = Podman::with_storage("clients") {
        podman.run(&["pull", "--quiet", "--tls-verify=false", &reference]).success();
        let shown = podman.run(&["image", "inspect", "--format", "{{.Digest}}", &reference]).success();
        assert_eq!(shown.stdout.trim_end(), digest(&results));
        assert_eq!(podman.run_image(&reference).success().stdout, "it runs\n");
    }
}

/// A registry of another maker: push, repeat, retag, source, report.
#[test]
fn another_registry_is_as_good() {
    let Some(registry) = OtherRegistry::start() else { return };
    let workspace = Workspace::new();
    let (one, two) = (registry.reference("team/app:1"), registry.reference("team/app:2"));
    let results = workspace.results(build(&one, &["--attach-report"]));
    assert_eq!(workspace.results(build(&one, &[])), results);
    let repeat = workspace.run(build(&one, &["--progress", "plain"])).success();
    assert!(repeat.stderr.contains(&format!("{one}: already there\n")), "{repeat}");
    let words = ["build", "bash", "-t", &two, "--push-if-changed", "--", "-c", "echo it runs"];
    let retagged = workspace.run(words).success();
    assert!(retagged.stderr.contains(&format!("{two}: retagged\n")), "{retagged}");
    workspace.results(["tree", "--from", &two, "/usr/bin/bash"]);
    let ask = || workspace.results(["why", "--image", &one, "/usr/bin/bash"]);
    let kept = ask();
    // With the cache gone, only the registry knows.
    fs::remove_dir_all(workspace.path("home")).unwrap();
    assert_eq!(ask(), kept);
    assert!(!kept.is_empty());
}

/// Behind a password: the right one pushes and pulls, the wrong one and none are told apart.
#[test]
fn a_guarded_registry() {
    let Some(registry) = Registry::guarded("guarded") else { return };
    let workspace = Workspace::new();
    let login = |password: &str| {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", LOGIN.0));
        json!({ "auths": { (registry.address().to_string()): { "auth": pair } } }).to_string()
    };
    fs::write(workspace.path("right.json"), login(LOGIN.1)).unwrap();
    fs::write(workspace.path("wrong.json"), login("*******")).unwrap();
    fs::write(workspace.path("none.json"), "{}").unwrap();
    let reference = registry.reference("app:1");
    let results = workspace.results(build(&reference, &["--authfile", "right.json"]));
    if present(&[ROOT, SKOPEO]) {
        let auth = workspace.path("right.json");
        let image = format!("docker://{reference}");
        let words = [
            "inspect",
            "--tls-verify=false",
            "--authfile",
            auth.to_str().unwrap(),
            "--format",
            "{{.Digest}}",
        ];
        let inspected = sandbox().run("skopeo", words.into_iter().chain([image.as_str()]));
        assert_eq!(inspected.stdout.trim_end(), digest(&results));
    }
    workspace.results([
        "tree",
        "--authfile",
        "right.json",
        "--no-cache",
        "--from",
        &reference,
        "/usr/bin/bash",
    ]);
    for (file, fix) in [("wrong.json", "log in again"), ("none.json", "log in with `docker login")] {
        let message = Message::only_one(&workspace.run(build(&reference, &["--authfile", file])), 5);
        assert_eq!(message.code, "registry-denied");
        assert!(message.fixes.iter().any(|line| line.contains(fix)), "{message:#?}");
        assert!(!message.names("*******"), "{message:#?}");
    }
}

/// Over https, each side proves who it is with a certificate of its own.
#[test]
fn a_registry_with_certificates() {
    if !present(&[NETWORK_TOOLS]) {
        return;
    }
    let workspace = Workspace::new();
    certificates::make(&workspace);
    let Some(registry) = Registry::with_certificates("https", &workspace.path(".")) else { return };
    let reference = registry.reference("app:1");
    let directory = workspace.path("certificates").join(registry.address().to_string());
    fs::create_dir_all(&directory).unwrap();
    let copy = |from: &str, to: &str| fs::copy(workspace.path(from), directory.join(to)).unwrap();
    let push = || workspace.run(build(&reference, &["--cert-dir", "certificates"]));
    // What is missing is named, one after the other.
    for (from, to, fix) in [
        ("ca.pem", "ca.crt", "`/etc/docker/certs.d/HOST:PORT/ca.crt`"),
        ("client.pem", "client.cert", "`/etc/docker/certs.d/HOST:PORT/client.cert`"),
        ("client.key", "client.key", "mend or remove the file"),
    ] {
        let message = Message::only_one(&push(), 5);
        assert!(message.fixes.iter().any(|line| line.contains(fix)), "{message:#?}");
        copy(from, to);
    }
    let pushed = push().success();
    let stored = Registry::start("https").unwrap().manifest("app", "1").unwrap();
    assert_eq!(pushed.stdout, format!("{reference}@{}\n", stored.digest));
}

/// A certificate that the registry made for itself is taken where it was laid down, for the name that is in it.
#[test]
fn a_registry_that_vouches_for_itself() {
    if !present(&[NETWORK_TOOLS]) {
        return;
    }
    for (name, fix) in
        [("IP:127.0.0.1", None), ("DNS:registry.example", Some("a name that is in its certificate"))]
    {
        let workspace = Workspace::new();
        certificates::make_self_signed(&workspace, name);
        let Some(registry) = Registry::with_certificate("self-signed", &workspace.path(".")) else { return };
        let reference = registry.reference("app:1");
        let push = || workspace.run(build(&reference, &["--cert-dir", "certificates"]));
        let message = Message::only_one(&push(), 5);
        assert!(
            message
                .reasons
                .iter()
                .any(|line| line.contains("UnknownIssuer") || line.contains("CaUsedAsEndEntity")),
            "{message:#?}"
        );
        let directory = workspace.path("certificates").join(registry.address().to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("ca.crt"), "a certificate").unwrap();
        let message = Message::only_one(&push(), 5);
        let file = format!("certificates/{}/ca.crt", registry.address());
        assert_eq!(message.what, format!("`{file}` has no certificate in PEM"));
        fs::copy(workspace.path("server.pem"), directory.join("ca.crt")).unwrap();
        match fix {
            None => drop(push().success()),
            Some(fix) => {
                let message = Message::only_one(&push(), 5);
                assert!(message.fixes.iter().any(|line| line.contains(fix)), "{message:#?}");
            }
        }
        let image = format!("docker://{reference}");
        let certificates = directory.to_str().unwrap();
        if fix.is_none() && present(&[ROOT, SKOPEO]) {
            sandbox().run("skopeo", ["inspect", "--cert-dir", certificates, &image]);
        }
    }
}
