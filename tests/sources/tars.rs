//! Lines of text -> a tar, member by member; odd ones too.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use minimage::oci::{Descriptor, Digest, Layout, MediaType, Sealed};
use serde_json::json;
use tar::{EntryType, Header};

use crate::tree_text::{Item, Tree, What};

/// A tar in the making.
#[derive(Default)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    /// Adds a member as it is, with `size` in its header and `bytes` after it.
    pub(super) fn raw(&mut self, header: &mut Header, size: u64, bytes: &[u8]) -> &mut Self {
        header.set_size(size);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Adds a member of this type and name, of root, with mode 0644.
    pub(super) fn member(&mut self, kind: u8, name: &str, link: &str, bytes: &[u8]) -> &mut Self {
        self.raw(&mut header(kind, name, link), bytes.len() as u64, bytes)
    }

    pub(super) fn file(&mut self, name: &str, bytes: &str) -> &mut Self {
        self.member(b'0', name, "", bytes.as_bytes())
    }

    pub(super) fn directory(&mut self, name: &str) -> &mut Self {
        self.member(b'5', name, "", b"")
    }

    /// Adds PAX records for the next member, or for all with `kind` `g`.
    pub(super) fn pax(&mut self, kind: u8, records: &[(&str, &[u8])]) -> &mut Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let digits = (1..6).find(|digits| (rest.len() + digits).to_string().len() == *digits).unwrap();
            bytes.extend((rest.len() + digits).to_string().bytes());
            bytes.extend(rest);
        }
        self.member(kind, "pax", "", &bytes)
    }

    /// Adds the end, and returns the bytes.
    pub(super) fn end(&mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        std::mem::take(&mut self.0)
    }
}

pub(super) fn header(kind: u8, name: &str, link: &str) -> Header {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Returns the items of a tree as a tar.
pub(super) fn of_items(items: &[Item]) -> Vec<u8> {
    let mut tar = Tar::default();
    for item in items {
        let name = item.path.strip_prefix(b"/").unwrap();
        let (kind, link, bytes) = match &item.what {
            What::File(bytes) | What::Loader { bytes, .. } => (b'0', &b""[..], bytes.as_slice()),
            What::Directory => (b'5', &b""[..], &b""[..]),
            What::Link(target) => (b'2', target.as_slice(), &b""[..]),
            What::HardLink(target) => (b'1', target.strip_prefix(b"/").unwrap(), &b""[..]),
            What::Fifo => (b'6', &b""[..], &b""[..]),
        };
        // PAX for all of them: names and targets of any length and in any bytes.
        let mut records: Vec<(&str, &[u8])> = vec![("path", name), ("linkpath", link)];
        records.extend(item.capability.as_deref().map(|value| ("SCHILY.xattr.security.capability", value)));
        tar.pax(b'x', &records);
        let mut header = header(kind, "", "");
        header.set_mode(item.mode);
        header.set_uid(item.uid.into());
        header.set_gid(item.gid.into());
        tar.raw(&mut header, bytes.len() as u64, bytes);
    }
    tar.end()
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

pub(super) fn packed(tar: &[u8], packing: Packing) -> (Vec<u8>, MediaType) {
    match packing {
        Packing::None => (tar.to_vec(), MediaType::ImageLayer),
        Packing::Gzip => (gzip(tar), MediaType::ImageLayerGzip),
        Packing::Zstd => (zstd::stream::encode_all(tar, 1).unwrap(), MediaType::ImageLayerZstd),
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Puts an image with these layers into `layout`: each a blob, and the digest that the config gives its tar.
pub(super) fn image(layout: &Layout, layers: &[(Vec<u8>, MediaType, Digest)]) -> Descriptor {
    let blobs: Vec<Descriptor> = layers
        .iter()
        .map(|(bytes, media_type, _)| {
            let mut blob = layout.blob().unwrap();
            blob.append(bytes).unwrap();
            blob.commit(media_type.clone()).unwrap()
        })
        .collect();
    let diff_ids: Vec<String> = layers.iter().map(|(_, _, tar)| tar.to_string()).collect();
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": { "Env": ["PATH=/app:/usr/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = layout.put(&Sealed::new(config).unwrap(), MediaType::ImageConfig).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": blobs,
    });
    layout.put(&Sealed::new(manifest).unwrap(), MediaType::ImageManifest).unwrap()
}

/// Puts an image of these tars into `layout`.
pub(super) fn image_of_tars(layout: &Layout, tars: &[Vec<u8>], packing: Packing) -> Descriptor {
    let layers: Vec<_> = tars
        .iter()
        .map(|tar| {
            let (bytes, media_type) = packed(tar, packing);
            (bytes, media_type, Digest::of(tar))
        })
        .collect();
    image(layout, &layers)
}

/// Puts an image of the tree into `layout`, in two layers; what the first has too much, the second removes.
pub(super) fn image_of_tree(layout: &Layout, tree: &Tree, packing: Packing) -> Descriptor {
    let half = tree.items.len() / 2;
    let mut lower = Tar::default();
    lower.file("too-much/file", "x");
    lower.0.extend(of_items(&tree.items[..half]));
    let mut upper = Tar::default();
    upper.file(".wh.too-much", "");
    upper.0.extend(of_items(&tree.items[half..]));
    image_of_tars(layout, &[lower.0, upper.0], packing)
}
