//! The frontend -> its image, made by minimage itself of the binary that cargo builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::minimage::{MINIMAGE, Workspace};
use crate::outcome::Outcome;

/// The labels that tell BuildKit what the frontend can do, and that it needs no network.
const LABELS: [&str; 2] = [
    "moby.buildkit.frontend.network.none=true",
    "moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,\
     moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring",
];

/// Builds the frontend and pushes its image as `reference`.
pub(crate) fn push(reference: &str) {
    image(&Workspace::new(), &["--push", reference]);
}

/// Builds the frontend and writes its image as a docker archive that calls it `minimage`.
pub(crate) fn archive(workspace: &Workspace) -> PathBuf {
    image(workspace, &["-t", "minimage:latest", "-o", "type=docker,dest=frontend.tar"]);
    workspace.path("frontend.tar")
}

/// Builds the frontend, and its image with more `words`.
fn image(workspace: &Workspace, words: &[&str]) {
    let target = Path::new(MINIMAGE).parent().and_then(Path::parent).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--locked", "--package", "minimage-frontend", "--target-dir"])
        .arg(target);
    Outcome::of(&mut cargo).success();
    let program = target.join("debug/minimage-frontend");
    let [network, caps] = LABELS;
    let build = ["build", program.to_str().unwrap(), "--label", network, "--label", caps];
    workspace.results(build.iter().chain(words));
}
