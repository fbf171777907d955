//! The registry client against a registry that works, and against registries that misbehave in every way we know of.

mod auth;
mod command;
mod memory;
mod platforms;
mod pull;
mod push;
mod stub;
mod tls;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use minimage::explain::Explain;
use minimage::observer::{Event, Observer};
use minimage::oci::{Descriptor, Digest, Layout, MediaType, Reference, Sealed};
use minimage::registry::{Client, Limits, Options, RegistryError, Retry};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Notes what happens, one word for each event that is no progress.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Started { .. } => "started".to_owned(),
            Event::Finished { .. } => "finished".to_owned(),
            Event::AlreadyThere { .. } => "there".to_owned(),
            Event::Mounted { from, .. } => format!("mounted from {from}"),
            Event::Waiting { pause, .. } => format!("waiting {} ms", pause.as_millis()),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

/// A layout in a temporary directory, and an empty credential file beside it.
struct Bench {
    directory: TempDir,
    layout: Layout,
    log: Log,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("auth.json"), "{}").unwrap();
        let layout = Layout::create(&directory.path().join("layout")).unwrap();
        Self { directory, layout, log: Log::default() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn blob_path(&self, digest: Digest) -> std::path::PathBuf {
        self.layout.path().join("blobs/sha256").join(digest.hex())
    }

    fn auth(&self, document: &Value) {
        std::fs::write(self.path().join("auth.json"), document.to_string()).unwrap();
    }

    /// Returns options without anything from the user's system, without pauses, and with limits that no machine, however
    /// busy, runs into by itself: a time-out costs most of the tries.
    fn options(&self) -> Options {
        Options {
            auth_file: Some(self.path().join("auth.json")),
            certificates: Vec::new(),
            limits: Limits {
                connect: Duration::from_secs(100),
                idle: Duration::from_secs(100),
                request: Duration::from_secs(200),
                slowest: 1 << 20,
            },
            retry: Retry {
                tries: 3,
                first: Duration::ZERO,
                longest: Duration::ZERO,
                asked_max: Duration::from_millis(2),
            },
            ..Options::default()
        }
    }

    fn blob(&self, bytes: &[u8], media_type: MediaType) -> Descriptor {
        let mut blob = self.layout.blob().unwrap();
        blob.append(bytes).unwrap();
        blob.commit(media_type).unwrap()
    }

    fn document(&self, value: Value, media_type: MediaType) -> Descriptor {
        self.layout.put(&Sealed::new(value).unwrap(), media_type).unwrap()
    }

    /// Makes an image with these layers.
    fn image(&self, layers: &[&[u8]]) -> Descriptor {
        self.image_for("amd64", layers)
    }

    fn image_for(&self, architecture: &str, layers: &[&[u8]]) -> Descriptor {
        let config = json!({ "os": "linux", "architecture": architecture, "rootfs": { "type": "layers", "diff_ids": [] } });
        let config = self.document(config, MediaType::ImageConfig);
        let layers: Vec<_> = layers.iter().map(|layer| self.blob(layer, MediaType::ImageLayer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": layers,
        });
        self.document(manifest, MediaType::ImageManifest)
    }

    /// Makes an index of images for two platforms.
    fn index(&self) -> Descriptor {
        let child = |architecture: &str, layer: &[u8]| {
            let mut child = serde_json::to_value(self.image_for(architecture, &[layer])).unwrap();
            child["platform"] = json!({ "os": "linux", "architecture": architecture });
            child
        };
        let manifests = [child("amd64", b"for amd64"), child("arm64", b"for arm64")];
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": manifests });
        self.document(index, MediaType::ImageIndex)
    }

    fn push(&self, options: Options, image: &Descriptor, names: &[String]) -> Outcome {
        let references: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
        let pushed = run(Client::new(options).push(&self.layout, image, &references, &self.log))?;
        let blobs = pushed.blobs.iter().map(|blob| format!("{:?}", blob.outcome));
        let names = pushed.names.iter().map(|name| format!("{:?}", name.outcome));
        Ok(names.chain(blobs).collect::<Vec<_>>().join(" "))
    }

    fn pull(&self, options: Options, name: &str) -> Result<Descriptor, RegistryError> {
        run(Client::new(options).pull(&name.parse().unwrap(), None, &self.layout, &self.log))
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.log.0.lock().unwrap())
    }
}

type Outcome = Result<String, RegistryError>;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Returns the code of an error, and everything that a person reads about it.
fn told<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> (&'static str, String) {
    let error = outcome.unwrap_err();
    let explanations = error.explain();
    (explanations[0].code, explanations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn count<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}
