//! A project file is a build file, too: BuildKit makes of it what the command line makes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::buildkit::{BuildKit, builder_of_2020};
use crate::daemons::Daemon;
use crate::layout::{Image, Layout};
use crate::minimage::Workspace;
use crate::outcome::{Outcome, difference, none_of};
use crate::requirement::{GIT, present};
use crate::sandbox::sandbox;

const PROJECT: &str = "# syntax=minimage\nfrom = '$FROM'\nprogram = '/usr/bin/tcpdump'\narguments = ['--version']\n\
    user = 'nobody'\nadd = '/etc/os-release:/srv/release,mode=600'\nlayers = 'single'\n[env]\nMODE = 'fast'\n";

/// Both give one config, except for when and by what words, and one tar.
#[test]
fn both_routes_give_one_image() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let context = workspace.path("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("minimage.toml"), PROJECT.replace("$FROM", "debian:bookworm")).unwrap();
    let epoch = "1700000000";
    let argument = format!("build-arg:SOURCE_DATE_EPOCH={epoch}");
    let words = ["--opt", "filename=minimage.toml", "--opt", &argument];
    let outcome = buildkit.build(&context, &words).success();
    let warning = "`layers` is for `minimage build`; here it is BuildKit's client that says so";
    assert!(outcome.stderr.contains(warning), "{outcome}");
    let inside = buildkit.image(&workspace, &context, &words);

    fs::write(workspace.path("minimage.toml"), PROJECT.replace("$FROM", &buildkit.debian())).unwrap();
    let host = buildkit.debian();
    let host = host.split('/').next().unwrap();
    let mut command = workspace.command(["build", "-o", "type=oci,dest=cli,tar=false"]);
    command.args(["--insecure-registry", host]).env("SOURCE_DATE_EPOCH", epoch);
    Outcome::of(&mut command).success();
    let outside = Layout::open(&workspace.path("cli")).image();
    let config = |image: &Image| format!("{:#}", image.config);
    none_of(difference("config", ("BuildKit", &config(&inside)), ("command line", &config(&outside))));
}

/// What is wrong is told at the lines of the project file.
#[test]
fn problems_of_a_project_are_told_at_their_lines() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let cases = [
        (
            "# syntax=minimage\nform = 'debian:bookworm'\n\nprogam = 'bash'\n",
            "2 | >>> form = 'debian:bookworm'\n4 | >>> progam = 'bash'\n",
            "error[project-key]: there is no option `form`\n  where: minimage.toml:2\n    fix: did you mean `from`?\n\
                error[project-key]: there is no option `progam`\n  where: minimage.toml:4\n    \
                fix: did you mean `program`?\n",
        ),
        (
            "# syntax=minimage\nprogram = 'bash'\n",
            "1 | >>> # syntax=minimage\n",
            "error[project-from]: the file does not say which image everything is from, and BuildKit has no other \
                place\n    fix: write for example `from = \"debian:bookworm\"`\n",
        ),
        (
            "# syntax=minimage\nprogram = 'bsah'\nfrom = 'debian:bookworm'\n",
            "2 | >>> program = 'bsah'\n",
            "error[program-not-found]: `program = \"bsah\"` (minimage.toml:2) is not in `debian:bookworm`\n    \
                why: looked in `/usr/local/sbin`, `/usr/local/bin`, `/usr/sbin`, `/usr/bin`, `/sbin`, `/bin`\n    \
                fix: did you mean `bash`?\n    fix: install it in the source, or give its path\n",
        ),
        (
            "# syntax=minimage\nprogram = 'bash'\nfrom = 'none:none'\n",
            "3 | >>> from = 'none:none'\n",
            "docker.io/library/none:none: not found\n",
        ),
        (
            "# syntax=minimage\nplatform = ['linux/amd64', 'linux/arm64']\nprogram = 'bash'\nfrom = 'debian:bookworm'\n",
            "4 | >>> from = 'debian:bookworm'\n",
            "error[other-platform]: the image is for linux/amd64, not linux/arm64\n    \
                fix: take the programs from a source for that platform, or leave `--platform` away\n",
        ),
    ];
    let mut differences = Vec::new();
    for (index, (project, lines, message)) in cases.into_iter().enumerate() {
        let context = workspace.path(format!("context-{index}"));
        fs::create_dir(&context).unwrap();
        fs::write(context.join("minimage.toml"), project).unwrap();
        let outcome = buildkit.build(&context, &["--opt", "filename=minimage.toml"]);
        assert_ne!(outcome.status, 0, "{outcome}");
        let marked = outcome.stderr.lines().filter(|line| line.contains("| >>>"));
        let marked: String = marked.map(|line| format!("{}\n", line.trim_start())).collect();
        differences.extend(difference(project, ("expected", lines), ("marked", &marked)));
        let said = outcome.stderr.split("error: failed to solve: ").nth(1).unwrap_or(&outcome.stderr);
        if !said.ends_with(message) {
            differences.extend(difference(project, ("expected", message), ("said", said)));
        }
    }
    none_of(differences);
}

/// What the files of a project are when it is more than one, and what its image holds for that.
const FILES: [(&str, &str); 2] = [
    (
        "deploy/minimage.toml",
        "# syntax=minimage\nfrom = 'debian:bookworm'\nprogram = '/usr/bin/tac'\nrules = ['tac.toml']\n",
    ),
    (
        "deploy/tac.toml",
        "[[rule]]\nid = 'tac'\nwhy = 'the test says so'\nwhen = { path = ['/usr/bin/tac'] }\n\
            directories = ['0755 root /var/tac']\none_program = 'it is for one'\n",
    ),
];
const NAMED: [&str; 4] =
    ["--opt", "filename=deploy/minimage.toml", "--opt", "build-arg:SOURCE_DATE_EPOCH=1700000000"];

/// Writes [`FILES`] to `directory`.
fn write_project(directory: &Path) {
    fs::create_dir_all(directory.join("deploy")).unwrap();
    for (name, text) in FILES {
        fs::write(directory.join(name), text).unwrap();
    }
}

/// Serves `file` over HTTP, whatever is asked for, until this process ends. Returns the server's address.
fn serve(file: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let file = file.clone();
            // A client may open a line that it never uses.
            thread::spawn(move || answer(&stream, &file));
        }
    });
    address.to_string()
}

/// Answers one request with `file`.
fn answer(mut stream: &TcpStream, file: &[u8]) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let is_head = lines.next().is_some_and(|start| start.starts_with("HEAD "));
    lines.find(String::is_empty);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.len());
    let body = if is_head { &[][..] } else { file };
    let _ = stream.write_all(&[head.as_bytes(), body].concat()); // whoever is gone needs no answer
}

/// Serves a repository with [`FILES`] below `directory`. Returns the server and the repository's address.
fn serve_repository(directory: &Path) -> (Daemon, String) {
    let repository = directory.join("project.git");
    write_project(&repository);
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=e2e", "-c", "user.email=e2e@e2e.test"];
        Outcome::of(Command::new("git").arg("-C").arg(&repository).args(identity).args(words)).success();
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message=x"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // By its own name: what `git daemon` starts would outlive it.
    let programs = Outcome::of(Command::new("git").arg("--exec-path")).success().stdout;
    let mut daemon = sandbox().command(format!("{}/git-daemon", programs.trim()));
    daemon.args(["--verbose", "--export-all", "--listen=127.0.0.1", &format!("--port={port}")]);
    daemon.arg(format!("--base-path={}", directory.display()));
    let ready = |line: &str| line.contains("Ready to rumble").then_some(());
    let (daemon, ()) = Daemon::start("git daemon", &mut daemon, ready).unwrap_or_else(|log| panic!("{log}"));
    (daemon, format!("git://127.0.0.1:{port}/project.git#main"))
}

/// A project of several files is the same one from a directory, a repository and an archive far away.
#[test]
fn a_project_is_found_where_the_context_is() {
    let Some(buildkit) = BuildKit::client() else { return };
    if !present(&[GIT]) {
        return;
    }
    let workspace = Workspace::new();
    let (context, served) = (workspace.path("context"), workspace.path("served"));
    write_project(&context);
    let expected = buildkit.image(&workspace, &context, &NAMED);
    let listing = expected.description();
    assert!(listing.contains(" var/tac/\n"), "{listing}");

    let (daemon, repository) = serve_repository(&served);
    let _witness = daemon.witness();

    let archive = workspace.path("context.tar.gz");
    Outcome::of(Command::new("tar").arg("-C").arg(&context).arg("-czf").arg(&archive).arg(".")).success();
    let address = serve(fs::read(&archive).unwrap());

    let empty = workspace.path("empty");
    fs::create_dir(&empty).unwrap();
    let mut differences = Vec::new();
    for place in [repository.clone(), format!("http://{address}/context.tar.gz")] {
        let option = format!("context={place}");
        let found = buildkit.image(&workspace, &empty, &[&NAMED[..], &["--opt", &option]].concat());
        differences.extend(difference(&place, ("directory", &listing), ("found", &found.description())));
    }
    none_of(differences);

    // A part of a repository is a place, too, and what is not there is told at its line.
    let part = format!("context={repository}:deploy");
    let outcome = buildkit.build(&empty, &["--opt", "filename=minimage.toml", "--opt", &part]).success();
    assert!(outcome.stderr.contains("[minimage] resolve what minimage.toml takes of debian:bookworm"));
    let rules = context.join("deploy/tac.toml");
    fs::write(&rules, "[[rule]]\nid = 'tac'\nwhy = 'x'\nlevle = 'on'\n").unwrap();
    let broken = buildkit.build(&context, &NAMED);
    fs::remove_file(&rules).unwrap();
    let absent = buildkit.build(&context, &NAMED);
    let expected = [
        (broken, "InvalidArgument: error[bad-rules]: `tac.toml` is no file of rules"),
        (absent, "open /deploy/tac.toml: no such file or directory"),
    ];
    for (outcome, message) in expected {
        let said =
            outcome.stderr.split("error: failed to solve: ").nth(1).and_then(|said| said.lines().next());
        assert_eq!(said, Some(message), "{outcome}");
        assert!(outcome.stderr.contains("   4 | >>> rules = ['tac.toml']\n"), "{outcome}");
    }
}

/// The BuildKit inside of Docker 20.10 makes the same of a project, and says what it cannot do.
#[test]
fn the_builder_of_2020_reads_projects() {
    let Some(docker) = builder_of_2020() else { return };
    if !present(&[GIT]) {
        return;
    }
    let workspace = Workspace::new();
    let context = workspace.path("context");
    write_project(&context);
    let file = context.join("deploy/minimage.toml");
    let each = "from = ['linux/amd64=debian:bookworm', 'linux/arm64=debian:of-another-machine']";
    fs::write(&file, FILES[0].1.replace("from = 'debian:bookworm'", each)).unwrap();
    let build = |place: &str, file: &str, more: &[&str]| {
        let words =
            ["build", "--network", "none", "--progress", "plain", "--tag", "e2e.test/project", "--file"];
        docker.run(&[&words[..], &[file], more, &[place]].concat())
    };
    let (place, file) = (context.to_str().unwrap(), file.to_str().unwrap());
    build(place, file, &["--platform", "linux/amd64"]).success();
    let outcome = docker.run(&["run", "--rm", "--network", "none", "e2e.test/project", "/var/tac/absent"]);
    assert_eq!(
        outcome.stderr,
        "/usr/bin/tac: failed to open '/var/tac/absent' for reading: No such file or directory\n"
    );

    let (daemon, repository) = serve_repository(&workspace.path("served"));
    let _witness = daemon.witness();
    let outcome = build(&repository, FILES[0].0, &[]);
    let message = "minimage: this BuildKit reads a project file from a directory of the client only: check its repository \
        out first\n";
    assert!(outcome.status == 1 && outcome.stderr.ends_with(message), "{outcome}");
}
