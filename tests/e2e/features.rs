//! What BuildKit can do, it can do with `# syntax=minimage`, too: platforms, contexts, caches, attestations, subrequests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::buildkit::BuildKit;
use crate::layout::{Image, Layout, text};
use crate::minimage::Workspace;
use crate::outcome::{Outcome, difference, none_of};
use crate::requirement::{DEBIAN, DEBIAN_ARM64, archive, present};

/// A Dockerfile without commands: all that runs is minimage itself.
const ONE_PROGRAM: &str = "# syntax=minimage\nFROM debian:bookworm AS build\nFROM scratch\n\
    COPY --from=build /usr/bin/tac /usr/bin/\nCMD [\"/usr/bin/tac\"]\n";
const EPOCH: [&str; 2] = ["--opt", "build-arg:SOURCE_DATE_EPOCH=1700000000"];

/// Writes a Dockerfile to a directory `name` of its own.
fn context(workspace: &Workspace, name: &str, dockerfile: &str) -> PathBuf {
    let directory = workspace.path(name);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
    directory
}

/// Returns the names of what the layers of `image` hold, one a line.
fn files(image: &Image) -> String {
    let listing = |layer| Outcome::of(Command::new("tar").arg("-tf").arg(layer)).success().stdout;
    image.layers.iter().map(listing).collect()
}

/// Returns the bytes of the file at `path` in the only layer of `image`.
fn file(image: &Image, path: &str) -> Vec<u8> {
    let [layer] = image.layers.as_slice() else { panic!("one layer expected: {:#}", image.manifest) };
    let mut tar = Command::new("tar");
    tar.arg("-xOf").arg(layer).arg(path).output().unwrap().stdout
}

/// An image of several platforms is made without anything being run for them: one is another machine.
#[test]
fn several_platforms() {
    let Some(buildkit) = BuildKit::client() else { return };
    if !present(&[DEBIAN_ARM64]) {
        return;
    }
    let workspace = Workspace::new();
    let base = context(&workspace, "base", "FROM scratch\nARG TARGETARCH\nADD $TARGETARCH.tar /\n");
    for (platform, component) in [("amd64", DEBIAN), ("arm64", DEBIAN_ARM64)] {
        fs::copy(archive(component), base.join(format!("{platform}.tar"))).unwrap();
    }
    let platforms = ["--opt", "platform=linux/amd64,linux/arm64"];
    buildkit.push_index(&base, &platforms, "library/debian:several");
    let expected = ["amd64 amd64 e_machine=62 loaders=2", "arm64 arm64 e_machine=183 loaders=2"];
    let dockerfile = ONE_PROGRAM.replace("bookworm", "several");
    let directory = context(&workspace, "several", &dockerfile);
    assert_eq!(machines(&buildkit.builder().layout(&workspace, &directory, &platforms)), expected);

    // A project file names the platforms itself, or an image for each; the client may want fewer.
    let several = "from = 'debian:several'\nplatform = ['linux/amd64', 'linux/arm64']";
    let each = "from = ['linux/amd64=debian:bookworm', 'linux/arm64=debian:several']";
    let named = ["--opt", "filename=minimage.toml"];
    for from in [several, each] {
        let project = format!("# syntax=minimage\n{from}\nprogram = '/usr/bin/tac'\n");
        fs::write(directory.join("minimage.toml"), project).unwrap();
        assert_eq!(machines(&buildkit.builder().layout(&workspace, &directory, &named)), expected, "{from}");
    }
    let one = [&named[..], &["--opt", "platform=linux/arm64"]].concat();
    assert_eq!(buildkit.image(&workspace, &directory, &one).config["architecture"], "arm64");
}

/// Returns what the images of `layout` are said to be for, what the program in them is for, and how many loaders it has.
fn machines(layout: &Layout) -> Vec<String> {
    let index = layout.inner_index();
    let machine = |descriptor: &Value| {
        let image = layout.image_of(descriptor);
        let machine = u16::from_le_bytes(file(&image, "usr/bin/tac")[18..20].try_into().unwrap());
        let loaders = files(&image).lines().filter(|name| name.contains("/ld-linux")).count();
        let (platform, config) = (&descriptor["platform"]["architecture"], &image.config["architecture"]);
        format!("{} {} e_machine={machine} loaders={loaders}", text(platform), text(config))
    };
    index["manifests"].as_array().unwrap().iter().map(machine).collect()
}

/// What a client gives a name stands where a stage or an image would.
#[test]
fn named_contexts() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let dockerfile = "# syntax=minimage\nFROM base AS build\nFROM scratch\n\
        COPY --from=build /usr/bin/tac /usr/bin/\nCOPY --from=assets words /words\n\
        CMD [\"/usr/bin/tac\", \"/words\"]\n";
    let directory = context(&workspace, "named", dockerfile);
    let assets = workspace.path("assets");
    fs::create_dir(&assets).unwrap();
    fs::write(assets.join("words"), "one\ntwo\n").unwrap();
    let local = format!("assets={}", assets.display());
    let words = [
        &["--opt", "context:base=docker-image://debian:bookworm"][..],
        &["--opt", "context:assets=local:assets", "--local", &local],
    ];
    let named = buildkit.image(&workspace, &directory, &words.concat());
    assert_eq!(String::from_utf8_lossy(&file(&named, "words")), "one\ntwo\n");
    let plain = buildkit.image(&workspace, &context(&workspace, "plain", ONE_PROGRAM), &[]);
    let without_words = files(&named).replace("words\n", "");
    none_of(difference("files", ("without contexts", &files(&plain)), ("with contexts", &without_words)));
}

/// Who asks what a Dockerfile has gets the stock frontend's answer.
#[test]
fn subrequests_are_forwarded() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let text = "FROM debian:bookworm as build\nARG WHAT=x\n# release: what is shipped\nFROM scratch AS release\n\
        COPY --from=build /usr/bin/tac /usr/bin/\n";
    let stock = context(&workspace, "stock", &format!("# no line\n{text}"));
    let ours = context(&workspace, "ours", &format!("# syntax=minimage\n{text}"));
    let mut differences = Vec::new();
    for request in ["frontend.outline", "frontend.targets", "frontend.lint"] {
        let option = format!("requestid={request}");
        let answer = |directory: &Path| buildkit.build(directory, &["--opt", &option]).visible();
        let (expected, answer) = (answer(&stock).replace("# no line", "# syntax=minimage"), answer(&ours));
        assert!(expected.lines().count() > 2, "{request}: {expected}");
        differences.extend(difference(request, ("stock", &expected), ("ours", &answer)));
    }
    let described = buildkit.build(&ours, &["--opt", "requestid=frontend.subrequests.describe"]).success();
    assert!(described.stdout.contains("outline") && described.stdout.contains("targets"), "{described}");
    none_of(differences);
}

/// Returns which vertices of a build have results that were there before; sources and documents are looked at anew each
/// time, as by the stock frontend.
fn steps(buildkit: &BuildKit, context: &Path, words: &[&str]) -> Vec<(String, bool)> {
    let progress = buildkit.builder().progress(context, words);
    let is_step = |name: &String| {
        !name.starts_with("[internal]") && !name.starts_with("resolve ") && !name.contains("FROM ")
    };
    progress.vertices.into_iter().filter(|(name, _)| is_step(name)).collect()
}

/// The same input is not worked on again, unless that is wished for.
#[test]
fn results_are_used_again() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let dockerfile = format!("{ONE_PROGRAM}ENV UNIQUE=results_are_used_again\n").replace("tac", "nl");
    let directory = context(&workspace, "again", &dockerfile);
    let is_cached = |words: &[&str]| {
        let steps = steps(&buildkit, &directory, words);
        let own = [
            "[minimage] resolve 2 roots of stage stage-1",
            "[stage-1 1/1] COPY --from=build /usr/bin/nl /usr/bin/",
        ];
        own.map(|name| {
            let step = steps.iter().find(|(step, _)| step == name);
            step.unwrap_or_else(|| panic!("no {name}: {steps:?}")).1
        })
    };
    assert_eq!(is_cached(&[]), [false, false]);
    assert_eq!(is_cached(&[]), [true, true]);
    assert!(steps(&buildkit, &directory, &[]).iter().all(|(_, is_cached)| *is_cached));
    assert_eq!(is_cached(&["--no-cache"]), [false, false]);
    assert_eq!(is_cached(&[]), [true, true]);
}

/// A builder that has nothing takes results from a registry, and comes to the same image.
#[test]
fn an_empty_builder_uses_a_cache() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let directory = context(&workspace, "cached", &ONE_PROGRAM.replace("tac", "wc"));
    let cache =
        format!("type=registry,ref={},registry.insecure=true", buildkit.registry().reference("e2e/cache:1"));
    let export = format!("{cache},mode=max");
    let first = buildkit.image(&workspace, &directory, &[&EPOCH[..], &["--export-cache", &export]].concat());
    let builder = buildkit.own_builder("cached");
    let _witness = builder.witness();
    let words = [&EPOCH[..], &["--import-cache", &cache]].concat();
    let second = builder.layout(&workspace, &directory, &words).image();
    none_of(difference("image", ("first", &first.description()), ("second", &second.description())));
    let progress = builder.progress(&directory, &words);
    assert_eq!(progress.vertices.get("[stage-1 1/1] COPY --from=build /usr/bin/wc /usr/bin/"), Some(&true));
}

/// What is worth knowing is told by BuildKit's own means, for which a client knows how to show it.
#[test]
fn warnings_reach_the_client() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let directory = context(&workspace, "warned", ONE_PROGRAM);
    let argument = "build-arg:MINIMAGE_INCLUDE=/nothing/here";
    let progress = buildkit.builder().progress(&directory, &["--opt", argument]);
    assert_eq!(progress.warnings, ["nothing matches `/nothing/here` in stage stage-1"]);

    let elsewhere = ONE_PROGRAM.replace("FROM scratch", "LABEL minimage.with=tzdata\nFROM scratch");
    let directory = context(&workspace, "elsewhere", &elsewhere);
    let expected = "`LABEL minimage.with=tzdata` counts for nothing: from stage build the target only copies; write it \
        in the target, or in what that is built on";
    assert_eq!(buildkit.builder().progress(&directory, &[]).warnings, [expected]);
}

/// What a shell would not find is no error: it may not get there.
#[test]
fn commands_that_are_not_there_are_told() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let dockerfile =
        "# syntax=minimage\nFROM debian:bookworm\nHEALTHCHECK CMD nowhere -f x || exit 1\nCMD [\"ls\"]\n";
    let directory = context(&workspace, "commands", dockerfile);
    let progress = buildkit.builder().progress(&directory, &[]);
    let told = "`nowhere`, which `HEALTHCHECK CMD nowhere -f x || exit 1` runs, is not in the target";
    assert_eq!(progress.warnings, [told]);
}

/// That `/root` is closed is so everywhere, and how a home is spelled stops nothing.
#[test]
fn a_login_shell_is_nothing_to_warn_of() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let start = "# syntax=minimage\nFROM debian:bookworm\n";
    let user = "RUN mkdir -p /home/x && echo : >/home/x/.profile && \
        echo x:x:7:7::/home/./x:/bin/bash >>/etc/passwd\nUSER x\n";
    for (name, more, expected) in
        [("root", "", &["etc/profile"][..]), ("dots", user, &["etc/profile", "home/x/.profile"])]
    {
        let dockerfile = format!("{start}{more}CMD [\"bash\", \"-lc\", \"true\"]\n");
        let directory = context(&workspace, name, &dockerfile);
        assert_eq!(buildkit.builder().progress(&directory, &[]).warnings, [""; 0], "{name}");
        let image = buildkit.image(&workspace, &directory, &[]).description();
        let names = image.lines().filter_map(|line| line.split(' ').next_back());
        let profiles: Vec<&str> = names.filter(|name| name.ends_with("profile")).collect();
        assert_eq!(profiles, expected, "{name}");
    }
}

/// Who reads the log of the step sees what each root brings, beside what there was, and what was left out.
#[test]
fn the_log_tells_what_roots_bring() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let directory =
        context(&workspace, "told", &ONE_PROGRAM.replace("CMD", "LABEL minimage.with=shell\nCMD"));
    let outcome = buildkit.build(&directory, &[]).success();
    // Whether a count is finished is a matter of time, and how much there is, of the base image.
    let log: Vec<String> = outcome.stderr.lines().filter_map(said).collect();
    let told = log.join("\n").replace("more than ", "");
    let expected = "\
stage stage-N: N files, N MB; stage build has N files, N MB
  COPY --from=build /usr/bin/tac /usr/bin/  N files, N MB
  LABEL minimage.with=shell                 N files, N kB
  every image                               N files, N bytes
largest: `/usr/lib/xN_N-linux-gnu/libc.so.N` N MB, `/usr/lib/xN_N-linux-gnu/ld-linux-xN-Nso.N` N kB, `/usr/bin/dash` N kB";
    none_of(difference("log", ("expected", expected), ("told", &told)));
}

/// Returns what a line of a build's log has from the step, with N for each number.
fn said(line: &str) -> Option<String> {
    let (_, text) = line.split_once(' ')?;
    let (seconds, text) = text.split_once(' ')?;
    seconds.parse::<f64>().ok()?;
    let mut masked = String::new();
    for letter in text.chars() {
        match letter {
            '0'..='9' | '.' if masked.ends_with('N') => {}
            '0'..='9' => masked.push('N'),
            letter => masked.push(letter),
        }
    }
    Some(masked)
}

/// A scanner for SBOMs: lists what it sees, in a form that BuildKit takes.
const SCANNER: &str = r#"FROM debian:bookworm
COPY --chmod=755 <<'EOF' /bin/scan
#!/bin/bash
cd "$BUILDKIT_SCAN_SOURCE"
files=$(find . -type f | LC_ALL=C sort | sed 's/.*/"&"/' | paste -s -d ,)
printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"files":[%s]}}' \
    "$files" >"$BUILDKIT_SCAN_DESTINATION/list.spdx.json"
EOF
CMD ["/bin/scan"]
"#;

/// An SBOM is of what is left, provenance tells how it came about.
/// A cache keeps the files of a step and nothing else, so the config stays the build file's.
#[test]
fn variables_that_a_rule_wants_are_told() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let context = workspace.path("context");
    fs::create_dir(&context).unwrap();
    let dockerfile =
        "# syntax=minimage --with=locale=C.utf8\nFROM debian:bookworm\nENTRYPOINT [\"/bin/ls\"]\n";
    let said = ["what is kept needs a variable of the environment; write `ENV LANG=C.utf8`"];
    for (more, expected) in [("", &said[..]), ("ENV LANG=C.UTF-8\n", &[])] {
        fs::write(context.join("Dockerfile"), format!("{dockerfile}{more}")).unwrap();
        assert_eq!(buildkit.builder().progress(&context, &[]).warnings, expected, "{more}");
    }
}

#[test]
fn attestations() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    buildkit.push(&context(&workspace, "scanner", SCANNER), &[], "library/scanner", "latest");
    let directory = context(&workspace, "attested", ONE_PROGRAM);
    let words = ["--opt", "attest:sbom=generator=scanner", "--opt", "attest:provenance=mode=max"];
    let layout = buildkit.builder().layout(&workspace, &directory, &words);
    let index = layout.inner_index();
    let [image, attestations] = index["manifests"].as_array().unwrap().as_slice() else {
        panic!("{index:#}")
    };
    let (image, attestations) = (layout.image_of(image), layout.image_of(attestations));
    let [sbom, provenance] = ["https://spdx.dev/Document", "https://slsa.dev/provenance/"]
        .map(|kind| statement(&layout, &attestations, kind));

    let listed = sbom["files"].as_array().unwrap().iter();
    let mut listed: Vec<String> = listed.map(|name| text(name).trim_start_matches("./").to_owned()).collect();
    listed.sort();
    let mut there = regular_files(&image);
    there.sort();
    none_of(difference("SBOM", ("in the image", &there.join("\n")), ("listed", &listed.join("\n"))));

    let materials = provenance.to_string();
    for material in ["pkg:docker/debian@bookworm", "pkg:docker/minimage@latest"] {
        assert!(materials.contains(material), "{provenance:#}");
    }
    let progress = buildkit.builder().progress(&directory, &words);
    assert_eq!(progress.warnings, ["the SBOM is of the image that is left: no stages are scanned"]);
}

fn statement(layout: &Layout, attestations: &Image, kind: &str) -> Value {
    let layers = attestations.manifest["layers"].as_array().unwrap();
    let is_wanted =
        |layer: &&Value| text(&layer["annotations"]["in-toto.io/predicate-type"]).starts_with(kind);
    let layer = layers.iter().find(is_wanted).unwrap_or_else(|| panic!("no {kind}: {layers:#?}"));
    let name = text(&layer["digest"]).replace("sha256:", "blobs/sha256/");
    let statement: Value = serde_json::from_slice(&fs::read(layout.directory.join(name)).unwrap()).unwrap();
    statement["predicate"].clone()
}

fn regular_files(image: &Image) -> Vec<String> {
    let [layer] = image.layers.as_slice() else { panic!("one layer expected: {:#}", image.manifest) };
    let listing = Outcome::of(Command::new("tar").args(["-tvf"]).arg(layer)).success().stdout;
    let files = listing.lines().filter(|line| line.starts_with('-'));
    files.map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
}

/// Builders that have nothing agree on the image to the last digest, however they keep files and whoever runs them.
#[test]
fn empty_builders_agree() {
    let Some(buildkit) = BuildKit::client() else { return };
    let workspace = Workspace::new();
    let dockerfile = "# syntax=minimage\nFROM debian:bookworm AS build\nFROM debian:bookworm\n\
        RUN echo made >/made\nCOPY --from=build /usr/bin/tcpdump /usr/local/bin/\nCMD [\"cat\", \"/made\"]\n";
    let directory = context(&workspace, "clean", dockerfile);
    let shared = buildkit.image(&workspace, &directory, &EPOCH).description();
    let builders = [
        ("overlays", buildkit.empty_builder("clean-overlay", "overlayfs")),
        ("copies", buildkit.empty_builder("clean-copies", "native")),
        ("rootless", buildkit.rootless_builder()),
    ];
    let mut differences = Vec::new();
    for (name, builder) in builders {
        let builder = match builder {
            Ok(builder) => builder,
            // Inside of a container, say, there are no overlays.
            Err(_) if name == "overlays" => continue,
            Err(log) => panic!("{name}\n{log}"),
        };
        let _witness = builder.witness();
        let image = builder.layout(&workspace, &directory, &EPOCH).image().description();
        differences.extend(difference(name, ("shared builder", &shared), ("empty builder", &image)));
    }
    none_of(differences);
}
