//! The frontend -> its image, made by minimage itself of the binary that cargo builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::minimage::{MINIMAGE, Workspace};
use crate::outcome::Outcome;

/// The labels that tell BuildKit what the frontend can do, and that it needs no network.
pub(crate) const LABELS: [&str; 2] = [
    "moby.buildkit.frontend.network.none=true",
    "moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,\
     moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring",
];

/// Builds the frontend and pushes its image as `reference`.
pub(crate) fn push(reference: &str) {
    image(&Workspace::new(), &program(), &["--push", reference]);
}

/// Pushes the image of `program`, a frontend, as `reference`.
pub(crate) fn push_program(program: &Path, reference: &str) {
    image(&Workspace::new(), program, &["--push", reference]);
}

/// Builds the frontend and writes its image as a docker archive that calls it `minimage`.
pub(crate) fn archive(workspace: &Workspace) -> PathBuf {
    image(workspace, &program(), &["-t", "minimage:latest", "-o", "type=docker,dest=frontend.tar"]);
    workspace.path("frontend.tar")
}

/// Builds the frontend. Returns where it is.
fn program() -> PathBuf {
    let target = Path::new(MINIMAGE).parent().and_then(Path::parent).unwrap();
    Outcome::of(build().arg("--target-dir").arg(target)).success();
    target.join("debug/minimage-frontend")
}

/// Builds the frontend as it is released: one static file. Returns where it is.
pub(crate) fn released() -> PathBuf {
    let target = Path::new(MINIMAGE).parent().and_then(Path::parent).unwrap();
    let machine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = build();
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").args(["--release", "--target", &machine]);
    Outcome::of(cargo.arg("--target-dir").arg(target)).success();
    target.join(machine).join("release/minimage-frontend")
}

fn build() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--locked",
        "--package",
        "minimage-frontend",
    ]);
    cargo
}

/// Builds the image of `program`, a frontend, with more `words`.
fn image(workspace: &Workspace, program: &Path, words: &[&str]) {
    let [network, caps] = LABELS;
    let build = ["build", program.to_str().unwrap(), "--label", network, "--label", caps];
    workspace.results(build.iter().chain(words));
}
