//! The command line against the stub: what it prints, and what it asks the registry for.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::Bench;
use super::stub::{Reply, Stub, answer};
use crate::command::{Outcome, minimage, run};
use crate::tree_text::Tree;

const TREE: &str = "include debian\n/app/main elf needed=libq.so.1 runpath=/opt\n/opt/libq.so.1 elf soname=libq.so.1\n\
     /app/bare elf\n";

/// A home with a root filesystem in `rootfs`.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    Tree::parse("app", TREE).to_disk(&home.path().join("rootfs"), |_, _| None);
    home
}

fn run_in(home: &TempDir, line: &str) -> Outcome {
    run(minimage(home.path()).args(line.split(' ')))
}

fn succeed(home: &TempDir, line: &str) -> Outcome {
    let outcome = run_in(home, line);
    assert_eq!(outcome.code, Some(0), "{line}: {}", outcome.stderr);
    outcome
}

/// Returns standard error without what differs from run to run.
fn told(outcome: &Outcome) -> Vec<String> {
    let lines = outcome.stderr.lines().map(|line| line.split(" in ").next().unwrap().trim().to_owned());
    let mut lines: Vec<_> = lines.map(|line| line.rsplit(": ").next().unwrap().to_owned()).collect();
    lines.sort();
    lines
}

/// An index with its children goes out once; a repeat asks, and `--if-changed` asks a single question.
#[test]
fn push_sends_what_is_missing() {
    let (bench, stub, home) = (Bench::new(), Stub::plain(), home());
    let index = bench.index();
    bench.layout.enter(&minimage::oci::Named { descriptor: &index, names: &[] }).unwrap();
    let layout = bench.layout.path().display();
    let (first, second) = (format!("{}/app:1", stub.address), format!("{}/app:2", stub.address));
    let line = |name: &str| format!("{name}@{}\n", index.digest());

    let outcome = succeed(&home, &format!("push {layout} {first}"));
    assert_eq!(outcome.stdout, line(&first));
    assert_eq!(
        told(&outcome),
        ["pushed", "pushed 78 bytes", "pushed 78 bytes", "pushed 9 bytes", "pushed 9 bytes"]
    );

    stub.content().requests.clear();
    let outcome = succeed(&home, &format!("push {layout} {first}"));
    assert_eq!(outcome.stdout, line(&first));
    assert!(outcome.stderr.ends_with(&format!("{first}: already there\n")), "{}", outcome.stderr);
    assert!(stub.log().iter().all(|line| line.starts_with("HEAD")), "{:?}", stub.log());

    stub.content().requests.clear();
    let outcome = succeed(&home, &format!("push --if-changed {layout} {first}"));
    assert_eq!((outcome.stdout, outcome.stderr), (line(&first), format!("  {first}: already there\n")));
    assert_eq!(stub.log(), ["HEAD /v2/app/manifests/1"]);

    stub.content().requests.clear();
    let outcome = succeed(&home, &format!("push --if-changed {layout} {second}"));
    assert_eq!((outcome.stdout, outcome.stderr), (line(&second), format!("  {second}: retagged\n")));
    let put = "PUT /v2/app/manifests/2".to_owned();
    assert_eq!(
        stub.log(),
        ["HEAD /v2/app/manifests/2".to_owned(), format!("HEAD /v2/app/manifests/{}", index.digest()), put,]
    );

    let quiet = succeed(&home, &format!("push --progress quiet {layout} {}/other:1", stub.address));
    assert_eq!(quiet.stderr, "");
    assert_eq!(run_in(&home, &format!("push {layout}/nothing {first}")).code, Some(1));
    assert_eq!(run_in(&home, &format!("push {layout}")).code, Some(2));
}

/// Of two names of which one cannot be had, the other is a result all the same.
#[test]
fn a_name_that_arrived_is_a_result() {
    let (bench, home) = (Bench::new(), home());
    let (good, bad) = (
        Stub::plain(),
        Stub::start(|it| if it.is("PUT", "/manifests/1") { answer(403, &[], "no") } else { None }),
    );
    let image = bench.image(&[b"x"]);
    bench.layout.enter(&minimage::oci::Named { descriptor: &image, names: &[] }).unwrap();
    let layout = bench.layout.path().display();
    let (good, bad) = (format!("{}/app:1", good.address), format!("{}/app:1", bad.address));
    for flag in ["", " --if-changed"] {
        let outcome = run_in(&home, &format!("push{flag} {layout} {good} {bad}"));
        assert_eq!((outcome.code, outcome.stdout), (Some(5), format!("{good}@{}\n", image.digest())));
        let place = format!("\n  where: after `{good}` had arrived\n    why: the registry says: no\n");
        assert!(outcome.stderr.contains(&place), "{}", outcome.stderr);
        let outcome = run_in(&home, &format!("push{flag} {layout} {bad} {good}"));
        assert_eq!((outcome.code, outcome.stdout), (Some(5), String::new()));
    }
    // Also in one repository.
    let other = bad.replace(":1", ":0");
    let outcome = run_in(&home, &format!("push {layout} {other} {bad}"));
    assert_eq!((outcome.code, outcome.stdout), (Some(5), format!("{other}@{}\n", image.digest())));
    let build = format!("build --from ./rootfs -t {good} -t {bad} --push /app/bare");
    let outcome = run_in(&home, &build);
    assert_eq!((outcome.code, outcome.stdout.lines().count()), (Some(5), 1), "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with(&good));
}

/// What was pushed from a directory is a source like the directory.
#[test]
fn an_image_in_a_registry_is_a_source() {
    let (stub, home) = (Stub::plain(), home());
    let name = format!("{}/app:1", stub.address);
    succeed(&home, &format!("build --from ./rootfs --push {name} /app/main"));
    let build = |from: &str| {
        let line = format!("build --from {from} -o type=oci,dest=out.tar /app/main");
        succeed(&home, &line).stdout
    };
    let directory = build("./rootfs");
    assert_eq!(build(&name), directory);
    // The layer is in the cache now.
    stub.content().requests.clear();
    assert_eq!(build(&format!("docker://{name}")), directory);
    assert_eq!(stub.count("GET", "/blobs/"), 0, "{:?}", stub.log());
    let without = format!("tree --no-cache --from {name} /app/main");
    assert_eq!(succeed(&home, &without).stdout, succeed(&home, "tree --from ./rootfs /app/main").stdout);
    // What the report says of the source leads back to it.
    build(&name);
    assert_eq!(succeed(&home, "why-not /etc/no").stdout, "/etc/no: it is not in the source\n");
}

/// The report travels with the image: somebody who has only its name can ask.
#[test]
fn the_report_is_found_in_the_registry() {
    let (stub, home, other) = (Stub::plain(), home(), home());
    let name = format!("{}/app:1", stub.address);
    let pushed = succeed(&home, &format!("build --from ./rootfs --push {name} --attach-report /app/main"));
    assert_eq!(pushed.stdout.lines().count(), 1);
    let why = succeed(&home, "why /opt/libq.so.1");
    assert_eq!(succeed(&other, &format!("why --image {name} /opt/libq.so.1")).stdout, why.stdout);
    let digest = pushed.stdout.trim_end().split_once('@').unwrap().1.replace(':', "-");
    let list = stub.content().manifests[&("app".to_owned(), digest)].1.clone();
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["manifests"][0]["artifactType"], "application/vnd.minimage.closure.v1+json");
    // An image without one says so.
    succeed(&home, &format!("build --from ./rootfs --push {}/bare:1 /app/bare", stub.address));
    let none = run_in(&other, &format!("why --image {}/bare:1 /app/bare", stub.address));
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.starts_with("error[no-report]: nothing is known of the image"), "{}", none.stderr);
    let nowhere = run_in(&home, "build --from ./rootfs --attach-report /app/main");
    assert_eq!(nowhere.code, Some(2), "{}", nowhere.stderr);
}

/// A build that is killed leaves its scratch directory; the next one removes it.
#[test]
fn what_a_killed_build_left_goes_with_the_next() {
    let home = home();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let stub = Stub::start(|it| it.is("HEAD", "/blobs/").then_some(Reply::Silent));
    let scratch = || fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut command = minimage(home.path());
    let line = format!("build --no-cache --from ./rootfs --push {}/app:1 /app/main", stub.address);
    command.args(line.split(' ')).env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while stub.count("HEAD", "/blobs/") == 0 {
        assert!(start.elapsed() < Duration::from_secs(100), "the build does not get that far");
        std::thread::sleep(Duration::from_millis(5));
    }
    let in_use = scratch();
    assert_eq!(in_use.len(), 1);
    // Somebody else's build leaves it alone.
    let line = "build --no-cache --from ./rootfs -o type=oci,dest=out.tar /app/main";
    let build = || run(minimage(home.path()).args(line.split(' ')).env("TMPDIR", &temporary));
    assert_eq!(build().code, Some(0));
    assert_eq!(scratch(), in_use);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scratch(), in_use);
    assert_eq!(build().code, Some(0));
    assert!(scratch().is_empty());
}

/// Proxies carry what is far away, and never what is on this machine.
#[test]
fn proxies_are_for_what_is_far_away() {
    let home = home();
    let proxy = Stub::start(|it| if it.method == "CONNECT" { answer(405, &[], "") } else { None });
    let stub = Stub::plain();
    let push = |name: &str| {
        let words = [
            "build",
            "--from",
            "./rootfs",
            "--insecure-registry",
            "registry.test",
            "--push",
            name,
            "/app/main",
        ];
        let proxy = format!("http://{}", proxy.address);
        let outcome =
            run(minimage(home.path()).args(words).env("http_proxy", &proxy).env("https_proxy", &proxy));
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    };
    push(&format!("{}/app:1", stub.address));
    assert_eq!(proxy.log(), Vec::<String>::new());
    assert_eq!(stub.count("PUT", "/manifests/1"), 1);
    push("registry.test/app:1");
    assert_eq!(proxy.count("PUT", "/manifests/1"), 1);
    assert_eq!(proxy.count("CONNECT", "registry.test:443"), proxy.count("CONNECT", ""));
}

/// Where Docker was looked for is part of the message, and what helps there is part of it, too.
#[test]
fn a_docker_that_does_not_answer_is_named() {
    let (bench, home, stub) = (
        Bench::new(),
        home(),
        Stub::start(|_| answer(400, &[], "Client sent an HTTP request to an HTTPS server.\n")),
    );
    let image = bench.image(&[b"x"]);
    bench.layout.enter(&minimage::oci::Named { descriptor: &image, names: &[] }).unwrap();
    let load = |host: &str, certificates: Option<&str>| {
        let mut command = minimage(home.path());
        command
            .args(["load", bench.layout.path().to_str().unwrap(), "-t", "app", "--to", "docker"])
            .env("DOCKER_HOST", host);
        if let Some(path) = certificates {
            command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", path);
        }
        let outcome = run(&mut command);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(5), ""));
        let text = outcome.stderr.replace(home.path().to_str().unwrap(), "HOME");
        // What each part of the connection says about it is another's.
        text.lines()
            .filter(|line| !line.contains("why: error sending") && !line.contains("why: client error"))
            .fold(String::new(), |text, line| text + line + "\n")
    };
    assert_eq!(
        load("tcp://127.0.0.1:1", None),
        "error[engine-unreachable]: cannot load the image into Docker at `tcp://127.0.0.1:1`
    why: tcp connect error
    why: Connection refused (os error 111)
    fix: start Docker, or say where it is with DOCKER_HOST
    fix: if it speaks TLS, set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH
"
    );
    assert_eq!(
        load(&format!("tcp://{}", stub.address), None),
        "error[engine-error]: Docker did not load the image (status 400)
    why: it says: Client sent an HTTP request to an HTTPS server.
    fix: see to what the engine says, and load again
"
    );
    fs::write(home.path().join("ca.pem"), "a certificate").unwrap();
    assert_eq!(
        load("tcp://127.0.0.1:1", Some(home.path().to_str().unwrap())),
        "error[bad-certificates]: `HOME/ca.pem` has no certificate in PEM
    why: no items found
    fix: mend the file, or say where it is with DOCKER_CERT_PATH
"
    );
}
