use minimage::oci::{Descriptor, Digest, MediaType, PlatformBuilder, digest_of};
use minimage::registry::{Client, Options};

use super::stub::{Reply, Request, Stub, answer};
use super::{Bench, run, told};

const LAYER: &[u8] = b"a layer of an image";

/// Starts a registry that holds an image as `app:1`, and misbehaves as told.
fn holding(
    make: impl Fn(&Bench) -> Descriptor,
    rule: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> (Stub, String, Descriptor) {
    let (source, stub) = (Bench::new(), Stub::start(rule));
    let other = Stub::plain();
    let image = make(&source);
    source.push(source.options(), &image, &[format!("{}/app:1", other.address)]).unwrap();
    {
        let (mut to, from) = (stub.content(), other.content());
        to.blobs.clone_from(&from.blobs);
        to.manifests.clone_from(&from.manifests);
    }
    let name = format!("{}/app:1", stub.address);
    (stub, name, image)
}

#[test]
fn the_same_bytes_arrive() {
    let (stub, name, image) = holding(Bench::index, |_| None);
    let bench = Bench::new();
    let pulled = bench.pull(bench.options(), &name).unwrap();
    assert_eq!(
        (pulled.digest(), pulled.size(), pulled.media_type()),
        (image.digest(), image.size(), image.media_type())
    );
    let files = std::fs::read_dir(bench.layout.path().join("blobs/sha256")).unwrap().count();
    assert_eq!(files, 3 + 4);
    let back = Stub::plain();
    bench.push(bench.options(), &pulled, &[format!("{}/app:1", back.address)]).unwrap();
    assert_eq!(back.content().manifests.len(), stub.content().manifests.len());

    // A second time, only the documents are asked for.
    stub.content().requests.clear();
    bench.events();
    bench.pull(bench.options(), &name).unwrap();
    assert_eq!((stub.count("GET", "/blobs/"), bench.events()), (0, vec!["there".to_owned(); 4]));
}

#[test]
fn one_platform_is_one_image() {
    let (stub, name, _) = holding(Bench::index, |_| None);
    let pull = |architecture: &str| {
        let bench = Bench::new();
        let platform = PlatformBuilder::default().os("linux").architecture(architecture).build().unwrap();
        let client = Client::new(bench.options());
        let pulled = run(client.pull(&name.parse().unwrap(), Some(&platform), &bench.layout, &bench.log))?;
        let manifest = bench.layout.read(&pulled).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        Ok(manifest["layers"][0]["digest"].as_str().unwrap().to_owned())
    };
    assert_eq!(pull("arm64").unwrap(), Digest::of(b"for arm64").to_string());
    assert_eq!(stub.count("GET", "/blobs/"), 2);
    let (code, text) = told(pull("s390x"));
    assert_eq!(code, "no-platform");
    assert!(text.contains("linux/amd64, linux/arm64"), "{text}");

    // An image without an index is checked, too.
    let (_stub, name, _) = holding(|bench| bench.image(&[LAYER]), |_| None);
    let bench = Bench::new();
    let platform = PlatformBuilder::default().os("linux").architecture("s390x").build().unwrap();
    let client = Client::new(bench.options());
    let outcome = run(client.pull(&name.parse().unwrap(), Some(&platform), &bench.layout, &bench.log));
    assert_eq!(told(outcome).0, "no-platform");
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    for ignores_range in [false, true] {
        let layer = vec![3; 300_000];
        let digest = Digest::of(&layer).to_string();
        let (wanted, body) = (digest.clone(), layer.clone());
        let (stub, name, _) = holding(
            |bench| bench.image(&[&layer]),
            move |it| match it.before {
                _ if !it.is("GET", &wanted) => None,
                0 => Some(Reply::Truncate(100_000)),
                _ if ignores_range => Some(Reply::Answer(200, Vec::new(), body.clone())),
                _ => None,
            },
        );
        let bench = Bench::new();
        bench.pull(bench.options(), &name).unwrap();
        let content = stub.content();
        let asked: Vec<_> =
            content.requests.iter().filter(|it| it.is("GET", &digest)).map(|it| it.header("range")).collect();
        assert_eq!(asked, ["", "bytes=100000-"]);
    }
}

/// Everything that ends a pull: what it is called. The layout never has a blob whose name is not its digest.
#[test]
fn what_is_wrong_does_not_get_in() {
    type Rule = fn(&Request) -> Option<Reply>;
    const MANIFEST: (&str, &str) = ("content-type", "application/vnd.oci.image.manifest.v1+json");
    const INDEX: (&str, &str) = ("content-type", "application/vnd.oci.image.index.v1+json");
    let cases: [(&str, Rule, &str); 18] = [
        (
            "no such tag",
            |it| if it.is("GET", "/manifests/") { answer(404, &[], "") } else { None },
            "image-not-found",
        ),
        (
            "no such blob",
            |it| if it.is("GET", "/blobs/") { answer(404, &[], "") } else { None },
            "image-not-found",
        ),
        (
            "other bytes",
            |it| {
                if it.is("GET", "/blobs/") && it.target.contains(&Digest::of(LAYER).hex()) {
                    answer(200, &[], "a lAyer of an image")
                } else {
                    None
                }
            },
            "digest-mismatch",
        ),
        (
            "too many bytes",
            |it| if it.is("GET", "/blobs/") { answer(200, &[], "x".repeat(9999).as_str()) } else { None },
            "size-mismatch",
        ),
        (
            "too few bytes",
            |it| if it.is("GET", "/blobs/") { answer(200, &[], "x") } else { None },
            "size-mismatch",
        ),
        (
            "a blob without end",
            |it| it.is("GET", "/blobs/").then(|| Reply::Endless(200, Vec::new())),
            "size-mismatch",
        ),
        (
            "a blob that always breaks",
            |it| it.is("GET", "/blobs/").then_some(Reply::Truncate(0)),
            "registry-unreachable",
        ),
        (
            "a wrong range",
            |it| {
                if it.is("GET", "/blobs/") {
                    answer(206, &[("content-range", "bytes 5-9/10")], "01234")
                } else {
                    None
                }
            },
            "registry-error",
        ),
        (
            "a manifest without end",
            |it| {
                it.is("GET", "/manifests/")
                    .then(|| Reply::Endless(200, vec![(MANIFEST.0.to_owned(), MANIFEST.1.to_owned())]))
            },
            "bad-manifest",
        ),
        (
            "a manifest that is large",
            |it| {
                if it.is("GET", "/manifests/") {
                    answer(200, &[MANIFEST, ("content-length", "9000000")], "")
                } else {
                    None
                }
            },
            "bad-manifest",
        ),
        (
            "a manifest that breaks",
            |it| it.is("GET", "/manifests/").then_some(Reply::Truncate(10)),
            "registry-unreachable",
        ),
        (
            "a wrong digest header",
            |it| {
                if it.is("GET", "/manifests/") {
                    answer(200, &[MANIFEST, ("docker-content-digest", "sha256:00")], "{}")
                } else {
                    None
                }
            },
            "digest-mismatch",
        ),
        (
            "no manifest",
            |it| {
                if it.is("GET", "/manifests/") {
                    answer(200, &[("content-type", "text/html")], "<html>")
                } else {
                    None
                }
            },
            "bad-manifest",
        ),
        (
            "a manifest as an index",
            |it| {
                if it.is("GET", "/manifests/") {
                    answer(200, &[INDEX], r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#)
                } else {
                    None
                }
            },
            "bad-manifest",
        ),
        (
            "a digest that is a path",
            |it| {
                if it.is("GET", "/manifests/") {
                    answer(
                        200,
                        &[INDEX],
                        r#"{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:../../etc/passwd"}]}"#,
                    )
                } else {
                    None
                }
            },
            "bad-manifest",
        ),
        (
            "an index of itself",
            |it| {
                if it.is("GET", "/manifests/1") {
                    answer(
                        200,
                        &[INDEX],
                        r#"{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","size":1,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}"#,
                    )
                } else {
                    None
                }
            },
            "image-not-found",
        ),
        (
            "a redirect to the cloud's metadata",
            |it| {
                if it.is("GET", "/blobs/") {
                    answer(307, &[("location", "http://169.254.169.254/x")], "")
                } else {
                    None
                }
            },
            "registry-refused",
        ),
        (
            "redirects without end",
            |it| {
                if it.is("GET", "/blobs/") {
                    answer(302, &[("location", it.target.as_str())], "")
                } else {
                    None
                }
            },
            "registry-error",
        ),
    ];
    for (what, rule, code) in cases {
        let (_stub, name, _) = holding(|bench| bench.image(&[LAYER]), rule);
        let bench = Bench::new();
        let (got, text) = told(bench.pull(bench.options(), &name));
        assert_eq!(got, code, "{what}: {text}");
        for entry in std::fs::read_dir(bench.layout.path().join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let digest = Digest::of(&std::fs::read(&path).unwrap()).hex();
            assert_eq!(path.file_name().unwrap().to_str(), Some(digest.as_str()), "{what}");
        }
    }
}

#[test]
fn a_digest_in_the_name_is_checked() {
    let (stub, _, image) = holding(|bench| bench.image(&[LAYER]), |_| None);
    let bench = Bench::new();
    let name = format!("{}/app:1@{}", stub.address, image.digest());
    assert_eq!(bench.pull(bench.options(), &name).unwrap().digest(), image.digest());
    assert_eq!(stub.count("GET", "/manifests/1"), 0, "the digest wins over the tag");

    let other = Digest::of(b"").to_string();
    let stored = stub.content().manifests[&("app".to_owned(), "1".to_owned())].clone();
    stub.content().manifests.insert(("app".to_owned(), other.clone()), stored);
    let (code, _) = told(bench.pull(bench.options(), &format!("{}/app@{other}", stub.address)));
    assert_eq!(code, "digest-mismatch");
}

#[test]
fn a_planted_blob_is_replaced() {
    let (_stub, name, _) = holding(|bench| bench.image(&[LAYER]), |_| None);
    let bench = Bench::new();
    std::fs::write(bench.blob_path(Digest::of(LAYER)), vec![b'x'; LAYER.len()]).unwrap();
    bench.pull(bench.options(), &name).unwrap();
    assert_eq!(std::fs::read(bench.blob_path(Digest::of(LAYER))).unwrap(), LAYER);
}

#[test]
fn slow_bytes_end_in_time() {
    let (_stub, name, _) =
        holding(|bench| bench.image(&[LAYER]), |it| it.is("GET", "/manifests/").then_some(Reply::Trickle));
    let bench = Bench::new();
    let mut options = bench.options();
    options.limits.request = std::time::Duration::from_secs(1);
    let (code, text) = told(bench.pull(options, &name));
    assert_eq!(code, "registry-timeout");
    assert!(text.contains("was not done in 1 s"), "{text}");
}

#[test]
fn mirrors_come_first_and_are_not_trusted() {
    let misses: fn(&Request) -> Option<Reply> = |_| answer(404, &[], "");
    let fails: fn(&Request) -> Option<Reply> = |_| answer(500, &[], "");
    let lies: fn(&Request) -> Option<Reply> =
        |it| if it.is("GET", "/blobs/") { answer(200, &[], "x") } else { None };
    let works: fn(&Request) -> Option<Reply> = |_| None;
    for (rule, from_registry) in [(works, 0), (misses, 3), (fails, 3), (lies, 2)] {
        let (stub, name, image) = holding(|bench| bench.image(&[LAYER]), works);
        let (mirror, ..) = holding(|bench| bench.image(&[LAYER]), rule);
        let bench = Bench::new();
        let mirrors = [(stub.address.to_string(), vec![mirror.address.to_string()])].into();
        let pulled = bench.pull(Options { mirrors, ..bench.options() }, &name).unwrap();
        assert_eq!(pulled.digest(), image.digest());
        assert_eq!(stub.count("GET", "/app/"), from_registry);
        let content = mirror.content();
        let asked: Vec<_> = content.requests.iter().filter(|it| it.target.contains("/app/")).collect();
        assert!(asked.iter().all(|it| it.query("ns") == Some(stub.address.to_string())), "{asked:?}");
    }
}

#[test]
fn foreign_urls_are_not_followed() {
    let elsewhere = Stub::plain();
    let url = format!("http://{}/layer", elsewhere.address);
    let make = |bench: &Bench| {
        let mut layer = bench.blob(LAYER, MediaType::ImageLayer);
        layer.set_urls(Some(vec![url.clone()]));
        let config = bench
            .document(serde_json::json!({ "os": "linux", "architecture": "amd64" }), MediaType::ImageConfig);
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
        });
        bench.document(manifest, MediaType::ImageManifest)
    };
    let (stub, name, image) = holding(make, |_| None);
    stub.content().blobs.remove(&("app".to_owned(), Digest::of(LAYER).to_string()));
    let bench = Bench::new();
    assert_eq!(told(bench.pull(bench.options(), &name)).0, "image-not-found");
    assert!(elsewhere.content().requests.is_empty());
    assert!(digest_of(&image).is_ok());
}
