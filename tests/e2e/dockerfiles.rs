//! Dockerfiles with `# syntax=minimage` build on a real BuildKit, hold exactly what they should, and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::buildkit::{BuildKit, builder_of_2020};
use crate::engines::Docker;
use crate::layout::{Image, Layout, text};
use crate::minimage::Workspace;
use crate::outcome::{Outcome, difference, none_of};
use crate::requirement::{TOOLCHAINS, present};

/// Returns the directories of the examples.
fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut examples: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    examples.retain(|path| path.join("Dockerfile").is_file());
    examples.sort();
    assert!(examples.len() >= 9, "{examples:?}");
    examples
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
    if !present(&[TOOLCHAINS]) {
        return;
    }
    buildkit.push_toolchains();
    let mut differences = Vec::new();
    for example in examples() {
        let name = example.file_name().unwrap().to_str().unwrap();
        let workspace = Workspace::new();
        let image = buildkit.image(&workspace, &example, &[]);
        let listed = example.join("files.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&listed, files(&image)).unwrap();
        }
        let listed = fs::read_to_string(&listed).unwrap_or_default();
        differences.extend(difference(name, ("listed", &listed), ("in the image", &files(&image))));
        let Some(outcome) = buildkit.run(&workspace, &example) else { continue };
        differences.extend(unexpected(&example, &outcome));
    }
    none_of(differences);
}

/// A Dockerfile of `testdata/dockerfiles`, and how the message ends that it leads to.
struct Broken {
    name: &'static str,
    /// More words for the client.
    words: &'static [&'static str],
    /// The lines of the Dockerfile that are shown with a mark.
    lines: &'static [&'static str],
    message: &'static str,
}

impl Broken {
    /// A Dockerfile that needs no more words to be broken.
    const OF_ITSELF: Self = Self { name: "", words: &[], lines: &[], message: "" };
}

const BROKEN: [Broken; 21] = [
    Broken {
        name: "no-such-program",
        lines: &["6 | >>> ENTRYPOINT [\"/bin/bsah\"]"],
        message: "InvalidArgument: error[program-not-found]: `ENTRYPOINT [\"/bin/bsah\"]` (Dockerfile:6) is not in \
            stage stage-1\n    fix: did you mean `/bin/bash`?\n    fix: copy it to stage stage-1 from a stage that has it, \
            or build that on an image that does\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "library-gone",
        lines: &["6 | >>> COPY --from=build /bin/bash /bin/"],
        message: "InvalidArgument: error[missing-library]: `libtinfo.so.6` is not in stage build\n  \
            where: `/usr/bin/bash` needs it\n  \
            where: `COPY --from=build /bin/bash /bin/` (Dockerfile:6)\n    \
            why: looked in `/lib/x86_64-linux-gnu/libtinfo.so.6` (ld.so.cache), `/lib/x86_64-linux-gnu`, \
            `/usr/lib/x86_64-linux-gnu`, `/lib`, `/usr/lib`\n    \
            fix: install the package that has it in stage build\n    \
            fix: or accept the gap with `LABEL minimage.allow-missing=libtinfo.so.6`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "unknown-label",
        lines: &["3 | >>> LABEL minimage.wiht=\"tzdata\""],
        message: "InvalidArgument: error[unknown-option]: there is no option `wiht`\n  \
            where: `LABEL minimage.wiht=\"tzdata\"` (Dockerfile:3)\n    fix: did you mean `with`?\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "label-in-capitals",
        lines: &["3 | >>> LABEL Minimage.with=tzdata"],
        message: "InvalidArgument: error[unknown-option]: there is no option `Minimage.with`\n  \
            where: `LABEL Minimage.with=tzdata` (Dockerfile:3)\n    fix: did you mean `minimage.with`?\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "words-in-brackets",
        lines: &[
            "3 | >>> HEALTHCHECK --interval=5s CMD [\"true -x\"]",
            "4 | >>> ENTRYPOINT [\"$SHELL\", \"-c\", \"exit\"]",
        ],
        message: "InvalidArgument: error[exec-form]: `$SHELL` stays as it is: in brackets, no shell puts in variables\n  \
            where: `ENTRYPOINT [\"$SHELL\", \"-c\", \"exit\"]` (Dockerfile:4)\n    \
            why: the image has no variable `SHELL`; an `ARG` is for the build only\n    \
            fix: write what `SHELL` stands for\n\
            error[exec-form]: `true -x` is the name of one program: in brackets, each word has quotes of its own\n  \
            where: `HEALTHCHECK --interval=5s CMD [\"true -x\"]` (Dockerfile:3)\n    \
            fix: write `HEALTHCHECK --interval=5s CMD [\"true\", \"-x\"]`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "single-quotes",
        lines: &["3 | >>> ENTRYPOINT ['ls', '-l']", "4 | >>> CMD [\"/\""],
        message: "InvalidArgument: error[exec-form]: `['ls', '-l']` is no list, so that a shell would look for a program of \
            this name\n  where: `ENTRYPOINT` (Dockerfile:3)\n    \
            why: in brackets, words have double quotes around them and commas between them\n    \
            fix: write `ENTRYPOINT [\"ls\", \"-l\"]`\n\
            error[exec-form]: `[\"/\"` is no list, so that a shell would look for a program of this name\n  \
            where: `CMD` (Dockerfile:4)\n    \
            why: in brackets, words have double quotes around them and commas between them\n    \
            fix: write `CMD [\"/\"]`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "no-such-target",
        words: &["--opt", "target=bulid"],
        lines: &["2 | >>> FROM debian:bookworm AS build", "3 | >>> FROM debian:bookworm"],
        message: "InvalidArgument: error[unknown-stage]: Dockerfile has no stage called `bulid`\n  \
            where: `--target bulid`\n    fix: did you mean `build`?\n    fix: there are `build`, `1`\n",
    },
    Broken {
        name: "no-such-target",
        words: &["--opt", "build-arg:MINIMAGE_WTH=tzdata"],
        lines: &[],
        message: "InvalidArgument: error[unknown-option]: there is no option `wth`\n  \
            where: `--build-arg MINIMAGE_WTH=tzdata`\n    fix: did you mean `with`?\n",
    },
    Broken {
        name: "wrong-rule",
        lines: &["7 | >>>     minimage.with=\"tzdaat,locale\""],
        message: "InvalidArgument: error[unknown-rule]: there is no rule called `tzdaat`\n  \
            where: `minimage.with=\"tzdaat,locale\"` (Dockerfile:7)\n    fix: did you mean `tzdata`?\n\
            error[usage]: the rule `locale` does not say which\n  \
            where: `minimage.with=\"tzdaat,locale\"` (Dockerfile:7)\n    \
            fix: write `LABEL minimage.with=locale=NAME`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "unknown-service",
        lines: &["6 | >>> LABEL minimage.nss=\"compta\""],
        message: "InvalidArgument: error[unknown-service]: stage stage-1 has no name service `compta`\n  \
            where: `LABEL minimage.nss=\"compta\"` (Dockerfile:6)\n    \
            why: no loader finds `libnss_compta.so.2`\n    \
            why: stage build has `compat`, `dns`, `files`, `hesiod`\n    fix: did you mean `compat`?\n    \
            fix: install the package that has `libnss_compta.so.2` in stage build\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "shell-in-scratch",
        lines: &["6 | >>> CMD tac /etc/passwd"],
        message: "InvalidArgument: error[program-not-found]: `/bin/sh`, which `CMD tac /etc/passwd` (Dockerfile:6) \
            runs, is not in stage stage-1\n    fix: take that of stage build: `LABEL minimage.with=shell`\n    \
            fix: write `CMD [\"PROGRAM\", \"ARGUMENT\"]`, which needs no shell\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "user-in-scratch",
        lines: &["6 | >>> USER games"],
        message: "InvalidArgument: error[unknown-user]: stage stage-1 has no user called `games`\n  \
            where: `USER games` (Dockerfile:6)\n    why: looked in `/etc/passwd` of stage stage-1\n    \
            fix: take that of stage build: `LABEL minimage.with-user=games`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "named-context",
        words: &["--opt", "context:base=docker-image://debian:bookworm"],
        lines: &["3 | >>> CMD [\"/bin/bsah\"]"],
        message: "InvalidArgument: error[program-not-found]: `CMD [\"/bin/bsah\"]` (Dockerfile:3) is not in the \
            target\n    fix: did you mean `/bin/bash`?\n    fix: install it in the target, or give its path\n",
    },
    Broken {
        name: "run-fails",
        words: &["--opt", "build-arg:BUILDKIT_SYNTAX=minimage --dlopen=sometimes"],
        lines: &[],
        message: "InvalidArgument: error[bad-option]: `dlopen` cannot be `sometimes`\n  \
            where: `--build-arg BUILDKIT_SYNTAX=\"minimage --dlopen=sometimes\"`\n    \
            fix: write `none`, `required`, `recommended` or `suggested`\n",
    },
    Broken {
        name: "unknown-group",
        lines: &["4 | >>> USER root:nogrp"],
        message: "InvalidArgument: error[unknown-group]: the target has no group called `nogrp`\n  \
            where: `USER root:nogrp` (Dockerfile:4)\n    why: looked in `/etc/group` of the target\n    \
            fix: did you mean `nogroup`?\n    fix: add the group there, or give a number\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "program-elsewhere",
        lines: &["5 | >>> ENTRYPOINT [\"./sevre\"]"],
        message: "InvalidArgument: error[program-not-found]: `/app/sevre`, which `ENTRYPOINT [\"./sevre\"]` \
            (Dockerfile:5) runs, is not in the target\n    fix: did you mean `/app/serve`?\n    \
            fix: install it in the target, or give its path\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "bad-mode",
        lines: &["3 | >>> LABEL minimage.mode=\"sometimes\""],
        message: "InvalidArgument: error[bad-option]: `mode` cannot be `sometimes`\n  \
            where: `LABEL minimage.mode=\"sometimes\"` (Dockerfile:3)\n    fix: write `on` or `off`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "syntax-words",
        lines: &["1 | >>> # syntax=minimage --dlopen=sometimes"],
        message: "InvalidArgument: error[bad-option]: `dlopen` cannot be `sometimes`\n  \
            where: `# syntax=minimage --dlopen=sometimes` (Dockerfile:1)\n    \
            fix: write `none`, `required`, `recommended` or `suggested`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "entrypoint-is-a-directory",
        lines: &["3 | >>> ENTRYPOINT [\"/usr/bin\"]"],
        message: "InvalidArgument: error[not-a-program]: `/usr/bin` is no program: it is not a regular file\n  \
            where: `ENTRYPOINT [\"/usr/bin\"]` (Dockerfile:3)\n    \
            fix: name an ELF program or a script that starts with `#!`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "stages-conflict",
        lines: &[
            "8 | >>> COPY --from=build /bin/bash /usr/local/bin/",
            "9 | >>> CMD [\"/usr/local/bin/bash\"]",
        ],
        message: "InvalidArgument: error[stages-conflict]: the loader stops at `/lib/x86_64-linux-gnu/libtinfo.so.6`: \
            file too short\n  \
            where: `/usr/local/bin/bash` would load it for `libtinfo.so.6`\n  \
            where: `COPY --from=build /bin/bash /usr/local/bin/` (Dockerfile:8)\n  \
            where: `CMD [\"/usr/local/bin/bash\"]` (Dockerfile:9)\n    \
            why: it hides whatever comes after it in the search, at run time too\n    \
            why: stage build and stage stage-2 have different files at \
            `/usr/lib/x86_64-linux-gnu/libtinfo.so.6.4`; that of the latter stays\n    \
            fix: remove or replace `/lib/x86_64-linux-gnu/libtinfo.so.6` in stage stage-2\n    \
            fix: build both on the same release, or start the target with `FROM scratch` or `FROM build`\n",
        ..Broken::OF_ITSELF
    },
    Broken {
        name: "run-fails",
        lines: &["3 | >>> RUN exit 3"],
        message: "process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3\n",
        ..Broken::OF_ITSELF
    },
];

/// What is wrong is told at the lines that are to blame, with what to write instead.
#[test]
fn problems_are_told_at_their_lines() {
    let Some(buildkit) = BuildKit::client() else { return };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfiles");
    let mut differences = Vec::new();
    for broken in BROKEN {
        let outcome = buildkit.build(&directory.join(broken.name), broken.words);
        assert_ne!(outcome.status, 0, "{outcome}");
        let marked = outcome.stderr.lines().filter(|line| line.contains("| >>>"));
        let marked: String = marked.map(|line| format!("{}\n", line.trim_start())).collect();
        let expected: String = broken.lines.iter().map(|line| format!("{line}\n")).collect();
        differences.extend(difference(broken.name, ("expected", &expected), ("marked", &marked)));
        // Which of the two it is depends on who hears of the error first.
        let ways = ["error: failed to solve: ", "error: failed to run Build function: "];
        let said = ways.iter().find_map(|way| outcome.stderr.split(way).nth(1)).unwrap_or(&outcome.stderr);
        differences.extend(difference(broken.name, ("expected", broken.message), ("said", said)));
    }
    none_of(differences);
}

/// What errors advise to write, as arguments here, makes an image that works.
#[test]
fn what_errors_advise_works() {
    let Some(buildkit) = BuildKit::client() else { return };
    let Some(docker) = Docker::client() else { return };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfiles");
    let (nobody, root) =
        ("nobody:*:65534:65534::/nonexistent:/usr/sbin/nologin\n", "root:*:0:0::/root:/bin/sh\n");
    let games = "games:*:5:60::/usr/games:/usr/sbin/nologin\n";
    for (name, argument, expected) in [
        ("shell-in-scratch", "WITH=shell", [nobody, root].concat()),
        ("user-in-scratch", "WITH_USER=games", [nobody, games, root].concat()),
    ] {
        let words = ["--opt", &format!("build-arg:MINIMAGE_{argument}")];
        let pushed = buildkit.push(&directory.join(name), &words, "e2e/advised", name);
        let outcome = docker.run(&["run", "--rm", "--network", "none", &pushed.reference]).success();
        assert_eq!(outcome.stdout, expected, "{name}");
    }
}

/// A program with a library beside it and another one that only the loader's configuration knows, and where it goes.
const MOVED: &str = "# syntax=minimage
FROM buildpack-deps:bookworm AS build
RUN mkdir -p /opt/lib /opt/app/lib /opt/app/bin && echo /opt/lib >/etc/ld.so.conf.d/opt.conf \\
    && echo 'int listed(void) { return 1; }' | gcc -shared -x c - -o /opt/lib/liblisted.so -Wl,-soname,liblisted.so \\
    && echo 'int beside(void) { return 2; }' | gcc -shared -x c - -o /opt/app/lib/libbeside.so \\
    && ldconfig && cd /opt/app \\
    && echo 'int listed(void), beside(void); int main(void) { return 40 + listed() + beside(); }' \\
    | gcc -x c - -o bin/x -L/opt/lib -Llib -llisted -lbeside '-Wl,-rpath,$ORIGIN/../lib'
FROM scratch AS stays
COPY --from=build /opt/app/bin/x /opt/app/bin/
CMD [\"/opt/app/bin/x\"]
FROM scratch AS top
COPY --from=build /opt/app/bin/x /
CMD [\"/x\"]
FROM scratch AS directory
COPY --from=build /opt/app/bin/ /usr/local/bin/
CMD [\"/usr/local/bin/x\"]
FROM debian:bookworm AS other
COPY --from=build /opt/app/bin/x /usr/local/bin/
CMD [\"/usr/local/bin/x\"]
FROM debian:bookworm AS kept
COPY --from=build /opt/app/bin/x /usr/local/bin/
LABEL minimage.base=keep
CMD [\"/usr/local/bin/x\"]
FROM scratch AS collected
COPY --from=build /opt/app/bin/x /collected/
FROM scratch AS through
COPY --from=collected /collected/ /srv/
CMD [\"/srv/x\"]
";

/// Wherever a program is copied to, and through whatever stages, it finds what it finds in its own.
#[test]
fn programs_start_wherever_they_are_copied() {
    let Some(buildkit) = BuildKit::client() else { return };
    let Some(docker) = Docker::client() else { return };
    if !present(&[TOOLCHAINS]) {
        return;
    }
    buildkit.push_toolchains();
    let workspace = Workspace::new();
    let directory = context(&workspace, "moved", MOVED);
    let run = |target: &str| {
        let words = ["--opt", &format!("target={target}")];
        let pushed = buildkit.push(&directory, &words, "e2e/moved", target);
        docker.run(&["run", "--rm", "--network", "none", &pushed.reference])
    };
    let targets = ["stays", "top", "directory", "other", "kept", "through"];
    let outcomes = targets.map(|target| (target, run(target)));
    none_of(outcomes.iter().filter(|(_, it)| it.status != 43).map(|(target, it)| format!("{target}\n{it}")));
}

/// What was copied by hand, as people do without minimage, serves: nothing of it comes a second time.
#[test]
fn what_was_copied_by_hand_serves() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let mut differences = Vec::new();
    for (name, libraries) in [("lib", "lib/x86_64-linux-gnu"), ("usr-lib", "usr/lib/x86_64-linux-gnu")] {
        let dockerfile = format!(
            "# syntax=minimage\nFROM debian:bookworm AS build\nFROM scratch\n\
            COPY --from=build /bin/bash /bin/\nCOPY --from=build /lib64/ld-linux-x86-64.so.2 /lib64/\n\
            COPY --from=build /{libraries}/libc.so.6 /{libraries}/libtinfo.so.6 /{libraries}/\n\
            CMD [\"/bin/bash\"]\n"
        );
        let image = buildkit.image(&workspace, &context(&workspace, name, &dockerfile), &[]);
        let files = files(&image);
        let mut found: Vec<&str> = files.lines().filter(|path| path.contains(".so.")).collect();
        found.sort_unstable();
        let mut expected = ["libc.so.6", "libgcc_s.so.1", "libtinfo.so.6"]
            .map(|library| format!("{libraries}/{library}"))
            .to_vec();
        expected.push("lib64/ld-linux-x86-64.so.2".to_owned());
        expected.sort_unstable();
        differences.extend(difference(
            name,
            ("expected", &expected.join("\n")),
            ("found", &found.join("\n")),
        ));
    }
    none_of(differences);
}

/// Libraries where the loader looks, but the stage has none; one where only the environment says; a script that is no
/// program; and a rule for what only the stage has.
const BY_HAND: &str = "# syntax=minimage
FROM debian:bookworm AS build
COPY <<EOF /start.sh
sh -c 'tac /start.sh'
EOF
FROM scratch
COPY --from=build /bin/bash /bin/
COPY --from=build /lib64/ld-linux-x86-64.so.2 /lib64/
COPY --from=build /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/libgcc_s.so.1 /lib/
COPY --from=build /lib/x86_64-linux-gnu/libtinfo.so.6 /opt/lib/
COPY --from=build /start.sh /
ENV LD_LIBRARY_PATH=/opt/lib
LABEL minimage.with=shell minimage.without=metadata,terminals minimage.no-package-data=true
ENTRYPOINT [\"/bin/bash\"]
CMD [\"/start.sh\"]
";

/// The files of such an image besides users, each once. What the stage has in `/usr` goes where it is looked for, too: as
/// hard links, of which only the first is a file.
const OF_BY_HAND: &str = "\
bin/bash
bin/dash
lib/libc.so.6
lib/libgcc_s.so.1
lib64/ld-linux-x86-64.so.2
opt/lib/libtinfo.so.6
start.sh
usr/bin/tac
";

/// What people put together by hand is understood as the loader and the shell will: it starts, and nothing is twice.
#[test]
fn what_was_put_together_by_hand_starts() {
    let Some(buildkit) = BuildKit::client() else { return };
    let Some(docker) = Docker::client() else { return };
    let workspace = Workspace::new();
    let directory = context(&workspace, "by-hand", BY_HAND);
    let image = buildkit.image(&workspace, &directory, &[]);
    let listed = Outcome::of(Command::new("tar").arg("-tvf").arg(&image.layers[0])).success().stdout;
    let found =
        listed.lines().filter(|line| line.starts_with('-')).filter_map(|line| line.split(' ').next_back());
    let found: String =
        found.filter(|path| !path.starts_with("etc/")).map(|path| format!("{path}\n")).collect();
    none_of(difference("by hand", ("expected", OF_BY_HAND), ("found", &found)));
    let pushed = buildkit.push(&directory, &[], "e2e/by-hand", "latest");
    let outcome = docker.run(&["run", "--rm", "--network", "none", &pushed.reference]).success();
    assert_eq!(outcome.stdout, "sh -c 'tac /start.sh'\n");
}

/// The command line and the frontend make the same layer of the same files: the tar has the same digest.
#[test]
fn both_routes_give_one_diff_id() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let context = workspace.path("context");
    fs::create_dir(&context).unwrap();
    let dockerfile = "# syntax=minimage\nFROM debian:bookworm AS build\nFROM scratch\n\
        COPY --from=build /usr/bin/tcpdump /usr/bin/\nENTRYPOINT [\"/usr/bin/tcpdump\"]\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let epoch = "1700000000";
    let argument = format!("build-arg:SOURCE_DATE_EPOCH={epoch}");
    let inside = buildkit.image(&workspace, &context, &["--opt", &argument]);

    let source = buildkit.debian();
    let words = ["build", "--from", &source, "/usr/bin/tcpdump", "--layers", "single"];
    let mut command = workspace.command(words.into_iter().chain(["-o", "type=oci,dest=cli,tar=false"]));
    Outcome::of(command.env("SOURCE_DATE_EPOCH", epoch)).success();
    let outside = Layout::open(&workspace.path("cli")).image();
    none_of(difference("files", ("frontend", &files(&inside)), ("command line", &files(&outside))));
    let diff_ids = |image: &Image| format!("{:#}", image.config["rootfs"]["diff_ids"]);
    none_of(difference("layers", ("frontend", &diff_ids(&inside)), ("command line", &diff_ids(&outside))));
}

/// The BuildKit inside of Docker 20.10 takes the frontend from a local tag, and makes the same of the same examples.
#[test]
fn the_builder_of_2020_builds_and_runs() {
    let Some(docker) = builder_of_2020() else { return };
    let workspace = Workspace::new();
    let build = |context: &Path, tag: &str| {
        let words = ["build", "--network", "none", "--progress", "plain", "--tag", tag];
        docker.run(&[&words[..], &[context.to_str().unwrap()]].concat())
    };
    let mut differences = Vec::new();
    for example in examples() {
        let name = example.file_name().unwrap().to_str().unwrap();
        let tag = format!("e2e.test/{name}");
        build(&example, &tag).success();
        let saved = workspace.path(format!("{name}.tar"));
        docker.run(&["save", "--output", saved.to_str().unwrap(), &tag]).success();
        let listed = sorted(&fs::read_to_string(example.join("files.txt")).unwrap_or_default());
        differences.extend(difference(
            name,
            ("listed", &listed),
            ("in the image", &sorted(&saved_files(&saved))),
        ));
        let outcome = docker.run(&["run", "--rm", "--network", "none", &tag]);
        differences.extend(unexpected(&example, &outcome));
    }
    none_of(differences);

    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfiles/no-such-program");
    let outcome = build(&broken, "e2e.test/broken");
    assert_ne!(outcome.status, 0, "{outcome}");
    assert!(outcome.stderr.contains("did you mean `/bin/bash`?"), "{outcome}");
}

/// Returns the names of what the only layer of an image holds that Docker has saved as `archive`.
fn saved_files(archive: &Path) -> String {
    let member = |name: &str| {
        let output = Command::new("tar").arg("-xOf").arg(archive).arg(name).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let manifest: Value = serde_json::from_slice(&member("manifest.json")).unwrap();
    let [layer] = manifest[0]["Layers"].as_array().unwrap().as_slice() else { panic!("{manifest:#}") };
    let unpacked = archive.with_extension("layer");
    fs::write(&unpacked, member(&text(layer))).unwrap();
    Outcome::of(Command::new("tar").arg("-tf").arg(unpacked)).success().stdout
}

fn sorted(lines: &str) -> String {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Returns what is wrong with what the image of `example` says.
fn unexpected(example: &Path, outcome: &Outcome) -> Option<String> {
    let expected = fs::read_to_string(example.join("output.txt")).unwrap_or_default();
    let said = format!("exit {}\n{}{}", outcome.status, outcome.stdout, outcome.stderr);
    let is_expected = said.contains(&expected) && !expected.is_empty();
    (!is_expected).then(|| format!("{}: expected {expected:?}\n{outcome}", example.display()))
}

/// Writes a Dockerfile to a directory `name` of its own.
fn context(workspace: &Workspace, name: &str, dockerfile: &str) -> PathBuf {
    let directory = workspace.path(name);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
    directory
}

const STAYS: &str = "FROM debian:bookworm\nRUN echo 1 >/one && rm -r /opt\nCOPY Dockerfile /two\n\
    LABEL minimage.mode=off other=x\nUSER games\nVOLUME /v\nCMD cat /two\n";

/// With `mode=off`, in a label or a build argument, the image is what the stock frontend makes, to the last digest.
#[test]
fn off_means_untouched() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let text = |line: &str, label: &str| format!("{line}\n{}", STAYS.replace("minimage.mode=off", label));
    let stock = context(&workspace, "stock", &text("# no line", "minimage.mode=off"));
    let label = context(&workspace, "label", &text("# syntax=minimage", "minimage.mode=off"));
    // The same text in every image: it is copied into it.
    for directory in [&stock, &label] {
        fs::rename(directory.join("Dockerfile"), directory.join("build")).unwrap();
        fs::write(directory.join("Dockerfile"), STAYS).unwrap();
    }
    let epoch = ["--opt", "build-arg:SOURCE_DATE_EPOCH=1700000000", "--opt", "filename=build"];
    let image = |directory: &Path, words: &[&str]| {
        let image = buildkit.image(&workspace, directory, &[&epoch, words].concat());
        format!("{:#}\n{:#}", image.config["rootfs"], image.config["config"])
    };
    let expected = image(&stock, &[]);
    none_of(difference("label", ("stock", &expected), ("off", &image(&label, &[]))));
    let argument = image(&stock, &["--opt", "build-arg:BUILDKIT_SYNTAX=minimage --mode=off"]);
    none_of(difference("syntax words", ("stock", &expected), ("off", &argument)));
}

/// With `base=keep`, the layers of the base and of the target stay what they are, and what a copied program lacks there
/// is in one more.
#[test]
fn a_kept_base_is_completed() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let dockerfile = "FROM debian:bookworm AS build\nFROM debian:bookworm\n\
        RUN rm /usr/lib/x86_64-linux-gnu/libpcap.so*\n\
        COPY --from=build /usr/bin/tcpdump /usr/local/bin/\nLABEL minimage.base=keep\n";
    let stock = buildkit.image(&workspace, &context(&workspace, "stock", dockerfile), &[]);
    let kept = format!("# syntax=minimage\n{dockerfile}");
    let kept = buildkit.image(&workspace, &context(&workspace, "kept", &kept), &[]);
    let layers = |image: &Image| image.config["rootfs"]["diff_ids"].as_array().unwrap().clone();
    let (below, all) = (layers(&stock), layers(&kept));
    assert_eq!(all[..all.len() - 1], below);
    let of_layers = |image: &Image| {
        let history = image.config["history"].as_array().unwrap();
        history.iter().filter(|entry| entry["empty_layer"] != true).count()
    };
    assert_eq!((of_layers(&stock), of_layers(&kept)), (below.len(), all.len()));
    let mut tar = Command::new("tar");
    let top = Outcome::of(tar.arg("-tf").arg(kept.layers.last().unwrap())).success().stdout;
    let expected = "usr/\nusr/lib/\nusr/lib/x86_64-linux-gnu/\nusr/lib/x86_64-linux-gnu/libpcap.so.0.8\n\
        usr/lib/x86_64-linux-gnu/libpcap.so.1.10.3\n";
    none_of(difference("on top", ("expected", expected), ("in the layer", &top)));
}

/// The BuildKit of 2020 merges no layers: what is missing is copied on top.
#[test]
fn a_kept_base_is_completed_by_copying() {
    let Some(docker) = builder_of_2020() else { return };
    let workspace = Workspace::new();
    let dockerfile = "# syntax=minimage\nFROM debian:bookworm AS build\nFROM debian:bookworm\n\
        RUN rm /usr/lib/x86_64-linux-gnu/libpcap.so*\n\
        COPY --from=build /usr/bin/tcpdump /usr/local/bin/\nCMD [\"/usr/local/bin/tcpdump\", \"--version\"]\n";
    let directory = context(&workspace, "kept", dockerfile);
    let layers = |mode: &str, tag: &str| {
        let words = ["build", "--network", "none", "--tag", tag, "--build-arg", mode];
        docker.run(&[&words[..], &[directory.to_str().unwrap()]].concat()).success();
        let words = ["image", "inspect", "--format", "{{range .RootFS.Layers}}{{println .}}{{end}}", tag];
        let listed = docker.run(&words).success().stdout;
        listed.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let stock = layers("MINIMAGE_MODE=off", "e2e.test/kept-stock");
    let kept = layers("MINIMAGE_BASE=keep", "e2e.test/kept");
    assert_eq!((&kept[..stock.len()], kept.len()), (stock.as_slice(), stock.len() + 1));
    assert_ne!(docker.run(&["run", "--rm", "--network", "none", "e2e.test/kept-stock"]).status, 0);
    let outcome = docker.run(&["run", "--rm", "--network", "none", "e2e.test/kept"]).success();
    assert!(outcome.stdout.contains("libpcap version"), "{outcome}");
}
