//! `--load` and `load` bring images into real engines, where they run by their tags.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::json;

use crate::certificates;
use crate::daemons::Daemon;
use crate::engines::{Docker, Podman};
use crate::minimage::{Message, Workspace};
use crate::outcome::Outcome;
use crate::requirement::{DOCKER, NETWORK_TOOLS, ROOT, SKOPEO, present};
use crate::sandbox::sandbox;

const HELLO: [&str; 4] = ["build", "bash", "-t", "e2e.test/load/hello:1.0"];
const WORDS: [&str; 3] = ["--", "-c", "echo it runs"];

fn build<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&HELLO[..], words, &WORDS[..]].concat()
}

/// Straight from the build, from the output that buildx has for it, and from an archive: the same image each time.
#[test]
fn docker_runs_what_was_loaded() {
    let Some(docker) = Docker::client() else { return };
    let workspace = Workspace::new();
    let run = |words: &[&str]| {
        let mut command = workspace.command(words);
        Outcome::of(command.env("DOCKER_HOST", docker.host()))
    };
    let id = || docker.run(&["image", "inspect", "-f", "{{.Id}}", HELLO[3]]).success().stdout;
    let mut ids = Vec::new();
    for words in [
        build(&["--load"]),
        build(&["--load=docker"]),
        build(&["-o", "type=docker"]),
        build(&["--load", "--compression", "gzip"]),
    ] {
        let loaded = run(&words).success();
        assert!(loaded.stdout.starts_with("e2e.test/load/hello:1.0@sha256:"), "{loaded}");
        assert_eq!(workspace.listing(), Vec::<String>::new());
        let ran = docker.run(&["run", "--rm", "--network", "none", HELLO[3]]).success();
        assert_eq!(ran.stdout, "it runs\n");
        ids.push(id());
        docker.run(&["image", "rm", HELLO[3]]).success();
    }
    workspace.results(build(&["-o", "type=oci,dest=hello.tar"]));
    run(&["load", "hello.tar"]).success();
    ids.push(id());
    run(&["load", "hello.tar", "-t", "e2e.test/load/other:2.0"]).success();
    docker.run(&["run", "--rm", "--network", "none", "e2e.test/load/other:2.0"]).success();
    // The ID is the digest of the config, which does not depend on how layers are compressed.
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

/// Docker is found where its client finds it: over TCP, over TLS, and by its context.
#[test]
fn docker_is_found_as_its_client_finds_it() {
    let Some(docker) = Docker::client() else { return };
    if !present(&[NETWORK_TOOLS]) {
        return;
    }
    let workspace = Workspace::new();
    let (plain, secure) = (free_port(), free_port());
    certificates::make(&workspace);
    let connect = format!("UNIX-CONNECT:{}", docker.host().trim_start_matches("unix://"));
    let listen = format!("TCP-LISTEN:{plain},bind=127.0.0.1,fork,reuseaddr");
    let _plain = socat(&listen, &connect);
    let file = |name: &str| workspace.path(name).display().to_string();
    let tls =
        format!("cert={},key={},cafile={},verify=1", file("server.pem"), file("server.key"), file("ca.pem"));
    let listen = format!("OPENSSL-LISTEN:{secure},bind=127.0.0.1,fork,reuseaddr,{tls}");
    let _secure = socat(&listen, &connect);
    // As `docker context create far` writes it.
    let id = crate::layout::digest(b"far").trim_start_matches("sha256:").to_owned();
    let contexts = workspace.path("home/.docker/contexts");
    let (meta, files) = (contexts.join("meta").join(&id), contexts.join("tls").join(&id).join("docker"));
    fs::create_dir_all(&meta).unwrap();
    fs::create_dir_all(&files).unwrap();
    let endpoint = json!({ "Host": format!("tcp://127.0.0.1:{secure}"), "SkipTLSVerify": false });
    let text = json!({ "Name": "far", "Metadata": {}, "Endpoints": { "docker": endpoint } });
    fs::write(meta.join("meta.json"), text.to_string()).unwrap();
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(workspace.path(file), files.join(file)).unwrap();
    }
    let here = workspace.path(".").display().to_string();
    let (plain, secure) = (format!("tcp://127.0.0.1:{plain}"), format!("tcp://127.0.0.1:{secure}"));
    for variables in [
        vec![("DOCKER_HOST", plain.as_str())],
        vec![("DOCKER_HOST", &secure), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &here)],
        vec![("DOCKER_CONTEXT", "far")],
    ] {
        let name = format!("e2e.test/load/far:{}", variables.len());
        let mut command = workspace.command(["build", "bash", "--load", "-t", &name]);
        Outcome::of(command.envs(variables)).success();
        docker.run(&["image", "rm", &name]).success();
    }
    // Without our certificate, the other side hangs up.
    fs::remove_file(files.join("cert.pem")).unwrap();
    let mut command = workspace.command(["build", "bash", "--load"]);
    let message = Message::only_one(&Outcome::of(command.env("DOCKER_CONTEXT", "far")), 5);
    assert_eq!(message.code, "engine-unreachable");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a line from one address to another; it ends with the value.
fn socat(from: &str, to: &str) -> Daemon {
    let mut command = sandbox().command("socat");
    command.args(["-d", "-d", from, to]);
    let ready = |line: &str| line.contains("listening on").then_some(());
    Daemon::start("socat", &mut command, ready).unwrap_or_else(|log| panic!("{log}")).0
}

/// Of an image for several platforms, Docker gets this machine's; the registry has both.
#[test]
fn an_image_for_two_platforms() {
    let Some(registry) = crate::registry::Registry::start("platforms") else { return };
    let workspace = Workspace::new();
    let name = registry.reference("both:1");
    // Files alone are made for no machine, so they are for whatever is said.
    fs::create_dir(workspace.path("root")).unwrap();
    fs::write(workspace.path("root/data"), "the same on each").unwrap();
    let from = ["--from", "linux/amd64=./root", "--from", "linux/arm64=./root"];
    let words =
        [&["build", "--include", "/data", "--push", &name, "-o", "type=oci,dest=both.tar"], &from[..]];
    let pushed = workspace.results(words.concat());
    let stored = registry.manifest("both", "1").unwrap();
    assert_eq!(pushed, [format!("{name}@{}", stored.digest)]);
    let index: serde_json::Value = serde_json::from_slice(&stored.bytes).unwrap();
    let platforms: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|it| &it["platform"]).collect();
    let platform = |name: &str| json!({ "architecture": name, "os": "linux" });
    assert_eq!(platforms, [&platform("amd64"), &platform("arm64")]);
    if present(&[ROOT, SKOPEO]) {
        let image = format!("docker://{name}");
        for architecture in ["amd64", "arm64"] {
            let words = ["inspect", "--tls-verify=false", "--override-arch", architecture, "--format"];
            let words = words.into_iter().chain(["{{.Architecture}}", image.as_str()]);
            assert_eq!(sandbox().run("skopeo", words).stdout.trim_end(), architecture);
        }
    }
    if let Some(docker) = Docker::client() {
        let load = |words: &[&str]| {
            let mut command =
                workspace.command([&["load", "both.tar", "-t", "e2e.test/both:1"], words].concat());
            let loaded = Outcome::of(command.env("DOCKER_HOST", docker.host())).success();
            assert!(loaded.stderr.contains("the engine gets linux/"), "{loaded}");
            let inspect = ["image", "inspect", "-f", "{{.Architecture}}", "e2e.test/both:1"];
            docker.run(&inspect).success().stdout.trim_end().to_owned()
        };
        assert_eq!(load(&["--platform", "linux/arm64"]), "arm64");
        assert_eq!(load(&["--platform", "linux/amd64"]), "amd64");
        assert_eq!(docker.load(&workspace.path("both.tar")), [name]);
    }
}

/// Podman is spoken to through its command.
#[test]
fn podman_runs_what_was_loaded() {
    let Some(podman) = Podman::with_storage("load") else { return };
    let workspace = Workspace::new();
    let mut command = workspace.command(build(&["--load=podman"]));
    let path = format!("{}:{}", podman.directory_in_path().display(), std::env::var("PATH").unwrap());
    Outcome::of(command.env("PATH", path)).success();
    assert_eq!(podman.run_image(HELLO[3]).success().stdout, "it runs\n");
}

/// containerd is spoken to through `ctr`; the one of dockerd will do.
#[test]
fn containerd_runs_what_was_loaded() {
    let Some(docker) = Docker::client() else { return };
    let workspace = Workspace::new();
    let socket = docker.containerd();
    let mut command = workspace.command(build(&["--load=containerd"]));
    Outcome::of(command.env("CONTAINERD_ADDRESS", &socket).env("CONTAINERD_NAMESPACE", "e2e")).success();
    let listed = Outcome::of(Command::new("ctr").arg("--address").arg(&socket).args([
        "--namespace",
        "e2e",
        "images",
        "ls",
        "-q",
    ]));
    assert_eq!(listed.success().stdout, "e2e.test/load/hello:1.0\n");
    let mut run = sandbox().command("ctr");
    // No limits: not every machine that runs tests lets them set some.
    let limits = ["--cpu-shares", "0", "--cgroup", &format!("{}/ctr", sandbox().cgroup())];
    run.arg("--address").arg(&socket).args(["--namespace", "e2e", "run", "--rm"]).args(limits);
    run.args([HELLO[3], "hello-from-e2e"]);
    assert_eq!(Outcome::of(&mut run).success().stdout, "it runs\n");
}

/// An engine that is not there is one message with a way on.
#[test]
fn engines_that_are_not_there() {
    let workspace = Workspace::new();
    let outcome = |engine: &str| {
        let mut command = workspace.command(build(&[&format!("--load={engine}")]));
        Outcome::of(command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("PATH", "/nowhere"))
    };
    let docker = Message::only_one(&outcome("docker"), 5);
    assert!(docker.names("/nowhere/docker.sock"), "{docker:#?}");
    if present(&[ROOT, DOCKER]) {
        assert_eq!(Message::only_one(&outcome("containerd"), 5).code, "engine-unreachable");
    }
}

/// Other tools read a pushed index back, and write it again, with the same digests.
#[test]
fn skopeo_keeps_the_digests_of_what_push_sent() {
    let Some(registry) = crate::registry::Registry::start("preserve") else { return };
    if !present(&[ROOT, SKOPEO]) {
        return;
    }
    let workspace = Workspace::new();
    let pushed =
        workspace.results(["build", "bash", "-o", "type=oci,tar=false,dest=layout", "-t", "e2e.test/x:1"]);
    let digest = pushed[0].split_once('@').unwrap().1.to_owned();
    let reference = registry.reference("round/trip:1");
    assert_eq!(workspace.results(["push", "layout", &reference]), [format!("{reference}@{digest}")]);
    let copy = |from: &str, to: &str| {
        let words = ["copy", "--insecure-policy", "--preserve-digests", "--src-tls-verify=false", from, to];
        sandbox().run("skopeo", words.iter().chain(&["--dest-tls-verify=false"]));
    };
    let back = workspace.path("back");
    copy(&format!("docker://{reference}"), &format!("oci:{}:1", back.display()));
    let again = registry.reference("round/again:1");
    assert_eq!(workspace.results(["push", "back", &again]), [format!("{again}@{digest}")]);
    copy(&format!("docker://{again}"), &format!("docker://{}", registry.reference("round/third:1")));
    assert_eq!(registry.manifest("round/third", "1").unwrap().digest, digest);
}

/// An image in a real registry is a source like the directory it was made from.
#[test]
fn a_pushed_image_is_a_source() {
    let Some(registry) = crate::registry::Registry::start("source") else { return };
    let workspace = Workspace::new();
    let reference = registry.reference("source:1");
    workspace.results(["build", "bash", "ls", "--push", &reference]);
    let tree =
        |words: &[&str]| workspace.results([&["tree", "/usr/bin/bash", "--format", "json"], words].concat());
    let (here, there) = (tree(&[]), tree(&["--from", &reference]));
    let libraries = |lines: &[String]| {
        let tree: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        tree["libs"].as_array().unwrap().iter().map(|library| library["soname"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(libraries(&here), libraries(&there));
    let built = workspace.results([
        "build",
        "--from",
        &reference,
        "--push",
        &registry.reference("again:1"),
        "/usr/bin/bash",
    ]);
    assert_eq!(built.len(), 1);
    assert_eq!(registry.tags("again"), ["1"]);
}
