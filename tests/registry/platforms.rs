//! Images for several platforms on the command line: one index, whatever they are made of.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::stub::Stub;
use crate::command::{Outcome, minimage, run};
use crate::tree_text::Tree;

/// A home with a root filesystem for each of two machines.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, tree) in [
        (
            "amd64",
            "include debian\n/app/main elf needed=libq.so.1 runpath=/opt\n/opt/libq.so.1 elf soname=libq.so.1",
        ),
        ("arm64", "include debian-arm64\n/app/main elf machine=aarch64"),
    ] {
        Tree::parse(name, tree).to_disk(&home.path().join(name), |_, _| None);
    }
    home
}

const BOTH: &str = "build --from linux/amd64=./amd64 --from linux/arm64=./arm64";

fn run_in(home: &TempDir, line: &str) -> Outcome {
    run(minimage(home.path()).args(line.split_whitespace()))
}

fn succeed(home: &TempDir, line: &str) -> Outcome {
    let outcome = run_in(home, line);
    assert_eq!(outcome.code, Some(0), "{line}: {}", outcome.stderr);
    outcome
}

fn digest(outcome: &Outcome) -> String {
    outcome.stdout.trim_end().rsplit('@').next().unwrap().to_owned()
}

/// The index has the image that each platform would have alone, in a registry, a layout and an archive alike.
#[test]
fn an_index_has_the_images_that_there_would_be_alone() {
    let (stub, home) = (Stub::plain(), home());
    let alone = ["amd64", "arm64"].map(|name| {
        digest(&succeed(&home, &format!("build --from ./{name} -o type=oci,dest={name}.tar /app/main")))
    });
    let name = format!("{}/app:1", stub.address);
    let pushed = succeed(&home, &format!("{BOTH} --push {name} /app/main"));
    assert_eq!(pushed.stdout.lines().count(), 1);
    let (media_type, bytes) = stub.content().manifests[&("app".to_owned(), "1".to_owned())].clone();
    assert_eq!(media_type, "application/vnd.oci.image.index.v1+json");
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    let children: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|it| &it["digest"]).collect();
    assert_eq!(children, alone.each_ref().map(String::as_str));
    let platforms: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|it| &it["platform"]).collect();
    assert_eq!(
        platforms,
        ["amd64", "arm64"].map(|name| json!({ "architecture": name, "os": "linux" })).each_ref()
    );

    // From the registry, from a layout and from an archive.
    let again = "build --platform linux/amd64,linux/arm64 -o type=oci,tar=false,dest=layout /app/main";
    assert_eq!(digest(&succeed(&home, &format!("{again} --from {name}"))), digest(&pushed));
    succeed(&home, &format!("{BOTH} -o type=oci,dest=both.tar /app/main"));
    for source in ["./layout", "./both.tar"] {
        let one = format!("build --from {source} --platform linux/arm64 -o type=oci,dest=one.tar /app/main");
        assert_eq!(digest(&succeed(&home, &one)), alone[1], "{source}");
        let other = format!("{}/{}:1", stub.address, if source == "./layout" { "layout" } else { "archive" });
        assert_eq!(digest(&succeed(&home, &format!("push {source} {other}"))), digest(&pushed), "{source}");
    }
    stub.content().requests.clear();
    succeed(&home, &format!("{BOTH} --push {name} /app/main"));
    assert_eq!(stub.count("POST", "") + stub.count("PUT", ""), 0, "{:?}", stub.log());
}

/// Each image has its own report, here and in the registry.
#[test]
fn each_platform_has_a_report() {
    let (stub, home) = (Stub::plain(), home());
    let name = format!("{}/app:1", stub.address);
    succeed(&home, &format!("{BOTH} --push {name} --attach-report /app/main"));
    let why = |line: &str| run_in(&home, &format!("why {line} /opt/libq.so.1")).code;
    let asked = || {
        [
            why(&format!("--image {name} --platform linux/amd64")),
            why(&format!("--image {name} --platform linux/arm64")),
        ]
    };
    assert_eq!(asked(), [Some(0), Some(3)]);
    assert_eq!(why(""), Some(0), "the last image is the first one named");
    fs::remove_dir_all(home.path().join("cache")).unwrap();
    assert_eq!(asked(), [Some(0), Some(3)]);
    let dry = succeed(&home, &format!("{BOTH} --dry-run /app/main"));
    assert_eq!(dry.stderr, "linux/amd64:\nlinux/arm64:\n");
    assert_eq!(dry.stdout.matches(" /app/main  #").count(), 2);
}

/// The files without an image around them: a directory, and the tar that a single layer would be.
#[test]
fn files_alone() {
    let home = home();
    let build = |words: &str| run_in(&home, &format!("build --from ./amd64 {words} /app/main"));
    let tar = build("-o type=tar,dest=files.tar -o type=oci,tar=false,dest=layout --layers single");
    assert_eq!(tar.code, Some(0), "{}", tar.stderr);
    let bytes = fs::read(home.path().join("files.tar")).unwrap();
    let lines: Vec<_> = tar.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, minimage::oci::Digest::of(&bytes).to_string().as_str()));
    let blobs = home.path().join("layout/blobs/sha256");
    let documents = fs::read_dir(blobs).unwrap().filter_map(|it| fs::read_to_string(it.unwrap().path()).ok());
    assert!(documents.into_iter().any(|text| text.contains(&format!("\"diff_ids\":[\"{}\"]", lines[0]))));
    assert!(!home.path().join("main.oci.tar").exists());

    // Owners are kept, which takes root.
    if rustix::process::geteuid().is_root() {
        let local = build("-o type=local,dest=new/files");
        assert_eq!((local.code, local.stdout.as_str()), (Some(0), ""), "{}", local.stderr);
        assert_eq!(
            fs::read(home.path().join("new/files/app/main")).unwrap(),
            fs::read(home.path().join("amd64/app/main")).unwrap()
        );
        let again = build("-o type=local,dest=new/files");
        assert_eq!(again.code, Some(1));
        assert!(
            again.stderr.starts_with("error[unwritable-output]: `new/files` is not empty"),
            "{}",
            again.stderr
        );
    }
    assert_eq!(build("-o type=tar,dest=x -o type=oci,dest=x").code, Some(2));
}

/// What scripts want to know of an image is in files, and of a build that fails nothing is.
#[test]
fn results_for_scripts() {
    let home = home();
    let read = |name: &str| fs::read_to_string(home.path().join(name)).ok();
    let files = "--iidfile id --metadata-file meta --image-refs refs -t registry.example/app:1";
    let build = |from: &str| {
        let line =
            format!("build {from} {files} -o type=oci,tar=false,dest=layout --layers single /app/main");
        let built = run_in(&home, &line);
        (built.code, digest(&built))
    };
    let blob = |descriptor: &Value| -> Value {
        let name = descriptor["digest"].as_str().unwrap().replace("sha256:", "layout/blobs/sha256/");
        serde_json::from_str(&read(&name).unwrap()).unwrap()
    };
    let described = |image: &Value, platform: &str| {
        let manifest = blob(image);
        let layer = json!({
            "descriptor": manifest["layers"][0], "diff_id": blob(&manifest["config"])["rootfs"]["diff_ids"][0],
        });
        let (digest, config) = (&image["digest"], &manifest["config"]["digest"]);
        json!({ "platform": platform, "digest": digest, "config": config, "layers": [layer] })
    };
    let metadata = || -> Value { serde_json::from_str(&read("meta").unwrap()).unwrap() };

    let (code, digest) = build("--from ./amd64");
    assert_eq!(code, Some(0));
    let descriptor = metadata()["containerimage.descriptor"].clone();
    let config = blob(&descriptor)["config"]["digest"].clone();
    assert_eq!(read("id").unwrap(), config.as_str().unwrap());
    assert_eq!(read("refs").unwrap(), format!("registry.example/app@{digest}\n"));
    assert_eq!(
        metadata(),
        json!({
            "containerimage.config.digest": config,
            "containerimage.descriptor": { "digest": digest, "mediaType": descriptor["mediaType"], "size": descriptor["size"] },
            "containerimage.digest": digest,
            "image.name": "registry.example/app:1",
            "minimage.images": [described(&descriptor, "linux/amd64")],
        })
    );

    let (_, digest) = build("--from linux/amd64=./amd64 --from linux/arm64=./arm64");
    assert_eq!(read("id").unwrap(), digest);
    let descriptor = metadata()["containerimage.descriptor"].clone();
    let children = blob(&descriptor)["manifests"].clone();
    let digests =
        [&descriptor, &children[0], &children[1]].map(|it| it["digest"].as_str().unwrap().to_owned());
    let refs = digests.map(|digest| format!("registry.example/app@{digest}\n")).concat();
    assert_eq!(read("refs").unwrap(), refs);
    assert_eq!(
        metadata()["minimage.images"],
        json!([described(&children[0], "linux/amd64"), described(&children[1], "linux/arm64")])
    );

    assert_eq!(build("--from ./nowhere").0, Some(1));
    assert_eq!([read("id"), read("meta"), read("refs")], [None, None, None]);
}

/// The project file names them as well, and the command line takes its place.
#[test]
fn sources_in_a_project_file() {
    let home = home();
    let sources = r#"from = ["linux/amd64=./amd64", "linux/arm64=./arm64"]"#;
    fs::write(home.path().join("minimage.toml"), format!("{sources}\nprogram = \"/app/main\"\n")).unwrap();
    let build = |words: &str| digest(&succeed(&home, &format!("build -o type=oci,dest=out.tar {words}")));
    assert_eq!(build(""), digest(&succeed(&home, &format!("{BOTH} -o type=oci,dest=out.tar /app/main"))));
    assert_eq!(build("--from=./arm64"), build("--from ./arm64 /app/main"));
}

#[test]
fn what_does_not_fit_together() {
    let home = home();
    for (line, code, told) in [
        ("build --from ./amd64 --from ./arm64 /app/main", 2, "error[usage]: one of several sources"),
        (
            "tree --from linux/amd64=./amd64 --from linux/arm64=./arm64 /app/main",
            2,
            "error[usage]: there are several",
        ),
        (
            "build --from linux/amd64=./amd64 --from linux/arm64=./arm64 --report r.json /app/main",
            2,
            "error[usage]: `--report` writes",
        ),
        ("build --from linux/amd64=./arm64 --from linux/arm64=./arm64 /app/main", 1, "linux/amd64:\nerror["),
        ("build --from linux/amd64=./amd64 --from linux/arm64=./none /app/main", 1, "linux/arm64:\nerror["),
    ] {
        let outcome = run_in(&home, line);
        assert_eq!(outcome.code, Some(code), "{line}: {}", outcome.stderr);
        assert!(outcome.stderr.starts_with(told), "{line}: {}", outcome.stderr);
        assert!(!home.path().join("main.oci.tar").exists(), "{line}");
    }
}
