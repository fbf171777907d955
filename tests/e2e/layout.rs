//! An archive or directory -> the documents of the image in it, with every digest and size checked.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::outcome::Outcome;

/// An OCI layout directory.
pub(crate) struct Layout {
    pub(crate) directory: PathBuf,
    /// `index.json`.
    pub(crate) index: Value,
}

/// One image of a layout.
pub(crate) struct Image {
    pub(crate) digest: String,
    pub(crate) manifest: Value,
    pub(crate) config: Value,
    /// The blobs of its layers, in order.
    pub(crate) layers: Vec<PathBuf>,
}

impl Layout {
    /// Unpacks an archive next to itself.
    pub(crate) fn from_archive(archive: &Path) -> Self {
        let directory = archive.with_extension("layout");
        fs::create_dir(&directory).unwrap();
        let mut tar = std::process::Command::new("tar");
        Outcome::of(tar.arg("-xf").arg(archive).arg("-C").arg(&directory)).success();
        Self::open(&directory)
    }

    /// Opens a directory; each blob must be what its name says.
    pub(crate) fn open(directory: &Path) -> Self {
        let index = document(&directory.join("index.json"));
        for blob in fs::read_dir(directory.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            assert_eq!(
                digest(&fs::read(blob.path()).unwrap()),
                format!("sha256:{}", blob.file_name().display())
            );
        }
        Self { directory: directory.to_owned(), index }
    }

    /// Returns the image that all entries of the index name; there must be one only, however many names it has.
    pub(crate) fn image(&self) -> Image {
        let descriptors = self.index["manifests"].as_array().unwrap();
        let first = &descriptors[0];
        assert!(descriptors.iter().all(|other| other["digest"] == first["digest"]), "{:#}", self.index);
        let image = self.image_of(first);
        image.layers.iter().for_each(|layer| parents_come_first(layer));
        image
    }

    /// Returns the index that the only entry of `index.json` names: what several platforms or attestations need.
    pub(crate) fn inner_index(&self) -> Value {
        let descriptors = self.index["manifests"].as_array().unwrap();
        assert_eq!(descriptors.len(), 1, "{:#}", self.index);
        document(&self.blob(&descriptors[0]))
    }

    /// Returns the image, or what has the form of one, that `descriptor` names.
    pub(crate) fn image_of(&self, descriptor: &Value) -> Image {
        let manifest = document(&self.blob(descriptor));
        let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| self.blob(layer)).collect();
        Image {
            digest: text(&descriptor["digest"]),
            config: document(&self.blob(&manifest["config"])),
            layers,
            manifest,
        }
    }

    /// Returns the values of one annotation of the index, in order.
    pub(crate) fn annotations(&self, key: &str) -> Vec<String> {
        let descriptors = self.index["manifests"].as_array().unwrap();
        descriptors
            .iter()
            .filter(|one| !one["annotations"][key].is_null())
            .map(|one| text(&one["annotations"][key]))
            .collect()
    }

    fn blob(&self, descriptor: &Value) -> PathBuf {
        let digest = text(&descriptor["digest"]);
        let path = self.directory.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
        assert_eq!(path.metadata().unwrap().len(), descriptor["size"].as_u64().unwrap(), "{descriptor:#}");
        path
    }
}

impl Image {
    /// Returns all that the digest stands for as text, so that a difference can be read.
    pub(crate) fn description(&self) -> String {
        let Self { digest, manifest, config, layers } = self;
        let mut text = format!("{digest}\n{manifest:#}\n{config:#}\n");
        for layer in layers {
            let mut tar = std::process::Command::new("tar");
            tar.args(["--full-time", "--numeric-owner", "-tvf"]).arg(layer);
            text += &Outcome::of(tar.env("TZ", "UTC").env("LC_ALL", "C")).success().stdout;
        }
        text
    }
}

/// Each directory of a layer comes before what is in it; this also notices an entry that swallows others.
fn parents_come_first(layer: &Path) {
    let listing = Outcome::of(std::process::Command::new("tar").arg("-tf").arg(layer)).success().stdout;
    let mut directories = vec![""];
    for name in listing.lines() {
        let path = name.trim_end_matches('/');
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(directories.contains(&parent), "nothing says what `{parent}` is\n{listing}");
        if name.ends_with('/') {
            directories.push(path);
        }
    }
}

/// Returns the digest of `bytes` as the specification writes it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Returns a JSON string's text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value:#}")).to_owned()
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
