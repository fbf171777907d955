//! What BuildKit has built before is not built again.

use std::collections::BTreeMap;
use std::fs;

use crate::buildkit::BuildKit;
use crate::layout::text;
use crate::minimage::Workspace;
use crate::outcome::{difference, none_of};

const DOCKERFILE: &str = "# syntax=minimage\nFROM debian:bookworm AS build\nRUN echo 1 >/one\nFROM debian:bookworm\n\
    COPY --from=build /one /one\nCOPY file /two\nRUN cat /one /two >/three\nCMD [\"cat\", \"/three\"]\n";

/// Returns what the plain progress in `log` says of each step of a stage, and of ours.
fn steps(log: &str) -> String {
    let mut names = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for line in log.lines() {
        let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let number: usize = number.parse().unwrap();
        if rest.starts_with('[') && !rest.starts_with("[internal]") {
            names.insert(number, rest);
        } else if rest.starts_with("DONE") {
            ends.insert(number, "DONE");
        } else if rest.starts_with("CACHED") {
            // What has run has results, which may be taken from the cache right away.
            ends.entry(number).or_insert("CACHED");
        }
    }
    let mut steps: Vec<String> =
        names.iter().map(|(number, name)| format!("{} {name}\n", ends.get(number).unwrap_or(&"?"))).collect();
    // BuildKit says them as it comes to them.
    steps.sort();
    steps.concat()
}

/// An unchanged build runs nothing; a file of the context that changes has the step run again.
#[test]
fn an_unchanged_build_runs_nothing() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let context = workspace.path("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    let mut said = Vec::new();
    for content in ["2", "2", "changed"] {
        fs::write(context.join("file"), content).unwrap();
        said.push(steps(&buildkit.build(&context, &[]).success().stderr));
    }
    let cached = said[0].replace("DONE", "CACHED");
    let mut differences = Vec::new();
    let without_base = |steps: &str| -> String {
        // The base image is not even pulled if it is not needed.
        steps.lines().filter(|line| !line.contains("FROM")).map(|line| format!("{line}\n")).collect()
    };
    differences.extend(difference(
        "again",
        ("all cached", &without_base(&cached)),
        ("said", &without_base(&said[1])),
    ));
    let ran = without_base(&said[2]).lines().filter(|line| line.starts_with("DONE")).count();
    assert_eq!(ran, 3, "the copy, what reads it, and our step\n{}", said[2]);
    none_of(differences);
}

/// A builder that has nothing but a cache in a registry fetches the files of the image, and no root filesystem.
#[test]
fn with_a_cache_in_a_registry_no_root_filesystem_is_fetched() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let context = workspace.path("context");
    fs::create_dir(&context).unwrap();
    // Nobody else builds this.
    fs::write(context.join("Dockerfile"), DOCKERFILE.replace("echo 1", "echo exported")).unwrap();
    fs::write(context.join("file"), "2").unwrap();
    let debian = buildkit.pushed("library/debian", "bookworm").manifest;
    let root = text(&debian["layers"][0]["digest"]);
    let mut differences = Vec::new();
    for mode in ["min", "max"] {
        let cache =
            format!("type=registry,ref={}", buildkit.registry().reference(&format!("cache/{mode}:latest")));
        let export = format!("{cache},mode={mode},registry.insecure=true");
        let built = buildkit.builder().layout(&workspace, &context, &["--export-cache", &export]).image();
        let builder = buildkit.own_builder(&format!("import-{mode}"));
        let _witness = builder.witness();
        let import = ["--import-cache", &format!("{cache},registry.insecure=true")];
        let progress = builder.progress(&context, &import);
        let step = progress.vertices.iter().find(|(name, _)| name.starts_with("[minimage] resolve"));
        differences.extend(
            (step.map(|(_, is_cached)| *is_cached) != Some(true))
                .then(|| format!("{mode}: our step ran: {:?}", progress.vertices)),
        );
        let is_root = |fetched: &String| fetched.contains(&root);
        differences.extend(
            progress
                .fetched
                .iter()
                .any(is_root)
                .then(|| format!("{mode}: the root was fetched: {:?}", progress.fetched)),
        );
        let again = builder.layout(&workspace, &context, &import).image();
        differences.extend(difference(
            mode,
            ("first", &format!("{:#}", built.config)),
            ("again", &format!("{:#}", again.config)),
        ));
    }
    none_of(differences);
}
