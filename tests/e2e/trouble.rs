//! A real registry behind a line that spoils things: every push completes with exactly the right content, or fails
//! in time with a message, and then nothing is to be seen under the tag. A repeat sends what is missing, no more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::layout::{Layout, digest, text};
use crate::minimage::{Message, Workspace};
use crate::proxy::{Proxy, Request, Spoil};
use crate::registry::Registry;

/// No push takes longer, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(120);

const DIGEST: &str = "docker-content-digest";
const WRONG: fn(&str) -> String = |_| digest(b"something else");

type Rule = fn(&Request) -> Option<Spoil>;

/// A registry, a line to it, and an image to push.
struct Bench {
    registry: Registry,
    proxy: Proxy,
    workspace: Workspace,
    digest: String,
    blobs: BTreeSet<String>,
}

impl Bench {
    fn new(name: &str) -> Option<Self> {
        let registry = Registry::start(name)?;
        let workspace = Workspace::new();
        workspace.results(["build", "bash", "-o", "type=oci,dest=layout,tar=false"]);
        let image = Layout::open(&workspace.path("layout")).image();
        let layers = image.manifest["layers"].as_array().unwrap();
        let blobs = layers.iter().chain([&image.manifest["config"]]).map(|it| text(&it["digest"])).collect();
        let proxy = Proxy::to(registry.address());
        Some(Self { registry, proxy, workspace, digest: image.digest, blobs })
    }

    fn push(&self, repository: &str) -> crate::outcome::Outcome {
        let start = Instant::now();
        let reference = format!("{}/{repository}:1", self.proxy.address);
        let outcome = self.workspace.run(["push", "layout", &reference]);
        assert!(start.elapsed() < LIMIT, "{:?}\n{outcome}", start.elapsed());
        outcome
    }

    /// Pushes once more over a line that is sound: what the registry lacks is sent, once.
    fn repeat(&self, repository: &str) {
        let is_missing = |blob: &&String| !self.registry.has_blob(repository, blob);
        let missing = self.blobs.iter().filter(is_missing).count();
        self.proxy.spoil(|_| None);
        self.push(repository).success();
        assert_eq!(self.proxy.count("PUT", "/uploads/"), missing, "{repository}");
        self.check(repository);
    }

    /// Checks that the registry has exactly the image.
    fn check(&self, repository: &str) {
        let stored = self.registry.manifest(repository, "1").unwrap();
        assert_eq!(
            (digest(&stored.bytes), &stored.digest),
            (self.digest.clone(), &self.digest),
            "{repository}"
        );
        for blob in &self.blobs {
            assert_eq!(&digest(&self.registry.blob(repository, blob)), blob, "{repository}");
        }
    }
}

fn first(request: &Request, spoil: Spoil) -> Option<Spoil> {
    (request.before < 1).then_some(spoil)
}

#[test]
fn what_passes_is_overcome() {
    let Some(bench) = Bench::new("passes") else { return };
    let cases: [(&str, Rule); 9] = [
        ("cut", |it| if it.is("PUT", "/uploads/") { first(it, Spoil::Cut(100_000)) } else { None }),
        ("cut-at-once", |it| if it.length > 0 { first(it, Spoil::Cut(0)) } else { None }),
        ("failures", |it| first(it, Spoil::Answer("503 Busy"))),
        ("too-many", |it| {
            if it.is("PUT", "") { first(it, Spoil::Answer("429 Slow Down\r\nRetry-After: 1")) } else { None }
        }),
        ("no-answers", |it| if it.is("PUT", "") { first(it, Spoil::Hush) } else { None }),
        (
            "lost-session",
            |it| if it.is("PUT", "/uploads/") { first(it, Spoil::Answer("404 Gone")) } else { None },
        ),
        ("small-chunks", |it| {
            (it.is("PUT", "/uploads/") && it.length > 0).then_some(Spoil::Answer("413 Too Large"))
        }),
        ("relative", |it| {
            let path = |url: &str| format!("/{}", url.splitn(4, '/').last().unwrap());
            (!it.is("GET", "")).then_some(Spoil::Header("location", path))
        }),
        ("late", |it| it.is("PUT", "").then_some(Spoil::Hold(Duration::from_millis(300)))),
    ];
    for (name, rule) in cases {
        bench.proxy.spoil(rule);
        bench.push(name).success();
        bench.check(name);
        bench.repeat(name);
        assert_eq!(bench.proxy.count("PUT", "/manifests/"), 0, "{name}");
    }
}

#[test]
fn what_stays_is_told_and_leaves_no_tag() {
    let Some(bench) = Bench::new("stays") else { return };
    let cases: [(&str, Rule, &str); 8] = [
        ("failures", |it| it.is("PUT", "/uploads/").then_some(Spoil::Answer("500 Broken")), "registry-error"),
        ("cut", |it| it.is("PUT", "/uploads/").then_some(Spoil::Cut(1000)), "registry-unreachable"),
        (
            "other-blob",
            |it| it.is("PUT", "/uploads/").then_some(Spoil::Header(DIGEST, WRONG)),
            "digest-mismatch",
        ),
        (
            "other-manifest",
            |it| it.is("PUT", "/sha256:").then_some(Spoil::Header(DIGEST, WRONG)),
            "digest-mismatch",
        ),
        (
            "loop",
            |it| it.is("HEAD", "/blobs/").then_some(Spoil::Answer("307 On\r\nLocation: ?x")),
            "registry-error",
        ),
        (
            "metadata",
            |it| {
                it.is("POST", "")
                    .then_some(Spoil::Header("location", |_| "http://169.254.169.254/".to_owned()))
            },
            "registry-refused",
        ),
        (
            "file",
            |it| it.is("POST", "").then_some(Spoil::Header("location", |_| "file:///x".to_owned())),
            "registry-error",
        ),
        (
            "fixed-tags",
            |it| it.is("PUT", "/manifests/1").then_some(Spoil::Answer("412 Fixed")),
            "registry-error",
        ),
    ];
    for (name, rule, code) in cases {
        bench.proxy.spoil(rule);
        let message = Message::only_one(&bench.push(name), 5);
        assert_eq!(message.code, code, "{name}: {message:#?}");
        assert!(bench.registry.manifest(name, "1").is_none(), "{name}");
        bench.repeat(name);
    }
}
