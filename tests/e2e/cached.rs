//! What BuildKit has built before is not built again.

use std::collections::BTreeMap;
use std::fs;

use crate::buildkit::BuildKit;
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
        } else if rest.starts_with("CACHED") || rest.starts_with("DONE") {
            ends.insert(number, rest.split(' ').next().unwrap());
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
    let ran = said[2].lines().filter(|line| line.starts_with("DONE")).count();
    assert_eq!(ran, 3, "the copy, what reads it, and our step\n{}", said[2]);
    none_of(differences);
}
