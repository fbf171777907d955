//! A tree -> its image in a layout, and an image -> one text that shows all of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::path::Path;

use minimage::closure::Content;
use minimage::image;
use minimage::layer::{self, LayerPlan, PlannedEntry, PlannedLayer};
use minimage::oci::{Layout, Manifest, digest_of};
use minimage::packages;
use minimage::path::{RootPath, show};
use minimage::resolve::Resolution;
use minimage::rootfs::{Kind, Rootfs};
use minimage::spec::{Algorithm, Compression, ConfigEdits, Epoch, LayerOptions, Layering, Preloads, Search};
use serde_json::Value;

use crate::answer;
use crate::tree_text::Tree;

/// An image with the closure it was made of.
pub struct Image {
    pub resolution: Resolution,
    /// The digest of the manifest, `sha256:…`.
    pub digest: String,
}

/// Makes the image of `tree`, which is in `rootfs`, in the layout directory `path`; `None` if the tree has no image.
pub fn image_of(tree: &Tree, rootfs: &dyn Rootfs, path: &Path, layering: Layering) -> Option<Image> {
    let options = LayerOptions { layering, compression: Compression::default(), threads: NonZeroUsize::MIN };
    image_with(tree, rootfs, path, &options)
}

/// Makes the image with all its options.
pub fn image_with(tree: &Tree, rootfs: &dyn Rootfs, path: &Path, options: &LayerOptions) -> Option<Image> {
    let libc = options.layering.libc_files();
    let search = Search { preloads: Preloads::None, libc, ..tree.search.clone() };
    let mut resolution = answer::closure(tree, rootfs, &search).ok()?;
    if let Some(db) = packages::open(rootfs).ok()? {
        packages::attribute(&mut resolution.closure, &*db).ok()?;
    }
    let epoch = Epoch::default();
    let config = image::config(&resolution, &ConfigEdits::default(), epoch).ok()?;
    let plan = layer::plan(&resolution.closure, options.layering);
    let layout = Layout::create(path).unwrap();
    let layers = layer::write(&plan, rootfs, epoch, options, &layout, None).unwrap();
    let manifest = image::assemble(&layers, config, &BTreeMap::new(), epoch, &layout).unwrap();
    Some(Image { digest: digest_of(&manifest).unwrap().to_string(), resolution })
}

/// Returns a layer of everything that is in `rootfs`.
pub fn everything(rootfs: &dyn Rootfs) -> PlannedLayer {
    let mut entries: Vec<PlannedEntry> = Vec::new();
    let mut open = vec![RootPath::root()];
    while let Some(directory) = open.pop() {
        for name in rootfs.read_dir(&directory).unwrap() {
            let path = directory.child(&name).unwrap();
            let node = rootfs.lookup(&path).unwrap().unwrap();
            let content = match node.kind {
                Kind::File => Content::Source(path.clone()),
                _ => Content::None,
            };
            if node.kind == Kind::Directory {
                open.push(path.clone());
            }
            entries.push(PlannedEntry { path, node, content, hard_link_to: None });
        }
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    for at in 0..entries.len() {
        let (before, rest) = entries.split_at_mut(at);
        let entry = &mut rest[0];
        let first =
            before.iter().find(|first| first.node.kind == Kind::File && first.node.id == entry.node.id);
        entry.hard_link_to = first.map(|first| first.path.clone());
    }
    PlannedLayer { name: "everything".to_owned(), entries }
}

/// Returns the digests of the tars of `plan`.
pub fn diff_ids(plan: &LayerPlan, rootfs: &dyn Rootfs, epoch: Epoch) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).unwrap();
    let options = LayerOptions {
        layering: Layering::Single,
        compression: Algorithm::None.into(),
        threads: NonZeroUsize::MIN,
    };
    let layers = layer::write(plan, rootfs, epoch, &options, &layout, None).unwrap();
    layers.iter().map(|layer| layer.diff_id.to_string()).collect()
}

/// Returns the blob of the layout `path` with this digest.
pub fn blob(path: &Path, digest: &str) -> Vec<u8> {
    let hex = digest.strip_prefix("sha256:").unwrap();
    fs::read(path.join("blobs/sha256").join(hex)).unwrap_or_else(|error| panic!("{digest}: {error}"))
}

/// Returns the tar in a layer's blob.
pub fn unzipped(blob: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut tar).unwrap();
    tar
}

/// Returns the tars of the layers of the image with this digest, the lowest first.
pub fn layers(path: &Path, digest: &str) -> Vec<Vec<u8>> {
    let manifest: Manifest = serde_json::from_slice(&blob(path, digest)).unwrap();
    manifest.layers().iter().map(|layer| unzipped(&blob(path, layer.digest().as_ref()))).collect()
}

/// Returns one line for each layer of the image with this digest: its history, its blob, and the tar inside.
pub fn layer_lines(path: &Path, digest: &str) -> String {
    let manifest: Manifest = serde_json::from_slice(&blob(path, digest)).unwrap();
    let config: Value = serde_json::from_slice(&blob(path, manifest.config().digest().as_ref())).unwrap();
    let mut text = String::new();
    for (index, layer) in manifest.layers().iter().enumerate() {
        let history = config["history"][index]["created_by"].as_str().unwrap();
        let diff_id = config["rootfs"]["diff_ids"][index].as_str().unwrap();
        let (media_type, size, digest) = (layer.media_type(), layer.size(), layer.digest());
        writeln!(text, "  {history} {media_type} {size} {digest} of {diff_id}").unwrap();
    }
    text
}

/// Returns everything there is to see of the image with this digest.
pub fn text(path: &Path, digest: &str) -> String {
    let manifest: Value = serde_json::from_slice(&blob(path, digest)).unwrap();
    let config: Value =
        serde_json::from_slice(&blob(path, manifest["config"]["digest"].as_str().unwrap())).unwrap();
    let mut text = format!("digest {digest}\nmanifest {manifest:#}\nconfig {config:#}\n");
    for tar in layers(path, digest) {
        writeln!(text, "layer of {} bytes", tar.len()).unwrap();
        text.push_str(&tar_text(&tar));
    }
    text
}

/// Returns one line for each entry of `tar`, as the `tar` crate reads it, and one for each PAX record.
pub fn tar_text(tar: &[u8]) -> String {
    let mut text = String::new();
    let mut archive = tar::Archive::new(Cursor::new(tar));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = show(&entry.path_bytes());
        let header = entry.header();
        let (kind, mode, mtime) =
            (header.entry_type().as_byte(), header.mode().unwrap(), header.mtime().unwrap());
        let (uid, gid, size) = (header.uid().unwrap(), header.gid().unwrap(), entry.size());
        write!(text, "  {} {mode:04o} {uid}:{gid} {size} @{mtime} {path}", char::from(kind)).unwrap();
        if let Some(link) = entry.link_name_bytes() {
            write!(text, " -> {}", show(&link)).unwrap();
        }
        text.push('\n');
        if let Some(records) = entry.pax_extensions().unwrap() {
            for record in records {
                let record = record.unwrap();
                let (key, value) = (show(record.key_bytes()), show(record.value_bytes()));
                writeln!(text, "      {key}={value}").unwrap();
            }
        }
    }
    text
}
