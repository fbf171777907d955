//! Builds with inputs: definitions stand for directories and images, as other frontends and `docker buildx bake` pass them.

use std::fs;

use crate::buildkit::BuildKit;
use crate::engines::Bundle;
use crate::layout::{Image, Layout};
use crate::minimage::Workspace;
use crate::outcome::{difference, none_of};
use crate::requirement::RUNC;

const DOCKERFILE: &str = "# syntax=minimage\nFROM base AS build\nFROM scratch\n\
    COPY --from=build /usr/bin/tac /usr/bin/\nCOPY words /\nCOPY --from=more more /\nCMD [\"/usr/bin/tac\", \"/words\"]\n";
const EPOCH: [&str; 2] = ["--opt", "build-arg:SOURCE_DATE_EPOCH=1700000000"];
/// Calls the frontend by name, as another frontend does.
const CALLED: [&str; 2] = ["--frontend", "minimage"];

/// Makes a directory `name` of the workspace with `files`, and returns its path.
fn directory(workspace: &Workspace, name: &str, files: &[(&str, &str)]) -> String {
    let directory = workspace.path(name);
    fs::create_dir(&directory).unwrap();
    for (name, text) in files {
        fs::write(directory.join(name), text).unwrap();
    }
    directory.display().to_string()
}

/// Builds with inputs, which must succeed. Returns the image, which lies in the workspace as `name`.
fn image(buildkit: &BuildKit, workspace: &Workspace, name: &str, words: &[&str]) -> Image {
    let archive = workspace.path(format!("{name}.tar"));
    let output = ["--output", archive.to_str().unwrap()];
    buildkit.builder().build_with_inputs(&[&EPOCH, words, &output].concat()).success();
    Layout::from_archive(&archive).image()
}

/// Whoever passes the inputs, and whatever they are made by, the image is that of directories and images.
#[test]
fn inputs_stand_for_directories_and_images() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let context = directory(&workspace, "context", &[("words", "one\ntwo\n"), ("not-copied", "")]);
    let dockerfile = directory(&workspace, "dockerfile", &[("Dockerfile", DOCKERFILE)]);
    let more = format!("more={}", directory(&workspace, "more", &[("more", "more\n")]));
    let inputs = [
        ["--input".to_owned(), format!("dockerfile=files:{dockerfile}")],
        ["--input".to_owned(), format!("context=files:{context}")],
    ];
    let inputs: Vec<&str> = inputs.as_flattened().iter().map(String::as_str).collect();
    let named =
        ["--opt", "context:base=input:base", "--input", "base=image:docker.io/library/debian:bookworm"];
    let local = ["--opt", "context:more=input:other", "--input", "other=local:more", "--local", &more];
    let words = [&inputs[..], &named, &local].concat();

    fs::copy(workspace.path("dockerfile/Dockerfile"), workspace.path("context/Dockerfile")).unwrap();
    let contexts = [
        &["--opt", "context:base=docker-image://debian:bookworm", "--local", &more][..],
        &["--opt", "context:more=local:more"],
    ];
    let contexts = [&EPOCH, &contexts.concat()[..]].concat();
    let plain = buildkit.image(&workspace, context.as_ref(), &contexts);
    let by_client = image(&buildkit, &workspace, "by-client", &words);
    let by_frontend = image(&buildkit, &workspace, "by-frontend", &[&words[..], &CALLED].concat());
    let expected = plain.description();
    let inputs = [("by the client", by_client), ("by a frontend", by_frontend)];
    none_of(inputs.iter().filter_map(|(who, image)| {
        difference(who, ("directories", &expected), ("inputs", &image.description()))
    }));
    let bundle = Bundle::unpack(&workspace.path("by-frontend.layout"), "latest");
    if let Some(outcome) = bundle.and_then(|bundle| bundle.run(RUNC)) {
        assert_eq!(outcome.visible(), "exit 0\ntwo\none\n");
    }
}

/// Where one target builds on another, what it builds on is an image, and its Dockerfile is not ours: the image is the
/// same as over the pushed one, and an error is told at the right line of the right file.
#[test]
fn one_target_builds_on_another() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let below = "# syntax=minimage\n# A comment,\n# and one more\nFROM debian:bookworm\nRUN echo x >/made\n\
        CMD [\"bash\", \"/made\"]\n";
    let below = directory(&workspace, "below", &[("Dockerfile", below)]);
    buildkit.push(below.as_ref(), &EPOCH, "library/below", "latest");
    let below = format!("below={below}");
    let as_target = ["--opt", "context:base=input:base", "--input", "base=target:below", "--local", &below];
    let as_image = ["--opt", "context:base=docker-image://below"];

    let on_top =
        "# syntax=minimage\nFROM base\nRUN [\"bash\", \"-c\", \"echo a >/a\"]\nCMD [\"bash\", \"/a\"]\n";
    let on_top = directory(&workspace, "on-top", &[("Dockerfile", on_top)]);
    let locals = [format!("context={on_top}"), format!("dockerfile={on_top}")];
    let locals = ["--local", &locals[0], "--local", &locals[1]];
    let found = image(&buildkit, &workspace, "found", &[&CALLED[..], &locals, &as_target].concat());
    let expected = buildkit.image(&workspace, on_top.as_ref(), &[&EPOCH[..], &as_image].concat());
    none_of(difference("base", ("image", &expected.description()), ("target", &found.description())));

    let wrong =
        "# syntax=minimage\nFROM base\nRUN [\"bash\", \"-c\", \"echo a >/a\"]\nENTRYPOINT [\"tac\"]\n";
    fs::write(workspace.path("on-top/Dockerfile"), wrong).unwrap();
    let outcome = buildkit.builder().build_with_inputs(&[&CALLED[..], &locals, &as_target].concat());
    assert_ne!(outcome.status, 0, "{outcome}");
    let said = outcome.stderr.split_once("Dockerfile:4\n").unwrap_or_else(|| panic!("{outcome}")).1;
    let rule = "-".repeat(20);
    let expected = format!(
        "{rule}\n   2 |     FROM base\n   3 |     RUN [\"bash\", \"-c\", \"echo a >/a\"]\n   4 | >>> ENTRYPOINT [\"tac\"]\n   5 |     \n\
         {rule}\nerror: failed to solve: InvalidArgument: error[program-not-found]: `ENTRYPOINT [\"tac\"]` \
         (Dockerfile:4) is not in the target\n    why: looked in `/usr/local/sbin`, `/usr/local/bin`, `/usr/sbin`, \
         `/usr/bin`, `/sbin`, `/bin`\n    fix: install it in the target, or give its path\n"
    );
    none_of(difference("message", ("expected", &expected), ("said", said)));
}

/// A project file that is passed in, from an image that is passed in, is one in a directory from an image.
#[test]
fn a_project_is_passed_in() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let project = "# syntax=minimage\nfrom = 'base'\nprogram = 'tac'\n";
    let directory = directory(&workspace, "project", &[("minimage.toml", project)]);
    let named = [&EPOCH[..], &["--opt", "filename=minimage.toml"]].concat();
    let as_image = ["--opt", "context:base=docker-image://debian:bookworm"];
    let expected =
        buildkit.image(&workspace, directory.as_ref(), &[&named[..], &as_image].concat()).description();

    let base = "base=image:docker.io/library/debian:bookworm";
    let file = format!("dockerfile=files:{directory}");
    let inputs = ["--opt", "context:base=input:base", "--input", base, "--input", &file];
    let words = [&named[..], &inputs].concat();
    let by_client = image(&buildkit, &workspace, "by-client", &words).description();
    let by_frontend =
        image(&buildkit, &workspace, "by-frontend", &[&words[..], &CALLED].concat()).description();
    none_of(
        [("by the client", by_client), ("by a frontend", by_frontend)].iter().filter_map(|(who, found)| {
            difference(who, ("directory and image", &expected), ("inputs", found))
        }),
    );
}
