//! Dockerfiles in the style of real projects: with minimage they do the same work as without.
//!
//! Each directory of `testdata/dockerfiles/real` is a build context, with what the image says in `output.txt`. A
//! directory there whose name ends in `.tar` is an archive in the context.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::buildkit::BuildKit;
use crate::engines::Docker;
use crate::minimage::Workspace;
use crate::outcome::{Outcome, difference, none_of};
use crate::requirement::{NETWORK_TOOLS, TOOLCHAINS, present};

/// A Dockerfile, and how it is built and run.
struct Project {
    name: &'static str,
    /// More words for buildctl. `{context}` is the build context, `{server}` a web server.
    build: &'static [&'static str],
    /// More words for `docker run`, before the image.
    run: &'static [&'static str],
}

const fn project(name: &'static str) -> Project {
    Project { name, build: &[], run: &[] }
}

const fn built_with(name: &'static str, build: &'static [&'static str]) -> Project {
    Project { name, build, run: &[] }
}

const COMPILED: [Project; 5] = [
    project("c-shared"),
    project("c-static"),
    project("copy-from-image"),
    project("go-module"),
    project("rust-crate"),
];

const STAGES: [Project; 6] = [
    built_with("arguments", &["--opt", "build-arg:NAME=games"]),
    project("fortune"),
    project("onbuild"),
    project("platforms"),
    project("stage-chain"),
    built_with("target", &["--opt", "target=release"]),
];

const COMMANDS: [Project; 10] = [
    project("account"),
    project("bind-mount"),
    project("cache-mount"),
    project("here-run"),
    project("log-directory"),
    project("network-none"),
    project("replaced-links"),
    project("rights"),
    built_with("secret-mount", &["--secret", "id=token,src={context}/token"]),
    project("time-zone"),
];

const COPIES: [Project; 9] = [
    project("add-archive"),
    built_with("add-url", &["--opt", "build-arg:SERVER={server}"]),
    project("copy-link"),
    project("copy-patterns"),
    project("data-only"),
    project("here-copy"),
    project("ignored"),
    project("links-beside"),
    built_with("odd-names", &["--opt", "filename=docker/Dockerfile.release"]),
];

const STARTS: [Project; 9] = [
    project("entrypoint-script"),
    Project { name: "healthcheck", build: &[], run: &["--entrypoint", "healthy"] },
    project("metadata"),
    project("perl-report"),
    project("pipeline"),
    project("python-package"),
    project("shell-forms"),
    project("shell-instruction"),
    project("web-server"),
];

const AGENT: Project = built_with("ssh-mount", &["--ssh", "default={context}/key"]);

/// What `{server}` serves, whatever it is asked for.
const SERVED: &str = "from a server\n";

#[test]
fn compiled_programs() {
    all_do_the_same_work(&COMPILED);
}

#[test]
fn stages_arguments_and_targets() {
    all_do_the_same_work(&STAGES);
}

#[test]
fn commands_and_their_mounts() {
    all_do_the_same_work(&COMMANDS);
}

#[test]
fn copies_and_additions() {
    all_do_the_same_work(&COPIES);
}

#[test]
fn entrypoints_and_what_only_the_config_says() {
    all_do_the_same_work(&STARTS);
}

/// A key that exists only for this test is in an agent only while it runs.
#[test]
fn an_ssh_agent() {
    if present(&[NETWORK_TOOLS]) {
        all_do_the_same_work(&[AGENT]);
    }
}

/// No Dockerfile is forgotten.
#[test]
fn every_project_is_in_a_table() {
    let tables = [&COMPILED[..], &STAGES, &COMMANDS, &COPIES, &STARTS, &[AGENT]];
    let mut listed: Vec<String> =
        tables.iter().flat_map(|table| table.iter()).map(|project| project.name.to_owned()).collect();
    listed.sort();
    let entries = fs::read_dir(projects()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut there: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    there.sort();
    assert_eq!(listed, there);
    assert!(there.len() >= 30, "{there:?}");
}

fn projects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfiles/real")
}

fn all_do_the_same_work(projects: &[Project]) {
    let Some(buildkit) = BuildKit::client() else { return };
    let Some(docker) = Docker::client() else { return };
    if projects.iter().any(|project| COMPILED.iter().any(|compiled| compiled.name == project.name)) {
        if !present(&[TOOLCHAINS]) {
            return;
        }
        buildkit.push_toolchains();
    }
    let server = server();
    let check = |project: &Project| same_work(&buildkit, &docker, project, &server);
    none_of(projects.iter().flat_map(check));
}

/// Builds `project` with the stock frontend, with minimage that does nothing, and with minimage. Returns how what comes
/// of it differs.
fn same_work(buildkit: &BuildKit, docker: &Docker, project: &Project, server: &str) -> Vec<String> {
    let Project { name, build, run } = project;
    let workspace = Workspace::new();
    let context = context(&workspace, name);
    let fill = |word: &&str| word.replace("{context}", context.to_str().unwrap()).replace("{server}", server);
    let words: Vec<String> = build.iter().map(fill).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.extend(["--opt", "build-arg:SOURCE_DATE_EPOCH=1700000000"]);
    let pushed = |tag: &str, syntax: Option<&str>| {
        let argument = syntax.map(|syntax| format!("build-arg:BUILDKIT_SYNTAX={syntax}"));
        let mut words = words.clone();
        words.extend(argument.iter().flat_map(|argument| ["--opt", argument.as_str()]));
        buildkit.push(&context, &words, &format!("real/{name}"), tag)
    };
    let mut differences = Vec::new();
    let stock = pushed("stock", None);
    let off = pushed("off", Some("minimage --mode=off"));
    differences.extend(difference(
        &format!("{name} with mode=off"),
        ("stock", &format!("{}\n{:#}\n{:#}", stock.digest, stock.manifest, stock.config)),
        ("off", &format!("{}\n{:#}\n{:#}", off.digest, off.manifest, off.config)),
    ));
    let small = pushed("small", Some("minimage"));
    differences.extend(difference(
        &format!("the config of {name}"),
        ("stock", &format!("{:#}", settings(&stock.config))),
        ("minimised", &format!("{:#}", settings(&small.config))),
    ));
    let expected = projects().join(name).join("output.txt");
    if *name == "data-only" {
        return differences; // nothing to run
    }
    let work = |reference: &str| {
        let words = [&["run", "--rm", "--network", "none"][..], run, &[reference]].concat();
        let outcome = docker.run(&words);
        // Nothing of the image has run: on a busy machine, runc of that time may lose sight of what it starts.
        if outcome.stderr.contains("unable to store init state") { docker.run(&words) } else { outcome }
    };
    let outcome = work(&stock.reference);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&expected, outcome.visible()).unwrap();
    }
    let expected = fs::read_to_string(&expected).unwrap_or_default();
    if let Some(difference) = difference(name, ("expected", &expected), ("stock", &outcome.visible())) {
        differences.push(format!("{difference}\n{}", outcome.stderr));
    }
    let outcome = work(&small.reference);
    if let Some(difference) = difference(name, ("expected", &expected), ("minimised", &outcome.visible())) {
        differences.push(format!("{difference}\n{}", outcome.stderr));
    }
    differences
}

/// Copies a project into the workspace, with its archives packed, and a key for an agent.
fn context(workspace: &Workspace, name: &str) -> PathBuf {
    let context = workspace.path("context");
    Outcome::of(Command::new("cp").arg("-r").arg(projects().join(name)).arg(&context)).success();
    let _ = fs::remove_file(context.join("output.txt")); // not part of the project; some have none
    for entry in fs::read_dir(&context).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.extension().is_some_and(|extension| extension == "tar") {
            let unpacked = path.with_extension("unpacked");
            fs::rename(&path, &unpacked).unwrap();
            let mut tar = Command::new("tar");
            tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C"]).arg(&unpacked);
            Outcome::of(tar.arg("-cf").arg(&path).arg("site")).success();
            fs::remove_dir_all(&unpacked).unwrap();
        }
    }
    if name == AGENT.name {
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(context.join("key"));
        Outcome::of(&mut openssl).success();
    }
    context
}

/// Returns what an image config says to those who run the image, without what is meant for minimage.
fn settings(config: &Value) -> Value {
    let mut settings = config["config"].clone();
    if let Some(labels) = settings.get_mut("Labels").and_then(Value::as_object_mut) {
        labels.retain(|name, _| !name.starts_with("minimage."));
        if labels.is_empty() {
            settings.as_object_mut().unwrap().remove("Labels");
        }
    }
    settings
}

/// Starts a web server, which goes with this process. Returns its address.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 4096]); // one small request
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", SERVED.len());
            let _ = client.write_all(format!("{head}{SERVED}").as_bytes()); // the client notices
        }
    });
    format!("http://{address}")
}
