//! Dockerfiles with `# syntax=minimage` build on a real BuildKit, hold exactly what they should, and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::buildkit::BuildKit;
use crate::layout::Image;
use crate::minimage::Workspace;
use crate::outcome::{Outcome, difference, none_of};

/// The directory with the examples.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Returns the names of what the layers of `image` hold, one a line. `files.txt` beside a Dockerfile has the same.
fn files(image: &Image) -> String {
    let listings = image.layers.iter().map(|layer| {
        let mut tar = Command::new("tar");
        Outcome::of(tar.arg("-tf").arg(layer)).success().stdout
    });
    listings.collect()
}

/// Each example builds, holds exactly the files that are listed beside it, and says what is in
/// `output.txt`.
#[test]
fn examples_build_and_run() {
    let Some(buildkit) = BuildKit::client() else { return };
    let mut differences = Vec::new();
    let mut names: Vec<PathBuf> =
        fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.join("Dockerfile").is_file());
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    for example in names {
        let name = example.file_name().unwrap().to_str().unwrap();
        let workspace = Workspace::new();
        let image = buildkit.image(&workspace, &example, &[]);
        let listed = example.join("files.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&listed, files(&image)).unwrap();
        }
        let listed = fs::read_to_string(&listed).unwrap_or_default();
        differences.extend(difference(name, ("listed", &listed), ("in the image", &files(&image))));
        let expected = fs::read_to_string(example.join("output.txt")).unwrap_or_default();
        let Some(outcome) = buildkit.run(&workspace, &example) else { continue };
        let said = format!("exit {}\n{}{}", outcome.status, outcome.stdout, outcome.stderr);
        if !said.contains(&expected) || expected.is_empty() {
            differences.push(format!("{name}: expected {expected:?}\n{outcome}"));
        }
    }
    none_of(differences);
}
