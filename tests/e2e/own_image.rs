//! The frontend as it is released: small, complete, and the same by its Dockerfile and by minimage itself.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::buildkit::{BuildKit, Pushed};
use crate::frontend::{self, LABELS};
use crate::layout::text;
use crate::minimage::Workspace;
use crate::outcome::{difference, none_of};

/// The most bytes that the layers of the image may have.
const SIZE_MAX: u64 = 8_000_000;

/// Both images have the labels that BuildKit asks for, are small, and make the same of a Dockerfile as every other build
/// of the frontend does; BuildKit runs them without a network, as they ask for.
#[test]
fn the_image_of_the_frontend() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let program = frontend::released();

    frontend::push_program(&program, &buildkit.registry().reference("library/own-food:latest"));
    // The Dockerfile's first stage would get a toolchain and crates from the network; what it would leave is given.
    let made = workspace.path("made");
    fs::create_dir(&made).unwrap();
    fs::copy(&program, made.join("minimage-frontend")).unwrap();
    let local = format!("made={}", made.display());
    let words = ["--opt", "context:build=local:made", "--local", &local];
    let by_dockerfile =
        buildkit.push(Path::new(env!("CARGO_MANIFEST_DIR")), &words, "library/by-dockerfile", "latest");

    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bash");
    let epoch = ["--opt", "build-arg:SOURCE_DATE_EPOCH=1700000000"];
    let expected = buildkit.image(&workspace, &example, &epoch).description();
    let mut differences = Vec::new();
    for (name, image) in
        [("own-food", buildkit.pushed("library/own-food", "latest")), ("by-dockerfile", by_dockerfile)]
    {
        assert!(size(&image) < SIZE_MAX, "{name}: {} bytes", size(&image));
        assert!(size(&image) > 1_000_000, "{name}: {} bytes", size(&image));
        let labels = LABELS.map(|label| label.split_once('=').unwrap());
        let labels: serde_json::Map<_, _> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
        assert_eq!(image.config["config"]["Labels"], json!(labels), "{name}");
        let entrypoint = text(&image.config["config"]["Entrypoint"][0]);
        assert!(entrypoint.ends_with("/minimage-frontend"), "{name}: {entrypoint}");
        let syntax = format!("build-arg:BUILDKIT_SYNTAX={name}");
        let built = buildkit.image(&workspace, &example, &[&epoch[..], &["--opt", &syntax]].concat());
        differences.extend(difference(
            name,
            ("as in other tests", &expected),
            ("built", &built.description()),
        ));
    }
    none_of(differences);
}

fn size(image: &Pushed) -> u64 {
    image.manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum()
}
