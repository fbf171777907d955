//! A project file is a build file, too: BuildKit makes of it what the command line makes.

use std::fs;

use crate::buildkit::BuildKit;
use crate::layout::{Image, Layout};
use crate::minimage::Workspace;
use crate::outcome::{Outcome, difference, none_of};

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
