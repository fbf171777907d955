//! Builds that are cut off, and files that are out to harm: a clear outcome, and a daemon that goes on.
//!
//! What is large is built by a builder of its own, so that the disk has it for no longer than its test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::buildkit::{BuildKit, Builder, builder_of_2020};
use crate::minimage::Workspace;
use crate::outcome::{Outcome, none_of};

/// What one step may take of memory, however large or many the files are.
const MEMORY_MAX: u64 = 512 << 20;
/// How long one waits for what should happen at once.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes a Dockerfile to a directory `name` of its own.
fn context(workspace: &Workspace, name: &str, dockerfile: &str) -> PathBuf {
    let directory = workspace.path(name);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
    directory
}

/// Builds something small, to see that the daemon still does.
fn still_builds(builder: &Builder, workspace: &Workspace, name: &str) {
    let dockerfile = format!(
        "# syntax=minimage\nFROM debian:bookworm AS build\nFROM scratch\n\
         COPY --from=build /usr/bin/tac /usr/bin/\nENV AFTER={name}\nCMD [\"/usr/bin/tac\"]\n"
    );
    builder.layout(workspace, &context(workspace, &format!("after-{name}"), &dockerfile), &[]).image();
}

/// Returns the process that is the step for the stage `name`, as seen from out here.
fn step(name: &str) -> Option<PathBuf> {
    let mut processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let wanted = format!("stage {name}\"");
    let is_step = |process: &PathBuf| {
        // It may end while we look.
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        words.contains("minimage-frontend\0step\0") && words.contains(&wanted)
    };
    processes.find(is_step)
}

/// Watches the memory of the step for one stage.
struct Watch {
    peak: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn start(stage: &'static str) -> Self {
        let (peak, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (peak, is_over) = (Arc::clone(&peak), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::SeqCst) {
                    let status = step(stage).and_then(|step| fs::read_to_string(step.join("status")).ok());
                    let kilobytes = status.as_deref().and_then(|status| {
                        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
                        line.split_whitespace().nth(1)?.parse::<u64>().ok()
                    });
                    peak.fetch_max(kilobytes.unwrap_or(0) << 10, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Self { peak, is_over, thread }
    }

    /// Returns the most bytes that the step has had at once; 0 if it was never seen.
    fn peak(self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.peak.load(Ordering::SeqCst)
    }
}

/// A root filesystem full of traps, and nothing of the image that is not meant to be there.
#[test]
fn a_hostile_root_filesystem() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let dockerfile = "# syntax=minimage\nFROM debian:bookworm AS traps\nRUN <<EOF\nset -e\n\
        mkdir -p /odd/a/b /odd/links && cd /odd\n\
        mkfifo fifo a/fifo && mknod null c 1 3 && mknod disk b 8 0\n\
        ln -s loop loop && ln -s two one && ln -s one two && ln -s . a/b/here\n\
        ln -s ../../../../../../etc/passwd out && ln -s /proc/self/root/etc root\n\
        ln -s fifo links/fifo && ln -s ../a/fifo links/deep\n\
        truncate -s 3G sparse && printf '#!/odd/sparse\\n' >script && chmod +x sparse script\n\
        printf '\\177ELF' >cut && printf '\\177ELF\\2\\1\\1' >short && chmod +x cut short\n\
        echo fine >fine\nEOF\n\
        FROM scratch AS odd\nCOPY --from=traps /odd /odd\nCOPY --from=traps /usr/bin/tac /usr/bin/\n\
        CMD [\"/usr/bin/tac\", \"/odd/fine\"]\n";
    let directory = context(&workspace, "traps", dockerfile);
    let builder = buildkit.own_builder("traps");
    let watch = Watch::start("odd");
    let outcome = builder.build(&directory, &[]);
    let peak = watch.peak();
    outcome.success();
    assert!(peak > 0 && peak < MEMORY_MAX, "{peak} bytes");
    still_builds(&builder, &workspace, "traps");
}

/// A hundred thousand files are kept, in bounded memory.
#[test]
fn many_files() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let dockerfile = "# syntax=minimage\nFROM debian:bookworm AS made\nRUN <<EOF\n#!/usr/bin/python3\n\
        import os\nfor directory in range(100):\n    path = f\"/many/{directory}\"\n    os.makedirs(path)\n    \
        for name in range(1000):\n        open(f\"{path}/{name}\", \"w\").close()\nEOF\n\
        FROM scratch AS many\nCOPY --from=made /many /many\nCOPY --from=made /usr/bin/tac /usr/bin/\n\
        CMD [\"/usr/bin/tac\"]\n";
    let directory = context(&workspace, "many", dockerfile);
    let builder = buildkit.own_builder("many");
    let watch = Watch::start("many");
    let image = builder.layout(&workspace, &directory, &[]).image();
    let peak = watch.peak();
    let listing = Outcome::of(Command::new("tar").arg("-tf").arg(&image.layers[0])).success();
    let kept =
        listing.stdout.lines().filter(|name| name.starts_with("many/") && !name.ends_with('/')).count();
    assert_eq!(kept, 100_000);
    assert!(peak > 0 && peak < MEMORY_MAX, "{peak} bytes");
}

/// Settings of 200 KiB, more than fits into one argument of a program, do what they say.
#[test]
fn a_long_option() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    // In many lines: a line of a Dockerfile has its limits, too.
    let pattern = "/nowhere/nowhere/nowhere/nowhere\\\n".repeat(7 << 10);
    assert!(pattern.len() > 200 << 10);
    let dockerfile = format!(
        "# syntax=minimage\nFROM debian:bookworm AS build\nFROM scratch\n\
         COPY --from=build /usr/bin/tac /usr/bin/tsort /usr/bin/\nCMD [\"/usr/bin/tac\"]\n\
         LABEL minimage.exclude=\"{pattern}\"\n"
    );
    let more = ["--opt", "build-arg:MINIMAGE_EXCLUDE=/usr/bin/tsort"];
    let image = buildkit.image(&workspace, &context(&workspace, "long", &dockerfile), &more);
    let listing = Outcome::of(Command::new("tar").arg("-tf").arg(&image.layers[0])).success();
    assert!(listing.stdout.contains("usr/bin/tac\n"), "{listing}");
    assert!(!listing.stdout.contains("usr/bin/tsort\n"), "{listing}");
}

/// An option that fits into no environment ends the build with the reason, on the builder of 2020 as well.
#[test]
fn an_option_that_does_not_fit() {
    let Some(docker) = builder_of_2020() else { return };
    let workspace = Workspace::new();
    let directory =
        context(&workspace, "unfit", "# syntax=minimage\nFROM debian:bookworm\nCMD [\"/bin/true\"]\n");
    // No command line holds it, either; but a client's own settings can.
    let settings = workspace.path("settings");
    fs::create_dir(&settings).unwrap();
    let proxies = json!({ "proxies": { "default": { "noProxy": "x".repeat(200 << 10) } } });
    fs::write(settings.join("config.json"), proxies.to_string()).unwrap();
    let settings = settings.to_str().unwrap();
    let build = ["build", "--network", "none", "--progress", "plain", directory.to_str().unwrap()];
    let outcome = docker.run(&[&["--config", settings][..], &build].concat());
    assert_ne!(outcome.status, 0, "{outcome}");
    // All that this daemon tells of a program that cannot be started.
    assert!(
        outcome.stderr.ends_with("failed to solve with frontend gateway.v0: exit code: 1\n"),
        "{outcome}"
    );
    docker.run(&build).success();
}

/// Waits until `is_so`, or fails.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} does not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A client that goes away takes its build along, and no other one.
#[test]
fn a_client_that_is_killed() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let dockerfile = "# syntax=minimage\nFROM debian:bookworm AS killed-client\nRUN echo begun && sleep 1000\nCMD [\"bash\"]\n";
    let directory = context(&workspace, "killed", dockerfile);
    let mut client = buildkit.builder().command(&directory, "plain");
    let mut client =
        client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(client.stderr.take().unwrap()).lines();
    let begun = lines.map_while(Result::ok).any(|line| line.ends_with(" begun"));
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(begun);
    let sleeps = || {
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        processes
            .filter(|process| {
                fs::read(process.join("cmdline")).is_ok_and(|words| words == b"sleep\x001000\0")
            })
            .count()
    };
    wait_for("the end of the command", || sleeps() == 0);
    still_builds(buildkit.builder(), &workspace, "killed-client");
}

/// A step that is killed ends the build with that as the reason, and is done again by the next build.
#[test]
fn a_step_that_is_killed() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    // Enough to look at that there is time for it.
    let dockerfile = "# syntax=minimage\nFROM debian:bookworm AS much\nRUN cp -r /usr/lib /usr/share /srv\n\
        FROM debian:bookworm AS killed-step\nCOPY --from=much /srv /srv\nCMD [\"bash\"]\n";
    let directory: &Path = &context(&workspace, "killed", dockerfile);
    let builder = buildkit.own_builder("killed-step");
    let outcome = thread::scope(|scope| {
        let build = scope.spawn(|| builder.build(directory, &[]));
        wait_for("the step", || step("killed-step").is_some() || build.is_finished());
        let process = step("killed-step").expect("the step runs");
        let number = process.file_name().unwrap().to_str().unwrap();
        Outcome::of(Command::new("kill").args(["-KILL", number])).success();
        build.join().unwrap()
    });
    assert_ne!(outcome.status, 0, "{outcome}");
    let said = outcome.stderr.split("error: failed to solve: ").nth(1).unwrap_or_default();
    none_of((!said.contains("exit code: 137")).then(|| outcome.to_string()));
    builder.build(directory, &[]).success();
}
